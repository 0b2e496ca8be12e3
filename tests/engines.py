"""Engines for the tests that hold for each of them: all share one Spark, for it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mappers.engines.base import Engine, Files
from mappers.engines.duckdb import DuckDBEngine
from mappers.engines.spark import SparkEngine
from mappers.errors import MappingError

ENGINES = ("duckdb", "spark")
# For few rows: Java code that is compiled well takes longer to compile than to run, and a table fits into one task.
FEW_ROWS = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
}


class Engines:
    """Starts engines; each has its own tables, functions and settings, also in the Spark that they share."""

    def __init__(self) -> None:
        self._spark: SparkEngine | None = None

    @contextmanager
    def started(self, name: str, key: bytes | None = None) -> Iterator[Engine]:
        """An engine with one worker; the test is skipped where Spark or Java is missing."""
        if name == "duckdb":
            with DuckDBEngine(threads=1, hmac_key=key) as engine:
                yield engine
            return
        try:
            self._spark = self._spark or SparkEngine(threads=1, settings=FEW_ROWS)
        except MappingError as error:
            pytest.skip(str(error))
        with SparkEngine(hmac_key=key, session=self._spark.con._session) as spark:
            yield spark

    def stop(self) -> None:
        """End Spark: a process holds one, and what is tested now starts its own. The next engine starts it again."""
        if self._spark is not None:
            self._spark.close()
            self._spark = None


def assert_reads_files_of_any_name(engine: Engine, folder: Path) -> None:
    """`Engine.register_parquet` gives the rows of all parts with their constants; no files are an empty table."""
    paths = [folder / name for name in ("a b.parquet", "[c]{d}*é.parquet", "it's.parquet")]
    for number, path in enumerate(paths):
        pq.write_table(pa.table({"id": [number]}), path)
    first, second, third = map(str, paths)
    schema = pa.schema({"id": pa.int64(), "site": pa.string()})
    engine.register_parquet(
        "found", [Files((first, second), {"site": "both"}), Files((third,), {"site": "o'clock"})], schema
    )
    found = engine.arrow("SELECT id, site FROM found ORDER BY id")
    assert found.to_pydict() == {"id": [0, 1, 2], "site": ["both", "both", "o'clock"]}
    engine.register_parquet("found", [], schema)
    assert engine.arrow("SELECT id, site FROM found").num_rows == 0


def assert_the_cutoff_is_the_last_one_set(engine: Engine) -> None:
    """`Engine.set_data_cutoff`: SQL that was written before gives the day that was set last."""
    for day in (date(2024, 12, 1), date(2025, 5, 5)):
        engine.set_data_cutoff(day)
        assert engine.arrow("SELECT periop_cutoff() AS cutoff").to_pylist() == [{"cutoff": day}]
