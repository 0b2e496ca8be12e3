"""The protocol of an engine, and what all engines share.

Expressions know no engine; what the engines write differently is in `duckdb_sql` and `spark_sql`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import ibis.expr.types as ir
import pyarrow as pa

from mappers.errors import CardinalityError
from mappers.fhirpath.cardinality import SEVERAL

if TYPE_CHECKING:
    import pandas as pd

RESOURCE = "resource"  # the column that holds the JSON of a resource
CUTOFF = "periop_cutoff"  # the SQL function without arguments that gives the data cutoff
BLOCK = 64  # bytes of a SHA-256 block, RFC 2104


@dataclass(frozen=True)
class Files:
    """Parquet files of one schema. `constants` are text columns that all their rows have besides those in the files."""

    paths: tuple[str, ...]
    constants: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """A SQL engine of the mapping. SQL is that of the engine, as `compile` returns it.

    `con` is the Ibis backend. Times are in UTC. A name that is registered or created again means the new rows only.
    """

    name: str
    con: Any

    _names: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def register_parquet(self, name: str, parts: Sequence[Files], schema: pa.Schema) -> None:
        """Name the rows of Parquet files, which are read by each query; no files are an empty table of `schema`.

        Raises:
            MappingError: a file is not there.
        """

    def register_rows(self, name: str, rows: pa.Table) -> ir.Table:
        """Name rows that are in memory."""

    def read_ndjson(self, path: str | Path) -> ir.Table:
        """Return the resources of an NDJSON file as a table with the string column `resource`, lazily."""

    def resources(self, texts: Sequence[str]) -> ir.Table:
        """Return JSON texts as a table with the string column `resource`."""

    def create_view(self, name: str, sql: str) -> None:
        """Name a query, which runs whenever the name is read."""

    def create_table_as(self, name: str, sql: str) -> None:
        """Run a query once and name its rows, which are then cheap to read."""

    def table(self, name: str) -> ir.Table:
        """Return what has this name as an expression."""
        return self.con.table(name)

    def compile(self, table: ir.Table) -> str:
        """Return the SQL of an expression."""

    def set_data_cutoff(self, day: date) -> None:
        """Let the SQL function `periop_cutoff()` return `day` from now on, so that one SQL text serves all cutoffs."""

    def write_parquet(self, sql: str, folder: Path) -> tuple[Path, ...]:
        """Run SQL into new Parquet files in `folder`; a result without rows makes none."""

    def reader(self, sql: str, rows: int) -> pa.RecordBatchReader:
        """Stream the result of SQL, in its order, in batches of about `rows` rows."""

    def arrow(self, sql: str) -> pa.Table:
        """Return the result of SQL."""

    def frame(self, table: ir.Table) -> pd.DataFrame:
        """Return the rows of an expression; integers and booleans in the nullable types of pandas.

        Raises:
            CardinalityError: a resource has several values where a column takes one.
        """

    def close(self) -> None:
        """Free the engine."""

    def _name(self, prefix: str) -> str:
        """Return a name that nothing has yet."""
        self._names += 1
        return f"{prefix}_{self._names}"


def nullable_frame(rows: pa.Table) -> pd.DataFrame:
    """Return rows as a frame; integers and booleans in the nullable types of pandas."""
    import pandas as pd

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    # To look up each text among those before takes longer than to make it again.
    frame: pd.DataFrame = rows.to_pandas(types_mapper=nullable.get, deduplicate_objects=False)
    return frame


def hmac_pads(key: bytes) -> tuple[str, str]:
    """Return the inner and the outer padded key of HMAC-SHA-256, in hex (RFC 2104, section 2)."""
    block = (hashlib.sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in block).hex(), bytes(byte ^ 0x5C for byte in block).hex()


def error_of(message: str) -> CardinalityError | None:
    """Return the error of this package that an engine reports in `message`; None where the error is the engine's own.

    SQL can only stop with a text, so a view that meets several values stops with a marked one (`SEVERAL`).
    """
    if SEVERAL not in message:
        return None
    # DuckDB adds lines, Spark a SQLSTATE.
    element = message.split(SEVERAL, 1)[1].split("\n", 1)[0].split(" SQLSTATE", 1)[0].strip()
    return CardinalityError(element, 'several values in a resource; add .first(), or "collection": true to take all')
