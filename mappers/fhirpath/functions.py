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

from mappers.fhir_model.elements import PRIMITIVES, Element, element, is_resource
from mappers.fhirpath import collections
from mappers.fhirpath.boundaries import high_boundary, low_boundary
from mappers.fhirpath.collection import (
    Collection,
    Scope,
    Values,
    densify,
    filter_items,
    kind,
    length,
    map_items,
    negated,
    present,
)
from mappers.fhirpath.conversions import CONVERSIONS
from mappers.fhirpath.math import MATH
from mappers.fhirpath.references import reference_key
from mappers.fhirpath.strings import STRINGS
from mappers.fhirpath.syntax import Tree
from mappers.fhirpath.types import is_empty, of_type, type_argument, type_operator

if TYPE_CHECKING:
    from mappers.fhirpath.compiler import Compiler

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
        if name in UNSUPPORTED:
            raise compiler.unsupported(f"{name}()", UNSUPPORTED[name])
        raise compiler.error(f"unknown function '{name}'")
    function, fewest, most = FUNCTIONS[name]
    if not fewest <= len(args) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise compiler.error(f"{name}() takes {wanted} arguments, not {len(args)}")
    if base.choice and name not in ON_CHOICE:
        raise compiler.error(
            f"'{base.choice.name}' has a choice of types; write {base.choice.name}.ofType(TYPE).{name}()"
        )
    return function(compiler, base, args, context, depth)


def _exists(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], context: Collection, depth: int
) -> Collection:
    found = collections.where(compiler, base, args, context, depth) if args else base
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


def _as(compiler: Compiler, base: Collection, args: tuple[Tree, ...], _context: Collection, depth: int) -> Collection:
    return type_operator(compiler, "as", base, type_argument(compiler, "as", args[0]), depth)


def _is(compiler: Compiler, base: Collection, args: tuple[Tree, ...], _context: Collection, depth: int) -> Collection:
    return type_operator(compiler, "is", base, type_argument(compiler, "is", args[0]), depth)


def _has_value(
    _compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    """Whether there is one item, and it is a primitive with a value (FHIR R4, "Using FHIRPath with FHIR")."""
    if base.type not in PRIMITIVES:
        return Collection("boolean", False, lambda _values: ibis.literal(False))
    dense = densify(base, depth)
    if base.many:
        return Collection("boolean", False, lambda values: length(dense.make(values)) == 1)
    return Collection("boolean", False, lambda values: present(base.make(values)))


def _get_value(
    compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    """The value of the one item; nothing where there are several, or where it is no primitive."""
    if base.type not in PRIMITIVES | {""}:
        raise compiler.error(f"getValue() takes a primitive, not {base.type}")
    if not base.many:
        return base
    dense = densify(base, depth)

    def make(values: Values) -> ir.Value:
        made: Any = dense.make(values)
        return ibis.cases((length(made) == 1, made[0]))

    return replace(base, many=False, home=None, make=make)


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
    name = type_argument(compiler, "getReferenceKey", args[0]).removeprefix("FHIR.") if args else None
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
    "where": (collections.where, 1, 1),
    "select": (collections.select, 1, 1),
    "exists": (_exists, 0, 1),
    "empty": (_empty, 0, 0),
    "all": (collections.all_hold, 1, 1),
    "allTrue": (collections.every(True), 0, 0),
    "allFalse": (collections.every(False), 0, 0),
    "anyTrue": (collections.any_of(True), 0, 0),
    "anyFalse": (collections.any_of(False), 0, 0),
    "not": (_not, 0, 0),
    "count": (_count, 0, 0),
    "distinct": (collections.distinct, 0, 0),
    "isDistinct": (collections.is_distinct, 0, 0),
    "subsetOf": (collections.subset_of, 1, 1),
    "supersetOf": (collections.superset_of, 1, 1),
    "first": (_first, 0, 0),
    "last": (collections.last, 0, 0),
    "tail": (collections.tail, 0, 0),
    "skip": (collections.skip, 1, 1),
    "take": (collections.take, 1, 1),
    "single": (collections.single, 0, 0),
    "intersect": (collections.intersect, 1, 1),
    "exclude": (collections.exclude, 1, 1),
    "union": (collections.union, 1, 1),
    "combine": (collections.combine, 1, 1),
    "iif": (collections.iif, 2, 3),
    "trace": (collections.trace, 1, 2),
    "is": (_is, 1, 1),
    "as": (_as, 1, 1),
    "ofType": (_oftype, 1, 1),
    "join": (_join, 0, 1),
    "lowBoundary": (low_boundary, 0, 1),
    "highBoundary": (high_boundary, 0, 1),
    "extension": (_extension, 1, 1),
    "hasValue": (_has_value, 0, 0),
    "getValue": (_get_value, 0, 0),
    "getResourceKey": (_resource_key, 0, 0),
    "getReferenceKey": (_reference_key, 0, 1),
    **STRINGS,
    **MATH,
    **CONVERSIONS,
}
ON_CHOICE = frozenset({"ofType", "as", "is", "exists", "empty"})

CLOCK = "a view must give the same rows whenever it is run; give the day as a constant"
ONE_RESOURCE = "a view sees one resource at a time"
TERMINOLOGY = "a view asks no terminology server; compare with the codes, or join a table of codes"
OPEN_TYPE = "its result has no single type"
AGGREGATES = "use the aggregation of the database on the rows of the view"
PROFILES = "a view holds no profiles; use validate before"
TEXTS = "use the functions of the database on the rows of the view"
PARTS_OF_A_DATE = "use toString().substring()"
UNSUPPORTED = {
    "now": CLOCK,
    "today": CLOCK,
    "timeOfDay": CLOCK,
    "resolve": f"{ONE_RESOURCE}; join on getReferenceKey() instead",
    "memberOf": TERMINOLOGY,
    "subsumes": TERMINOLOGY,
    "subsumedBy": TERMINOLOGY,
    "children": OPEN_TYPE,
    "descendants": OPEN_TYPE,
    "repeat": "a type inside itself has no end in a path; use the repeat of a select",
    "aggregate": AGGREGATES,
    "sum": AGGREGATES,
    "min": AGGREGATES,
    "max": AGGREGATES,
    "avg": AGGREGATES,
    "type": "types are known when a view is compiled; use is, as and ofType()",
    "conformsTo": PROFILES,
    "elementDefinition": PROFILES,
    "slice": PROFILES,
    "checkModifiers": PROFILES,
    "htmlChecks": PROFILES,
    "comparable": "compare the units of the quantities",
    "coalesce": "use iif()",
    "defineVariable": "use a constant of the view, or select()",
    "precision": "compare the lengths of the texts",
    "sort": "a collection keeps the order of the resource; sort the rows of the view",
    "encode": TEXTS,
    "decode": TEXTS,
    "escape": TEXTS,
    "unescape": TEXTS,
    "lastIndexOf": "use split()",
    "yearOf": PARTS_OF_A_DATE,
    "monthOf": PARTS_OF_A_DATE,
    "dayOf": PARTS_OF_A_DATE,
}
