"""Columns of complex types (Coding, Quantity, HumanName): structs of all elements of the type.

Left out are `id` and extensions, and a type inside itself (the assigner of an Identifier in a Reference), whose depth
has no end. An element that the resource lacks is null, or an empty array.
"""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import PRIMITIVES, Choice, Element, is_resource
from mappers.fhir_model.shape import text_only
from mappers.fhirpath.arrays import Make, Scope, Values, bind, map_items
from mappers.fhirpath.collection import Collection, drop_nulls, sql_type
from mappers.fhirpath.compiler import PathCompiler

LEFT_OUT = frozenset({"id", "extension", "modifierExtension"})
NO_END = frozenset({"Extension", "Resource", "Element", "Narrative"})


def is_complex(found: Collection) -> bool:
    """Return whether items can be a struct: of one complex type that stands in the resource."""
    known = found.type not in PRIMITIVES | NO_END | {""} and not is_resource(found.type)
    return known and "|" not in found.type and found.shape is not None and not found.choice


def structured(
    compiler: PathCompiler, found: Collection, depth: int, seen: frozenset[str] = frozenset()
) -> tuple[Make, dt.DataType]:
    """Return what makes the items as structs, and the type of the column: an array where several are possible."""
    # The item is bound once: its path may be long, and each field would write it again.
    scope = Scope(depth + 1, "complex")
    item = Collection(found.type, False, lambda values: values[scope], found.shape, null_propagating=True)
    fields = {
        element.name: _field(compiler, compiler.step(item, element, depth + 1), depth + 1, seen | {found.type})
        for element in _elements(compiler, found.type)
        if element.type not in seen | {found.type} | NO_END and element.name not in LEFT_OUT
    }
    # The type is given, because a field that is null everywhere would have none.
    row = dt.Struct({name: dtype for name, (_, dtype) in fields.items()})

    def make(values: Values) -> ir.Value:
        def struct(one: Any) -> ir.Value:
            made = {name: field({**values, scope: one}) for name, (field, _) in fields.items()}
            return ibis.cases((one.notnull(), ibis.struct(made, type=row)))

        if found.many:
            return map_items(drop_nulls(found, depth).make(values), scope, struct)
        return bind(found.make(values), scope, struct)

    return make, dt.Array(row) if found.many else row


def _field(compiler: PathCompiler, found: Collection, depth: int, seen: frozenset[str]) -> tuple[Make, dt.DataType]:
    if found.type not in PRIMITIVES:
        return structured(compiler, found, depth, seen)
    dtype = sql_type(found.type)
    # As in columns of their own: an object in the place of a text is no value.
    make = found.each(Scope(depth + 1, "text"), text_only) if dtype == dt.string else found.make
    return make, dt.Array(dtype) if found.many else dtype


def _elements(compiler: PathCompiler, type_name: str) -> list[Element]:
    found: list[Element] = []
    for name in compiler.elements_of(type_name):
        element = compiler.element_of(type_name, name)
        if isinstance(element, Choice):
            found += element.options.values()
        elif element is not None:
            found.append(element)
    return found
