"""Conversion functions of FHIRPath (N1, 5.5): `toInteger()` … and `convertsToInteger()` …

What cannot be converted is empty. Several items end the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from connectors.fhir import dates
from connectors.fhir.dates import DAY_LENGTH
from mappers.fhir_model.elements import DATES, INTEGERS
from mappers.fhir_model.shape import DECIMAL
from mappers.fhirpath.arrays import Scope, bind, present
from mappers.fhirpath.boundaries import digits_of
from mappers.fhirpath.collection import Collection, boolean, empty, empty_of, kind
from mappers.fhirpath.language import Args, Compiler, Function, Implementation
from mappers.fhirpath.n1 import decimals, quantities
from mappers.fhirpath.operations import forced

Convert = Callable[[Compiler, Collection, int], Collection | None]

INTEGER = r"^[+-]?[0-9]+$"
NUMBER = r"^[+-]?[0-9]+(\.[0-9]+)?$"
DATE = f"^{dates.DATE}$"
DATE_AND_TIME = f"^{dates.DAY}T{dates.BOUNDED_TIME}{dates.BOUNDED_ZONE}?$"
TIME = f"^{dates.BOUNDED_TIME}$"
QUANTITY = r"^([+-]?[0-9]+(?:\.[0-9]+)?)\s*(?:'([^']+)'|([a-zA-Z]+))?$"
TRUE, FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")


def _integer(_compiler: Compiler, one: Collection, depth: int) -> Collection | None:
    if one.type in INTEGERS:
        return one
    if one.type == "boolean":
        return _made("integer", one, lambda value: value.cast(dt.int64))
    if kind(one.type) == "text":
        return _bound(
            "integer", one, depth, lambda text: ibis.cases((text.re_search(INTEGER), text.try_cast(dt.int64)))
        )
    return None


def _decimal(_compiler: Compiler, one: Collection, depth: int) -> Collection | None:
    if kind(one.type) == "number":
        return one if one.type == "decimal" else _made("decimal", one, lambda value: forced(value, DECIMAL))
    if one.type == "boolean":
        return _made("decimal", one, lambda value: forced(value.cast(dt.int64), DECIMAL))
    if kind(one.type) == "text":
        return _bound("decimal", one, depth, lambda text: ibis.cases((text.re_search(NUMBER), text.try_cast(DECIMAL))))
    return None


def _boolean(_compiler: Compiler, one: Collection, depth: int) -> Collection | None:
    if one.type == "boolean":
        return one
    if kind(one.type) == "number":
        return _made("boolean", one, lambda value: ibis.cases((value == 1, True), (value == 0, False)))
    if kind(one.type) == "text":
        return _bound("boolean", one, depth, _truth)
    return None


def _truth(text: Any) -> ir.Value:
    lower = text.lower()
    return ibis.cases((lower.isin(TRUE), True), (lower.isin(FALSE), False))


def _string(compiler: Compiler, one: Collection, depth: int) -> Collection | None:
    if one.type == "decimal":
        # Of an element the digits as they are written: 1.50 stays 1.50.
        digits = digits_of(compiler, one, depth)
        if digits is not None:
            return digits
        return _bound("string", one, depth, decimals.text_of, cast=DECIMAL)
    if one.type == "boolean":
        return _made("string", one, lambda value: ibis.cases((value, "true"), (value == ibis.literal(False), "false")))
    if quantities.is_quantity(one):
        normal = quantities.normal(compiler, one, depth)
        return _made("string", normal, lambda item: decimals.text_of(item["value"]).concat(" '", item["unit"], "'"))
    primitive = kind(one.type) in {"text", "number", "time"} | DATES
    return _made("string", one, lambda value: value.cast(dt.string)) if primitive else None


def _date(_compiler: Compiler, one: Collection, depth: int) -> Collection | None:
    if one.type == "date":
        return one
    if one.type in DATES:
        # The date of a dateTime is its first part, in the zone written.
        return _made("date", one, lambda text: text.substr(0, DAY_LENGTH))
    if kind(one.type) == "text":
        return _bound("date", one, depth, lambda text: ibis.cases((_is_date(text), text)))
    return None


def _datetime(_compiler: Compiler, one: Collection, depth: int) -> Collection | None:
    if one.type in DATES:
        return _made("dateTime", one, lambda text: text)
    if kind(one.type) == "text":

        def valid(text: Any) -> Any:
            return _is_date(text) | (text.re_search(DATE_AND_TIME) & _is_date(text.substr(0, DAY_LENGTH)))

        return _bound("dateTime", one, depth, lambda text: ibis.cases((valid(text), text)))
    return None


def _time(_compiler: Compiler, one: Collection, depth: int) -> Collection | None:
    if one.type == "time":
        return one
    if kind(one.type) == "text":
        return _bound("time", one, depth, lambda text: ibis.cases((text.re_search(TIME), text)))
    return None


def _is_date(text: Any) -> Any:
    # A partial date is completed, so that a cast tells whether month and day exist.
    whole = text.concat(ibis.literal("-01-01").substr(ibis.greatest(text.length() - 4, 0)))
    return text.re_search(DATE) & whole.try_cast(dt.date).notnull()


def _quantity(compiler: Compiler, one: Collection, depth: int) -> Collection | None:
    if quantities.is_quantity(one):
        return one
    # A number is a quantity of unit 1.
    number = _decimal(compiler, one, depth)
    if kind(one.type) != "text":
        unit = _made("string", one, lambda value: ibis.cases((value.notnull(), ibis.literal("1"))))
        return None if number is None else quantities.of_parts(number, unit)
    value = _bound("decimal", one, depth, lambda text: text.re_extract(QUANTITY, 1).try_cast(DECIMAL))
    return quantities.of_parts(value, _bound("string", one, depth, _unit))


def _unit(text: Any) -> ir.Value:
    calendar = text.re_extract(QUANTITY, 3).re_replace("s$", "")
    known = [(calendar == name, unit) for name, unit in quantities.CALENDAR.items()]
    known += [(calendar == name, name) for name in ("year", "month")]
    ucum = text.re_extract(QUANTITY, 2)
    return ibis.cases((ucum != "", ucum), *known, ((calendar == "") & text.re_search(QUANTITY), "1"))


def _made(type_name: str, one: Collection, work: Callable[[Any], ir.Value]) -> Collection:
    return Collection(type_name, False, lambda values: work(one.make(values)))


def _bound(
    type_name: str, one: Collection, depth: int, work: Callable[[Any], ir.Value], cast: dt.DataType = dt.string
) -> Collection:
    scope = Scope(depth, f"to_{type_name.lower()}")
    return Collection(type_name, False, lambda values: bind(one.make(values).cast(cast), scope, work))


TO: dict[str, tuple[str, Convert]] = {
    "Boolean": ("boolean", _boolean),
    "Integer": ("integer", _integer),
    "Decimal": ("decimal", _decimal),
    "String": ("string", _string),
    "Date": ("date", _date),
    "DateTime": ("dateTime", _datetime),
    "Time": ("time", _time),
    "Quantity": ("Quantity", _quantity),
}


def _to(type_name: str, convert: Convert) -> Implementation:
    def function(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
        one = compiler.single(base, depth)
        found = convert(compiler, one, depth) if one.type else None
        if found is not None:
            return found
        return empty() if type_name == "Quantity" else empty_of(type_name)

    return function


def _converts(to: Implementation) -> Implementation:
    def function(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
        one = compiler.single(base, depth)
        found = to(compiler, one, args, focus, depth)
        # Of no item there is no answer.
        return boolean(lambda values: ibis.cases((one.make(values).notnull(), present(found.make(values)))))

    return function


CONVERSIONS = {f"to{name}": Function(_to(*how)) for name, how in TO.items()}
CONVERSIONS |= {f"convertsTo{name}": Function(_converts(_to(*how))) for name, how in TO.items()}
