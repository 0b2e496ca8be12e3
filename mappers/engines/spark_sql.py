"""The SQL of Spark: how Ibis expressions of the mapping are written for it.

Expressions know no engine. Where Ibis 12 writes for Spark what fails or gives another answer than on DuckDB, and where
the mapping calls a function of DuckDB by name (`from_json`, `error`, `list_concat`), the writer here says it for Spark.
It needs no Spark to write.
"""

# ruff: noqa: N802  Ibis finds the writer of an operation by its name

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import NULL
from ibis.backends.sql.compilers.pyspark import PySparkCompiler

from connectors.fhir import dates
from mappers.engines.mapping_sql import MappingSQL
from mappers.engines.spark_json import read_json

FHIR_TIME = f"^{dates.DAY}([T ]{dates.TIME_TO_MINUTE}{dates.ZONE}?)?$"
NUMBER = r"^\s*[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?\s*$"


class SparkCompiler(MappingSQL, PySparkCompiler):  # type: ignore[misc]  # Ibis is untyped
    """Ibis' writer for Spark, corrected."""

    __slots__ = ()
    SIMPLE_OPS: ClassVar[dict[Any, str]] = {}  # else those of Ibis would be put over the writers below

    def visit_ScalarUDF(self, op: Any, **arguments: Any) -> Any:
        """Functions that the mapping calls by their name in DuckDB; others are called as they are named."""
        writer = BUILTINS.get(op.__func_name__)
        return writer(self, *arguments.values()) if writer else super().visit_ScalarUDF(op, **arguments)

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: dt.DataType) -> Any:
        """As Ibis has it, without its option to take NaN for null, which is there after `ibis.pyspark` only."""
        writer: Any = super(PySparkCompiler, self) if dtype.is_floating() else super()
        return writer.visit_NonNullLiteral(op, value=value, dtype=dtype)

    def visit_Field(self, op: Any, *, rel: Any, name: str) -> Any:
        return super(PySparkCompiler, self).visit_Field(op, rel=rel, name=name)

    def visit_Fold(self, op: Any, *, arg: Any, start: Any, body: Any, accumulator: Any, item: Any) -> Any:
        """Both sides are cast, so that Spark takes neither for a type without nulls."""
        step = sge.Lambda(this=self.cast(body, op.dtype), expressions=[accumulator, item])
        return self.f.anon.aggregate(arg, self.cast(start, op.dtype), step)

    def visit_ArrayIndex(self, op: Any, *, arg: Any, index: Any) -> Any:
        """Null beyond the end, also in ANSI mode; a negative index counts from the end."""
        if isinstance(op.index, ops.Literal) and op.index.value >= 0:
            return self.f.anon.get(arg, index)
        return self.f.anon.get(arg, self.if_(index < 0, index + self.f.anon.size(arg), index))

    def visit_ArrayFlatten(self, _op: Any, *, arg: Any) -> Any:
        """Nulls among the arrays are left out; Spark's own `flatten` gives null for them."""
        item = sg.to_identifier("flat_item", quoted=self.quoted)
        present = sge.Lambda(this=item.is_(sg.not_(NULL)), expressions=[item])
        return self.f.anon.flatten(self.f.anon.filter(arg, present))

    def visit_ArrayStringJoin(self, _op: Any, *, arg: Any, sep: Any) -> Any:
        return self.if_(self.f.anon.size(arg) > 0, self.f.anon.array_join(arg, sep), NULL)

    def visit_IntegerRange(self, op: Any, *, start: Any, stop: Any, step: Any) -> Any:
        if not (isinstance(op.step, ops.Literal) and op.step.value == 1):
            return super().visit_IntegerRange(op, start=start, stop=stop, step=step)
        none = self.cast(self.f.array(), op.dtype)
        return self.if_(stop > start, self.cast(self.f.anon.sequence(start, stop - 1), op.dtype), none)

    def visit_ArrayZip(self, op: Any, *, arg: Any) -> Any:
        return self.cast(self.f.anon.arrays_zip(*arg), op.dtype)

    def visit_RegexSearch(self, _op: Any, *, arg: Any, pattern: Any) -> Any:
        return self.f.anon.regexp_like(arg, _java(pattern))

    def visit_RegexExtract(self, _op: Any, *, arg: Any, pattern: Any, index: Any) -> Any:
        return self.f.anon.regexp_extract(arg, _java(pattern), index)

    def visit_RegexReplace(self, _op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        return self.f.anon.regexp_replace(arg, _java(pattern), replacement)

    def visit_StringSplit(self, _op: Any, *, arg: Any, delimiter: Any) -> Any:
        """By a text; Spark splits by a regular expression."""
        return self.f.anon.split(arg, _quoted(delimiter))

    def visit_FloorDivide(self, op: Any, *, left: Any, right: Any) -> Any:
        """Integers stay integers, with every digit; Ibis divides them as doubles."""
        if not (op.left.dtype.is_integer() and op.right.dtype.is_integer()):
            return super().visit_FloorDivide(op, left=left, right=right)
        left, right = sge.paren(left), sge.paren(right)
        inexact = sg.and_((left % right).neq(0), ((left < 0).neq(right < 0)))
        whole = sge.IntDiv(this=left, expression=right)
        return self.cast(self.if_(inexact, sge.paren(whole) - 1, whole), op.dtype)

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """Text as DuckDB takes it: Spark also reads 2024 as a date, "today" as a day and digits of any script."""
        made = super().visit_TryCast(op, arg=arg, to=to)
        if not op.arg.dtype.is_string():
            return made
        if to.is_date() or to.is_timestamp():
            return self._where_like(arg, FHIR_TIME, made)
        return self._where_like(arg, NUMBER, made) if to.is_numeric() else made

    def _where_like(self, arg: Any, pattern: str, made: Any) -> Any:
        like = self.f.anon.regexp_like(arg, _java(sge.convert(pattern)))
        return sge.Case(ifs=[self.if_(like, made)])


def to_sql(table: ir.Table) -> str:
    """The SQL of Spark for an expression over tables that need not be there, laid out for people."""
    return str(SparkCompiler().to_sqlglot(table.unbind()).sql(dialect=SparkCompiler.dialect, pretty=True))


def _java(pattern: Any) -> Any:
    """A pattern of RE2 for Java: `$` is the very end, and only a line feed ends a line."""
    if not (isinstance(pattern, sge.Literal) and pattern.is_string):
        return pattern
    parts = re.findall(r"\\.|\[(?:\\.|[^\]\\])+\]|.", pattern.this, re.DOTALL)
    return sge.Literal.string("(?d)" + "".join(r"\z" if part == "$" else part for part in parts))


def _quoted(text: Any) -> Any:
    """A text as a pattern that means just it."""
    if isinstance(text, sge.Literal) and text.is_string:
        return sge.Literal.string(re.sub(r"([^\w\s])", r"\\\1", text.this, flags=re.ASCII))
    return sge.func("concat", sge.convert(r"\Q"), text, sge.convert(r"\E"))


BUILTINS: Mapping[str, Callable[..., Any]] = {
    "error": lambda compiler, message: compiler.f.anon.raise_error(message),
    "from_json": lambda _compiler, text, structure: read_json(text, json.loads(structure.this)),
    "list_concat": lambda compiler, one, other: compiler.f.anon.concat(one, other),
    # `spark_json` tells texts from objects and arrays itself, and reads none of these as a text.
    "json_valid": lambda _compiler, _text: sge.false(),
    "mark_texts": lambda _compiler, resource: resource,
    "unmarked": lambda _compiler, text: text,
}
