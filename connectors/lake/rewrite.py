"""Writes files of the lake anew, in one commit: those of a site and type become one, without the rows that are to go.

    read, write new files ──one commit──> old files no longer in the table ──> old files deleted

A kill before the commit leaves the lake as it was, one after it leaves files that no reader looks at, which
`delete_unused_files` deletes. The commit takes along the fingerprints of the last syncs (`connectors.lake.snapshot`):
what was derived from these syncs is still known to be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from connectors.errors import LakeError
from connectors.lake.delta import delete_files, unnamed_files
from connectors.lake.snapshot import FINGERPRINTS, WHOLE_SINCE, LakeFile
from connectors.lake.table import SCHEMA, Lake
from connectors.lake.writer import PARTITION, write_partitions

ROWS = 8_192  # read at a time


def rewrite(lake: Lake, files: Mapping[LakeFile, Collection[int]], superseded_until: int = 0) -> None:
    """Write these files anew without the rows of these numbers. The old files are left on the disk.

    `superseded_until`: the rows are the versions that the syncs up to this one superseded.

    Raises:
        LakeError: a file cannot be read, or nothing could be committed.
    """
    table, snapshot = lake.table(), lake.snapshot()
    added: list[AddAction] = []
    # Rows that only moved are no change for those who follow the table (Delta protocol, "dataChange").
    changed = any(files.values())
    known = [Transaction(FINGERPRINTS, table.version() + 1)]
    if changed and superseded_until > snapshot.whole_since:
        known.append(Transaction(WHOLE_SINCE, superseded_until))
    fingerprints = {str(sync): found for sync, found in snapshot.newest_fingerprints().items()}
    try:
        # In the order of the syncs, so that readers of a few syncs skip most row groups; one partition at a time, or
        # the rows that wait for a row group of each type would add up.
        ordered = sorted(files, key=lambda file: (*_partition(file), file.sync, file.path))
        for _, group in groupby(ordered, key=_partition):
            written = write_partitions(lake.path, SCHEMA, _kept({file: files[file] for file in group}))
            added += [replace(each, data_change=changed) for each in written]
        table.create_write_transaction(
            [*added, *(_removed(lake, file, changed) for file in files)],
            "append",
            table.schema(),
            list(PARTITION),
            # Without a retry: files that another writer added meanwhile would not have been looked at.
            commit_properties=CommitProperties({FINGERPRINTS: fingerprints}, 0, known),
        )
    except (DeltaError, OSError, pa.ArrowException) as error:
        delete_files(lake.path / each.path for each in added)
        raise LakeError(
            f"nothing was changed in the lake at {lake.path} ({type(error).__name__}): check disk space "
            "and permissions, and run the same again"
        ) from error


def _partition(file: LakeFile) -> tuple[str, str]:
    return file.site, file.resource_type


def _removed(lake: Lake, file: LakeFile, changed: bool) -> RemoveAction:
    inside = Path(file.path).relative_to(lake.path.absolute()).as_posix()
    values: dict[str, str | None] = dict(zip(PARTITION, _partition(file), strict=True))
    # Its time is for a vacuum that keeps old files for a while. Here they are deleted at once, and with the time 0 the
    # next checkpoint forgets them.
    return RemoveAction(inside, changed, 0, file.size, values)


def _kept(files: Mapping[LakeFile, Collection[int]]) -> Iterator[pa.RecordBatch]:
    for file, numbers in files.items():
        gone, start = set(numbers), 0
        for batch in pq.ParquetFile(file.path, pre_buffer=False).iter_batches(ROWS):
            # By number and not by id: other versions of a resource may stay.
            keep = [start + row not in gone for row in range(batch.num_rows)]
            start += batch.num_rows
            rows = batch.filter(pa.array(keep))
            columns = {name: rows.column(name) for name in rows.schema.names}
            for name, value in zip(PARTITION, _partition(file), strict=True):
                columns[name] = pa.repeat(pa.scalar(value, pa.string()), rows.num_rows)
            if rows.num_rows:
                yield pa.record_batch([columns[field.name].cast(field.type) for field in SCHEMA], schema=SCHEMA)


def unused_files(lake: Lake) -> list[Path]:
    """Return the data files that the table no longer names, or never did. Raises LakeError where one is lost."""
    try:
        return unnamed_files(lake.path, (file.path for file in lake.files()))
    except FileNotFoundError as error:
        raise LakeError(f"{error.filename}: is not there, and nothing was deleted; put it back from a backup") from None


def delete_unused_files(lake: Lake) -> int:
    """Delete these files; return how many.

    Only for the holder of the run lock: the files of a sync that is about to commit would go too.
    """
    unused = unused_files(lake)
    delete_files(unused)
    return len(unused)
