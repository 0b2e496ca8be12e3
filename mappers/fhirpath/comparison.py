"""Operators of FHIRPath on compiled values: equality, order, three-valued logic, arithmetic.

Source: FHIRPath N1, section 6, https://hl7.org/fhirpath/N1/#operations
"""

from __future__ import annotations

import operator as python
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import DATES
from mappers.fhirpath.collection import Collection, Values, kind, negated

if TYPE_CHECKING:
    from mappers.fhirpath.compiler import Compiler

Comparator = Callable[[ir.Value, ir.Value], ir.Value]

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": python.eq,
    "!=": python.ne,
    "<": python.lt,
    "<=": python.le,
    ">": python.gt,
    ">=": python.ge,
}
DECIDED = frozenset({"text", "number", "boolean"})  # two items of these are equal or not, whatever their precision
DAY = len("2024-01-31")
TO_THE_MINUTE = r"(.*T[0-9]{2}:[0-9]{2})(Z|[+-][0-9]{2}:[0-9]{2})?"
VALID_DATE = r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?$"
VALID_TIME = r"^[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?$"
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
        return _of_valid(VALID_DATE, left, right, _to_the_minute(compare, left, right))
    if kinds == {"time"}:
        return _of_valid(VALID_TIME, left, right, lambda one, other: _prefix(compare, one, other, None))
    texts = kinds <= DATES | {"text", "time"} and operator in ("=", "!=")  # a date given as a string
    if len(kinds) > 1 and not texts:
        raise compiler.error(f"'{operator}' compares {left.type} with {right.type}")
    if kinds == {"boolean"} and operator not in ("=", "!="):
        raise compiler.error(f"'{operator}' compares booleans")
    return compare


def equal_collections(left: Collection, right: Collection, values: Values, equal: Comparator) -> ir.Value:
    """Whether collections are as many and equal in order by `equal`; null where either is empty, or an item open."""
    one, other = _array(left, values), _array(right, values)
    size, other_size = one.length().fill_null(0), other.length().fill_null(0)
    if left.many and right.many:
        unequal = one.zip(other).filter(lambda pair: negated(equal(pair["f1"], pair["f2"])))
        decided = unequal.length() == 0
        if kind(left.type) not in DECIDED:
            undecided = one.zip(other).filter(lambda pair: equal(pair["f1"], pair["f2"]).isnull())
            decided = ibis.cases((unequal.length() > 0, False), (undecided.length() == 0, True))
    else:
        decided = equal(one[0], other[0])
    return ibis.cases(
        ((size == 0) | (other_size == 0), ibis.null(dt.boolean)),
        (size != other_size, ibis.literal(False)),
        else_=decided,
    )


def _array(side: Collection, values: Values) -> Any:
    made: Any = side.make(values)
    return made if side.many else ibis.ifelse(made.isnull(), ibis.null(dt.Array(made.type())), ibis.array([made]))


def _of_valid(pattern: str, left: Collection, right: Collection, compare: Comparator) -> Comparator:
    """The comparison where what stands in the resource is a date or time at all; null otherwise."""

    def make(one: Any, other: Any) -> ir.Value:
        data = [value for side, value in ((left, one), (right, other)) if side.literal is None]
        made = compare(one, other)
        return ibis.cases((ibis.and_(*(value.re_search(pattern) for value in data)), made)) if data else made

    return make


def _to_the_minute(compare: Callable[[Any, Any], Any], left: Collection, right: Collection) -> Comparator:
    """`_dates`; where one side is a literal with a time without seconds, equal minutes leave it open."""
    coarse = [_with_seconds(side.literal) for side in (left, right)]
    if not any(coarse):
        return lambda one, other: _dates(compare, one, other)
    instant = dt.Timestamp("UTC")

    def make(one: Any, other: Any) -> ir.Value:
        timed = (one.length() > DAY) & (other.length() > DAY)
        whole = [
            value if text is None else ibis.literal(text) for text, value in zip(coarse, (one, other), strict=True)
        ]
        first, second = (value.try_cast(instant).epoch_seconds() // 60 for value in whole)
        decided = compare(first, second)
        if not all(coarse):
            decided = ibis.cases((first != second, decided))
        return ibis.cases((timed, decided), else_=_prefix(compare, one, other, DAY))

    return make


def _with_seconds(literal: str | None) -> str | None:
    """A literal that ends with minutes, with seconds; None for any other."""
    found = re.fullmatch(TO_THE_MINUTE, literal or "")
    return f"{found[1]}:00{found[2] or ''}" if found else None


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
