"""The functions of FHIRPath that views may use, and those that SQL on FHIR adds.

Each takes the compiler, the collection it is called on, its argument trees, the focus and the depth of
lambdas. Source: FHIRPath N1, section 5; SQL on FHIR v2, https://sql-on-fhir.org
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.boundaries import high_boundary, low_boundary
from mappers.collection import (
    Collection,
    Scope,
    Values,
    densify,
    filter_items,
    kind,
    length,
    map_items,
    negated,
)
from mappers.elements import Element, element, is_resource
from mappers.fhirpath_syntax import Tree
from mappers.fhirpath_types import is_empty, of_type, type_argument
from mappers.references import reference_key

if TYPE_CHECKING:
    from mappers.fhirpath import Compiler

Function = Callable[["Compiler", Collection, tuple[Tree, ...], Collection, int], Collection]


def call(
    compiler: Compiler, name: str, base: Collection, args: tuple[Tree, ...], context: Collection, depth: int
) -> Collection:
    """Call the function `name`.

    Raises:
        ViewError: no such function, or arguments that do not fit.
        UnsupportedError: a function of FHIRPath that is not supported.
    """
    if name not in FUNCTIONS:
        if name in STANDARD:
            raise compiler.unsupported(f"the function {name}()")
        raise compiler.error(f"unknown function '{name}'")
    function, fewest, most = FUNCTIONS[name]
    if not fewest <= len(args) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise compiler.error(f"{name}() takes {wanted} arguments, not {len(args)}")
    if base.choice and name not in ("ofType", "exists", "empty"):
        raise compiler.error(
            f"'{base.choice.name}' has a choice of types; write {base.choice.name}.ofType(TYPE).{name}()"
        )
    return function(compiler, base, args, context, depth)


def _where(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    dense = densify(base, depth)
    scope = Scope(depth + 1)
    criterion = compiler.condition(
        compiler.compile(args[0], replace(dense, many=False, make=lambda values: values[scope]), depth + 1),
        depth + 1,
    )

    def holds(values: Values, item: ir.Value) -> ir.Value:
        return criterion.make({**values, scope: item}).cast(dt.boolean)

    def make(values: Values) -> ir.Value:
        made = dense.make(values)
        if base.many:
            return filter_items(made, scope, lambda item: holds(values, item))
        return ibis.cases((holds(values, made), made))

    return replace(dense, home=None, make=make)


def _exists(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], context: Collection, depth: int
) -> Collection:
    found = _where(compiler, base, args, context, depth) if args else base
    nothing = is_empty(compiler, found, depth)
    return Collection("boolean", False, lambda values: negated(nothing(values)))


def _empty(
    compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    return Collection("boolean", False, is_empty(compiler, base, depth))


def _not(compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int) -> Collection:
    one = compiler.condition(base, depth)
    return Collection(
        "boolean", False, lambda values: negated(one.make(values).cast(dt.boolean)), navigates=one.navigates
    )


def _count(
    _compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    dense = densify(base, depth)
    if base.many:
        return Collection("integer", False, lambda values: length(dense.make(values)))
    return Collection("integer", False, lambda values: dense.make(values).notnull().cast(dt.int64))


def _first(
    compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    return compiler.item(base, Collection("integer", False, base.make, literal="0"), depth)


def _last(
    _compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    dense = densify(base, depth)
    if not base.many:
        return base

    def make(values: Values) -> ir.Value:
        made: Any = dense.make(values)
        return made[length(made) - 1]

    return replace(base, many=False, home=None, make=make)


def _join(compiler: Compiler, base: Collection, args: tuple[Tree, ...], context: Collection, depth: int) -> Collection:
    if kind(base.type) != "text" and base.type:
        raise compiler.error(f"join() takes strings, not {base.type}")
    separator = compiler.compile(args[0], context, depth) if args else None
    if separator is not None and (separator.literal is None or kind(separator.type) != "text"):
        raise compiler.error("join() takes a string literal or constant as separator")
    between = separator.literal if separator is not None and separator.literal is not None else ""
    dense = densify(base, depth)

    def make(values: Values) -> ir.Value:
        made: Any = dense.make(values)
        joined = made.join(between) if base.many else made
        return joined.fill_null("")

    return Collection("string", False, make)


def _oftype(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    return of_type(compiler, base, type_argument(compiler, "ofType", args[0]), depth)


def _extension(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], context: Collection, depth: int
) -> Collection:
    url = compiler.compile(args[0], context, depth)
    if url.literal is None or kind(url.type) != "text":
        raise compiler.error("extension() takes a url as string literal or constant")
    if not base.type:
        return base
    text = url.literal
    extensions = densify(compiler.member(base, "extension", depth), depth)
    assert extensions.shape is not None  # noqa: S101
    extensions.shape.touch_primitive("url", "uri", many=False)
    scope = Scope(depth)
    return replace(
        extensions,
        make=lambda values: filter_items(extensions.make(values), scope, lambda item: item["url"] == text),
    )


def _resource_key(
    compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    if not is_resource(base.type) or base.many:
        raise compiler.error(f"getResourceKey() is asked of a {base.type}; it is for the resource of the view")
    return compiler.step(base, Element("id", "id", False), depth)


def _reference_key(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    if base.type != "Reference":
        raise compiler.error(f"getReferenceKey() is asked of a {base.type}; it is for a Reference")
    name = type_argument(compiler, "getReferenceKey", args[0]) if args else None
    if name is not None and not is_resource(name):
        raise compiler.error(f"R4 has no resource '{name}'")
    found = element("Reference", "reference")
    assert isinstance(found, Element)  # noqa: S101
    references = densify(compiler.step(base, found, depth), depth)
    scope = Scope(depth)

    def make(values: Values) -> ir.Value:
        made = references.make(values)
        return (
            map_items(made, scope, lambda item: reference_key(item, name)) if base.many else reference_key(made, name)
        )

    return Collection("id", base.many, make, dense=False, navigates=base.navigates)


FUNCTIONS: dict[str, tuple[Function, int, int]] = {
    "where": (_where, 1, 1),
    "exists": (_exists, 0, 1),
    "empty": (_empty, 0, 0),
    "not": (_not, 0, 0),
    "count": (_count, 0, 0),
    "first": (_first, 0, 0),
    "last": (_last, 0, 0),
    "join": (_join, 0, 1),
    "lowBoundary": (low_boundary, 0, 0),
    "highBoundary": (high_boundary, 0, 0),
    "ofType": (_oftype, 1, 1),
    "extension": (_extension, 1, 1),
    "getResourceKey": (_resource_key, 0, 0),
    "getReferenceKey": (_reference_key, 0, 1),
}
STANDARD = frozenset(
    """
    abs aggregate all allFalse allTrue anyFalse anyTrue as ceiling children combine contains
    convertsToBoolean convertsToDate convertsToDateTime convertsToDecimal convertsToInteger
    convertsToQuantity convertsToString convertsToTime descendants distinct endsWith exclude exp floor
    hasValue iif indexOf intersect is isDistinct length ln log lower matches memberOf now power repeat
    replace replaceMatches resolve round select single skip split sqrt startsWith subsetOf substring
    supersetOf tail take timeOfDay toBoolean toChars toDate toDateTime toDecimal toInteger toQuantity
    toString toTime today trace truncate union upper
    """.split()  # noqa: SIM905  readable as a text
)
