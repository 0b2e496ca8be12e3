"""The operators of the core: equality and order of primitives, and three-valued logic.

Source: FHIRPath N1, section 6, https://hl7.org/fhirpath/N1/#operations
"""

from __future__ import annotations

import operator as python
import re
from collections.abc import Callable
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from connectors.fhir import dates
from connectors.fhir.dates import DAY_LENGTH
from mappers.fhir_model.elements import DATES, PRIMITIVES
from mappers.fhir_model.shape import unmarked
from mappers.fhirpath.arrays import Values, negated
from mappers.fhirpath.collection import Collection, boolean, drop_nulls, kind
from mappers.fhirpath.language import Comparator, Compiler, Operator

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": python.eq,
    "!=": python.ne,
    "<": python.lt,
    "<=": python.le,
    ">": python.gt,
    ">=": python.ge,
}
DECIDED = frozenset({"text", "number", "boolean"})  # two items of these are equal or not, whatever their precision
ENDS_AT_MINUTE = f"(.*T[0-9]{{2}}:[0-9]{{2}}){dates.ZONE}?"
VALID_DATE = f"^({dates.DATE}|{dates.DAY}T{dates.TIME}{dates.ZONE}?)$"
VALID_TIME = f"^{dates.TIME_TO_MINUTE}$"


def logic(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """Return three-valued logic; SQL's AND and OR are those of FHIRPath."""
    one, other = compiler.condition(left, depth), compiler.condition(right, depth)

    def make(values: Values) -> ir.Value:
        first: Any = one.make(values).cast(dt.boolean)
        second: Any = other.make(values).cast(dt.boolean)
        match operator:
            case "and":
                return first & second
            case "or":
                return first | second
            case "implies":
                return negated(first) | second
            case _:
                return first != second

    return boolean(make)


def compare_primitives(
    compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int
) -> Collection:
    """Return whether primitives are equal, or in order. `=` and `!=` also take several items on a side."""
    many = operator in ("=", "!=") and (left.many or right.many)
    compare_items = comparator(compiler, "=" if many else operator, left, right)
    if not many:
        return compare_single(compiler, compare_items, left, right, depth)
    ones, others = drop_nulls(left, depth), drop_nulls(right, depth)

    def equal(values: Values) -> ir.Value:
        return _equal_collections(ones, others, values, compare_items)

    return boolean(equal if operator == "=" else lambda values: negated(equal(values)))


def compare_single(
    compiler: Compiler, compare_items: Comparator, left: Collection, right: Collection, depth: int
) -> Collection:
    """Return the comparison of two collections that have one item each; several end the run."""
    one, other = compiler.single(left, depth), compiler.single(right, depth)
    return boolean(
        lambda values: compare_items(one.make(values), other.make(values)),
        null_propagating=one.null_propagating or other.null_propagating,
    )


def reject_choice(compiler: Compiler, operator: str, *sides: Collection) -> None:
    """Raise a `ViewError` if an operand is an element whose type is not chosen."""
    for side in sides:
        if side.choice:
            raise compiler.error(f"'{operator}' on '{side.choice.name}', which has a choice of types; add ofType(TYPE)")


def comparator(compiler: Compiler, operator: str, left: Collection, right: Collection) -> Comparator:
    """Return the comparison of two single primitives of these types; null where empty or open for lack of precision.

    Raises:
        ViewError: the types do not compare.
    """
    reject_choice(compiler, operator, left, right)
    if not {left.type, right.type} <= PRIMITIVES | {""}:
        raise compiler.unsupported(f"'{operator}' on {left.type} and {right.type}")
    compare_values = COMPARE[operator]
    if not left.type or not right.type:
        return lambda _one, _other: ibis.null(dt.boolean)
    kinds = {kind(left.type), kind(right.type)}
    # date, dateTime and instant compare with each other, as far as both are precise.
    if kinds <= DATES:
        return _of_valid(VALID_DATE, left, right, _to_the_minute(compare_values, left, right))
    if kinds == {"time"}:
        return _of_valid(VALID_TIME, left, right, lambda one, other: _times(compare_values, one, other))
    texts = kinds <= DATES | {"text", "time"} and operator in ("=", "!=")  # a date given as a string
    if len(kinds) > 1 and not texts:
        raise compiler.error(f"'{operator}' compares {left.type} with {right.type}")
    # FHIRPath has no order of booleans; SQL would compare them.
    if kinds == {"boolean"} and operator not in ("=", "!="):
        raise compiler.error(f"'{operator}' compares booleans")
    return _without_marks(compare_values, left, right) if kinds == {"text"} else compare_values


def _without_marks(compare: Callable[[Any, Any], Any], left: Collection, right: Collection) -> Comparator:
    """Return the comparison of texts without marks, where those decide: most literals do not begin as JSON does."""
    sides = (left, right)
    if any(side.literal is not None and side.literal[:1] not in ("[", "{", "") for side in sides):
        return compare
    marked = [side.literal is None and not side.clean for side in sides]
    if all(marked) and compare in (python.eq, python.ne):
        return compare

    def compared(*values: Any) -> Any:
        return compare(*(unmarked(value) if mark else value for mark, value in zip(marked, values, strict=True)))

    return compared


def _equal_collections(left: Collection, right: Collection, values: Values, equal: Comparator) -> ir.Value:
    """Return whether collections are as many and equal in order; null where either is empty, or an item open."""
    one, other = _array(left, values), _array(right, values)
    size, other_size = one.length().fill_null(0), other.length().fill_null(0)
    # A pair that differs decides, whatever the others say; a pair that is open leaves the whole open.
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
    """Return the comparison where what stands in the resource is a date or time at all; null otherwise."""

    def make(one: Any, other: Any) -> ir.Value:
        # A literal was checked by the parser.
        data = [value for side, value in ((left, one), (right, other)) if side.literal is None]
        made = compare(one, other)
        return ibis.cases((ibis.and_(*(value.re_search(pattern) for value in data)), made)) if data else made

    return make


def _to_the_minute(compare: Callable[[Any, Any], Any], left: Collection, right: Collection) -> Comparator:
    """Return `_dates`; where one side is a literal with a time without seconds, equal minutes leave it open."""
    coarse = [_with_seconds(side.literal) for side in (left, right)]
    if not any(coarse):
        return lambda one, other: _dates(compare, one, other)
    instant = dt.Timestamp("UTC")

    def make(one: Any, other: Any) -> ir.Value:
        timed = (one.length() > DAY_LENGTH) & (other.length() > DAY_LENGTH)
        whole = [
            value if text is None else ibis.literal(text) for text, value in zip(coarse, (one, other), strict=True)
        ]
        # Whole minutes since 1970: equal ones leave open what the seconds of the coarse side are.
        first, second = (value.try_cast(instant).epoch_seconds() // 60 for value in whole)
        decided = compare(first, second)
        if not all(coarse):
            decided = ibis.cases((first != second, decided))
        return ibis.cases((timed, decided), else_=_prefix(compare, one, other, DAY_LENGTH))

    return make


def _with_seconds(literal: str | None) -> str | None:
    """Return a literal that ends with minutes, with seconds; None for any other."""
    found = re.fullmatch(ENDS_AT_MINUTE, literal or "")
    return f"{found[1]}:00{found[2] or ''}" if found else None


def _dates(compare: Callable[[Any, Any], Any], one: Any, other: Any) -> ir.Value:
    """Compare dates of any precision: as instants if both have a time, else as far as both are precise."""
    instant = dt.Timestamp("UTC")
    timed = (one.length() > DAY_LENGTH) & (other.length() > DAY_LENGTH)
    return ibis.cases(
        (timed, compare(one.try_cast(instant), other.try_cast(instant))),
        else_=_prefix(compare, one, other, DAY_LENGTH),
    )


def _times(compare: Callable[[Any, Any], Any], one: Any, other: Any) -> ir.Value:
    """Compare times. Seconds and their fraction are one precision (N1, 6.1.1): `10:30:00` is `10:30:00.0`."""
    to_second = len("10:30:00")
    precise = (one.length() >= to_second) & (other.length() >= to_second)
    # The dot is needed where there is a fraction, and harms nobody where both have it at the end.
    first, second = (value.concat(ibis.ifelse(value.contains("."), "", ".")).rpad(30, "0") for value in (one, other))
    return ibis.cases((precise, compare(first, second)), else_=_prefix(compare, one, other, None))


def _prefix(compare: Callable[[Any, Any], Any], one: Any, other: Any, limit: int | None) -> ir.Value:
    """Compare the part that both have; if that is equal and one is more precise, the answer is open."""
    sizes = [one.length(), other.length()] + ([ibis.literal(limit)] if limit else [])
    size = ibis.least(*sizes)
    left, right = one.substr(0, size), other.substr(0, size)
    # 2024 = 2024-02 is open, 2023 = 2024-02 is not.
    decided = (left != right) | (one.length() == other.length())
    return ibis.cases((decided, compare(left, right)))


OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(("and", "or", "xor", "implies"), logic),
    **dict.fromkeys(COMPARE, compare_primitives),
}
