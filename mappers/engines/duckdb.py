"""The engine that runs the mapping: what one must do, and DuckDB behind Ibis, in this process.

The other engine is in `mappers.engines.spark`. Expressions know no engine; what the two write differently stands in
`mappers.engines.spark_sql`.
"""

from __future__ import annotations

import copy
import glob
import hashlib
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import duckdb
import ibis.expr.types as ir
import pyarrow as pa

from mappers.engines.duckdb_sql import DuckDBBackend
from mappers.errors import CardinalityError, unreadable
from mappers.fhirpath.cardinality import SEVERAL

if TYPE_CHECKING:
    import pandas as pd

RESOURCE = "resource"  # the column that holds the JSON of a resource
ROW_GROUP = 10_240  # rows: few enough that those in which some patients lie are not everything
LOOKED_UP = 10_000  # keys of a join, up to which DuckDB passes over Parquet row groups that have none of them
GIVEN = "given_rows"  # the name of Arrow rows while they are copied
FETCHED = "fetched_rows"  # the name of the result of a query while it is fetched
NO = "no rows of "  # before a name: the empty table that is read where there are no files
STREAM_ERRORS = {"Invalid Input Error": duckdb.InvalidInputException, "IO Error": duckdb.IOException}
ABREAST = 2  # works at once: each holds rows of its own
AT = "|"  # between a site and a data cut: in no name of a site
BLOCK = 64  # bytes of a SHA-256 block, RFC 2104


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Files:
    """Parquet files of one schema. `constants` are text columns that all their rows have beside those in the files."""

    paths: tuple[str, ...]
    constants: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """What the mapping asks of an engine. SQL is that of the engine, as `compile` gives it.

    `con` is the Ibis backend. Times are in UTC.
    """

    name: str
    con: Any

    def __enter__(self) -> Self:
        """The engine itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""

    def scan(self, name: str, parts: Sequence[Files], schema: pa.Schema) -> None:
        """Name the rows of Parquet files, read whenever they are asked for; no rows of `schema` for no files.

        What had the name before is forgotten.
        """

    def read_ndjson(self, path: str | Path) -> ir.Table:
        """The resources of an NDJSON file as a table with the string column `resource`, lazily."""

    def resources(self, texts: Sequence[str]) -> ir.Table:
        """JSON texts as a table with the string column `resource`."""

    def register(self, name: str, rows: pa.Table) -> ir.Table:
        """A small table under this name, which it may have had before."""

    def view(self, name: str, sql: str) -> None:
        """Name a query; what had the name before is forgotten."""

    def compile(self, table: ir.Table) -> str:
        """The SQL of an expression."""

    def fill(self, name: str, sql: str) -> None:
        """Run SQL once into a temporary table, replacing it; to read it is cheap."""

    def table(self, name: str) -> ir.Table:
        """What has this name: a temporary table, a named expression, or a small table."""

    def write(self, sql: str, folder: Path) -> tuple[Path, ...]:
        """Run SQL into new Parquet files in `folder`; without rows there are none."""

    def reader(self, sql: str, rows: int) -> pa.RecordBatchReader:
        """Stream the result of SQL in batches of about `rows` rows."""

    def arrow(self, sql: str) -> pa.Table:
        """The result of SQL."""

    def frame(self, table: ir.Table) -> pd.DataFrame:
        """Run an expression; integers and booleans in the nullable types of pandas.

        Raises:
            CardinalityError: a resource has several values where a column takes one.
        """

    def define_cut(self, day: date | None) -> None:
        """Make the SQL functions `periop_cut(site)` and `periop_site(site)`: from now on `day`, and the site.

        Without a day they give those of a site that is written ``<site>|<day>``: several data cuts at once.
        """

    def each(self, work: Callable[[Engine, Item], Result], items: Sequence[Item], own: Collection[str]) -> list[Result]:
        """Do some work for each item, several at once where that is faster; the results in the order of the items.

        Each work gets an engine on the same tables. What it puts under the names `own` it does not share with works
        that run at the same time; everything else is there for all. It is for few rows: those of several works are in
        memory.
        """

    def close(self) -> None:
        """Free the engine."""


def in_turn(engine: Engine, work: Callable[[Engine, Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do some work for each item, one after the other, with one engine."""
    return [work(engine, item) for item in items]


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
        self.con.raw_sql(f"SET GLOBAL dynamic_or_filter_threshold = {LOOKED_UP}")
        self._tables = 0
        self._own: frozenset[str] = frozenset()
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

    def scan(self, name: str, parts: Sequence[Files], schema: pa.Schema) -> None:
        """Name the rows of Parquet files, read whenever they are asked for; no rows of `schema` for no files.

        Raises:
            MappingError: a file is not there.
        """
        if not parts:
            self._put(f"{NO}{name}", schema.empty_table())
        self.view(name, " UNION ALL ".join(map(_rows_of, parts)) or f'FROM "{NO}{name}"')

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

    def register(self, name: str, rows: pa.Table) -> ir.Table:
        """A small table under this name, which it may have had before."""
        self._put(name, rows)
        return self.con.table(name)

    def view(self, name: str, sql: str) -> None:
        """Name a query; what had the name before is forgotten."""
        self.con.raw_sql(f'CREATE OR REPLACE {self._kept(name)}VIEW "{name}" AS {sql}')

    def compile(self, table: ir.Table) -> str:
        """The SQL of an expression."""
        return str(self.con.compile(table))

    def fill(self, name: str, sql: str) -> None:
        """Run SQL once into a temporary table, replacing it."""
        self.con.raw_sql(f'CREATE OR REPLACE {self._kept(name)}TABLE "{name}" AS {sql}')

    def table(self, name: str) -> ir.Table:
        """What has this name."""
        return self.con.table(name)

    def write(self, sql: str, folder: Path) -> tuple[Path, ...]:
        """Run SQL into a new Parquet file in `folder`; without rows there is none."""
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
        """The result of SQL. DuckDB plans what it fetches twice: here that is a table of the rows, not long SQL."""
        self.con.raw_sql(f"CREATE OR REPLACE TEMP TABLE {FETCHED} AS {sql}")
        rows = self.con.con.sql(f"FROM {FETCHED}").to_arrow_table()
        self.con.raw_sql(f"DROP TABLE {FETCHED}")
        return rows

    def define_cut(self, day: date | None) -> None:
        """Make the SQL functions `periop_cut(site)` and `periop_site(site)`."""
        for name, _, sql in cut_functions(day):
            self.con.raw_sql(f"CREATE OR REPLACE MACRO {name}(site) AS {sql}")

    def each(self, work: Callable[[Engine, Item], Result], items: Sequence[Item], own: Collection[str]) -> list[Result]:
        """Do some work for each item, two at once, on a thread of its own each: few rows are not worth several."""
        engines = [self._beside(own) for _ in range(ABREAST)]
        free = list(engines)

        def done(item: Item) -> Result:
            engine = free.pop()
            try:
                return work(engine, item)
            finally:
                free.append(engine)

        threads = self.con.con.execute("SELECT current_setting('threads')").fetchall()[0][0]
        self.con.raw_sql("SET GLOBAL threads = 1")
        try:
            with ThreadPoolExecutor(ABREAST) as pool:
                return list(pool.map(done, items))
        finally:
            for engine in engines:  # not while others work: duckdb-python holds the GIL to close (its pull request 462)
                engine.close()
            self.con.raw_sql(f"SET GLOBAL threads = {threads}")

    def _beside(self, own: Collection[str]) -> DuckDBEngine:
        """Another connection to the same database. Its temporary tables and views only it sees."""
        beside = copy.copy(self)
        beside.con = DuckDBBackend.from_connection(self.con.con.cursor())
        beside._own = frozenset(own)
        return beside

    def _kept(self, name: str) -> str:
        return "TEMP " if name.removeprefix(NO) in self._own else ""

    def _put(self, name: str, rows: pa.Table) -> None:
        """Copy rows into a table: what is only registered another connection does not see."""
        self.con.con.register(GIVEN, rows)
        self.fill(name, f"FROM {GIVEN}")
        self.con.con.unregister(GIVEN)

    def frame(self, table: ir.Table) -> pd.DataFrame:
        """Run a table and fetch its rows; integers and booleans in the nullable types of pandas.

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

    def _name(self, prefix: str) -> str:
        self._tables += 1
        return f"{prefix}_{self._tables}"


def _rows_of(files: Files) -> str:
    # The largest first: from the rows of the first file DuckDB estimates those of all, and of two tables it keeps the
    # one with fewer rows in memory.
    try:
        largest_first = sorted(files.paths, key=os.path.getsize, reverse=True)
    except OSError as error:
        raise unreadable(error.filename, error) from error
    paths = ", ".join(_quoted(glob.escape(path)) for path in largest_first)  # it takes a name for a pattern
    constants = "".join(f', {_quoted(value)} AS "{name}"' for name, value in files.constants.items())
    return f"SELECT *{constants} FROM read_parquet([{paths}], hive_partitioning = false)"  # noqa: S608


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _with_its_errors(stream: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches of a stream. Once it has begun, an error of DuckDB comes as an `OSError` with its text."""
    try:
        yield from stream
    except OSError as error:
        kind, _, _ = str(error).partition(":")
        raise STREAM_ERRORS.get(kind, duckdb.Error)(str(error)) from error


def nullable_frame(rows: pa.Table) -> pd.DataFrame:
    """Rows as a frame; integers and booleans in the nullable types of pandas."""
    import pandas as pd

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    # To look every text up whether it came before takes longer than to make it again.
    frame: pd.DataFrame = rows.to_pandas(types_mapper=nullable.get, deduplicate_objects=False)
    return frame


def cut_functions(day: date | None) -> Iterator[tuple[str, str, str]]:
    """Name, type and SQL, for any engine, of the functions of `site` that `Engine.define_cut` makes."""
    yield "periop_cut", "DATE", f"CAST(split_part(site, '{AT}', 2) AS DATE)" if day is None else f"DATE '{day}'"
    yield "periop_site", "STRING", f"split_part(site, '{AT}', 1)" if day is None else "site"


def hmac_macro(key: bytes) -> str:
    """The SQL that makes `periop_hmac(text)`: HMAC-SHA-256 of the UTF-8 text, in hex (RFC 2104)."""
    inner, outer = hmac_pads(key)
    return (
        "CREATE OR REPLACE MACRO periop_hmac(m) AS "
        f"sha256(unhex('{outer}') || unhex(sha256(unhex('{inner}') || encode(m))))"
    )


def hmac_pads(key: bytes) -> tuple[str, str]:
    """The inner and the outer padded key of an HMAC-SHA-256, in hex (RFC 2104, section 2)."""
    block = (hashlib.sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in block).hex(), bytes(byte ^ 0x5C for byte in block).hex()


def error_of(message: str) -> CardinalityError | None:
    """The error of this package for the message of an engine, if our own stop is in it."""
    if SEVERAL not in message:
        return None
    element = message.split(SEVERAL, 1)[1].split("\n", 1)[0].split(" SQLSTATE", 1)[0].strip()
    return CardinalityError(element, 'several values in a resource; add .first(), or "collection": true to take all')
