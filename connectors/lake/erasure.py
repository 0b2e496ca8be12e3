"""Erases rows of the lake: the files that hold them are written anew without them, and the old files are deleted.

    read, write new files ──one commit──> old files no longer in the table ──> old files deleted

A kill before the commit leaves the lake as it was, one after it leaves files that no reader looks at, which the next
erasure deletes. The Delta log keeps no id and no content: its statistics are of the column `sync` alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties
from deltalake.exceptions import DeltaError
from deltalake.transaction import RemoveAction

from connectors.errors import LakeError
from connectors.lake.files import flush_to_disk
from connectors.lake.forgotten import Concerns
from connectors.lake.table import SCHEMA, Lake, LakeFile
from connectors.lake.writer import PARTITION, write_partitions

ROWS = 8_192  # read at a time


def erase_rows(lake: Lake, concerns: Concerns, erased: Callable[[str, str, str], None]) -> Counter[str]:
    """Erase every row that `concerns` is True for, and the deletions of resources of which nothing else is left.

    `erased` is called with site, type and id of each before the commit. Returns the rows erased, by resource type.

    Raises:
        LakeError: a file cannot be read, or nothing could be committed.
    """
    counts: Counter[str] = Counter()
    rewritten: dict[LakeFile, list[int]] = {}
    partitions: defaultdict[tuple[str, str], list[LakeFile]] = defaultdict(list)
    for file in lake.files():
        # All versions of a resource are in one partition, so that each can be decided on its own.
        partitions[file.site, file.resource_type].append(file)
    for (site, kind), files in partitions.items():
        for file, rows in _rows_to_erase(lake, site, kind, files, concerns).items():
            for _, id_ in rows:
                erased(site, kind, id_)
            counts[kind] += len(rows)
            rewritten[file] = [number for number, _ in rows]
    if rewritten:
        _commit(lake, rewritten)
    return counts


def _rows_to_erase(
    lake: Lake, site: str, kind: str, files: list[LakeFile], concerns: Concerns
) -> dict[LakeFile, list[tuple[int, str]]]:
    """Return (number, id) of the rows of each file of one partition that are to be erased."""
    found: defaultdict[LakeFile, list[tuple[int, str]]] = defaultdict(list)
    deletions: list[tuple[LakeFile, int, str]] = []
    left: set[str] = set()
    for file in files:
        for number, (id_, patient, raw) in enumerate(_read(lake, file)):
            if concerns(site, kind, id_, patient, raw):
                found[file].append((number, id_))
            elif raw is None:
                # A deletion has no content: whether it goes depends on what else there is of the resource.
                deletions.append((file, number, id_))
            else:
                left.add(id_)
    # A resource that changed its subject keeps its other versions, and so its deletion.
    gone = {id_ for rows in found.values() for _, id_ in rows} - left
    for file, number, id_ in deletions:
        if id_ in gone:
            found[file].append((number, id_))
    return dict(found)


def _read(lake: Lake, file: LakeFile) -> Iterator[tuple[str, str | None, str | None]]:
    for batch in lake.read(file, ["id", "patient", "resource"]):
        yield from zip(*(batch[name].to_pylist() for name in ("id", "patient", "resource")), strict=True)


def _commit(lake: Lake, rewritten: dict[LakeFile, list[int]]) -> None:
    table = lake.table()
    try:
        added = write_partitions(lake.path, SCHEMA, _kept(rewritten))
        removed = []
        for file in rewritten:
            path = Path(file.path)
            inside = path.relative_to(lake.path.absolute()).as_posix()
            values: dict[str, str | None] = dict(zip(PARTITION, (file.site, file.resource_type), strict=True))
            found = path.stat()
            # Its time is for a vacuum that keeps old files for a while; here they are deleted at once.
            removed.append(RemoveAction(inside, True, int(found.st_mtime * 1000), found.st_size, values))
        table.create_write_transaction(
            [*added, *removed],
            "append",
            table.schema(),
            list(PARTITION),
            # Files that another writer added meanwhile would not have been looked at.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise LakeError(
            f"nothing was erased in the lake at {lake.path} ({type(error).__name__}): check disk space "
            "and permissions, and run the same again"
        ) from error


def _kept(rewritten: dict[LakeFile, list[int]]) -> Iterator[pa.RecordBatch]:
    for file, numbers in rewritten.items():
        gone, start = set(numbers), 0
        for batch in pq.ParquetFile(file.path, pre_buffer=False).iter_batches(ROWS):
            # By number and not by id: other versions of a resource may stay.
            keep = [start + row not in gone for row in range(batch.num_rows)]
            start += batch.num_rows
            rows = batch.filter(pa.array(keep))
            columns = {name: rows.column(name) for name in rows.schema.names}
            for name, value in zip(PARTITION, (file.site, file.resource_type), strict=True):
                columns[name] = pa.repeat(pa.scalar(value, pa.string()), rows.num_rows)
            if rows.num_rows:
                yield pa.record_batch([columns[field.name].cast(field.type) for field in SCHEMA], schema=SCHEMA)


def delete_unused_files(lake: Lake) -> int:
    """Delete the data files that the table no longer names, or never did; return how many.

    Only for the holder of the run lock: the files of a sync that is about to commit would go too.
    """
    used = {str(Path(file.path).resolve()) for file in lake.files()}
    unused = [
        path for path in lake.path.glob("*/**/*.parquet") if _is_data(lake, path) and str(path.resolve()) not in used
    ]
    for path in unused:
        path.unlink()
    # Until the folder is on disk too, a power cut brings the names back.
    for folder in {path.parent for path in unused}:
        flush_to_disk(folder)
    return len(unused)


def _is_data(lake: Lake, path: Path) -> bool:
    return path.relative_to(lake.path).parts[0] != "_delta_log"
