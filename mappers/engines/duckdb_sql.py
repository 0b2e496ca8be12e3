"""The SQL of DuckDB: what Ibis 12 does not write for it, or writes with another meaning.

`spark_sql` does the same for Spark.
"""

# ruff: noqa: N802  Ibis finds the writer of an operation by its name

from __future__ import annotations

from typing import Any, ClassVar

import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot.expressions as sge
from ibis.backends.duckdb import Backend
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler

from mappers.engines.mapping_sql import MappingSQL


class MappingDuckDBCompiler(MappingSQL, DuckDBCompiler):  # type: ignore[misc]  # Ibis is untyped
    """Ibis' writer for DuckDB, corrected."""

    __slots__ = ()
    SIMPLE_OPS: ClassVar[dict[Any, str]] = {}  # else those of Ibis would be put over the writers here

    def visit_Fold(self, _op: Any, *, arg: Any, start: Any, body: Any, accumulator: Any, item: Any) -> Any:
        return self.f.list_reduce(arg, sge.Lambda(this=body, expressions=[accumulator, item]), start)

    def visit_ArrayConcat(self, op: Any, *, arg: Any) -> Any:
        """Write arrays in one call where none can be null; Ibis writes each twice, to look for a null first."""
        if not all(map(_never_null, op.arg)):
            return super().visit_ArrayConcat(op, arg=arg)
        return self.f.anon.list_concat(*arg)


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
