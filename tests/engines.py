"""Engines for the tests that hold for each of them: one Spark a module, for it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mappers.engine import DuckDBEngine, Engine, Files
from mappers.errors import MappingError
from mappers.spark import SparkEngine

ENGINES = ("duckdb", "spark")
# For few rows: Java code that is compiled well takes longer to compile than to run, and a table fits into one task.
FEW_ROWS = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
}


@contextmanager
def started(name: str, key: bytes | None = None) -> Iterator[Engine]:
    """An engine with one worker; the test is skipped where Spark or Java is missing."""
    if name == "duckdb":
        with DuckDBEngine(threads=1, hmac_key=key) as engine:
            yield engine
        return
    try:
        spark = SparkEngine(threads=1, hmac_key=key, settings=FEW_ROWS)
    except MappingError as error:
        pytest.skip(str(error))
    with spark:
        yield spark


def assert_scans_files_of_any_name(engine: Engine, folder: Path) -> None:
    """`Engine.scan` gives the rows of all parts with their constants, and none of a schema without files."""
    paths = [folder / name for name in ("a b.parquet", "[c]{d}*é.parquet", "it's.parquet")]
    for number, path in enumerate(paths):
        pq.write_table(pa.table({"id": [number]}), path)
    first, second, third = map(str, paths)
    schema = pa.schema({"id": pa.int64(), "site": pa.string()})
    engine.scan("found", [Files((first, second), {"site": "both"}), Files((third,), {"site": "o'clock"})], schema)
    found = engine.arrow("SELECT id, site FROM found ORDER BY id")
    assert found.to_pydict() == {"id": [0, 1, 2], "site": ["both", "both", "o'clock"]}
    engine.scan("found", [], schema)
    assert engine.arrow("SELECT id, site FROM found").num_rows == 0
