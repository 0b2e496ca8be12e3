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

from mappers.collection import (
    Collection,
    Scope,
    Values,
    densify,
    filter_items,
    kind,
    map_items,
)
from mappers.elements import Choice, Element, element, is_resource, is_type
from mappers.fhirpath_syntax import Literal, Member, Tree
from mappers.shape import Shape

if TYPE_CHECKING:
    from mappers.fhirpath import Compiler

Function = Callable[["Compiler", Collection, tuple[Tree, ...], Collection, int], Collection]

REFERENCE = r"^(?:[A-Za-z][A-Za-z0-9+.\-]*://.+/)?{type}/([^/?#|]+)(?:/_history/[^/?#|]+)?$"
ANY_TYPE = "[A-Z][A-Za-z]+"


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


def type_operator(compiler: Compiler, operator: str, base: Collection, name: str, depth: int) -> Collection:
    """`base is name`, `base as name`"""
    chosen = _of_type(compiler, base, name, depth)
    if operator == "as":
        return chosen
    nothing, something = _is_empty(compiler, base, depth), _is_empty(compiler, chosen, depth)
    return Collection("boolean", False, lambda values: ibis.cases((~nothing(values), ~something(values))))


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
    nothing = _is_empty(compiler, found, depth)
    return Collection("boolean", False, lambda values: ~nothing(values))


def _empty(
    compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    return Collection("boolean", False, _is_empty(compiler, base, depth))


def _is_empty(compiler: Compiler, base: Collection, depth: int) -> Callable[[Values], ir.Value]:
    if base.choice:
        options = [_is_empty(compiler, option, depth) for option in _options(compiler, base, depth)]
        return lambda values: ibis.and_(*(option(values) for option in options))
    dense = densify(base, depth)
    if base.many:
        return lambda values: _length(dense.make(values)) == 0
    return lambda values: dense.make(values).isnull()


def _options(compiler: Compiler, base: Collection, depth: int) -> list[Collection]:
    assert base.choice is not None  # noqa: S101
    chosen = replace(base, choice=None)
    return [compiler.step(chosen, option, depth) for option in base.choice.options.values()]


def _length(array: Any) -> Any:
    return array.length().fill_null(0)


def _not(
    compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    one = compiler.condition(base, depth)
    return Collection(
        "boolean", False, lambda values: ~one.make(values).cast(dt.boolean), navigates=one.navigates
    )


def _count(
    _compiler: Compiler, base: Collection, _args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    dense = densify(base, depth)
    if base.many:
        return Collection("integer", False, lambda values: _length(dense.make(values)))
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
        return made[_length(made) - 1]

    return replace(base, many=False, home=None, make=make)


def _join(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], context: Collection, depth: int
) -> Collection:
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
    return _of_type(compiler, base, _type_argument(compiler, "ofType", args[0]), depth)


def _of_type(compiler: Compiler, base: Collection, name: str, depth: int) -> Collection:
    name = name.removeprefix("FHIR.")
    if name.startswith("System."):
        name = name.removeprefix("System.").lower()
    if not is_type(name):
        raise compiler.error(f"R4 has no type '{name}'")
    if base.choice:
        return _option(compiler, base, base.choice, name, depth)
    if base.type == "Resource":
        return _contained(base, name, depth)
    if base.type in (name, ""):
        return base
    return Collection(
        name, base.many, lambda values: ibis.null(base.make(values).type()), None, navigates=True
    )


def _option(compiler: Compiler, base: Collection, choice: Choice, name: str, depth: int) -> Collection:
    option = choice.options.get(name)
    if option is None:
        known = ", ".join(choice.options)
        raise compiler.error(f"'{choice.name}' of {base.type} is never a {name}; it may be {known}")
    return compiler.step(replace(base, choice=None), option, depth)


def _contained(base: Collection, name: str, depth: int) -> Collection:
    """Resources inside a resource are JSON text; those of the type are read with a shape of their own."""
    shape = Shape()
    shape.touch_primitive("resourceType", "code", many=False)
    scope = Scope(depth)

    def parsed(text: ir.Value) -> Any:
        return from_json(text, shape)

    def make(values: Values) -> ir.Value:
        made = base.make(values)
        if base.many:
            return filter_items(
                map_items(made, scope, parsed), scope, lambda item: item["resourceType"] == name
            )
        return ibis.cases((parsed(made)["resourceType"] == name, parsed(made)))

    return Collection(name, base.many, make, shape, navigates=base.navigates)


def from_json(text: ir.Value, shape: Shape) -> ir.Value:
    """JSON text read into the touched elements; an element of the wrong type is null."""

    @ibis.udf.scalar.builtin(name="from_json", signature=((dt.string, dt.string), shape.dtype()))
    def read(text: str, structure: str) -> object: ...

    return read(text, shape.literal())


def _extension(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], context: Collection, depth: int
) -> Collection:
    url = compiler.compile(args[0], context, depth)
    if url.literal is None or kind(url.type) != "text":
        raise compiler.error("extension() takes a url as string literal or constant")
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
        raise compiler.error(
            f"getResourceKey() is asked of a {base.type}; it is for the resource of the view"
        )
    return compiler.step(base, Element("id", "id", False), depth)


def _reference_key(
    compiler: Compiler, base: Collection, args: tuple[Tree, ...], _context: Collection, depth: int
) -> Collection:
    """The id in a literal reference to another resource: relative or absolute, with or without version.

    References of other kinds (#contained, urn:uuid, logical, display only, another type) have no key.
    """
    if base.type != "Reference":
        raise compiler.error(f"getReferenceKey() is asked of a {base.type}; it is for a Reference")
    name = _type_argument(compiler, "getReferenceKey", args[0]) if args else None
    if name is not None and not is_resource(name):
        raise compiler.error(f"R4 has no resource '{name}'")
    found = element("Reference", "reference")
    assert isinstance(found, Element)  # noqa: S101
    references = densify(compiler.step(base, found, depth), depth)
    scope = Scope(depth)

    def make(values: Values) -> ir.Value:
        made = references.make(values)
        return map_items(made, scope, lambda item: _key(item, name)) if base.many else _key(made, name)

    return Collection("id", base.many, make, dense=False, navigates=base.navigates)


def _key(reference: Any, type_name: str | None) -> ir.Value:
    pattern = REFERENCE.replace("{type}", type_name or ANY_TYPE)
    key: ir.Value = reference.re_extract(pattern, 1).nullif("")
    if type_name is None:
        return key
    # Nearly every reference is "Type/id": that needs no regular expression.
    rest = reference.substr(len(type_name) + 1)
    plain = reference.startswith(f"{type_name}/") & ~ibis.or_(*(rest.contains(mark) for mark in "/?#|"))
    return ibis.cases((plain, rest.nullif("")), else_=key)


def _type_argument(compiler: Compiler, function: str, tree: Tree) -> str:
    match tree:
        case Member(None, name):
            return name
        case Member(Member(None, namespace), name):
            return f"{namespace}.{name}"
        case Literal("string", name):
            return name
        case _:
            raise compiler.error(f"{function}() takes the name of a type")


FUNCTIONS: dict[str, tuple[Function, int, int]] = {
    "where": (_where, 1, 1),
    "exists": (_exists, 0, 1),
    "empty": (_empty, 0, 0),
    "not": (_not, 0, 0),
    "count": (_count, 0, 0),
    "first": (_first, 0, 0),
    "last": (_last, 0, 0),
    "join": (_join, 0, 1),
    "ofType": (_oftype, 1, 1),
    "extension": (_extension, 1, 1),
    "getResourceKey": (_resource_key, 0, 0),
    "getReferenceKey": (_reference_key, 0, 1),
}
STANDARD = frozenset(
    [
        "abs",
        "aggregate",
        "all",
        "allFalse",
        "allTrue",
        "anyFalse",
        "anyTrue",
        "as",
        "ceiling",
        "children",
        "combine",
        "contains",
        "convertsToBoolean",
        "convertsToDate",
        "convertsToDateTime",
        "convertsToDecimal",
        "convertsToInteger",
        "convertsToQuantity",
        "convertsToString",
        "convertsToTime",
        "descendants",
        "distinct",
        "endsWith",
        "exclude",
        "exp",
        "floor",
        "hasValue",
        "highBoundary",
        "iif",
        "indexOf",
        "intersect",
        "is",
        "isDistinct",
        "length",
        "ln",
        "log",
        "lowBoundary",
        "lower",
        "matches",
        "memberOf",
        "now",
        "power",
        "repeat",
        "replace",
        "replaceMatches",
        "resolve",
        "round",
        "select",
        "single",
        "skip",
        "split",
        "sqrt",
        "startsWith",
        "subsetOf",
        "substring",
        "supersetOf",
        "tail",
        "take",
        "timeOfDay",
        "toBoolean",
        "toChars",
        "toDate",
        "toDateTime",
        "toDecimal",
        "toInteger",
        "toQuantity",
        "toString",
        "toTime",
        "today",
        "trace",
        "truncate",
        "union",
        "upper",
    ]
)
