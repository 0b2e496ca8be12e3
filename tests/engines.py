"""Engines for the tests that hold for each of them: one Spark a module, for it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mappers.engine import DuckDBEngine, Engine
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
