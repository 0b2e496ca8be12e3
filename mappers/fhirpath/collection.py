"""What a FHIRPath expression gives, while it is compiled: a collection with a static type and a way to make
it.

A path is compiled in two steps. First its types are resolved against the elements of R4, which touches a
`Shape`; when all paths of a view are resolved the shape is whole, and `make` gives the Ibis expression, of a
scalar where at most one item is possible (null = empty), of an array otherwise (null or [] = empty).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import INTEGERS, PRIMITIVES, TEXTS, Choice, Element
from mappers.fhir_model.shape import DECIMAL, Shape, object_from_json


@dataclass(frozen=True, eq=False)
class Scope:
    """Something that an expression is relative to: a resource, an item of forEach, the item of a `where`.

    `depth` is the number of lambdas around it. A lambda's parameter is named by it, so that nested ones
    never hide each other.
    """

    depth: int = 0
    prefix: str = "x"

    @property
    def name(self) -> str:
        return f"{self.prefix}{self.depth}"


Values = Mapping[Scope, ir.Value]
Make = Callable[[Values], ir.Value]


@dataclass(frozen=True)
class Collection:
    """A compiled expression.

    `type` is a FHIR type name ("" for the empty collection); `many`: more than one item is possible;
    `dense`: the array has no nulls; `navigates`: null whenever the focus is null; `literal`: its value if it
    is a constant; `choice`: the options not yet chosen between (`value`); `home`: parent and element of a
    primitive, where its extensions stand (`_birthDate`); `index`: gives what makes `$index`, the position of
    an item in what a function goes through; `worked_out`: a Quantity that does not stand in
    the resource, a struct of value and unit.
    """

    type: str
    many: bool
    make: Make
    shape: Shape | None = None
    dense: bool = True
    navigates: bool = False
    literal: str | None = None
    choice: Choice | None = None
    home: tuple[Collection, Element] | None = None
    index: Callable[[], Make] | None = None
    worked_out: bool = False


def sql_type(type_name: str) -> dt.DataType:
    """The column type of a FHIR primitive; dates are text, because a partial date is a date too."""
    if type_name == "boolean":
        return dt.boolean
    if type_name in INTEGERS:
        return dt.int64
    return DECIMAL if type_name == "decimal" else dt.string


def kind(type_name: str) -> str:
    """What a type compares with: number, text, or the name of the type."""
    if type_name in INTEGERS or type_name == "decimal":
        return "number"
    return "text" if type_name in TEXTS else type_name


def lambda_over(scope: Scope, body: Callable[[ir.Value], ir.Value]) -> Callable[..., ir.Value]:
    """A one-argument function for Ibis, which takes the parameter's name from the signature."""

    def function(**arguments: ir.Value) -> ir.Value:
        return body(arguments[scope.name])

    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(scope.name, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )
    return function


def map_items(array: ir.Value, scope: Scope, body: Callable[[ir.Value], ir.Value]) -> ir.ArrayValue:
    """Each item of an array through `body`."""
    return array.map(lambda_over(scope, body))


def number_items(array: ir.Value, scope: Scope) -> ir.ArrayValue:
    """Each item of an array with its position from 0: structs of `item` and `index`."""
    item, index = f"{scope.name}_item", f"{scope.name}_index"

    def function(**arguments: ir.Value) -> ir.Value:
        return ibis.struct({"item": arguments[item], "index": arguments[index]})

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in (item, index)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return array.map(function)


@dataclass
class Numbering:
    """The items of an iteration, with their positions where a path asks for `%rowIndex` or `$index`."""

    scope: Scope
    used: bool = False

    def item(self, values: Values) -> ir.Value:
        return values[self.scope]["item"] if self.used else values[self.scope]

    def index(self) -> Make:
        self.used = True
        return lambda values: values[self.scope]["index"]

    def array(self, make: Make) -> Make:
        return lambda values: number_items(make(values), self.scope) if self.used else make(values)


def filter_items(array: ir.Value, scope: Scope, body: Callable[[ir.Value], ir.Value]) -> ir.ArrayValue:
    """The items of an array for which `body` is true."""
    return array.filter(lambda_over(scope, body))


@dataclass(frozen=True)
class Sifted:
    """A `Make` of the items of an array for which conditions hold, or of a primitive of each.

    What is asked of the items one after the other is so asked in one lambda: that there is one, the criterion of a
    `where`, and that the item has the element. Of two criteria the second may fail on items that the first leaves out,
    so there is one at most.

    `element` is the primitive, one that is read as it stands.
    """

    array: Make
    scope: Scope
    holds: tuple[Callable[[Values, ir.Value], ir.Value], ...] = ()
    element: str | None = None
    has_criterion: bool = False

    @classmethod
    def of(cls, make: Make, scope: Scope) -> Sifted:
        return make if isinstance(make, Sifted) else cls(make, scope)

    def __call__(self, values: Values) -> ir.Value:
        kept = self._kept(values)
        return map_items(kept, self.scope, self._read) if self.element else kept

    def at(self, values: Values, position: int) -> ir.Value:
        """One of the items, of which alone the element is read."""
        kept: Any = self._kept(values)
        return self._read(kept[position])

    def present(self) -> Sifted:
        """Those that are not null."""
        return replace(self, holds=(*self.holds, lambda _values, item: self._read(item).notnull()))

    def where(self, scope: Scope, criterion: Make) -> Sifted:
        """Those for which the criterion is true; `scope` is that of an item in it."""
        if self.has_criterion:
            return Sifted(self, scope).where(scope, criterion)
        asked = (*self.holds, lambda values, item: criterion({**values, scope: self._read(item)}))
        return replace(self, scope=scope, holds=asked, has_criterion=True)

    def step(self, name: str) -> Sifted:
        """A primitive of each; null where it has none."""
        return replace(self, element=name)

    def _kept(self, values: Values) -> ir.Value:
        array = self.array(values)
        if not self.holds:
            return array
        return filter_items(array, self.scope, lambda item: ibis.and_(*(ask(values, item) for ask in self.holds)))

    def _read(self, item: Any) -> ir.Value:
        return item[self.element] if self.element else item


def densify(found: Collection, depth: int) -> Collection:
    """The same collection, its array without nulls."""
    if found.dense or not found.many:
        return found
    return replace(found, dense=True, make=Sifted.of(found.make, Scope(depth)).present())


def nth(make: Make, values: Values, position: int) -> ir.Value:
    """The item of a dense array at a position from 0; null beyond its end."""
    if isinstance(make, Sifted):
        return make.at(values, position)
    made: Any = make(values)
    return made[position]


def navigate(base: Collection, chosen: Element, shape: Shape | None, depth: int) -> Collection:
    """One step along an element, whose own shape is already touched."""
    scope = Scope(depth)
    parent = base.shape
    assert parent is not None  # noqa: S101

    def make(values: Values) -> ir.Value:
        made = base.make(values)
        if not base.many:
            return _read(made[chosen.name], chosen, scope, parent, shape)
        inner = Scope(depth + 1)
        stepped = map_items(made, scope, lambda item: _read(item[chosen.name], chosen, inner, parent, shape))
        return stepped.flatten() if chosen.many else stepped

    as_it_stands = chosen.type in PRIMITIVES and sql_type(chosen.type) == dt.string
    sifted = base.many and not chosen.many and as_it_stands
    return Collection(
        chosen.type,
        base.many or chosen.many,
        Sifted.of(base.make, scope).step(chosen.name) if sifted else make,
        shape,
        dense=False,
        navigates=base.navigates,
        home=(base, chosen),
    )


def _read(value: ir.Value, chosen: Element, scope: Scope, parent: Shape, shape: Shape | None) -> ir.Value:
    """From the type in the shape to that of the element: numbers, booleans and some objects are read as text."""
    convert: Callable[[ir.Value], ir.Value]
    if shape is not None and shape.children and parent.is_text(chosen.name):
        convert = partial(object_from_json, shape=shape)
    elif chosen.type == "boolean":
        convert = _boolean
    elif chosen.type in INTEGERS:
        convert = _integer
    elif chosen.type == "decimal":
        convert = _decimal
    else:
        return value
    return map_items(value, scope, convert) if chosen.many else convert(value)


def _boolean(text: ir.Value) -> ir.Value:
    return ibis.cases((text == "true", True), (text == "false", False))


def _decimal(text: ir.Value) -> ir.Value:
    return text.try_cast(DECIMAL)


def _integer(text: ir.Value) -> ir.Value:
    return ibis.cases((text.re_search(r"^-?[0-9]+$"), text.try_cast(dt.int64)))


def bind(value: ir.Value, scope: Scope, body: Callable[[Any], ir.Value]) -> ir.Value:
    """`body` of a value that it uses several times: the value is written, and worked out, once."""
    bound: ir.Value = map_items(ibis.array([value]), scope, body)[0]
    return bound


def item_at(array: ir.Value, position: ir.Value) -> ir.Value:
    """The item at a position from 0; null where there is none."""
    made: Any = array
    place: Any = position
    return ibis.cases(((place >= 0) & (place < length(made)), made[place]))


def listed(found: Collection, depth: int) -> Collection:
    """The same collection as an array without nulls, never null itself."""
    dense = densify(found, depth)
    if not found.type:
        return replace(found, many=True, make=lambda _values: ibis.literal([], dt.Array(dt.string)))

    def make(values: Values) -> ir.Value:
        made: Any = dense.make(values)
        if found.many:
            return ibis.coalesce(made, ibis.literal([], made.type()))
        return ibis.ifelse(made.isnull(), ibis.literal([], dt.Array(made.type())), ibis.array([made]))

    return replace(found, many=True, dense=True, home=None, literal=None, make=make)


def negated(condition: ir.Value) -> ir.Value:
    """Logical not; null for null.

    Not by `~`: Ibis 12 writes `(~x).isnull()` as `NOT x IS NULL`, which SQL reads as `NOT (x IS NULL)`.
    """
    return condition == ibis.literal(False)


def present(value: ir.Value) -> ir.Value:
    """Whether there is a value; written so that Spark takes a test of the answer for null."""
    return negated(value.isnull())


def length(array: ir.Value) -> ir.Value:
    """The number of items; 0 for null."""
    return array.length().fill_null(0)
