"""Start an engine by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mappers.engines.base import Engine
from mappers.engines.duckdb import DuckDBEngine

EngineName = Literal["duckdb", "spark"]


def start_engine(
    name: EngineName,
    threads: int | None = None,
    memory_limit: str | None = None,
    temp_directory: Path | None = None,
    hmac_key: bytes | None = None,
) -> Engine:
    """Start an engine and return it; `mappers.engines.duckdb.DuckDBEngine` explains the arguments.

    Raises:
        MappingError: Spark or its Java is missing.
    """
    if name == "duckdb":
        return DuckDBEngine(threads, memory_limit, temp_directory, hmac_key)
    from mappers.engines.spark import SparkEngine  # Spark is an extra of the installation, and slow to import

    return SparkEngine(threads, memory_limit, temp_directory, hmac_key)
