"""DuckDB behind Ibis, in this process: the default engine."""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import ibis.expr.types as ir
import pyarrow as pa

from mappers.engines.base import CUTOFF, RESOURCE, Engine, Files, error_of, hmac_pads, nullable_frame
from mappers.engines.duckdb_sql import DuckDBBackend
from mappers.errors import unreadable

if TYPE_CHECKING:
    import pandas as pd

ROW_GROUP = 10_240  # rows: small enough that a few patients do not lie in every row group
# Up to so many keys of a join DuckDB skips the row groups of a Parquet file that hold none of them. Its default is 50;
# a nightly run looks up thousands of ids.
KEYS_THAT_FILTER = 10_000
STREAM_ERRORS = {"Invalid Input Error": duckdb.InvalidInputException, "IO Error": duckdb.IOException}


class DuckDBEngine(Engine):
    """An in-memory DuckDB with the settings and functions that the mapping needs. Close it, or use it in `with`.

    Args:
        threads: worker threads; as many as there are cores by default.
        memory_limit: as DuckDB writes it, e.g. "1GB"; 80 % of the memory by default.
        temp_directory: where to spill what exceeds the limit; DuckDB's own choice by default.
        hmac_key: key of the SQL function `periop_hmac(text)`, HMAC-SHA-256 in hex; without a key there is no
        such function.
    """

    name = "duckdb"

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
        self.con = DuckDBBackend().connect(**given)
        self.con.raw_sql("SET GLOBAL TimeZone = 'UTC'")
        self.con.raw_sql("SET GLOBAL parquet_metadata_cache = true")  # else read whenever a query is planned
        self.con.raw_sql(f"SET GLOBAL dynamic_or_filter_threshold = {KEYS_THAT_FILTER}")
        if hmac_key is not None:
            self.con.raw_sql(hmac_macro(hmac_key))

    def close(self) -> None:
        """Free the database."""
        self.con.disconnect()

    def register_parquet(self, name: str, parts: Sequence[Files], schema: pa.Schema) -> None:
        """Name the rows of Parquet files, which are read by each query; no files are an empty table of `schema`.

        Raises:
            MappingError: a file is not there.
        """
        if parts:
            self.create_view(name, " UNION ALL ".join(map(_rows_of, parts)))
        else:
            empty = f"no rows of {name}"  # a view cannot replace a table, so the name is always that of a view
            self.register_rows(empty, schema.empty_table())
            self.create_view(name, f'FROM "{empty}"')

    def register_rows(self, name: str, rows: pa.Table) -> ir.Table:
        """Name rows that are in memory."""
        self.con.con.register("given_rows", rows)
        self.create_table_as(name, "FROM given_rows")  # a copy: a view of Arrow rows would ask Python for them
        self.con.con.unregister("given_rows")
        return self.con.table(name)

    def read_ndjson(self, path: str | Path) -> ir.Table:
        """Return the resources of an NDJSON file as a table with the string column `resource`."""
        quoted = _quoted(glob.escape(str(path)))  # DuckDB takes a path for a pattern
        name = self._name("ndjson")
        self.con.raw_sql(f"CREATE VIEW {name} AS SELECT json::VARCHAR AS {RESOURCE} FROM read_ndjson_objects({quoted})")  # noqa: S608
        return self.con.table(name)

    def resources(self, texts: Sequence[str]) -> ir.Table:
        """Return JSON texts as a table with the string column `resource`."""
        name = self._name("resources")
        self.con.con.register(name, pa.table({RESOURCE: pa.array(texts, pa.string())}))
        return self.con.table(name)

    def create_view(self, name: str, sql: str) -> None:
        """Name a query, which runs whenever the name is read."""
        self.con.raw_sql(f'CREATE OR REPLACE VIEW "{name}" AS {sql}')

    def create_table_as(self, name: str, sql: str) -> None:
        """Run a query once and name its rows."""
        self.con.raw_sql(f'CREATE OR REPLACE TABLE "{name}" AS {sql}')

    def compile(self, table: ir.Table) -> str:
        """Return the SQL of an expression."""
        return str(self.con.compile(table))

    def set_data_cutoff(self, day: date) -> None:
        """Let the SQL function `periop_cutoff()` return `day` from now on."""
        self.con.raw_sql(f"CREATE OR REPLACE MACRO {CUTOFF}() AS DATE '{day}'")

    def write_parquet(self, sql: str, folder: Path) -> tuple[Path, ...]:
        """Run SQL into a new Parquet file in `folder`; a result without rows makes none."""
        file = folder / f"part-{uuid.uuid4()}.parquet"
        options = f"FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP}"
        (count,) = self.con.con.execute(f"COPY ({sql}) TO {_quoted(str(file))} ({options})").fetchall()[0]
        if count:
            return (file,)
        file.unlink()
        return ()

    def reader(self, sql: str, rows: int) -> pa.RecordBatchReader:
        """Stream the result of SQL in batches of `rows` rows. Its errors (`duckdb.Error`) come while it is read."""
        stream = self.con.con.sql(sql).to_arrow_reader(rows)
        return pa.RecordBatchReader.from_batches(stream.schema, _with_its_errors(stream))

    def arrow(self, sql: str) -> pa.Table:
        """Return the result of SQL."""
        return self.con.con.sql(sql).to_arrow_table()

    def frame(self, table: ir.Table) -> pd.DataFrame:
        """Return the rows of an expression; integers and booleans in the nullable types of pandas.

        Raises:
            CardinalityError: a resource has several values where a column takes one.
        """
        try:
            return nullable_frame(self.con.to_pyarrow(table))
        except duckdb.InvalidInputException as error:
            own = error_of(str(error))
            if own is None:
                raise
            raise own from error


def hmac_macro(key: bytes) -> str:
    """Return the SQL that makes `periop_hmac(text)`: HMAC-SHA-256 of the UTF-8 text, in hex (RFC 2104)."""
    inner, outer = hmac_pads(key)
    return (
        "CREATE OR REPLACE MACRO periop_hmac(m) AS "
        f"sha256(unhex('{outer}') || unhex(sha256(unhex('{inner}') || encode(m))))"
    )


def _rows_of(files: Files) -> str:
    """Return SQL that reads Parquet files.

    Raises:
        MappingError: a file is not there.
    """
    # The largest first: DuckDB estimates the rows of all files from those of the first, and of the two sides of a join
    # it keeps the one with fewer rows in memory.
    try:
        largest_first = sorted(files.paths, key=os.path.getsize, reverse=True)
    except OSError as error:
        raise unreadable(error.filename, error) from error
    paths = ", ".join(_quoted(glob.escape(path)) for path in largest_first)  # DuckDB takes a path for a pattern
    constants = "".join(f', {_quoted(value)} AS "{name}"' for name, value in files.constants.items())
    return f"SELECT *{constants} FROM read_parquet([{paths}], hive_partitioning = false)"  # noqa: S608


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _with_its_errors(stream: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a stream. Once it has begun, Arrow reports an error of DuckDB as an `OSError`."""
    try:
        yield from stream
    except OSError as error:
        kind, _, _ = str(error).partition(":")
        raise STREAM_ERRORS.get(kind, duckdb.Error)(str(error)) from error
