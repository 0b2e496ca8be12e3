"""Replaces the log of a view table by one that begins with what the table is now, in two commits of some 4 kB.

A checkpoint would do the same to a table of others; it takes 14 kB whatever the table holds, which for dozens of small
tables is more than their rows. View tables have no readers that remember a version, so their log may begin anew.

    <table>/_delta_log  ──>  <table>/.log/old
    <table>/.log/_delta_log  ──>  <table>/_delta_log

A kill between the two steps leaves a table without a log, and `finish_folding` does the second step.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction

from connectors.lake.delta import LOG
from connectors.lake.files import flush_to_disk

DRAFT, OLD = ".log", "old"
COLUMNS = ("path", "size_bytes", "modification_time", "num_records")


def fold_log(folder: Path, transactions: tuple[str, ...]) -> None:
    """Give the table in `folder` a new log, which keeps these app transactions. Only for the holder of the run lock.

    Raises:
        DeltaError, OSError, ValueError: the table cannot be read, or the log not be written.
    """
    table, draft = DeltaTable(folder), folder / DRAFT
    shutil.rmtree(draft, ignore_errors=True)  # of a call that was killed before the first step
    schema = pa.schema(table.schema().to_arrow())
    kept = [Transaction(name, at) for name in transactions if (at := table.transaction_version(name)) is not None]
    new = DeltaTable.create(draft, schema)
    properties = CommitProperties(app_transactions=kept)
    new.create_write_transaction(_files(table), "append", new.schema(), commit_properties=properties)
    log = draft / LOG
    # The new log must be on disk whole before the old one goes.
    for path in (*log.iterdir(), log, draft):
        flush_to_disk(path)
    (folder / LOG).rename(draft / OLD)
    finish_folding(folder)


def finish_folding(folder: Path) -> None:
    """Put a new log in place where a kill left the table in `folder` without one; delete what is left of the old."""
    draft = folder / DRAFT
    if not draft.is_dir():
        return
    if not (folder / LOG).exists() and (draft / OLD).is_dir():
        (draft / LOG).rename(folder / LOG)
        flush_to_disk(folder)
    shutil.rmtree(draft)


def _files(table: DeltaTable) -> list[AddAction | RemoveAction]:
    found = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()
    rows = zip(*(found[name].to_pylist() for name in COLUMNS), strict=True)
    return [AddAction(path, size, {}, made, True, f'{{"numRecords": {count}}}') for path, size, made, count in rows]
