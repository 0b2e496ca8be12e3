"""Looks for damage in the lake: every row against the digest that was stored with it, every page against its checksum.

A disk, a cable or a copy may change a bit, and Parquet is read without an error all the same. The digest of a resource
is of its canonical JSON (`connectors.fhir.resource`); the checksums of pages (Parquet, "Checksumming": CRC-32) cover
the other columns, in files that were written since there are any.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.errors import LakeError
from connectors.fhir.references import is_token
from connectors.fhir.resource import Rejected, read_resource
from connectors.lake.snapshot import LakeFile
from connectors.lake.table import SCHEMA, Lake
from connectors.lake.writer import PARTITION

DAYS = 30  # in which every file has its turn
ROWS = 4_096  # as Python objects at a time
RESTORE = (
    "put this file back from the backup (its name is never used twice); without one, move the lake away and pull "
    "everything again with `periop sync --full`"
)


@dataclass(frozen=True)
class Damage:
    """A file of the lake that is not as it was written; `rows` of it are wrong, None where it cannot be read."""

    file: Path
    site: str
    resource_type: str
    rows: int | None

    def sentence(self) -> str:
        """Return what is damaged and what to do. No id of a resource is in it."""
        what = "cannot be read" if self.rows is None else f"{self.rows} rows are not as they were stored"
        return f"{self.file}: {what} ({self.resource_type} of site {self.site}): {RESTORE}"


def share(files: Sequence[LakeFile], day: int) -> list[LakeFile]:
    """Return the files whose turn is on `day` (counted from any day on): each in one of 30 days."""
    # By the name, which is random: a file keeps its day whatever other files come.
    return [file for file in files if hashlib.sha256(Path(file.path).name.encode()).digest()[0] % DAYS == day % DAYS]


def find_damage(files: Sequence[LakeFile]) -> Iterator[Damage]:
    """Yield the damaged ones of these files."""
    for file in files:
        try:
            wrong = sum(_wrong_rows(file))
        except (OSError, ValueError, KeyError, pa.ArrowException):  # ValueError: a text that is no UTF-8
            yield Damage(Path(file.path), file.site, file.resource_type, None)
        else:
            if wrong:
                yield Damage(Path(file.path), file.site, file.resource_type, wrong)


def refuse_damage(lake: Lake, day: int | None = None) -> int:
    """Verify all files of the lake, or those whose turn is on `day`, and return how many these were.

    Raises:
        LakeError: some are damaged; the message has a line for each.
    """
    files = lake.files()
    chosen = list(files) if day is None else share(files, day)
    if found := list(find_damage(chosen)):
        raise LakeError("\n".join(each.sentence() for each in found))
    return len(chosen)


def _types(schema: pa.Schema) -> set[tuple[str, str]]:
    # The Delta writer of earlier versions stored large strings.
    return {(field.name, str(field.type).removeprefix("large_")) for field in schema if field.name not in PARTITION}


COLUMNS = _types(SCHEMA)


def _wrong_rows(file: LakeFile) -> Iterator[bool]:
    parquet = pq.ParquetFile(file.path, pre_buffer=False, page_checksum_verification=True)
    # The log says how many rows there are: a footer that was changed may hide some, or call a column something else.
    if parquet.metadata.num_rows != file.rows or not _types(parquet.schema_arrow) >= COLUMNS:
        yield True
        return
    # By row groups, which are small: read in smaller pieces, columns of different lengths would pass.
    for group in range(parquet.num_row_groups):
        for batch in parquet.read_row_group(group).to_batches(ROWS):
            yield from (not _is_as_stored(file, row) for row in batch.to_pylist())


def _is_as_stored(file: LakeFile, row: dict[str, Any]) -> bool:
    text = row["resource"]
    if row["deleted"] or text is None:
        return bool(row["deleted"]) and text is None and not row["digest"]
    found = read_resource(text.encode("utf-8", "surrogatepass"), "lake")
    # Earlier versions stored a reference by identifier without a patient, and the digest without it.
    if isinstance(found, Rejected) or (found.resource_type, found.id) != (file.resource_type, row["id"]):
        return False
    return row["digest"] == found.digest or (row["patient"] is None and is_token(found.patient) and _plain(row, text))


def _plain(row: dict[str, Any], text: str) -> bool:
    canonical = orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    return bool(row["digest"] == hashlib.sha256(canonical).hexdigest())
