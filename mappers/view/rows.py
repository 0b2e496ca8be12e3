"""Selections of a view, compiled: which columns stand on which item, and which arrays multiply rows.

A `RowSet` is what stands on one scope (the resource, or an item of an iteration): columns, and arrays to unnest that
lead to further row sets. Inside a `unionAll` a row set is made into one array of structs instead, so that branches can
be put one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.errors import ViewError
from mappers.fhir_model.elements import DATES, INTEGERS, PRIMITIVES, TEXTS, Release, is_resource, is_subtype
from mappers.fhir_model.shape import text_only
from mappers.fhirpath.arrays import ItemIndex, Make, Scope, Values, filter_items, map_items
from mappers.fhirpath.collection import Collection, drop_nulls, listed, plain, sql_type
from mappers.fhirpath.compiler import PathCompiler, ResourceRef
from mappers.fhirpath.items import Pairs, pairs
from mappers.fhirpath.repeat import repeated
from mappers.fhirpath.syntax import Literal
from mappers.view.definition import SQL_TYPE, Column, Select
from mappers.view.language import LANGUAGE
from mappers.view.sql_types import as_sql_type
from mappers.view.structures import is_complex, structured

Constants = Mapping[str, Literal]
ANY_COMPLEX = frozenset({"BackboneElement", "Element", "Any"})
ROW_INDEX = "%rowIndex"  # a column of just this is 0 where every other is null, in the padding of forEachOrNull


@dataclass(frozen=True)
class Unnest:
    """An iteration: the array to unnest, the scope of its items, and what stands on them."""

    array: Make
    scope: Scope
    rows: RowSet


@dataclass(frozen=True)
class RowSet:
    """The columns on one scope, the types of all columns on it and below, and the arrays to unnest."""

    columns: dict[str, Make] = field(default_factory=dict)
    types: dict[str, dt.DataType] = field(default_factory=dict)
    unnests: tuple[Unnest, ...] = ()

    @classmethod
    def joined(cls, row_sets: Sequence[RowSet]) -> RowSet:
        """Return row sets on the same scope as one."""
        return cls(
            {name: make for rows in row_sets for name, make in rows.columns.items()},
            {name: dtype for rows in row_sets for name, dtype in rows.types.items()},
            tuple(unnest for rows in row_sets for unnest in rows.unnests),
        )

    def struct(self) -> dt.Struct:
        """Return the type of a whole row."""
        return dt.Struct(self.types)


@dataclass(frozen=True)
class Place:
    """The place of a selection in its view.

    Attributes:
        focus: what its paths are relative to.
        constants: those of the view.
        depth: the number of lambdas around it.
        padded: the focus may be the null that a `forEachOrNull` without items gives; then every column is null and
            every iteration gives one row.
        row_index: gives what makes `%rowIndex`; None makes it 0.
        resource_ref: the resource of the view.
        row: makes the row of the innermost iteration, which is there also where its item has no value.
        release: of FHIR, whose elements the view reads.
    """

    focus: Collection
    constants: Constants
    depth: int = 0
    padded: bool = False
    row_index: Callable[[], Make] | None = None
    resource_ref: ResourceRef | None = None
    row: Make | None = None
    release: Release = "R4"

    def absent(self, values: Values) -> ir.Value:
        """Return whether the focus is the null of a padding."""
        return (self.row or self.focus.make)(values).isnull()

    def compiler(self, element: str) -> PathCompiler:
        """Return a compiler of the path at `element`."""
        return PathCompiler(element, LANGUAGE, self.constants, self.row_index, self.resource_ref, release=self.release)


def compile_select(select: Select, place: Place) -> RowSet:
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
    both = None if select.repeat else pairs(place.compiler(select.element), found, place.depth)
    item = _item(found, both, item_index)
    if both is not None:
        found = replace(found, many=True, make=both.make)
    elif not select.repeat:
        found = (
            drop_nulls(found, place.depth) if found.many else replace(listed(found, place.depth), literal=found.literal)
        )
    padded = place.padded or or_null
    # On the items of a resource in the resource, %resource is that one, which is not kept at hand.
    resource_ref = (
        None if is_resource(found.type, place.release) and found.type != place.focus.type else place.resource_ref
    )
    rows = _on(
        select,
        Place(
            item,
            place.constants,
            place.depth + 1,
            padded,
            item_index.index,
            resource_ref,
            item_index.item,
            place.release,
        ),
    )
    array = item_index.array(_padded(found, place, or_null=or_null))
    return RowSet({}, rows.types, (Unnest(array, item_index.scope, rows),))


def _on(select: Select, place: Place) -> RowSet:
    """Compile what stands on the items themselves: columns, nested selections, unions."""
    own = RowSet.joined([_column(column, place) for column in select.columns])
    nested = [compile_select(item, place) for item in select.selects]
    union = [_union(select, place)] if select.unions else []
    return RowSet.joined([own, *nested, *union])


def _items(compiler: PathCompiler, path: str, focus: Collection, depth: int) -> Collection:
    """Return the items of an iteration.

    Raises:
        ViewError: there can be none.
    """
    found = compiler.path(path, focus, depth)
    if found.choice:
        raise compiler.error(f"'{found.choice.name}' has a choice of types; write {found.choice.name}.ofType(TYPE)")
    # A forEach over nothing is a mistake in the view, unless it stands on nothing itself.
    if not found.type and focus.type:
        raise compiler.error("the path never gives an item")
    return found


def _item(found: Collection, both: Pairs | None, item_index: ItemIndex) -> Collection:
    """Return one item of an iteration; of a primitive element, the value in a pair of value and sibling."""
    one = replace(
        found,
        many=False,
        non_null=True,
        null_items=False,
        null_propagating=True,
        parent_element=None,
        make=item_index.item,
    )
    if both is None:
        return one

    def value(values: Values) -> ir.Value:
        pair: Any = item_index.item(values)
        return pair["item"]

    return replace(one, make=value, sibling=lambda: both.element(item_index.item))


def _padded(found: Collection, place: Place, *, or_null: bool) -> Make:
    """Return the array to unnest: one null for no item (`forEachOrNull`), or where the focus is such a null."""
    # Without padding an empty array gives no row, which is what forEach wants.
    if not (or_null or place.padded):
        return found.make

    def make(values: Values) -> ir.Value:
        array: Any = found.make(values)
        none = array.length().fill_null(0) == 0 if or_null else place.absent(values)
        return ibis.ifelse(none, ibis.array([ibis.null(array.type().value_type)]), array)

    return make


def _column(column: Column, place: Place) -> RowSet:
    compiler, focus, depth = place.compiler(f"{column.element}.path"), place.focus, place.depth
    found = _without_structures(compiler.path(column.path, focus, depth), depth)
    if is_complex(found):
        return _complex_column(compiler, column, found, place)
    type_name = _column_type(compiler, column, found)
    dtype = sql_type(type_name)
    if column.collection:
        make, dtype = _all(found, dtype, depth), dt.Array(dtype)
    else:
        make = _cast(compiler.single(found, depth), dtype)
    if column.sql_type is not None:
        make, dtype = as_sql_type(column, make, dtype)
    # %rowIndex is 0 in the row of a forEachOrNull without items, where every other column is null.
    if place.padded and not (found.null_propagating and not column.collection) and column.path.strip() != ROW_INDEX:
        make = _null_on_padding(make, place, dtype)
    return RowSet({column.name: make}, {column.name: dtype})


def _complex_column(compiler: PathCompiler, column: Column, found: Collection, place: Place) -> RowSet:
    if column.sql_type is not None:
        raise ViewError(f"{column.element}.tag", f"{SQL_TYPE} stands on a {found.type}, and is for primitives")
    declared = column.type or found.type
    if declared not in ANY_COMPLEX and not is_subtype(found.type, declared):
        raise ViewError(f"{column.element}.type", f"{declared} is declared, and the path gives {found.type}")
    items = found if column.collection else compiler.single(found, place.depth)
    make, dtype = structured(compiler, items, place.depth)
    if column.collection:
        several = dtype if found.many else dt.Array(dtype)
        make = _listed(make, several, many=found.many)
        dtype = several
    if place.padded:
        make = _null_on_padding(make, place, dtype)
    return RowSet({column.name: make}, {column.name: dtype})


def _listed(make: Make, dtype: dt.DataType, *, many: bool) -> Make:
    def listed_items(values: Values) -> ir.Value:
        made: Any = make(values)
        none = ibis.literal([], dtype)
        return ibis.coalesce(made, none) if many else ibis.ifelse(made.isnull(), none, ibis.array([made]))

    return listed_items


def _without_structures(found: Collection, depth: int) -> Collection:
    """Leave out objects and arrays that stand where a text belongs: they are read as their JSON text."""
    from_element = found.parent_element is not None and found.type in PRIMITIVES and not found.choice
    if found.choice or sql_type(found.type) != dt.string or found.type not in PRIMITIVES:
        return found
    if not from_element:
        return plain(found, depth)

    def make(values: Values) -> ir.Value:
        text: Any = found.make(values)
        if found.many:
            texts = map_items(text, Scope(depth), text_only)
            return filter_items(texts, Scope(depth), lambda item: item.notnull())
        return text_only(text)

    return replace(found, non_null=True, parent_element=None, make=make)


def _column_type(compiler: PathCompiler, column: Column, found: Collection) -> str:
    """Return the declared type if the path fits it, the type of the path if none is declared."""
    if found.choice:
        raise compiler.error(f"'{found.choice.name}' has a choice of types; write {found.choice.name}.ofType(TYPE)")
    if not found.type:
        return column.type or "string"
    if found.type not in PRIMITIVES:
        raise compiler.unsupported(f"a column of {found.type.replace('|', ' or ')}", "name its elements")
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


def _cast(found: Collection, dtype: dt.DataType) -> Make:
    if found.type and sql_type(found.type) == dtype:
        return found.make
    return lambda values: found.make(values).cast(dtype)


def _null_on_padding(make: Make, place: Place, dtype: dt.DataType) -> Make:
    return lambda values: ibis.ifelse(place.absent(values), ibis.null(dtype), make(values))


def _union(select: Select, place: Place) -> RowSet:
    """Compile the branches of a unionAll into one array of rows."""
    scope = Scope(place.depth + 1)
    # Rows of the branches stand in one array, so the names and types of the first hold for all.
    branches = [compile_select(branch, place) for branch in select.unions]
    row = branches[0].struct()
    for branch, rows in zip(select.unions, branches, strict=True):
        if rows.struct() != row:
            raise ViewError(branch.element, "the types of the columns differ from those of the union's first branch")

    def make(values: Values) -> ir.Value:
        first, *others = [rows_array(rows, values) for rows in branches]
        array = first.concat(*others) if others else first
        if not place.padded:
            return array
        return ibis.ifelse(place.absent(values), ibis.array([_struct(padding, row)]), array)

    indices = {column.name for column in select.unions[0].all_columns() if column.path.strip() == ROW_INDEX}
    padding = {name: ibis.literal(0, dtype) if name in indices else ibis.null(dtype) for name, dtype in row.items()}
    fields: dict[str, Make] = {name: _field(scope, name) for name in row.names}
    types = dict(row.items())
    return RowSet({}, types, (Unnest(make, scope, RowSet(fields, types)),))


def _field(scope: Scope, name: str) -> Make:
    return lambda values: values[scope][name]


def rows_array(rows: RowSet, values: Values) -> Any:
    """Return all rows of a row set as one array of structs, never null."""
    return _cross_join(rows.unnests, values, _made(rows, values), rows.struct(), nesting=0)


def _made(rows: RowSet, values: Values) -> dict[str, ir.Value]:
    return {name: make(values) for name, make in rows.columns.items()}


def _cross_join(
    unnests: Sequence[Unnest], values: Values, fields: Mapping[str, ir.Value], row: dt.Struct, nesting: int
) -> Any:
    """Return the cross join of iterations as an array of structs: a lambda for each iteration, flattened.

    `fields` are the columns made so far, `nesting` is the number of lambdas around.
    """
    if not unnests:
        return ibis.array([_struct(fields, row)])
    first, *others = unnests
    inner = (*first.rows.unnests, *others)

    def body(item: ir.Value) -> ir.Value:
        known = {**values, first.scope: item}
        made = {**fields, **_made(first.rows, known)}
        return _cross_join(inner, known, made, row, nesting + 1) if inner else _struct(made, row)

    rows = map_items(first.array(values), Scope(nesting, "row"), body)
    # Each inner iteration gives an array of rows for each item.
    rows = rows.flatten() if inner else rows
    return rows.fill_null(ibis.literal([], dt.Array(row)))


def _struct(fields: Mapping[str, ir.Value], row: dt.Struct) -> ir.StructValue:
    return ibis.struct({name: fields[name] for name in row.names}, type=row)
