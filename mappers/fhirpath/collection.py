"""Collections: what a FHIRPath expression gives, while it is compiled.

A path is compiled in two steps. First its types are resolved against the elements of R4, which touches a `Shape`. When
all paths of a view are resolved the shape is whole, and `make` gives the Ibis expression: of a scalar where at most one
item is possible (null = empty), of an array otherwise (null or [] = empty).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import INTEGERS, TEXTS, Choice, Element
from mappers.fhir_model.shape import DECIMAL, Shape, object_from_json, unmarked
from mappers.fhirpath.arrays import Make, Scope, Values, filter_items, map_items
from mappers.fhirpath.syntax import Literal

# How elements that a shape reads as text become what they are. DuckDB alone would take " 1" and "1.0" for integers.
FROM_TEXT: dict[str, Callable[[Any], ir.Value]] = {
    "boolean": lambda text: ibis.cases((text == "true", True), (text == "false", False)),
    "decimal": lambda text: text.try_cast(DECIMAL),
    **dict.fromkeys(INTEGERS, lambda text: ibis.cases((text.re_search(r"^-?[0-9]+$"), text.try_cast(dt.int64)))),
}


@dataclass(frozen=True)
class Collection:
    """A compiled expression.

    Attributes:
        type: FHIR type of the items; "" for the empty collection, `A|B` where it may be one of several.
        many: more than one item is possible, so `make` gives an array.
        make: gives the Ibis expression.
        shape: the touched elements of a complex type.
        non_null: the array has no nulls, or each is an item.
        null_items: each null of the array is an item without a value (`mappers.fhirpath.items`).
        null_propagating: null whenever the focus is null.
        literal: the value, if it is a constant.
        choice: the element whose type is not chosen yet (`value`).
        parent_element: parent and element of a primitive, next to which its extensions stand (`_birthDate`).
        sibling: gives what holds id and extensions of a primitive that an iteration stands on.
        index: gives what makes `$index`, the position of an item in what a function goes through.
        clean: its texts have no marks (`plain`).
        members: how to read each element of a computed value, which does not stand in the resource and has no shape: a
            Quantity that is a struct of value and unit.
    """

    type: str
    many: bool
    make: Make
    shape: Shape | None = None
    non_null: bool = True
    null_items: bool = False
    null_propagating: bool = False
    literal: str | None = None
    choice: Choice | None = None
    parent_element: tuple[Collection, Element] | None = None
    sibling: Callable[[], Collection] | None = None
    index: Callable[[], Make] | None = None
    clean: bool = False
    members: Mapping[str, Callable[[Collection, int], Collection]] | None = None

    def each(self, scope: Scope, body: Callable[[ir.Value], ir.Value]) -> Make:
        """Return what applies `body` to each item; `scope` is that of the lambda where there are several."""
        return lambda values: map_items(self.make(values), scope, body) if self.many else body(self.make(values))

    @property
    def computed(self) -> bool:
        """Return whether a complex value is computed, and does not stand in the resource."""
        return self.members is not None


def empty() -> Collection:
    """Return the empty collection."""
    return Collection("", False, lambda _values: ibis.null(), null_propagating=True)


def empty_of(type_name: str) -> Collection:
    """Return no item of a primitive type."""
    return Collection(type_name, False, lambda _values: ibis.null(sql_type(type_name)), null_propagating=True)


def boolean(make: Make, *, null_propagating: bool = False) -> Collection:
    """Return a single boolean."""
    return Collection("boolean", False, make, null_propagating=null_propagating)


def constant(literal: Literal) -> Collection:
    """Return a literal, or a constant of the view, as a single item."""

    def make(_values: Values) -> ir.Value:
        if literal.type == "boolean":
            return ibis.literal(literal.text == "true")
        if literal.type == "decimal":
            return ibis.literal(Decimal(literal.text), sql_type("decimal"))
        return ibis.literal(int(literal.text) if literal.type == "integer" else literal.text, sql_type(literal.type))

    return Collection(literal.type, False, make, literal=literal.text)


def resource(type_name: str, scope: Scope) -> Collection:
    """Return the focus of a view: a resource of which `resourceType` is touched."""
    shape = Shape()
    shape.touch_primitive("resourceType", "code", many=False)
    return Collection(type_name, False, lambda values: values[scope], shape, null_propagating=True)


def sql_type(type_name: str) -> dt.DataType:
    """Return the column type of a FHIR primitive; dates are text, because a partial date is a date too."""
    # Types that SQL has; everything else stays the text that the resource has.
    if type_name == "boolean":
        return dt.boolean
    if type_name in INTEGERS:
        return dt.int64
    return DECIMAL if type_name == "decimal" else dt.string


def kind(type_name: str) -> str:
    """Return what a type compares with: number, text, or the name of the type."""
    if type_name in INTEGERS or type_name == "decimal":
        return "number"
    return "text" if type_name in TEXTS else type_name


def drop_nulls(found: Collection, depth: int) -> Collection:
    """Return the same collection, its array without nulls: the values of the items."""
    if not found.many or (found.non_null and not found.null_items):
        return found
    scope = Scope(depth)
    return replace(
        found,
        non_null=True,
        null_items=False,
        make=lambda values: filter_items(found.make(values), scope, lambda item: item.notnull()),
    )


def plain(found: Collection, depth: int) -> Collection:
    """Return texts without the mark of those that are JSON; only what computes with texts needs it."""
    if found.literal is not None or found.clean or kind(found.type) != "text":
        return found
    return replace(found, clean=True, make=found.each(Scope(depth, "plain"), unmarked))


def listed(found: Collection, depth: int) -> Collection:
    """Return the same collection as an array without nulls, which is never null itself."""
    non_null = drop_nulls(found, depth)
    # The empty collection has no type of its own; an array needs one.
    if not found.type:
        return replace(found, many=True, make=lambda _values: ibis.literal([], dt.Array(dt.string)))

    def make(values: Values) -> ir.Value:
        made: Any = non_null.make(values)
        if found.many:
            return ibis.coalesce(made, ibis.literal([], made.type()))
        return ibis.ifelse(made.isnull(), ibis.literal([], dt.Array(made.type())), ibis.array([made]))

    return replace(found, many=True, non_null=True, parent_element=None, literal=None, make=make)


def navigate(base: Collection, chosen: Element, shape: Shape | None, depth: int) -> Collection:
    """Take one step along an element, whose own shape is already touched."""
    scope = Scope(depth)
    parent = base.shape
    assert parent is not None  # noqa: S101

    def make(values: Values) -> ir.Value:
        made = base.make(values)
        if not base.many:
            return read_element(made, chosen, scope, parent, shape)
        # A list in a list of objects: the conversion of its items stands one lambda deeper.
        inner = Scope(depth + 1)
        stepped = map_items(made, scope, lambda item: read_element(item, chosen, inner, parent, shape))
        return stepped.flatten() if chosen.many else stepped

    return Collection(
        chosen.type,
        base.many or chosen.many,
        make,
        shape,
        non_null=False,
        null_propagating=base.null_propagating,
        parent_element=(base, chosen),
    )


def read_element(item: Any, chosen: Element, scope: Scope, parent: Shape, shape: Shape | None) -> ir.Value:
    """Return an element of an item; `shape` is the element's own."""
    # Of several keys that may stand for an element, one is in the resource.
    read = [_read(item[name], chosen, scope, parent, shape) for name in chosen.names]
    return ibis.coalesce(*read) if chosen.others else read[0]


def _read(value: ir.Value, chosen: Element, scope: Scope, parent: Shape, shape: Shape | None) -> ir.Value:
    """Convert from the type in the shape to that of the element: numbers and booleans are read as text there."""
    convert: Callable[[ir.Value], ir.Value]
    if shape is not None and shape.children and parent.is_text(chosen.name):
        convert = partial(object_from_json, shape=shape)
    elif chosen.type in FROM_TEXT:
        convert = FROM_TEXT[chosen.type]
    else:
        return value
    return map_items(value, scope, convert) if chosen.many else convert(value)
