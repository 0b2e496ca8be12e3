"""The SQL of DuckDB: what Ibis 12 does not write for it, or writes with another meaning.

`spark_sql` does the same for Spark.
"""

# ruff: noqa: N802  Ibis finds the writer of an operation by its name

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot.expressions as sge
from ibis.backends.duckdb import Backend
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler

from mappers.engines.mapping_sql import MappingSQL

MARK = 0x7F  # U+007F, delete, comes after { and is in no text for people
# A string begins after a colon, a comma, a bracket or white space; a quote within one is escaped.
JSON_TEXT = r'([:,\[\s])"([\[{](?:[\]}\[{\s0-9-]|\\"|true|false|null))'
MARKED = rf'\1"\\u{MARK:04x}\2'


class MappingDuckDBCompiler(MappingSQL, DuckDBCompiler):  # type: ignore[misc]  # Ibis is untyped
    """Ibis' writer for DuckDB, corrected."""

    __slots__ = ()
    SIMPLE_OPS: ClassVar[dict[Any, str]] = {}  # else those of Ibis would be put over the writers here

    def visit_Fold(self, _op: Any, *, arg: Any, start: Any, body: Any, accumulator: Any, item: Any) -> Any:
        return self.f.list_reduce(arg, sge.Lambda(this=body, expressions=[accumulator, item]), start)

    def visit_ScalarUDF(self, op: Any, **arguments: Any) -> Any:
        """Write functions of the mapping that DuckDB does not have; others are called as they are named."""
        writer = BUILTINS.get(op.__func_name__)
        return writer(self, *arguments.values()) if writer else super().visit_ScalarUDF(op, **arguments)

    def visit_DropColumns(self, op: Any, *, parent: Any, columns_to_drop: Any) -> Any:
        """Write the columns in order; Ibis has them in a set, so that each process would write another text."""
        return super().visit_DropColumns(op, parent=parent, columns_to_drop=sorted(columns_to_drop))

    def visit_ArrayConcat(self, op: Any, *, arg: Any) -> Any:
        """Write arrays in one call where none can be null; Ibis writes each twice, to look for a null first."""
        if not all(map(_never_null, op.arg)):
            return super().visit_ArrayConcat(op, arg=arg)
        return self.f.anon.list_concat(*arg)


def _mark_texts(compiler: Any, resource: Any) -> Any:
    # Most resources have no text that ends as JSON does, and to look for that costs a tenth of what the pattern does.
    ends = sge.or_(*(compiler.f.contains(resource, sge.convert(end)) for end in (']"', '}"')))
    marked = compiler.f.regexp_replace(resource, sge.convert(JSON_TEXT), sge.convert(MARKED), sge.convert("g"))
    return sge.Case(ifs=[compiler.if_(ends, marked)], default=resource)


def _unmarked(compiler: Any, text: Any) -> Any:
    return compiler.f.replace(text, compiler.f.chr(MARK), sge.convert(""))


BUILTINS: Mapping[str, Callable[..., Any]] = {"mark_texts": _mark_texts, "unmarked": _unmarked}


class DuckDBBackend(Backend):  # type: ignore[misc]  # Ibis is untyped
    """Ibis' DuckDB with our compiler."""

    compiler = MappingDuckDBCompiler()


def to_sql(table: ir.Table) -> str:
    """Return the SQL of DuckDB for an expression over tables that need not be there, laid out for people."""
    compiler = DuckDBBackend.compiler
    return str(compiler.to_sqlglot(table.unbind()).sql(dialect=compiler.dialect, pretty=True))


def _never_null(array: ops.Value) -> bool:
    if isinstance(array, ops.Coalesce):
        return any(map(_never_null, array.arg))
    return isinstance(array, ops.Array) or (isinstance(array, ops.Literal) and array.value is not None)
