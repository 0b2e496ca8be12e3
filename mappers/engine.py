"""The engine that runs the mapping: DuckDB behind Ibis, in this process."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa

from mappers.comparison import SEVERAL
from mappers.errors import CardinalityError, MappingError

if TYPE_CHECKING:
    import pandas as pd
    from ibis.backends.duckdb import Backend

RESOURCE = "resource"  # the column that holds the JSON of a resource
BLOCK = 64  # bytes of a SHA-256 block, RFC 2104


class DuckDBEngine:
    """An in-memory DuckDB with the settings and functions that the mapping needs. Close it, or use it in
    `with`.

    Args:
        threads: worker threads; as many as there are cores by default.
        memory_limit: as DuckDB writes it, e.g. "1GB"; 80 % of the memory by default.
        temp_directory: where to spill what exceeds the limit; DuckDB's own choice by default.
        hmac_key: key of the SQL function `periop_hmac(text)`, HMAC-SHA-256 in hex; without a key there is no
        such function.
    """

    def __init__(
        self,
        threads: int | None = None,
        memory_limit: str | None = None,
        temp_directory: Path | None = None,
        hmac_key: bytes | None = None,
    ) -> None:
        settings = {
            "threads": threads,
            "memory_limit": memory_limit,
            "temp_directory": None if temp_directory is None else str(temp_directory),
        }
        given = {name: value for name, value in settings.items() if value is not None}
        self.con: Backend = ibis.duckdb.connect(**given)
        self.con.raw_sql("SET TimeZone = 'UTC'")
        self._tables = 0
        if hmac_key is not None:
            self.con.raw_sql(hmac_macro(hmac_key))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the database."""
        self.con.disconnect()

    def read_parquet(self, paths: Sequence[str | Path]) -> ir.Table:
        """The rows of Parquet files of one schema, lazily.

        Raises:
            MappingError: no file is given.
        """
        if not paths:
            raise MappingError("no Parquet file to read; give at least one path")
        return self.con.read_parquet([str(path) for path in paths], table_name=self._name("parquet"))

    def read_ndjson(self, path: str | Path) -> ir.Table:
        """The resources of an NDJSON file as a table with the string column `resource`."""
        quoted = glob.escape(str(path)).replace("'", "''")  # DuckDB takes a name for a pattern
        name = self._name("ndjson")
        self.con.raw_sql(
            f"CREATE VIEW {name} AS SELECT json::VARCHAR AS {RESOURCE} FROM read_ndjson_objects('{quoted}')"  # noqa: S608
        )
        return self.con.table(name)

    def resources(self, texts: Sequence[str]) -> ir.Table:
        """JSON texts as a table with the string column `resource`."""
        name = self._name("resources")
        self.con.con.register(name, pa.table({RESOURCE: pa.array(texts, pa.string())}))
        return self.con.table(name)

    def frame(self, table: ir.Table) -> pd.DataFrame:
        """Run a table and fetch its rows; integers and booleans in the nullable types of pandas.

        Raises:
            CardinalityError: a resource has several values where a column takes one.
        """
        try:
            return self._fetched(table)
        except duckdb.InvalidInputException as error:
            own = error_of(str(error))
            if own is None:
                raise
            raise own from error

    def _fetched(self, table: ir.Table) -> pd.DataFrame:
        import pandas as pd

        nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        frame: pd.DataFrame = self.con.to_pyarrow(table).to_pandas(types_mapper=nullable.get)
        return frame

    def _name(self, prefix: str) -> str:
        self._tables += 1
        return f"{prefix}_{self._tables}"


def hmac_macro(key: bytes) -> str:
    """The SQL that makes `periop_hmac(text)`: HMAC-SHA-256 of the UTF-8 text, in hex (RFC 2104)."""
    block = (hashlib.sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    inner = bytes(byte ^ 0x36 for byte in block).hex()
    outer = bytes(byte ^ 0x5C for byte in block).hex()
    return (
        "CREATE OR REPLACE MACRO periop_hmac(m) AS "
        f"sha256(unhex('{outer}') || unhex(sha256(unhex('{inner}') || encode(m))))"
    )


def error_of(message: str) -> CardinalityError | None:
    """The error of this package for the message of an engine, if our own stop is in it."""
    if SEVERAL not in message:
        return None
    element = message.split(SEVERAL, 1)[1].split("\n", 1)[0].strip()
    return CardinalityError(element, 'several values in a resource; add .first(), or "collection": true to take all')
