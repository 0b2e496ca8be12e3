"""Writes the data files of one commit: a Parquet file for each resource type, row group by row group.

The Delta writer of deltalake holds some 300 MB while it writes; this one holds at most 8 MiB of rows for each type, and
what the Parquet writer needs for one row group. The files are named as Hive partitions are. Before a commit names them
no reader looks at them: a run that is killed leaves unused files, as the Delta writer does.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

PARTITION = ("site", "resource_type")
ROWS = 32_768  # of a row group
BYTES = 8 << 20  # of a row group, uncompressed
FILE_ROWS = 1 << 20
FLUSHED_AT_ONCE = 8  # files that wait for the disk at the same time
REPEATED = ["version_id", "last_updated", "patient", "sync"]  # worth a dictionary


def write_partitions(folder: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> list[AddAction]:
    """Write rows of one site to files below `folder`, and return what to commit of them.

    Whatever was written is deleted again if an error ends the writing.

    Raises:
        OSError, pa.ArrowException: a file cannot be written.
    """
    columns = pa.schema([column for column in schema if column.name not in PARTITION])
    open_files: dict[tuple[str, str], _File] = {}
    files: list[_File] = []
    try:
        for batch in batches:
            for key, rows in _by_type(batch):
                if key not in open_files:
                    open_files[key] = _File(folder, key, columns)
                    files.append(open_files[key])
                file = open_files[key]
                file.append(rows.select(columns.names))
                if file.rows >= FILE_ROWS:
                    open_files.pop(key).close()
        return _durable(files)
    except BaseException:
        for file in files:
            file.discard()
        raise


def _durable(files: list[_File]) -> list[AddAction]:
    """Flush the files to disk while the next are finished: several together take little more time than one."""
    with ThreadPoolExecutor(FLUSHED_AT_ONCE) as pool:
        closing = []
        for file in files:
            file.finish()
            closing.append(pool.submit(file.close))
        return [each.result() for each in closing]


def _by_type(batch: pa.RecordBatch) -> Iterable[tuple[tuple[str, str], pa.RecordBatch]]:
    """Yield the rows of each resource type, in their order. All rows are of one site."""
    site, kinds = batch.column("site")[0].as_py() if batch.num_rows else "", batch.column("resource_type")
    found = kinds.unique().to_pylist()
    for kind in found:
        yield (site, kind), batch.filter(pc.equal(kinds, kind)) if len(found) > 1 else batch


@dataclass(eq=False)
class _File:
    """One Parquet file that grows."""

    folder: Path
    key: tuple[str, str]
    columns: pa.Schema
    rows: int = 0
    _pending: list[pa.RecordBatch] = field(default_factory=list)
    _size: int = 0
    _syncs: set[int] = field(default_factory=set)
    _added: AddAction | None = None

    def __post_init__(self) -> None:
        values = zip(PARTITION, self.key, strict=True)
        self._path = "/".join((*(f"{name}={value}" for name, value in values), f"part-{uuid.uuid4()}.zstd.parquet"))
        self._target = self.folder / self._path
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(
            self._target,
            self.columns,
            compression="zstd",
            compression_level=3,
            use_dictionary=REPEATED,
            write_page_checksum=True,  # a bit that flips on the disk is found (`connectors.lake.verify`)
        )

    def append(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._size += batch.get_total_buffer_size()
        self.rows += batch.num_rows
        self._syncs.update(batch.column("sync").unique().to_pylist())
        # Whichever comes first: resources of some types are a hundred times as large as others.
        if self._size >= BYTES or sum(each.num_rows for each in self._pending) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending), row_group_size=ROWS)
            self._pending, self._size = [], 0

    def finish(self) -> None:
        """Write what is left. Harmless when it is written."""
        if self._writer.is_open:
            self._flush()
            self._writer.close()

    def close(self) -> AddAction:
        """Flush everything to disk and return what to commit; the same again when called again."""
        if self._added is None:
            self.finish()
            with self._target.open("rb") as file:
                os.fsync(file.fileno())
            found = self._target.stat()
            # `max.sync` tells readers which files are newer than what they have seen, without opening them.
            syncs = {"minValues": {"sync": min(self._syncs)}, "maxValues": {"sync": max(self._syncs)}}
            stats = json.dumps({"numRecords": self.rows, **syncs, "nullCount": {"sync": 0}})
            partition: dict[str, str | None] = dict(zip(PARTITION, self.key, strict=True))
            self._added = AddAction(self._path, found.st_size, partition, int(found.st_mtime * 1000), True, stats)
        return self._added

    def discard(self) -> None:
        with suppress(OSError, pa.ArrowException):  # on a full disk closing may fail too
            self._writer.close()
        self._target.unlink(missing_ok=True)
