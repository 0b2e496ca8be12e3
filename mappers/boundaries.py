"""lowBoundary() and highBoundary(): the first and last value that a value of limited precision may stand for.

Source: FHIRPath,
https://build.fhir.org/ig/HL7/FHIRPath/#lowboundaryprecision-integer-decimal--date--datetime--time
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.collection import Collection, Values, navigate
from mappers.elements import DATES, Element
from mappers.fhirpath_syntax import Tree
from mappers.shape import DECIMAL

if TYPE_CHECKING:
    from mappers.fhirpath import Compiler

DAY = len("2024-01-31")
EARLIEST, LATEST = "+14:00", "-12:00"  # the time zones in which a day begins first and ends last


def low_boundary(
    compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    """The smallest value."""
    return _boundary(compiler, base, depth, high=False)


def high_boundary(
    compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    """The greatest value."""
    return _boundary(compiler, base, depth, high=True)


def _boundary(compiler: Compiler, base: Collection, depth: int, *, high: bool) -> Collection:
    if base.type == "decimal":
        return _decimal(compiler, base, depth, high=high)
    one = compiler.single(base, depth)

    def make(values: Values) -> ir.Value:
        text = one.make(values)
        if base.type == "date":
            return _date(text, high=high)
        return _time(text, high=high) if base.type == "time" else _datetime(text, high=high)

    if base.type not in DATES | {"time"}:
        raise compiler.unsupported(f"a boundary of {base.type or 'the empty collection'}")
    return Collection(base.type, False, make, navigates=one.navigates)


def _decimal(compiler: Compiler, base: Collection, depth: int, *, high: bool) -> Collection:
    """Half a unit of the last digit. The digits are read as text, because 1.5 is less precise than 1.50."""
    if base.home is None or base.home[0].shape is None:
        raise compiler.unsupported("a boundary of a decimal that is no element")
    parent, element = base.home
    assert parent.shape is not None  # noqa: S101
    parent.shape.touch_digits(element.name, many=element.many)
    digits = compiler.single(navigate(parent, Element(element.name, "string", element.many), None, depth), depth)

    def make(values: Values) -> ir.Value:
        text = digits.make(values)
        places = text.re_extract(r"^-?[0-9]+\.([0-9]+)$", 1).length()
        half = ibis.literal("0.").concat(ibis.literal("0").repeat(places), "5").try_cast(DECIMAL)
        value = text.try_cast(DECIMAL)
        plain = text.re_search(r"^-?[0-9]+(\.[0-9]+)?$")
        return ibis.cases((plain, (value + half if high else value - half).cast(DECIMAL)))

    return Collection("decimal", False, make, navigates=base.navigates)


def _date(text: ir.Value, *, high: bool) -> ir.Value:
    month = text.concat(ibis.cases((text.length() == len("2024"), "-12" if high else "-01"), else_=""))
    if not high:
        return ibis.cases((text.length() == DAY, text), else_=month.concat("-01"))
    first = month.concat("-01").try_cast(dt.date)
    last = (first + ibis.interval(months=1) - ibis.interval(days=1)).strftime("%Y-%m-%d")
    return ibis.cases((text.length() == DAY, text), else_=last)


def _datetime(text: ir.Value, *, high: bool) -> ir.Value:
    zone = text.re_extract(r"(Z|[+-][0-9]{2}:[0-9]{2})$", 1).nullif("").fill_null(LATEST if high else EARLIEST)
    clock = _time(text.re_extract(r"T([0-9:.]+)", 1), high=high)
    day = _date(text, high=high).concat("T23:59:59.999" if high else "T00:00:00.000", LATEST if high else EARLIEST)
    return ibis.cases((text.length() > DAY, text.substr(0, DAY).concat("T", clock, zone)), else_=day)


def _time(text: ir.Value, *, high: bool) -> ir.Value:
    """Digits that are missing from hh:mm:ss.fff are those of 23:59:59.999, or of 00:00:00.000."""
    missing = ibis.literal("23:59:59.999" if high else "00:00:00.000")
    return text.concat(missing.substr(text.length()))
