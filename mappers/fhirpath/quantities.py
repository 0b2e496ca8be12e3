"""Quantities: literals such as `4 'mg'` and `2 days`, and how quantities compare and add up.

Units are not converted: quantities of other units do not compare, which FHIRPath says with an empty result (N1,
6.1.1: an implementation must at least recognise when units differ). A quantity of a resource counts where it has
a UCUM code and no comparator (FHIR R4, "Using FHIRPath with FHIR"); `a` and `mo` are calendar years and months.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir

from mappers.fhir_model.shape import DECIMAL
from mappers.fhirpath import decimals
from mappers.fhirpath.collection import Collection, Make, Scope, Values, kind, map_items
from mappers.fhirpath.comparison import OPERATORS, Comparator
from mappers.fhirpath.syntax import Quantity

if TYPE_CHECKING:
    from mappers.fhirpath.compiler import Compiler

UCUM = "http://unitsofmeasure.org"
QUANTITIES = frozenset({"Quantity", "Age", "Count", "Distance", "Duration"})
CALENDAR = {"week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms"}
ELEMENTS = {"value": "decimal", "unit": "string", "code": "code", "system": "uri"}
PARTS = {"value": "value", "unit": "unit", "code": "unit"}
NORMAL = "normal Quantity"  # a type of our own: a struct of value and unit


def is_quantity(found: Collection) -> bool:
    return found.type in QUANTITIES


def literal(tree: Quantity) -> Collection:
    """A literal. A year or a month of the calendar is not the one of UCUM, whose length is fixed."""
    unit = CALENDAR.get(tree.unit, tree.unit) if tree.calendar else tree.unit
    found = worked_out(lambda _values: _normal(decimals.decimal(tree.value), ibis.literal(unit)))
    return replace(found, literal=tree.value)


def of_parts(value: Collection, unit: Collection) -> Collection:
    """A Quantity of a value and a unit; there is none where either is empty."""
    return worked_out(lambda values: _normal(value.make(values), unit.make(values)))


def worked_out(make: Make) -> Collection:
    return Collection("Quantity", False, make, worked_out=True)


def member(compiler: Compiler, base: Collection, name: str, depth: int) -> Collection:
    """`base.value`, `base.unit`, `base.code` or `base.system` of a Quantity that is worked out."""
    if name not in ELEMENTS:
        raise compiler.error(f"a Quantity that is worked out has {', '.join(ELEMENTS)}, and no '{name}'")

    def part(item: Any) -> ir.Value:
        return ibis.cases((item.notnull(), ibis.literal(UCUM))) if name == "system" else item[PARTS[name]]

    def make(values: Values) -> ir.Value:
        made = base.make(values)
        return map_items(made, Scope(depth, "part"), part) if base.many else part(made)

    return Collection(ELEMENTS[name], base.many, make, dense=False)


def normal(compiler: Compiler, found: Collection, depth: int) -> Collection:
    """Value and unit of each item, null where it has none that can be compared; a number has the unit `1`."""
    read = reader(compiler, found)

    def make(values: Values) -> ir.Value:
        made = found.make(values)
        return map_items(made, Scope(depth, "measured"), read) if found.many else read(made)

    return Collection(NORMAL, found.many, make, dense=False)


def reader(compiler: Compiler, found: Collection) -> Callable[[Any], Any]:
    """What makes value and unit of an item.

    Raises:
        ViewError: neither a Quantity nor a number.
    """
    if found.worked_out:
        return lambda item: item
    if kind(found.type) == "number":
        return lambda item: _normal(decimals.forced(item, DECIMAL), ibis.literal("1"))
    shape = found.shape
    if not is_quantity(found) or shape is None:
        raise compiler.error(f"a Quantity and {found.type or 'an empty collection'} do not go together")
    for name, type_name in (("value", "decimal"), ("comparator", "code"), ("system", "uri"), ("code", "code")):
        shape.touch_primitive(name, type_name, many=False)
    return _of_item


def comparator(compiler: Compiler, operator: str, left: Collection, right: Collection) -> Comparator:
    """The comparison of two items, each a Quantity or a number; null where their units differ."""
    compare, read, read_other = OPERATORS[operator], reader(compiler, left), reader(compiler, right)

    def make(first: ir.Value, second: ir.Value) -> ir.Value:
        one, other = read(first), read_other(second)
        return ibis.cases((one["unit"] == other["unit"], compare(one["value"], other["value"])))

    return make


def arithmetic(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """`+` and `-` of quantities of one unit, `*` and `/` by a number.

    Raises:
        UnsupportedError: another operation.
    """
    one, other = (compiler.single(normal(compiler, side, depth), depth) for side in (left, right))
    scope = Scope(depth, "quantity")
    if operator in ("+", "-"):
        work = decimals.add if operator == "+" else decimals.subtract
        same = _both(one, other, lambda a, b: a["unit"] == b["unit"])
    elif operator in ("*", "/") and kind(right.type) == "number":
        work = decimals.multiply if operator == "*" else decimals.divide
        same = _both(one, other, lambda a, _b: a["unit"].notnull())
    else:
        raise compiler.unsupported(f"'{operator}' on {left.type} and {right.type}")

    def value(values: Values) -> ir.Value:
        a, b = one.make(values), other.make(values)
        return ibis.cases((same(values), work(a["value"], b["value"], scope)))

    unit = Collection("string", False, lambda values: one.make(values)["unit"])
    return of_parts(Collection("decimal", False, value), unit)


def _both(one: Collection, other: Collection, test: Callable[[Any, Any], Any]) -> Make:
    return lambda values: test(one.make(values), other.make(values))


def _normal(value: Any, unit: Any) -> ir.Value:
    present = value.notnull() & unit.notnull()
    return ibis.cases((present, ibis.struct({"value": value, "unit": unit})))


def _of_item(item: Any) -> ir.Value:
    plain = (item["system"] == UCUM) & item["comparator"].isnull()
    calendar = ibis.cases((item["code"] == "a", "year"), (item["code"] == "mo", "month"), else_=item["code"])
    return ibis.cases((plain & item["code"].notnull(), _normal(item["value"].try_cast(DECIMAL), calendar)))
