"""The resources of an NDJSON file, parsed: with DuckDB straight into the columns that a view touches.

The plain way is two steps, text of a resource and then `from_json`, which parse every line twice. DuckDB's
`read_ndjson` with typed columns parses once and gives the same, but for numbers: it makes doubles of them. So the
short way is taken where nothing gets lost by that: no element is read with its digits as text, and a file that decimals
are read from has no number of more than 15 digits (`mappers.numerals`).

`read_ndjson` is told to ignore errors, because an element of the wrong type is null and no error; a line that is no
JSON then has no type of resource either, and ends the query (`is_unreadable`). The plain way is for such a file: it
knows the line, and passes over JSON that is no resource.
"""

from __future__ import annotations

import glob
from pathlib import Path

import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.engine import DuckDBEngine, Engine
from mappers.numerals import has_long_number
from mappers.shape import DECIMAL, DIGITS, Shape

UNREADABLE = "periop: a line that is no resource"
PARSED = "_resource"


def typed_ndjson(engine: Engine, path: str | Path, shape: Shape) -> ir.Table | None:
    """The resources of a file as the struct column `_resource`; None where only the plain way is exact."""
    if not isinstance(engine, DuckDBEngine) or not reads_exactly(shape, Path(path)):
        return None
    columns = dict(zip(shape.dtype().names, shape.dtype().types, strict=True))
    members = ", ".join(f"'{name}': {_member(name)}" for name in columns)
    return engine.table_of(f"SELECT {{{members}}} AS {PARSED} FROM {_source(path, columns)}")  # noqa: S608


def reads_exactly(shape: Shape, path: Path) -> bool:
    """Whether the touched elements of this file come out of `read_ndjson` as they stand in it."""
    kinds = set(_kinds(shape))
    if DIGITS in kinds or "text" in kinds or not path.is_file():  # a pipe cannot be looked through first
        return False
    return "decimal" not in kinds or (path.suffix != ".gz" and not has_long_number(path))


def is_unreadable(error: Exception) -> bool:
    """Whether a query ended because a line of a file is no resource."""
    return UNREADABLE in str(error)


def _kinds(shape: Shape) -> list[str]:
    """The kinds of primitives below a shape, and "text" if an element is read as JSON text."""
    found = ["text"] if shape.texts else []
    for child, _ in shape.children.values():
        found += _kinds(child) if isinstance(child, Shape) else [child]
    return found


def _source(path: str | Path, columns: dict[str, dt.DataType]) -> str:
    quoted = glob.escape(str(path)).replace("'", "''")  # DuckDB takes a name for a pattern
    types = ", ".join(f"'{name}': '{_sql(_as_written(kind))}'" for name, kind in columns.items())
    return f"read_ndjson('{quoted}', columns = {{{types}}}, ignore_errors = true)"


def _member(name: str) -> str:
    if name == "resourceType":
        return f'CASE WHEN "{name}" IS NULL THEN error(\'{UNREADABLE}\') ELSE "{name}" END'
    return f'"{name}"'


def _as_written(kind: dt.DataType) -> dt.DataType:
    """The type without the DECIMAL that keeps digits in `from_json`: here it would only take time."""
    if isinstance(kind, dt.Array):
        return dt.Array(_as_written(kind.value_type))
    if isinstance(kind, dt.Struct):
        return dt.Struct({name: _as_written(inner) for name, inner in kind.items()})
    return dt.string if kind == DECIMAL else kind


def _sql(kind: dt.DataType) -> str:
    from ibis.backends.sql.datatypes import DuckDBType

    return str(DuckDBType.to_string(kind))
