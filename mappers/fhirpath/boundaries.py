"""lowBoundary() and highBoundary(): the first and last value that a value of limited precision may stand for.

Without an argument to the precision that the type has at most: a day, a millisecond, and for decimals as many digits
as half a unit of the last one needs. With one, to so many digits: decimals downwards (upwards) to so many places, dates
and times to so many digits of YYYYMMDDhhmmssfff or hhmmssfff. More digits than the type has give nothing.
Source: FHIRPath,
https://build.fhir.org/ig/HL7/FHIRPath/#lowboundaryprecision-integer-decimal--date--datetime--time
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from connectors.fhir import dates
from connectors.fhir.dates import DAY_LENGTH
from mappers.fhir_model.elements import DATES, INTEGERS, Element
from mappers.fhir_model.shape import DECIMAL
from mappers.fhirpath.arrays import Scope, Values, bind
from mappers.fhirpath.collection import Collection, empty_of, navigate
from mappers.fhirpath.language import Args, Compiler
from mappers.fhirpath.operations import RANGE, decimal, forced, truncated_multiple

EARLIEST, LATEST = "+14:00", "-12:00"  # the time zones in which a day begins first and ends last
VALID_DATE = f"^({dates.DATE}|{dates.DAY}T{dates.TIME_TO_HOUR}{dates.ZONE}?)$"
VALID_TIME = f"^{dates.TIME_TO_HOUR}$"
ZONE_AT_END = f"{dates.ZONE}$"
PLAIN = r"^-?[0-9]+(\.[0-9]+)?$"
# digits of a precision -> characters of the text
DATE_DIGITS = {4: 4, 6: 7, 8: DAY_LENGTH}
DATETIME_DIGITS = DATE_DIGITS | {10: 13, 12: 16, 14: 19, 17: 23}
TIME_DIGITS = {2: 2, 4: 5, 6: 8, 9: 12}


def low_boundary(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return the smallest value that the precision leaves open."""
    return _boundary(compiler, base, precision_argument(compiler, args, focus, depth), depth, high=False)


def high_boundary(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return the greatest value that the precision leaves open."""
    return _boundary(compiler, base, precision_argument(compiler, args, focus, depth), depth, high=True)


def precision_argument(compiler: Compiler, args: Args, focus: Collection, depth: int) -> int | None:
    if not args:
        return None
    found = compiler.compile(args[0], focus, depth)
    if found.type != "integer" or found.literal is None:
        raise compiler.unsupported("a boundary to a precision that is no integer literal or constant")
    return int(found.literal)


def _boundary(compiler: Compiler, base: Collection, precision: int | None, depth: int, *, high: bool) -> Collection:
    if base.type == "Period":
        # A Period as a whole: from the low boundary of its start to the high boundary of its end.
        end = compiler.member(base, "end" if high else "start", depth)
        return _boundary(compiler, end, precision, depth, high=high)
    if base.type == "decimal" or base.type in INTEGERS:
        return number_boundary(compiler, base, precision, depth, high=high)
    if base.type not in DATES | {"time"}:
        raise compiler.unsupported(f"a boundary of {base.type or 'the empty collection'}")
    one = compiler.single(base, depth)

    def make(values: Values) -> ir.Value:
        text = one.make(values)
        # What is no date has no boundary. A view must not end because one resource has a bad date.
        valid = text.re_search(VALID_TIME if base.type == "time" else VALID_DATE)
        edge = {"date": _date, "time": _time}.get(base.type, _datetime)(text, high=high)
        return ibis.cases((valid, edge))

    found = Collection(base.type, False, make, null_propagating=one.null_propagating)
    return found if precision is None else _cut(compiler, found, precision)


def _cut(compiler: Compiler, found: Collection, precision: int) -> Collection:
    """Cut a date or time to so many digits; the zone stays where there is a time."""
    known = {"date": DATE_DIGITS, "time": TIME_DIGITS}.get(found.type, DATETIME_DIGITS)
    # More digits than the type has give nothing (FHIRPath), others that no part ends at are a mistake in the view.
    if precision > max(known) or precision < 0:
        return empty_of(found.type)
    if precision not in known:
        digits = ", ".join(str(each) for each in known)
        raise compiler.error(f"the precision of a {found.type} is one of {digits} digits, not {precision}")
    size = known[precision]

    def make(values: Values) -> ir.Value:
        text = found.make(values)
        zone = text.re_extract(ZONE_AT_END, 1) if size > DAY_LENGTH and found.type != "time" else ""
        return text.substr(0, size).concat(zone)

    return replace(found, make=make, null_propagating=False)


def number_boundary(
    compiler: Compiler, base: Collection, precision: int | None, depth: int, *, high: bool
) -> Collection:
    """Return the boundary of a number, half a unit of its last digit away."""
    if precision is not None and not 0 <= precision <= DECIMAL.scale:
        return empty_of("decimal")
    digits = digits_of(compiler, base, depth)
    if digits is None:
        raise compiler.unsupported("a boundary of a decimal that is no element")

    def make(values: Values) -> ir.Value:
        exact = _half_away(digits.make(values), high=high)
        if precision is None:
            return exact
        return bind(exact, Scope(depth, "boundary"), lambda value: _towards(value, precision, high=high))

    return Collection("decimal", False, make, null_propagating=base.null_propagating)


def digits_of(compiler: Compiler, base: Collection, depth: int) -> Collection | None:
    """Return the digits of a number as they are written, as text; None of a computed decimal."""
    if base.literal is not None:
        text = base.literal
        return Collection("string", False, lambda _values: ibis.literal(text))
    if base.type in INTEGERS:
        one = compiler.single(base, depth)
        return Collection(
            "string", False, lambda values: one.make(values).cast(dt.string), null_propagating=one.null_propagating
        )
    # 1.50 and 1.5 are the same DECIMAL(38,18), so the element is read a second time, as text.
    if base.parent_element is None or base.parent_element[0].shape is None:
        return None
    parent, element = base.parent_element
    assert parent.shape is not None  # noqa: S101
    parent.shape.touch_digits(element.name, many=element.many)
    return compiler.single(navigate(parent, Element(element.name, "string", element.many), None, depth), depth)


def _half_away(text: Any, *, high: bool) -> ir.Value:
    places = text.re_extract(r"^-?[0-9]+\.([0-9]+)$", 1).length()
    # 0.05 for 1.5, 0.005 for 1.50: half a unit of the last digit that is written
    half = ibis.literal("0.").concat(ibis.literal("0").repeat(places), "5").try_cast(DECIMAL)
    value = text.try_cast(DECIMAL)
    fits = value.abs() < decimal(RANGE)
    return ibis.cases((text.re_search(PLAIN) & fits, (value + half if high else value - half).cast(DECIMAL)))


def _towards(value: Any, places: int, *, high: bool) -> ir.Value:
    """Round downwards to so many places, or upwards."""
    unit = decimal(f"{10**-places:.{places}f}" if places else "1")
    # `truncated_multiple` goes towards 0; a boundary goes downwards or upwards whatever the sign.
    cut = truncated_multiple(value, unit)
    beyond = value > cut if high else value < cut
    further = forced(cut + unit if high else cut - unit, DECIMAL)
    return ibis.ifelse(beyond, further, cut)


def _date(text: ir.Value, *, high: bool) -> ir.Value:
    month = text.concat(ibis.cases((text.length() == len("2024"), "-12" if high else "-01"), else_=""))
    if not high:
        return ibis.cases((text.length() == DAY_LENGTH, text), else_=month.concat("-01"))
    # The last day of a month is the day before the first of the next, in leap years too.
    first = month.concat("-01").try_cast(dt.date)
    last = (first + ibis.interval(months=1) - ibis.interval(days=1)).strftime("%Y-%m-%d")
    return ibis.cases((text.length() == DAY_LENGTH, text), else_=last)


def _datetime(text: ir.Value, *, high: bool) -> ir.Value:
    zone = text.re_extract(ZONE_AT_END, 1).nullif("").fill_null(LATEST if high else EARLIEST)
    clock = _time(text.re_extract(r"T([0-9:.]+)", 1), high=high)
    # A day without a time lasts longest on a clock of an unknown zone: from its start at +14:00 to its end at -12:00.
    day = _date(text, high=high).concat("T23:59:59.999" if high else "T00:00:00.000", LATEST if high else EARLIEST)
    return ibis.cases((text.length() > DAY_LENGTH, text.substr(0, DAY_LENGTH).concat("T", clock, zone)), else_=day)


def _time(text: ir.Value, *, high: bool) -> ir.Value:
    """Fill in the digits that are missing from hh:mm:ss.fff: those of 23:59:59.999, or of 00:00:00.000."""
    missing = ibis.literal("23:59:59.999" if high else "00:00:00.000")
    return text.concat(missing.substr(text.length()))
