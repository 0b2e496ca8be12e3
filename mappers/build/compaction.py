"""Keeps the view tables small: merges their files, and drops the rows of versions that the lake has deleted.

A map appends to each view table and to each list of superseded versions. What it has appended is merged in one commit
here, which keeps the transactions that say how far the table has come, so the next map goes on from there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from connectors.lake.compaction import LOG_SHARE
from connectors.lake.current import VERSION
from connectors.lake.delta import delete_files, log_length, named_files, unnamed_files, worth_merging
from connectors.lake.files import flush_to_disk
from connectors.lake.snapshot import Snapshot
from connectors.lake.table import Lake
from mappers.build.incremental import FINGERPRINT, SYNC, IncrementalTable
from mappers.build.table_log import finish_folding, fold_log
from mappers.build.views import SUPERSEDED, table_folders
from mappers.errors import unreadable

ROW_GROUP = 10_240  # as `mappers.engines.duckdb` writes them: a few patients do not lie in every row group
Version = tuple[str, str, str, int]  # the values of VERSION


@dataclass(frozen=True)
class TablePlan:
    """The work to do in the table in `folder`.

    Attributes:
        files: the files to write anew, with the numbers of the rows that go.
        unused: files that the table does not name.
        commits: the log is longer than it need be.
    """

    folder: Path
    files: Mapping[Path, Collection[int]]
    unused: tuple[Path, ...]
    commits: bool


def plan_compaction(folder: Path, lake: Lake, views: Mapping[str, str], at_least: int) -> Iterator[TablePlan]:
    """Yield what there is to do in each table below `folder`, the lists of superseded versions last.

    Args:
        folder: of the view tables.
        lake: that they were derived from.
        views: the resource type of each view that is in use; tables of others are left to `obsolete`.
        at_least: files of a table are merged where so many are small, or a few tiny.

    Raises:
        DamagedFileError: a table cannot be read.
    """
    gone: dict[str, frozenset[Version]] = {}
    whole = lake.snapshot().whole_since == 0  # nothing was ever deleted from it
    for table in table_folders(folder):
        # Lists come after the views that are dropped by them, so a run that is killed finds the same again.
        kind = _resource_type(table, views)
        finish_folding(table)
        if kind is None or not DeltaTable.is_deltatable(str(table)):
            continue
        if kind not in gone:
            gone[kind] = frozenset() if whole else _gone(folder, lake, kind)
        yield _plan(table, gone[kind], at_least)


def advance(folder: Path, lake: Snapshot, views: Mapping[str, str], until: int) -> None:
    """Let the tables stand at least at the sync `until`, as far as nothing came for them since they were built.

    To be called before the versions that `until` superseded are deleted: what stands at an earlier sync is built again.
    """
    for table in table_folders(folder):
        opened = IncrementalTable(table)
        built = opened.built_to(lake)
        if built is not None and built < until:
            kind = _resource_type(table, views)
            if not any(file.resource_type == kind and file.sync > built for file in lake.files):
                opened.advance(lake, lag=1)


def obsolete(folder: Path, views: Mapping[str, str]) -> list[Path]:
    """Return the folders of tables of views that are no longer in use."""
    names = {each.parent for each in table_folders(folder)}
    return sorted(
        each for each in names if each.name not in (views.values() if each.parent.name == SUPERSEDED else views)
    )


def compact(plan: TablePlan) -> None:
    """Do what `plan_compaction` found. Only for the holder of the run lock.

    Raises:
        DamagedFileError: a file cannot be read. Nothing is deleted then.
    """
    if plan.files:
        _rewrite(plan.folder, plan.files)
    if plan.files or plan.commits:
        fold_log(plan.folder, (SYNC, FINGERPRINT))
    delete_files(unnamed_files(plan.folder, named_files(plan.folder, DeltaTable(plan.folder))))


def _resource_type(table: Path, views: Mapping[str, str]) -> str | None:
    # A list of superseded versions is named after its type.
    return table.parent.name if table.parent.parent.name == SUPERSEDED else views.get(table.parent.name)


def _plan(folder: Path, gone: frozenset[Version], at_least: int) -> TablePlan:
    try:
        sizes = named_files(folder, DeltaTable(folder))
        unused = tuple(unnamed_files(folder, sizes))
    except (DeltaError, OSError, ValueError) as error:
        raise unreadable(folder, error) from error
    small = worth_merging(sizes, at_least)
    # By age, so that the rows stay in the order in which they came.
    small.sort(key=lambda path: (path.stat().st_mtime_ns, path.name) if path.exists() else (0, path.name))
    files: dict[Path, Collection[int]] = dict.fromkeys(small, ())
    files |= {path: rows for path in sizes if gone and (rows := _rows_of(path, gone))}
    return TablePlan(folder, files, unused, log_length(folder) >= LOG_SHARE * at_least)


def _gone(folder: Path, lake: Lake, kind: str) -> frozenset[Version]:
    """Return the versions in the list of superseded ones that the lake has no longer."""
    listed: set[Version] = set()
    for table in (folder / SUPERSEDED / kind).glob("*"):
        if DeltaTable.is_deltatable(str(table)):
            for path in named_files(table, DeltaTable(table)):
                listed.update(_versions(pq.read_table(path, columns=list(VERSION))))
    ids = pa.array(sorted({version[1] for version in listed}), pa.string())
    for file in lake.files(kind) if listed else ():
        for batch in lake.read(file, ["id", "version_id", "sync"]):
            held = batch.filter(pc.is_in(batch["id"], ids))
            listed.difference_update(_versions(held.append_column("site", pa.array([file.site] * held.num_rows))))
    return frozenset(listed)


def _versions(rows: pa.Table | pa.RecordBatch) -> Iterator[Version]:
    return zip(*(rows[name].to_pylist() for name in VERSION), strict=True)


def _rows_of(path: Path, gone: frozenset[Version]) -> list[int]:
    try:
        rows = pq.read_table(path, columns=list(VERSION))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    return [number for number, version in enumerate(_versions(rows)) if version in gone]


def _rewrite(folder: Path, files: Mapping[Path, Collection[int]]) -> None:
    """Replace `files` by one, in one commit. A kill before it leaves a file that no reader looks at."""
    table = DeltaTable(folder)
    schema, changed = pa.schema(table.schema().to_arrow()), any(files.values())
    path = folder / f"part-{uuid.uuid4()}.parquet"
    try:
        rows = _write(path, schema, files)
        stats = json.dumps({"numRecords": rows})
        added = [AddAction(path.name, path.stat().st_size, {}, int(path.stat().st_mtime * 1000), changed, stats)]
        if not rows:
            path.unlink()
        removed = [RemoveAction(each.name, changed, 0, each.stat().st_size, {}) for each in files]
        actions = [*(added if rows else ()), *removed]
        # The transactions of earlier commits hold on: this table has come as far as before.
        properties = CommitProperties(max_commit_retries=0)
        table.create_write_transaction(actions, "append", table.schema(), commit_properties=properties)
    except (OSError, pa.ArrowException) as error:
        path.unlink(missing_ok=True)
        raise unreadable(folder, error) from error


def _write(path: Path, schema: pa.Schema, files: Mapping[Path, Collection[int]]) -> int:
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for file, numbers in files.items():
            gone, start = set(numbers), 0
            for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(ROW_GROUP):
                keep = pa.array([start + row not in gone for row in range(batch.num_rows)])
                start += batch.num_rows
                kept = pa.Table.from_batches([batch.filter(keep)]).select(schema.names).cast(schema)
                writer.write_table(kept, row_group_size=ROW_GROUP)
                rows += kept.num_rows
    flush_to_disk(path)
    return rows
