"""The engine: its settings, its HMAC and what it reads."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mappers.engines.base import Files
from mappers.engines.duckdb import DuckDBEngine
from mappers.engines.duckdb_sql import to_sql
from mappers.errors import MappingError
from tests.engines import (
    assert_reads_files_of_any_name,
    assert_the_cutoff_is_the_last_one_set,
)


def test_the_sql_is_the_same_in_every_process() -> None:
    """Ibis hands on the dropped columns as a set, whose order each process draws anew."""
    names = [f"column_{number:02}" for number in range(40)]
    sql = to_sql(ibis.table(dict.fromkeys(names, "string"), name="rows").drop(*names[4:16]))
    assert re.findall(r'"(column_[0-9]+)"', sql.partition("EXCLUDE")[2].partition("FROM")[0]) == names[4:16]


@pytest.mark.parametrize("key", [b"", b"key", b"k" * 64, b"k" * 65, bytes(range(256))])
@pytest.mark.parametrize("message", ["", "Patient/1", "é‰"])
def test_the_hmac_is_that_of_python(key: bytes, message: str) -> None:
    with DuckDBEngine(threads=1, hmac_key=key) as engine:
        found = engine.con.con.execute("SELECT periop_hmac(?)", [message]).fetchone()
    assert found == (hmac.new(key, message.encode(), hashlib.sha256).hexdigest(),)


def test_settings_reach_duckdb(tmp_path: Path) -> None:
    with DuckDBEngine(threads=1, memory_limit="512MiB", temp_directory=tmp_path / "spill") as engine:
        names = ("threads", "memory_limit", "temp_directory")
        query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
        found = engine.con.con.execute(query).fetchone()
    assert found is not None
    assert [str(value) for value in found] == ["1", "512.0 MiB", str(tmp_path / "spill")]


def test_parquet_files_of_any_name_are_read_as_one_table(tmp_path: Path) -> None:
    with DuckDBEngine(threads=1) as engine:
        assert_reads_files_of_any_name(engine, tmp_path)


def test_the_cutoff_is_the_last_that_was_set() -> None:
    with DuckDBEngine() as engine:
        assert_the_cutoff_is_the_last_one_set(engine)


def test_many_rows_are_not_taken_for_few_after_a_small_file(tmp_path: Path) -> None:
    for name, rows in (("a", 1), ("b", 50_000)):
        pq.write_table(pa.table({"id": range(rows)}), tmp_path / f"{name}.parquet")
    with DuckDBEngine(threads=1) as engine:
        engine.register_parquet(
            "found", [Files((str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")))], pa.schema([])
        )
        plan = engine.con.con.execute("EXPLAIN SELECT id FROM found").fetchall()[0][1]
    estimate = re.search(r"~([\d,]+) rows", plan)
    assert estimate is not None
    assert int(estimate[1].replace(",", "")) >= 50_000  # else the larger side of a join is kept in memory


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with DuckDBEngine(threads=1) as engine, pytest.raises(MappingError, match=r"gone\.parquet: cannot be read"):
        engine.register_parquet("found", [Files((str(tmp_path / "gone.parquet"),))], pa.schema([]))
