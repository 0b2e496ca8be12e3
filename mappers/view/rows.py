"""Selections of a view, compiled: which columns stand on which item, and which arrays multiply rows.

A `Level` is what stands on one scope (the resource, or an item of an iteration): columns, and iterations
that lead to further levels. Inside a `unionAll` a level is made into one array of structs instead, so that
branches can be put one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.errors import ViewError
from mappers.fhir_model.elements import DATES, INTEGERS, PRIMITIVES, TEXTS, is_resource
from mappers.fhir_model.shape import is_structured
from mappers.fhirpath.arrays import ItemIndex, Make, Scope, Values, filter_items, map_items
from mappers.fhirpath.collection import Collection, drop_nulls, sql_type
from mappers.fhirpath.compiler import PathCompiler, ResourceRef
from mappers.fhirpath.repeat import repeated
from mappers.fhirpath.syntax import Literal
from mappers.view.definition import Column, Select
from mappers.view.language import LANGUAGE

Constants = Mapping[str, Literal]
ROW_INDEX = "%rowIndex"  # a column of just this is 0 where every other is null, in the padding of forEachOrNull


@dataclass(frozen=True)
class Each:
    """An iteration: the array to unnest, the scope of its items, and what stands on them."""

    array: Make
    scope: Scope
    level: Level


@dataclass(frozen=True)
class Level:
    """What stands on one scope."""

    columns: dict[str, Make] = field(default_factory=dict)
    types: dict[str, dt.DataType] = field(default_factory=dict)
    each: tuple[Each, ...] = ()

    @classmethod
    def joined(cls, levels: Sequence[Level]) -> Level:
        """Levels on the same scope as one."""
        return cls(
            {name: make for level in levels for name, make in level.columns.items()},
            {name: dtype for level in levels for name, dtype in level.types.items()},
            tuple(each for level in levels for each in level.each),
        )

    def struct(self) -> dt.Struct:
        """The type of a whole row: names and types of all columns below."""
        return dt.Struct(self.types)


@dataclass(frozen=True)
class Place:
    """Where a selection stands.

    `focus` is what its paths are relative to, `depth` the number of lambdas around it, `row_index` gives what
    makes `%rowIndex` (0 by default), `resource_ref` is the resource of the view. `padded`: the focus may be the null
    that stands for no item at all in a `forEachOrNull`; then every column is null and every iteration gives
    one row.
    """

    focus: Collection
    constants: Constants
    depth: int = 0
    padded: bool = False
    row_index: Callable[[], Make] | None = None
    resource_ref: ResourceRef | None = None

    def compiler(self, element: str) -> PathCompiler:
        return PathCompiler(element, LANGUAGE, self.constants, self.row_index, self.resource_ref)


def compile_select(select: Select, place: Place) -> Level:
    """Compile a selection.

    Raises:
        ViewError: a path that does not compile, or a column of the wrong type.
    """
    path = select.for_each or select.for_each_or_null
    or_null = select.for_each_or_null is not None
    if select.repeat:
        found = repeated(place.compiler(f"{select.element}.repeat"), select.repeat, place.focus, place.depth)
    elif path is None:
        return _on(select, place)
    else:
        key = "forEachOrNull" if or_null else "forEach"
        found = _items(place.compiler(f"{select.element}.{key}"), path, place.focus, place.depth)
    item_index = ItemIndex(Scope(place.depth + 1))
    item = replace(found, many=False, non_null=True, null_propagating=True, parent_element=None, make=item_index.item)
    padded = place.padded or or_null
    # On the items of a resource in the resource, %resource is that one, which is not kept at hand.
    resource_ref = None if is_resource(found.type) and found.type != place.focus.type else place.resource_ref
    level = _on(select, Place(item, place.constants, place.depth + 1, padded, item_index.index, resource_ref))
    array = item_index.array(_padded(found, place.focus, or_null=or_null, padded=place.padded))
    return Level({}, level.types, (Each(array, item_index.scope, level),))


def _on(select: Select, place: Place) -> Level:
    own = Level.joined([_column(column, place) for column in select.columns])
    nested = [compile_select(item, place) for item in select.selects]
    union = [_union(select, place)] if select.unions else []
    return Level.joined([own, *nested, *union])


def _items(compiler: PathCompiler, path: str, focus: Collection, depth: int) -> Collection:
    """The items of an iteration as a non_null array."""
    found = compiler.path(path, focus, depth)
    if found.choice:
        raise compiler.error(f"'{found.choice.name}' has a choice of types; write {found.choice.name}.ofType(TYPE)")
    if not found.type and focus.type:
        raise compiler.error("the path never gives an item")
    if found.many:
        return drop_nulls(found, depth)

    def make(values: Values) -> ir.Value:
        one: Any = found.make(values)
        return ibis.ifelse(one.isnull(), ibis.literal([], dt.Array(one.type())), ibis.array([one]))

    return replace(found, many=True, make=make)


def _padded(found: Collection, focus: Collection, *, or_null: bool, padded: bool) -> Make:
    """The array to unnest: one null for no item (`forEachOrNull`), or where the focus is such a null."""
    if not (or_null or padded):
        return found.make

    def make(values: Values) -> ir.Value:
        array: Any = found.make(values)
        none = array.length().fill_null(0) == 0 if or_null else focus.make(values).isnull()
        return ibis.ifelse(none, null_row(array.type().value_type), array)

    return make


def null_row(dtype: dt.DataType) -> ir.Value:
    """An array of one null."""
    return ibis.array([ibis.null(dtype)])


def _column(column: Column, place: Place) -> Level:
    compiler, focus, depth = place.compiler(f"{column.element}.path"), place.focus, place.depth
    found = _plain(compiler.path(column.path, focus, depth), depth)
    type_name = _column_type(compiler, column, found)
    dtype = sql_type(type_name)
    if column.collection:
        make, dtype = _all(found, dtype, depth), dt.Array(dtype)
    else:
        one = compiler.single(found, depth)
        make = _cast(one.make, dtype) if sql_type(found.type) != dtype or not found.type else one.make
    if place.padded and not (found.null_propagating and not column.collection) and column.path.strip() != ROW_INDEX:
        make = _null_on_padding(make, focus, dtype)
    return Level({column.name: make}, {column.name: dtype})


def _plain(found: Collection, depth: int) -> Collection:
    """The texts of an element without objects and arrays that stand in their place."""
    if (
        found.parent_element is None
        or found.choice
        or found.type not in PRIMITIVES
        or sql_type(found.type) != dt.string
    ):
        return found
    if found.many:
        return replace(
            found, non_null=True, parent_element=None, make=lambda values: _plain_items(found.make(values), depth)
        )
    return replace(found, parent_element=None, make=lambda values: _unless_structured(found.make(values)))


def _plain_items(texts: Any, depth: int) -> ir.Value:
    return filter_items(texts, Scope(depth), lambda item: item.notnull() & ~is_structured(item))


def _unless_structured(text: Any) -> ir.Value:
    return ibis.cases((is_structured(text), ibis.null(dt.string)), else_=text)


def _column_type(compiler: PathCompiler, column: Column, found: Collection) -> str:
    """The declared type if the path fits it, the type of the path if none is declared."""
    if found.choice:
        raise compiler.error(f"'{found.choice.name}' has a choice of types; write {found.choice.name}.ofType(TYPE)")
    if not found.type:
        return column.type or "string"
    if found.type not in PRIMITIVES:
        raise compiler.error(f"the path gives a {found.type}, and a column takes a primitive")
    declared = column.type or found.type
    if not _fits(found.type, declared):
        raise ViewError(f"{column.element}.type", f"{declared} is declared, and the path gives {found.type}")
    return declared


def _fits(found: str, declared: str) -> bool:
    if declared in TEXTS:
        return found in TEXTS | DATES | {"time"}
    if declared in DATES:
        return found in DATES | TEXTS
    if declared in INTEGERS:
        return found in INTEGERS
    return found == declared or (declared == "decimal" and found in INTEGERS)


def _all(found: Collection, dtype: dt.DataType, depth: int) -> Make:
    non_null = drop_nulls(found, depth)

    def make(values: Values) -> ir.Value:
        made: Any = non_null.make(values)
        if not found.many:
            made = ibis.ifelse(made.isnull(), ibis.literal([], dt.Array(dtype)), ibis.array([made.cast(dtype)]))
        return made.cast(dt.Array(dtype)).fill_null(ibis.literal([], dt.Array(dtype)))

    return make


def _cast(make: Make, dtype: dt.DataType) -> Make:
    return lambda values: make(values).cast(dtype)


def _null_on_padding(make: Make, focus: Collection, dtype: dt.DataType) -> Make:
    return lambda values: ibis.ifelse(focus.make(values).isnull(), ibis.null(dtype), make(values))


def _union(select: Select, place: Place) -> Level:
    """The branches of a unionAll as one array of rows."""
    scope = Scope(place.depth + 1)
    branches = [compile_select(branch, place) for branch in select.unions]
    row = branches[0].struct()
    for branch, level in zip(select.unions, branches, strict=True):
        if level.struct() != row:
            raise ViewError(branch.element, "the types of the columns differ from those of the union's first branch")

    def make(values: Values) -> ir.Value:
        first, *others = [rows_array(level, values) for level in branches]
        array = first.concat(*others) if others else first
        if not place.padded:
            return array
        return ibis.ifelse(place.focus.make(values).isnull(), ibis.array([_struct(padding, row)]), array)

    indices = {column.name for column in select.unions[0].all_columns() if column.path.strip() == ROW_INDEX}
    padding = {name: ibis.literal(0, dtype) if name in indices else ibis.null(dtype) for name, dtype in row.items()}
    fields: dict[str, Make] = {name: _field(scope, name) for name in row.names}
    return Level({}, dict(row.items()), (Each(make, scope, Level(fields, dict(row.items()))),))


def _field(scope: Scope, name: str) -> Make:
    return lambda values: values[scope][name]


def rows_array(level: Level, values: Values) -> Any:
    """All rows of a level as one array of structs, never null."""
    return _product(level.each, values, _made(level, values), level.struct(), nesting=0)


def _made(level: Level, values: Values) -> dict[str, ir.Value]:
    return {name: make(values) for name, make in level.columns.items()}


def _product(each: Sequence[Each], values: Values, fields: Mapping[str, ir.Value], row: dt.Struct, nesting: int) -> Any:
    """The cross join of iterations as an array of structs: a lambda for each iteration, flattened.

    `fields` are the columns made so far, `nesting` is the number of lambdas around.
    """
    if not each:
        return ibis.array([_struct(fields, row)])
    first, *others = each
    inner = (*first.level.each, *others)

    def body(item: ir.Value) -> ir.Value:
        known = {**values, first.scope: item}
        made = {**fields, **_made(first.level, known)}
        return _product(inner, known, made, row, nesting + 1) if inner else _struct(made, row)

    rows = map_items(first.array(values), Scope(nesting, "row"), body)
    rows = rows.flatten() if inner else rows
    return rows.fill_null(ibis.literal([], dt.Array(row)))


def _struct(fields: Mapping[str, ir.Value], row: dt.Struct) -> ir.StructValue:
    return ibis.struct({name: fields[name] for name in row.names}, type=row)
