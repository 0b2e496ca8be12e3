"""The engines by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mappers.engines.duckdb import DuckDBEngine, Engine

EngineName = Literal["duckdb", "spark"]


def engine(
    name: EngineName,
    threads: int | None = None,
    memory_limit: str | None = None,
    temp_directory: Path | None = None,
    hmac_key: bytes | None = None,
) -> Engine:
    """An engine that has just started; what the arguments mean is in `mappers.engines.duckdb.DuckDBEngine`.

    Raises:
        MappingError: Spark or its Java is missing.
    """
    if name == "duckdb":
        return DuckDBEngine(threads, memory_limit, temp_directory, hmac_key)
    from mappers.engines.spark import SparkEngine

    return SparkEngine(threads, memory_limit, temp_directory, hmac_key)
