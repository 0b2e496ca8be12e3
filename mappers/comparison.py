"""Operators of FHIRPath on compiled values: equality, order, three-valued logic, arithmetic.

Source: FHIRPath N1, section 6, https://hl7.org/fhirpath/N1/#operations
"""

from __future__ import annotations

import operator as python
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.collection import Collection, Values, kind, negated, sql_type
from mappers.elements import DATES, INTEGERS

if TYPE_CHECKING:
    from mappers.fhirpath import Compiler

Comparator = Callable[[ir.Value, ir.Value], ir.Value]

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": python.eq,
    "!=": python.ne,
    "<": python.lt,
    "<=": python.le,
    ">": python.gt,
    ">=": python.ge,
}
DAY = len("2024-01-31")
SEVERAL = "periop: several values: "


def stop(message: str) -> Any:
    """The engine's own function that ends the query with a message; a text by its declared type only."""
    return _end(message)


def _error(message: str) -> Any: ...


_end = ibis.udf.scalar.builtin(name="error", signature=((dt.string,), dt.string))(_error)


def only(array: ir.Value, element: str) -> ir.Value:
    """The single item of a dense array; several items stop the query, null where there is none."""
    items: Any = array
    first = items[0]
    return ibis.cases((items.length() > 1, stop(SEVERAL + element).cast(first.type())), else_=first)


def logic(operator: str, left: ir.Value, right: ir.Value) -> ir.Value:
    """Three-valued logic; SQL's AND and OR are those of FHIRPath."""
    one: Any = left.cast(dt.boolean)
    other: Any = right.cast(dt.boolean)
    match operator:
        case "and":
            return one & other
        case "or":
            return one | other
        case "implies":
            return negated(one) | other
        case _:
            return one != other


def comparator(compiler: Compiler, operator: str, left: Collection, right: Collection) -> Comparator:
    """The comparison of two single items of these types; null where either is empty or precision leaves it
    open.

    Raises:
        ViewError: the types do not compare.
    """
    compare = OPERATORS[operator]
    if not left.type or not right.type:
        return lambda _one, _other: ibis.null(dt.boolean)
    kinds = {kind(left.type), kind(right.type)}
    if kinds <= DATES:
        return lambda one, other: _dates(compare, one, other)
    if kinds == {"time"}:
        return lambda one, other: _prefix(compare, one, other, None)
    texts = kinds <= DATES | {"text", "time"} and operator in ("=", "!=")  # a date given as a string
    if len(kinds) > 1 and not texts:
        raise compiler.error(f"'{operator}' compares {left.type} with {right.type}")
    if kinds == {"boolean"} and operator not in ("=", "!="):
        raise compiler.error(f"'{operator}' compares booleans")
    return compare


def equal_collections(left: Collection, right: Collection, values: Values, equal: Comparator) -> ir.Value:
    """Whether collections are as many and equal in order by `equal`; null where either is empty."""
    one, other = _array(left, values), _array(right, values)
    size, other_size = one.length().fill_null(0), other.length().fill_null(0)
    if left.many and right.many:
        unequal = one.zip(other).filter(lambda pair: negated(equal(pair["f1"], pair["f2"])))
        decided = unequal.length() == 0
    else:
        decided = equal(one[0], other[0])
    return ibis.cases(
        ((size == 0) | (other_size == 0), ibis.null(dt.boolean)),
        (size != other_size, ibis.literal(False)),
        else_=decided,
    )


def arithmetic(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """`+`, `-`, `&`, and on integers `*`, `div`, `mod`."""
    one, other = compiler.single(left, depth), compiler.single(right, depth)
    kinds = {kind(left.type), kind(right.type)}
    if operator in ("+", "&") and kinds == {"text"}:
        return Collection("string", False, lambda values: _joined(operator, one.make(values), other.make(values)))
    integers = left.type in INTEGERS and right.type in INTEGERS
    if kinds == {"number"} and (operator in ("+", "-") or (integers and operator in ("*", "div", "mod"))):
        type_name = "integer" if integers else "decimal"
        return Collection(
            type_name,
            False,
            lambda values: _number(operator, one.make(values), other.make(values), sql_type(type_name)),
            navigates=one.navigates or other.navigates,
        )
    raise compiler.unsupported(f"'{operator}' on {left.type or 'empty'} and {right.type or 'empty'}")


def _array(side: Collection, values: Values) -> Any:
    made: Any = side.make(values)
    return made if side.many else ibis.ifelse(made.isnull(), ibis.null(dt.Array(made.type())), ibis.array([made]))


def _joined(operator: str, one: Any, other: Any) -> ir.Value:
    if operator == "&":
        one, other = one.fill_null(""), other.fill_null("")
    return one.concat(other)


def _number(operator: str, one: Any, other: Any, dtype: dt.DataType) -> ir.Value:
    match operator:
        case "+":
            result = one + other
        case "-":
            result = one - other
        case "*":
            result = one * other
        case "div":  # truncated, as FHIRPath has it; empty where the divisor is 0
            divisor = other.nullif(0)
            result = (one.abs() // divisor.abs()) * one.sign().cast(dt.int64) * divisor.sign().cast(dt.int64)
        case _:
            result = one % other.nullif(0)
    return result.cast(dtype)


def _dates(compare: Callable[[Any, Any], Any], one: Any, other: Any) -> ir.Value:
    """Dates of any precision: as instants if both have a time, else as far as both are precise."""
    instant = dt.Timestamp("UTC")
    timed = (one.length() > DAY) & (other.length() > DAY)
    return ibis.cases(
        (timed, compare(one.try_cast(instant), other.try_cast(instant))),
        else_=_prefix(compare, one, other, DAY),
    )


def _prefix(compare: Callable[[Any, Any], Any], one: Any, other: Any, limit: int | None) -> ir.Value:
    """Compare the part that both have; if that is equal and one is more precise, the answer is open."""
    sizes = [one.length(), other.length()] + ([ibis.literal(limit)] if limit else [])
    size = ibis.least(*sizes)
    left, right = one.substr(0, size), other.substr(0, size)
    decided = (left != right) | (one.length() == other.length())
    return ibis.cases((decided, compare(left, right)))
