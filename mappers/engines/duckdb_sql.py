"""The SQL of DuckDB: what Ibis 12 does not write for it, or writes with another meaning.

Ibis finds the writer of an operation by its name, `visit_<Operation>`. `spark_sql` does the same for Spark.
"""

from __future__ import annotations

from typing import Any

import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler

from mappers.fhirpath.fold import Fold


def _visit_fold(compiler: Any, _op: Fold, *, arg: Any, start: Any, body: Any, accumulator: Any, item: Any) -> Any:
    return compiler.f.list_reduce(arg, sge.Lambda(this=body, expressions=[accumulator, item]), start)


def visit_is_null(_compiler: Any, _op: Any, *, arg: Any) -> Any:
    """`x IS NULL` with brackets round what is no plain value: Ibis writes `NOT x IS NULL` for the null of `NOT x`."""
    return bracketed(arg).is_(sge.Null())


def visit_not_null(_compiler: Any, _op: Any, *, arg: Any) -> Any:
    """As `visit_is_null`."""
    return bracketed(arg).is_(sge.Not(this=sge.Null()))


def bracketed(arg: Any) -> Any:
    """An operator in brackets."""
    operator = isinstance(arg, (sge.Unary, sge.Binary, sge.Predicate)) and not isinstance(arg, (sge.Paren, sge.Dot))
    return sge.Paren(this=arg) if operator else arg


def visit_substring(compiler: Any, op: ops.Substring, *, arg: Any, start: Any, length: Any) -> Any:
    """A part from a known place: Ibis writes the text twice, to count from its end where the place is negative."""
    if not (isinstance(op.start, ops.Literal) and op.start.value >= 0):
        return SQLGlotCompiler.visit_Substring(compiler, op, arg=arg, start=start, length=length)
    return compiler.f.substring(arg, op.start.value + 1, *([] if length is None else [length]))


def _visit_array_concat(compiler: Any, op: ops.ArrayConcat, *, arg: Any) -> Any:
    """Arrays in one call where none can be null; Ibis writes each twice, to look for a null first."""
    if any(not _never_null(each) for each in op.arg):
        return INHERITED(compiler, op, arg=arg)
    return compiler.f.anon.list_concat(*arg)


def _never_null(array: ops.Value) -> bool:
    if isinstance(array, ops.Coalesce):
        return any(map(_never_null, array.arg))
    return isinstance(array, ops.Array) or (isinstance(array, ops.Literal) and array.value is not None)


INHERITED = DuckDBCompiler.visit_ArrayConcat
DuckDBCompiler.visit_ArrayConcat = _visit_array_concat
DuckDBCompiler.visit_Fold = _visit_fold
DuckDBCompiler.visit_Substring = visit_substring
DuckDBCompiler.visit_IsNull = visit_is_null
DuckDBCompiler.visit_NotNull = visit_not_null
