"""Types in FHIRPath: `ofType`, `is`, `as`, elements with a choice of types, resources inside a resource."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.types as ir

from mappers.fhir_model.elements import Choice, Element, is_subtype, is_type, type_names
from mappers.fhir_model.shape import Shape, object_from_json
from mappers.fhir_model.suggestions import did_you_mean
from mappers.fhirpath.arrays import Scope, Values, filter_items, length, map_items, negated
from mappers.fhirpath.collection import Collection, boolean
from mappers.fhirpath.items import sibling_of, whole_items
from mappers.fhirpath.language import Compiler
from mappers.fhirpath.syntax import Literal, Member, Tree

SYSTEM_TYPES = {
    name[0].upper() + name[1:]: name for name in ("boolean", "string", "integer", "decimal", "date", "dateTime", "time")
}


def of_type(compiler: Compiler, base: Collection, name: str, depth: int) -> Collection:
    """Return the items of `base` that are of the FHIR type `name`.

    Raises:
        ViewError: no such type, or one that the element never has.
    """
    name = _resolved(compiler, base, name)
    if base.choice:
        return _option(compiler, base, base.choice, name, depth)
    if base.type == "Resource":
        return _contained(base, name, depth)
    # The static type decides: an element without a choice is always of its type.
    if not base.type or is_subtype(base.type, name):
        return base
    if "|" in base.type or name == "BackboneElement":
        raise compiler.unsupported(f"{name} as the type of one of {base.type.replace('|', ', ')}")
    # Never of this type: the empty collection, of the type that was asked for.
    return Collection(name, base.many, lambda values: ibis.null(base.make(values).type()), None, null_propagating=True)


def _resolved(compiler: Compiler, base: Collection, name: str) -> str:
    """Return the FHIR type of a name. Only literals have types of System."""
    # An element has a FHIR type, which is not the one of System that it converts to (N1, 5.5).
    name = name.removeprefix("FHIR.")
    system = name.removeprefix("System.")
    if system in SYSTEM_TYPES and (system != name or not is_type(name)):
        if base.literal is None and base.type:
            raise compiler.unsupported(f"the type System.{system} of an element", "write the FHIR type")
        return SYSTEM_TYPES[system]
    if not is_type(name):
        raise compiler.error(f"R4 has no type '{name}'{did_you_mean(name, type_names())}")
    return name


def _option(compiler: Compiler, base: Collection, choice: Choice, name: str, depth: int) -> Collection:
    if name == "Element":
        raise compiler.unsupported(f"Element as the type of '{choice.name}'", "name one of its types")
    # A code is a string: the types that derive from the one that is asked for count (N1, 6.3).
    options = [option for type_name, option in choice.options.items() if is_subtype(type_name, name)]
    if not options:
        known = ", ".join(choice.options)
        raise compiler.error(f"'{choice.name}' of {base.type} is never a {name}; it may be {known}")
    first, *others = (option.name for option in options)
    return compiler.step(replace(base, choice=None), Element(first, name, options[0].many, tuple(others)), depth)


def _contained(base: Collection, name: str, depth: int) -> Collection:
    """Parse resources inside a resource, which are JSON text; those of the type have a shape of their own."""
    shape = Shape()
    shape.touch_primitive("resourceType", "code", many=False)
    scope = Scope(depth)

    def parsed(text: ir.Value) -> Any:
        return object_from_json(text, shape)

    def make(values: Values) -> ir.Value:
        made = base.make(values)
        if base.many:
            # Parsed first: the type of a contained resource stands inside its text.
            return filter_items(map_items(made, scope, parsed), scope, lambda item: item["resourceType"] == name)
        return ibis.cases((parsed(made)["resourceType"] == name, parsed(made)))

    return Collection(name, base.many, make, shape, null_propagating=base.null_propagating)


def is_empty(compiler: Compiler, base: Collection, depth: int) -> Callable[[Values], ir.Value]:
    """Return whether `base` has no item; of a choice, whether none of its options has one."""
    if base.choice:
        chosen = replace(base, choice=None)
        options = [
            is_empty(compiler, compiler.step(chosen, option, depth), depth) for option in base.choice.options.values()
        ]
        return lambda values: ibis.and_(*(option(values) for option in options))
    if base.many:
        items = whole_items(compiler, base, depth)
        return lambda values: length(items.make(values)) == 0
    # A primitive is there with its extensions alone, too.
    beside = sibling_of(compiler, base, depth)
    if beside is None:
        return lambda values: base.make(values).isnull()
    return lambda values: base.make(values).isnull() & beside.make(values).isnull()


def type_operator(compiler: Compiler, operator: str, base: Collection, name: str, depth: int) -> Collection:
    """Return `base is name` or `base as name`."""
    chosen = of_type(compiler, base, name, depth)
    if operator == "as":
        return chosen
    nothing, something = is_empty(compiler, base, depth), is_empty(compiler, chosen, depth)
    return boolean(lambda values: ibis.cases((negated(nothing(values)), negated(something(values)))))


def type_argument(compiler: Compiler, function: str, tree: Tree) -> str:
    """Return the name of a type that is a function's argument: `Quantity`, `FHIR.Quantity`, `'Quantity'`."""
    match tree:
        case Member(None, name):
            return name
        case Member(Member(None, namespace), name):
            return f"{namespace}.{name}"
        case Literal("string", name):
            return name
        case _:
            raise compiler.error(f"{function}() takes the name of a type")
