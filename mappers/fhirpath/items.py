"""Items without a value: a primitive of which the resource has extensions only.

JSON has null in the place of such an item, and its extensions at the same place of the sibling `_given`:
`"given": ["Ana", null], "_given": [null, {"extension": […]}]` are two items. They count and have positions; where
values are asked for (a comparison, `join`) there is none. A null without anything in the sibling is no item.
Source: FHIR R4, "JSON representation of primitive elements"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ibis
import ibis.expr.types as ir

from mappers.fhir_model.elements import PRIMITIVES, Element
from mappers.fhirpath.arrays import Make, Scope, Values, filter_items, map_items
from mappers.fhirpath.collection import Collection, drop_nulls, listed, read_element
from mappers.fhirpath.language import Compiler


@dataclass(frozen=True)
class Pairs:
    """The items of a primitive element as structs of `item`, its value, and `element`, what stands in the sibling.

    Where each of several objects has one at most, `owners` makes the objects that have one, and `read` its value.
    """

    sibling: Collection
    make: Make
    read: Callable[[Any], Any]
    owners: Make | None

    def element(self, pair: Make) -> Collection:
        """Return the sibling of one item; `pair` makes its struct."""

        def make(values: Values) -> ir.Value:
            made: Any = pair(values)
            return made["element"]

        return replace(self.sibling, many=False, non_null=True, parent_element=None, make=make)


def sibling(compiler: Compiler, found: Collection, depth: int) -> Collection:
    """Return the siblings of a primitive element, which hold id and extensions of its items."""
    assert found.parent_element is not None  # noqa: S101
    parent, own = found.parent_element
    others = tuple(f"_{other}" for other in own.others)
    return compiler.step(parent, Element(f"_{own.name}", "Element", own.many, others), depth)


def sibling_of(compiler: Compiler, found: Collection, depth: int) -> Collection | None:
    """Return the sibling of a single primitive; None where it is no element of a resource."""
    if found.sibling is not None:
        return found.sibling()
    if found.many or found.parent_element is None or found.type not in PRIMITIVES:
        return None
    return sibling(compiler, found, depth)


def pairs(compiler: Compiler, found: Collection, depth: int) -> Pairs | None:
    """Return the items of a primitive element with their siblings; None for other collections."""
    if found.parent_element is None or found.type not in PRIMITIVES or found.parent_element[0].shape is None:
        return None
    parent, own = found.parent_element
    beside = sibling(compiler, found, depth)
    shape = parent.shape
    assert shape is not None  # noqa: S101
    other = replace(own, name=f"_{own.name}", type="Element", others=tuple(f"_{name}" for name in own.others))
    outer, inner = Scope(depth, "owner"), Scope(depth + 1, "value")

    def of_one(owner: Any) -> Any:
        item = read_element(owner, own, inner, shape, None)
        element = read_element(owner, other, inner, shape, beside.shape)
        if not own.many:
            return ibis.struct({"item": item, "element": element})
        # Either array may be missing: all values without extensions, or none with a value.
        zipped = _never_null(item).zip(_never_null(element))
        return map_items(zipped, inner, lambda pair: ibis.struct({"item": pair["f1"], "element": pair["f2"]}))

    def make(values: Values) -> ir.Value:
        made: Any = parent.make(values)
        if not parent.many:
            all_pairs = of_one(made) if own.many else ibis.array([of_one(made)])
        else:
            each: Any = map_items(made, outer, of_one)
            all_pairs = each.flatten() if own.many else each
        return filter_items(all_pairs, outer, lambda pair: pair["item"].notnull() | pair["element"].notnull())

    def read(owner: Any) -> Any:
        return read_element(owner, own, inner, shape, None)

    def owners(values: Values) -> ir.Value:
        def has_one(owner: Any) -> Any:
            return read(owner).notnull() | read_element(owner, other, inner, shape, beside.shape).notnull()

        return filter_items(parent.make(values), outer, has_one)

    return Pairs(beside, make, read, owners if parent.many and not own.many else None)


def _never_null(array: Any) -> Any:
    return ibis.coalesce(array, ibis.literal([], array.type()))


def whole_items(compiler: Compiler, found: Collection, depth: int) -> Collection:
    """Return the items of an array with a null for each that has no value."""
    if found.null_items or not found.many:
        return found
    both = pairs(compiler, found, depth)
    if both is None:
        return drop_nulls(found, depth)
    scope = Scope(depth, "whole")

    def make(values: Values) -> ir.Value:
        # One step less than by pairs, for the common `coding.code.first()`.
        if both.owners is not None:
            return map_items(both.owners(values), scope, both.read)
        return map_items(both.make(values), scope, lambda pair: pair["item"])

    return replace(found, non_null=True, null_items=True, parent_element=None, make=make)


def listed_whole(compiler: Compiler, found: Collection, depth: int) -> Collection:
    """Return the items as `whole_items` does, as an array that is never null itself."""
    whole = whole_items(compiler, found, depth)
    return replace(listed(replace(whole, null_items=False), depth), null_items=whole.null_items)
