"""Finds view tables and cohort tables that cannot be read, so that they are made again from the lake."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from mappers.build.views import table_folders


def delete_damaged(views_dir: Path) -> tuple[str, ...]:
    """Delete the tables below `views_dir` whose log or files cannot be read; return their names.

    Every page is read: this is for a map that has failed, and not for every night.
    """
    damaged = [table for table in table_folders(views_dir) if not _is_readable(table)]
    for table in damaged:
        shutil.rmtree(table)
    return tuple(sorted({table.parent.name for table in damaged}))


def delete_damaged_cohort(cohort_dir: Path) -> bool:
    """Delete the cohort tables if one of them cannot be read; return True if they were."""
    damaged = not all(_rows_of(file) >= 0 for file in sorted(cohort_dir.rglob("*.parquet")))
    if damaged:
        shutil.rmtree(cohort_dir)
    return damaged


def _rows_of(file: Path) -> int:
    """Return the number of rows that can be read, -1 where a page is damaged."""
    try:
        return sum(batch.num_rows for batch in pq.ParquetFile(file).iter_batches())
    except (OSError, ValueError, pa.ArrowException):
        return -1


def _is_readable(folder: Path) -> bool:
    try:
        table = DeltaTable(str(folder))
        actions = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()
        for path, rows in zip(actions["path"].to_pylist(), actions["num_records"].to_pylist(), strict=True):
            if _rows_of(folder / path) != rows:
                return False
    except (DeltaError, OSError, ValueError, KeyError, pa.ArrowException):
        return False
    return True
