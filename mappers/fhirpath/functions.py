"""The functions of the core: those that SQL on FHIR asks for, and those on types.

Source: FHIRPath N1, section 5; SQL on FHIR v2, https://sql-on-fhir.org
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import Element, element, is_resource, resource_names
from mappers.fhir_model.suggestions import did_you_mean
from mappers.fhirpath.arrays import Scope, bind, filter_items, negated
from mappers.fhirpath.boundaries import high_boundary, low_boundary
from mappers.fhirpath.collection import Collection, boolean, drop_nulls, kind, plain
from mappers.fhirpath.iteration import Iteration
from mappers.fhirpath.language import Args, Compiler, Function
from mappers.fhirpath.references import reference_key
from mappers.fhirpath.types import is_empty, of_type, type_argument, type_operator


def where(compiler: Compiler, base: Collection, args: Args, _focus: Collection, depth: int) -> Collection:
    """Return the items for which the criterion is true."""
    items = Iteration.over(compiler, base, depth)
    return items.filtered(compiler.condition(items.compile(compiler, args[0]), depth + 1).make)


def _exists(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    found = where(compiler, base, args, focus, depth) if args else base
    nothing = is_empty(compiler, found, depth)
    return boolean(lambda values: negated(nothing(values)))


def _empty(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    return boolean(is_empty(compiler, base, depth))


def _not(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    one = compiler.condition(base, depth)
    return boolean(lambda values: negated(one.make(values).cast(dt.boolean)), null_propagating=one.null_propagating)


def _first(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    return compiler.item(base, Collection("integer", False, base.make, literal="0"), depth)


def _join(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    if kind(base.type) != "text" and base.type:
        raise compiler.error(f"join() takes strings, not {base.type}")
    separator = compiler.compile(args[0], focus, depth) if args else None
    if separator is not None and (separator.literal is None or kind(separator.type) != "text"):
        raise compiler.error("join() takes a string literal or constant as separator")
    between = separator.literal if separator is not None and separator.literal is not None else ""
    non_null = plain(drop_nulls(base, depth), depth)
    if not base.many:
        return Collection("string", False, lambda values: non_null.make(values).cast(dt.string))
    scope = Scope(depth, "joined")

    def joined(texts: Any) -> ir.Value:
        # Of no strings it is nothing, since pull request 349 of HL7/sql-on-fhir.
        return ibis.cases((texts.length() > 0, texts.join(between)))

    return Collection("string", False, lambda values: bind(non_null.make(values), scope, joined), clean=True)


def _of_type(compiler: Compiler, base: Collection, args: Args, _focus: Collection, depth: int) -> Collection:
    return of_type(compiler, base, type_argument(compiler, "ofType", args[0]), depth)


def _as(compiler: Compiler, base: Collection, args: Args, _focus: Collection, depth: int) -> Collection:
    return type_operator(compiler, "as", base, type_argument(compiler, "as", args[0]), depth)


def _is(compiler: Compiler, base: Collection, args: Args, _focus: Collection, depth: int) -> Collection:
    return type_operator(compiler, "is", base, type_argument(compiler, "is", args[0]), depth)


def _extension(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    url = compiler.compile(args[0], focus, depth)
    if url.literal is None or kind(url.type) != "text":
        raise compiler.error("extension() takes a url as string literal or constant")
    if not base.type:
        return base
    text = url.literal
    # Of a primitive these stand in the sibling `_name`, which `member` knows.
    extensions = drop_nulls(compiler.member(base, "extension", depth), depth)
    assert extensions.shape is not None  # noqa: S101
    extensions.shape.touch_primitive("url", "uri", many=False)
    scope = Scope(depth)
    return replace(
        extensions,
        make=lambda values: filter_items(extensions.make(values), scope, lambda item: item["url"] == text),
    )


def _resource_key(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    if not is_resource(base.type, compiler.release) or base.many:
        raise compiler.error(f"getResourceKey() is asked of a {base.type}; it is for the resource of the view")
    return compiler.step(base, Element("id", "id", False), depth)


def _reference_key(compiler: Compiler, base: Collection, args: Args, _focus: Collection, depth: int) -> Collection:
    if base.type != "Reference":
        raise compiler.error(f"getReferenceKey() is asked of a {base.type}; it is for a Reference")
    name = type_argument(compiler, "getReferenceKey", args[0]).removeprefix("FHIR.") if args else None
    if name is not None and not is_resource(name, compiler.release):
        near = did_you_mean(name, resource_names(compiler.release))
        raise compiler.error(f"{compiler.release} has no resource '{name}'{near}")
    found = element("Reference", "reference")
    assert isinstance(found, Element)  # noqa: S101
    # A Reference without `reference` (by identifier, or display only) has no key.
    references = drop_nulls(compiler.step(base, found, depth), depth)
    keys = references.each(Scope(depth), lambda item: reference_key(item, name))
    return Collection("id", base.many, keys, non_null=False, null_propagating=base.null_propagating, clean=True)


FUNCTIONS: dict[str, Function] = {
    "where": Function(where, 1, 1),
    "exists": Function(_exists, 0, 1, on_choice=True),
    "empty": Function(_empty, on_choice=True),
    "not": Function(_not),
    "first": Function(_first),
    "join": Function(_join, 0, 1),
    "is": Function(_is, 1, 1, on_choice=True),
    "as": Function(_as, 1, 1, on_choice=True),
    "ofType": Function(_of_type, 1, 1, on_choice=True),
    "extension": Function(_extension, 1, 1),
    "lowBoundary": Function(low_boundary, 0, 1),
    "highBoundary": Function(high_boundary, 0, 1),
    "getResourceKey": Function(_resource_key),
    "getReferenceKey": Function(_reference_key, 0, 1),
}
