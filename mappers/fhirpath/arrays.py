"""Ibis expressions over the items of an array, and the lambdas in which they stand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir


@dataclass(frozen=True, eq=False)
class Scope:
    """Something that an expression is relative to: a resource, an item of forEach, the item of a `where`.

    `depth` is the number of lambdas around it. A lambda's parameter is named after it, so that nested ones never hide
    each other.
    """

    depth: int = 0
    prefix: str = "x"

    @property
    def name(self) -> str:
        return f"{self.prefix}{self.depth}"


Values = Mapping[Scope, ir.Value]
Make = Callable[[Values], ir.Value]


def lambda_over(body: Callable[..., ir.Value], *names: str) -> Callable[..., ir.Value]:
    """Return `body` as a function for Ibis, which takes the names of the parameters from the signature."""

    def function(**arguments: ir.Value) -> ir.Value:
        return body(*(arguments[name] for name in names))

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def map_items(array: ir.Value, scope: Scope, body: Callable[[ir.Value], ir.Value]) -> ir.ArrayValue:
    """Apply `body` to each item of an array."""
    return array.map(lambda_over(body, scope.name))


def filter_items(array: ir.Value, scope: Scope, body: Callable[[ir.Value], ir.Value]) -> ir.ArrayValue:
    """Return the items of an array for which `body` is true."""
    return array.filter(lambda_over(body, scope.name))


def number_items(array: ir.Value, scope: Scope) -> ir.ArrayValue:
    """Return the items of an array with their positions from 0: structs of `item` and `index`."""

    def numbered(item: ir.Value, index: ir.Value) -> ir.Value:
        return ibis.struct({"item": item, "index": index})

    # Two parameters: Ibis gives a lambda of two the position, too.
    return array.map(lambda_over(numbered, f"{scope.name}_item", f"{scope.name}_index"))


@dataclass
class ItemIndex:
    """The items of an iteration, numbered only if a path asks for `%rowIndex` or `$index`."""

    scope: Scope
    used: bool = False

    def item(self, values: Values) -> ir.Value:
        return values[self.scope]["item"] if self.used else values[self.scope]

    # Asked for while paths are compiled, and read when `item` and `array` are made: by then `used` is final.
    def index(self) -> Make:
        self.used = True
        return lambda values: values[self.scope]["index"]

    def array(self, make: Make) -> Make:
        return lambda values: number_items(make(values), self.scope) if self.used else make(values)


def item_at(array: ir.Value, position: ir.Value) -> ir.Value:
    """Return the item at a computed position from 0; null where there is none."""
    return ibis.cases(((position >= 0) & (position < length(array)), array[position]))


def bind(value: ir.Value, scope: Scope, body: Callable[[Any], ir.Value]) -> ir.Value:
    """Apply `body` to a value that it uses several times, so that the value is written and computed once."""
    # SQL has no local names inside an expression: an array of one item and a lambda over it give one.
    return map_items(ibis.array([value]), scope, body)[0]


def length(array: ir.Value) -> ir.Value:
    """Return the number of items; 0 for null."""
    return array.length().fill_null(0)


def negated(condition: ir.Value) -> ir.Value:
    """Return the logical not; null for null."""
    # Not by `~`: Ibis 12 writes `(~x).isnull()` as `NOT x IS NULL`, which SQL reads as `NOT (x IS NULL)`.
    return condition == ibis.literal(False)


def present(value: ir.Value) -> ir.Value:
    """Return whether there is a value, written so that Spark takes a test of the answer for null."""
    return negated(value.isnull())
