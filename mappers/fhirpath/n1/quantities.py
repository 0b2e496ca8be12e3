"""Quantities: literals such as `4 'mg'` and `2 days`, and how quantities compare and add up.

Units are not converted: quantities of other units do not compare, which FHIRPath says with an empty result (N1,
6.1.1: an implementation must at least recognise when units differ). A quantity of a resource counts where it has
a UCUM code and no comparator (FHIR R4, "Using FHIRPath with FHIR"); `a` and `mo` are calendar years and months.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.types as ir

from mappers.fhir_model.shape import DECIMAL
from mappers.fhirpath.arrays import Make, Scope, Values
from mappers.fhirpath.boundaries import high_boundary, low_boundary, number_boundary, precision_argument
from mappers.fhirpath.collection import Collection, kind
from mappers.fhirpath.comparison import COMPARE
from mappers.fhirpath.language import Args, Comparator, Compiler, Function, Implementation
from mappers.fhirpath.n1 import decimals
from mappers.fhirpath.operations import decimal, forced
from mappers.fhirpath.syntax import Quantity

UCUM = "http://unitsofmeasure.org"
QUANTITIES = frozenset({"Quantity", "Age", "Count", "Distance", "Duration"})
CALENDAR = {"week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms"}
ELEMENTS = {"value": "decimal", "unit": "string", "code": "code", "system": "uri"}
PARTS = {"value": "value", "unit": "unit", "code": "unit"}
NORMAL = "normal Quantity"  # a type of our own: a struct of value and unit


def is_quantity(found: Collection) -> bool:
    return found.type in QUANTITIES


def literal(tree: Quantity) -> Collection:
    """Return a literal. A year or a month of the calendar is not the one of UCUM, whose length is fixed."""
    # Weeks and shorter have the same length in UCUM as on the calendar; years and months do not.
    unit = CALENDAR.get(tree.unit, tree.unit) if tree.calendar else tree.unit
    found = computed(lambda _values: _normal(decimal(tree.value), ibis.literal(unit)))
    return replace(found, literal=tree.value)


def of_parts(value: Collection, unit: Collection) -> Collection:
    """Return a Quantity of a value and a unit; there is none where either is empty."""
    return computed(lambda values: _normal(value.make(values), unit.make(values)))


def computed(make: Make) -> Collection:
    """Return a Quantity that does not stand in the resource, from a struct of value and unit."""
    return Collection("Quantity", False, make, members=MEMBERS)


def _member(name: str) -> Callable[[Collection, int], Collection]:
    """Return how to read an element of a computed Quantity: `value`, `unit`, `code` or `system`."""

    def part(item: Any) -> ir.Value:
        return ibis.cases((item.notnull(), ibis.literal(UCUM))) if name == "system" else item[PARTS[name]]

    def read(base: Collection, depth: int) -> Collection:
        return Collection(ELEMENTS[name], base.many, base.each(Scope(depth, "part"), part), non_null=False)

    return read


MEMBERS = {name: _member(name) for name in ELEMENTS}


def normal(compiler: Compiler, found: Collection, depth: int) -> Collection:
    """Return value and unit of each item, null where it has none that can be compared; a number has the unit `1`."""
    made = found.each(Scope(depth, "measured"), reader(compiler, found))
    return Collection(NORMAL, found.many, made, non_null=False)


def reader(compiler: Compiler, found: Collection) -> Callable[[Any], Any]:
    """Return how to read value and unit of an item.

    Raises:
        ViewError: neither a Quantity nor a number.
    """
    if found.computed:
        return lambda item: item
    if kind(found.type) == "number":
        return lambda item: _normal(forced(item, DECIMAL), ibis.literal("1"))
    shape = found.shape
    if not is_quantity(found) or shape is None:
        raise compiler.error(f"a Quantity and {found.type or 'an empty collection'} do not go together")
    # All four decide: `<5 mg` is no value, and a code without UCUM as its system is no unit.
    for name, type_name in (("value", "decimal"), ("comparator", "code"), ("system", "uri"), ("code", "code")):
        shape.touch_primitive(name, type_name, many=False)
    return _of_item


def comparator(compiler: Compiler, operator: str, left: Collection, right: Collection) -> Comparator:
    """Return the comparison of two items, each a Quantity or a number; null where their units differ."""
    compare, read, read_other = COMPARE[operator], reader(compiler, left), reader(compiler, right)

    def make(first: ir.Value, second: ir.Value) -> ir.Value:
        one, other = read(first), read_other(second)
        return ibis.cases((one["unit"] == other["unit"], compare(one["value"], other["value"])))

    return make


def arithmetic(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """Add and subtract quantities of one unit; multiply and divide by a number.

    Raises:
        UnsupportedError: another operation.
    """
    one, other = (compiler.single(normal(compiler, side, depth), depth) for side in (left, right))
    scope = Scope(depth, "quantity")
    if operator in ("+", "-"):
        work = decimals.add if operator == "+" else decimals.subtract
    elif operator in ("*", "/") and kind(right.type) == "number":
        work = decimals.multiply if operator == "*" else decimals.divide
    else:
        raise compiler.unsupported(f"'{operator}' on {left.type} and {right.type}")

    def value(values: Values) -> ir.Value:
        a, b = one.make(values), other.make(values)
        # Units are not converted, so quantities of other units do not add up.
        fits = a["unit"] == b["unit"] if operator in ("+", "-") else a["unit"].notnull()
        return ibis.cases((fits, work(a["value"], b["value"], scope)))

    unit = Collection("string", False, lambda values: one.make(values)["unit"])
    return of_parts(Collection("decimal", False, value), unit)


def boundary(*, high: bool) -> Implementation:
    """Return `lowBoundary()` or `highBoundary()`, of a Quantity too: the boundary of its value, in the same unit."""
    boundary_of_primitive = high_boundary if high else low_boundary

    def function(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
        if not is_quantity(base):
            return boundary_of_primitive(compiler, base, args, focus, depth)
        precision = precision_argument(compiler, args, focus, depth)
        one = compiler.single(base, depth)
        value = compiler.member(one, "value", depth)
        # The digits of a literal are known; of an element they are read from the resource.
        value = replace(value, literal=one.literal) if one.literal is not None else value
        edge = number_boundary(compiler, value, precision, depth, high=high)
        whole = normal(compiler, one, depth)
        return of_parts(edge, Collection("string", False, lambda values: whole.make(values)["unit"]))

    return function


def _normal(value: Any, unit: Any) -> ir.Value:
    present = value.notnull() & unit.notnull()
    return ibis.cases((present, ibis.struct({"value": value, "unit": unit})))


def _of_item(item: Any) -> ir.Value:
    plain = (item["system"] == UCUM) & item["comparator"].isnull()
    # FHIR R4 maps UCUM's a and mo to calendar durations, "Using FHIRPath with FHIR".
    calendar = ibis.cases((item["code"] == "a", "year"), (item["code"] == "mo", "month"), else_=item["code"])
    return ibis.cases((plain & item["code"].notnull(), _normal(item["value"].try_cast(DECIMAL), calendar)))


BOUNDARIES = {
    "lowBoundary": Function(boundary(high=False), 0, 1),
    "highBoundary": Function(boundary(high=True), 0, 1),
}
