"""Functions of FHIRPath on collections: existence, filtering, subsetting, combining (N1, 5.1 to 5.4), and `iif`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import DATES, INTEGERS, PRIMITIVES
from mappers.fhirpath.arrays import Scope, Values, filter_items, length, map_items, negated, number_items, present
from mappers.fhirpath.collection import Collection, boolean, drop_nulls, kind, listed, sql_type
from mappers.fhirpath.items import listed_whole, whole_items
from mappers.fhirpath.iteration import Iteration
from mappers.fhirpath.language import Args, Compiler, Function, Implementation
from mappers.fhirpath.n1 import equality
from mappers.fhirpath.types import is_empty


def select(compiler: Compiler, base: Collection, args: Args, _focus: Collection, depth: int) -> Collection:
    """Return the results of the projection for all items, as one collection."""
    items = Iteration.over(compiler, base, depth)
    found = items.compile(compiler, args[0])
    if found.choice:
        raise compiler.error(f"'{found.choice.name}' has a choice of types; write {found.choice.name}.ofType(TYPE)")
    return items.projected(found)


def all_hold(compiler: Compiler, base: Collection, args: Args, _focus: Collection, depth: int) -> Collection:
    """Return whether the criterion is true for every item."""
    items = Iteration.over(compiler, base, depth)
    holds = compiler.condition(items.compile(compiler, args[0]), depth + 1)
    failing = items.count_of(lambda values: ibis.ifelse(holds.make(values), False, True))
    return boolean(lambda values: failing(values) == 0)


def counted(wanted: bool, holds: Callable[[Any], Any]) -> Implementation:
    """Return `allTrue` or one like it: whether `holds` is true of the number of items that are `wanted`."""

    def function(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
        if base.type not in ("boolean", ""):
            raise compiler.error(f"allTrue() and its like take booleans, not {base.type}")
        items, scope = listed(base, depth), Scope(depth, "boolean")

        def make(values: Values) -> ir.Value:
            same = filter_items(items.make(values), scope, lambda item: item.cast(dt.boolean) == ibis.literal(wanted))
            return holds(same.length())

        return boolean(make)

    return function


def last(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    """Return the last item."""
    if not base.many:
        return base
    items = whole_items(compiler, base, depth)

    def make(values: Values) -> ir.Value:
        made: Any = items.make(values)
        # The index -1 of no item is null on both engines.
        return made[length(made) - 1]

    return replace(base, many=False, null_items=False, parent_element=None, literal=None, make=make)


def single(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    """Return the one item; several end the run with an error that names the column."""
    return compiler.single(base, depth)


def tail(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    """Return all items but the first."""
    return _positions(compiler, base, depth, lambda index, _values: index > 0)


def skip(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return all items but the first few: all where the number is not positive, none where there is no number."""
    number = _number(compiler, "skip", args, focus, depth)
    return _positions(compiler, base, depth, lambda index, values: index >= number.make(values))


def take(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return the first few items; none where the number is not positive, or there is none."""
    number = _number(compiler, "take", args, focus, depth)
    return _positions(compiler, base, depth, lambda index, values: index < number.make(values))


def _number(compiler: Compiler, name: str, args: Args, focus: Collection, depth: int) -> Collection:
    found = compiler.single(compiler.compile(args[0], focus, depth), depth)
    if found.type not in INTEGERS:
        raise compiler.error(f"{name}() takes an integer, not {found.type or 'an empty collection'}")
    return found


def _positions(compiler: Compiler, base: Collection, depth: int, keep: Callable[[Any, Values], Any]) -> Collection:
    if not base.type:
        return base
    items, scope = listed_whole(compiler, base, depth), Scope(depth, "positioned")

    def make(values: Values) -> ir.Value:
        numbered = number_items(items.make(values), scope)
        kept = filter_items(numbered, scope, lambda item: keep(item["index"], values))
        return map_items(kept, scope, lambda item: item["item"])

    return replace(items, make=make)


def distinct(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    """Return the items without duplicates."""
    return equality.distinct(compiler, base, depth) if base.many else base


def is_distinct(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    """Return whether no two items are equal."""
    if not base.many or not base.type:
        return boolean(lambda _values: ibis.literal(True))
    items, unlike = listed(base, depth), equality.distinct(compiler, base, depth)
    return boolean(lambda values: items.make(values).length() == unlike.make(values).length())


def intersect(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return the items that are in both collections, each once."""
    others = compiler.compile(args[0], focus, depth)
    both = equality.kept_if_among(compiler, base, others, depth, among=True)
    return equality.distinct(compiler, both, depth)


def exclude(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return the items that are not in the other collection; order and duplicates stay."""
    others = compiler.compile(args[0], focus, depth)
    return equality.kept_if_among(compiler, base, others, depth, among=False)


def subset_of(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return whether every item is in the other collection."""
    return _subset(compiler, base, compiler.compile(args[0], focus, depth), depth)


def superset_of(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return whether every item of the other collection is in this one."""
    return _subset(compiler, compiler.compile(args[0], focus, depth), base, depth)


def _subset(compiler: Compiler, base: Collection, others: Collection, depth: int) -> Collection:
    # A subset: nothing is left of it without the others.
    missing = equality.kept_if_among(compiler, base, others, depth, among=False)
    return boolean(lambda values: missing.make(values).length() == 0)


def union(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return the items of both collections, each once."""
    return united(compiler, "|", base, compiler.compile(args[0], focus, depth), depth)


def united(compiler: Compiler, _operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """Return `left | right`."""
    return equality.distinct(compiler, _combined(compiler, "'|'", left, right, depth), depth)


def combine(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return the items of both collections, with duplicates."""
    return _combined(compiler, "combine()", base, compiler.compile(args[0], focus, depth), depth)


def _combined(compiler: Compiler, what: str, left: Collection, right: Collection, depth: int) -> Collection:
    if not left.type or not right.type:
        return listed(left if left.type else right, depth)
    one, other = (listed(side, depth) for side in _alike(compiler, what, left, right, depth))
    return replace(one, make=lambda values: one.make(values).concat(other.make(values)), null_propagating=False)


def iif(compiler: Compiler, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
    """Return the second argument where the criterion is true, else the third, or nothing.

    On a collection, `$this` is its one item.
    """
    # `iif(...)` at the start of a path is about the focus, `x.iif(...)` about the one item of x.
    this = focus if base is focus else compiler.single(base, depth)
    test = compiler.condition(compiler.compile(args[0], this, depth), depth)
    chosen = compiler.compile(args[1], this, depth)
    other = compiler.compile(args[2], this, depth) if len(args) > 2 else None
    # SQL needs branches of one type; of an absent branch only the condition is left.
    if other is None or not other.type:
        return _where_true(test, chosen, depth)
    if not chosen.type:
        return _where_true(
            replace(test, make=lambda values: ibis.ifelse(_holds(test, values), False, True)), other, depth
        )
    one, two = _alike(compiler, "iif()", chosen, other, depth)
    if one.many or two.many:
        one, two = listed(one, depth), listed(two, depth)
    return replace(
        one,
        make=lambda values: ibis.ifelse(_holds(test, values), one.make(values), two.make(values)),
        parent_element=None,
        literal=None,
        null_propagating=False,
    )


def _where_true(test: Collection, found: Collection, depth: int) -> Collection:
    if not found.type:
        return found
    if found.many:
        items = listed(found, depth)
        return replace(
            items,
            make=lambda values: ibis.ifelse(
                _holds(test, values), items.make(values), ibis.literal([], items.make(values).type())
            ),
        )
    return replace(
        found,
        parent_element=None,
        literal=None,
        make=lambda values: ibis.cases((_holds(test, values), found.make(values))),
    )


def _holds(test: Collection, values: Values) -> Any:
    return test.make(values).cast(dt.boolean).fill_null(False)


def _alike(
    compiler: Compiler, what: str, left: Collection, right: Collection, depth: int
) -> tuple[Collection, Collection]:
    """Convert two collections to one type.

    Raises:
        ViewError: their types do not go together.
    """
    for side in (left, right):
        if side.choice:
            raise compiler.error(f"{what} on '{side.choice.name}', which has a choice of types; add ofType(TYPE)")
    if {left.type, right.type} <= PRIMITIVES:
        # integer and decimal become decimal; texts of several types become string
        name = _common(left.type, right.type)
        if name is None:
            raise compiler.error(f"{what} puts {left.type} and {right.type} together")
        return _as(left, name, depth), _as(right, name, depth)
    # Complex items of two elements have structs of different fields, which one array cannot hold.
    same_shape = left.shape is right.shape and left.shape is not None
    if left.type == right.type and (same_shape or (left.computed and right.computed)):
        return left, right
    raise compiler.unsupported(f"{what} on {left.type} and {right.type} of different elements")


def _common(one: str, other: str) -> str | None:
    kinds = {kind(one), kind(other)}
    if one == other:
        return one
    if kinds == {"number"}:
        return "decimal" if "decimal" in (one, other) else "integer"
    if kinds == {"text"}:
        return "string"
    return "dateTime" if kinds <= DATES else None


def _as(found: Collection, name: str, depth: int) -> Collection:
    dtype = sql_type(name)
    if sql_type(found.type) == dtype:
        return replace(found, type=name)
    made = found.each(Scope(depth, "cast"), lambda item: item.cast(dtype))
    return replace(found, type=name, parent_element=None, literal=None, make=made)


def trace(_compiler: Compiler, base: Collection, _args: Args, _focus: Collection, _depth: int) -> Collection:
    """Return the collection as it is; nothing is written, because a log must not hold data of patients."""
    return base


def count(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    """Return the number of items, those without a value too."""
    if base.many:
        items = whole_items(compiler, base, depth)
        return Collection("integer", False, lambda values: length(items.make(values)))
    nothing = is_empty(compiler, base, depth)
    return Collection("integer", False, lambda values: negated(nothing(values)).cast(dt.int64))


def has_value(_compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    """Return whether there is one item, and it is a primitive with a value (FHIR R4, "Using FHIRPath with FHIR")."""
    if base.type not in PRIMITIVES:
        return boolean(lambda _values: ibis.literal(False))
    non_null = drop_nulls(base, depth)
    if base.many:
        return boolean(lambda values: length(non_null.make(values)) == 1)
    return boolean(lambda values: present(base.make(values)))


def get_value(compiler: Compiler, base: Collection, _args: Args, _focus: Collection, depth: int) -> Collection:
    """Return the value of the one item; nothing where there are several.

    Raises:
        ViewError: the items are no primitives.
    """
    if base.type not in PRIMITIVES | {""}:
        raise compiler.error(f"getValue() takes a primitive, not {base.type}")
    if not base.many:
        return base
    non_null = drop_nulls(base, depth)

    def make(values: Values) -> ir.Value:
        made: Any = non_null.make(values)
        return ibis.cases((length(made) == 1, made[0]))

    return replace(base, many=False, parent_element=None, make=make)


COLLECTIONS: dict[str, Function] = {
    "select": Function(select, 1, 1),
    "all": Function(all_hold, 1, 1),
    # True of no items: nothing contradicts.
    "allTrue": Function(counted(False, lambda others: others == 0)),
    "allFalse": Function(counted(True, lambda others: others == 0)),
    "anyTrue": Function(counted(True, lambda found: found > 0)),
    "anyFalse": Function(counted(False, lambda found: found > 0)),
    "count": Function(count),
    "hasValue": Function(has_value),
    "getValue": Function(get_value),
    "distinct": Function(distinct),
    "isDistinct": Function(is_distinct),
    "subsetOf": Function(subset_of, 1, 1),
    "supersetOf": Function(superset_of, 1, 1),
    "last": Function(last),
    "tail": Function(tail),
    "skip": Function(skip, 1, 1),
    "take": Function(take, 1, 1),
    "single": Function(single),
    "intersect": Function(intersect, 1, 1),
    "exclude": Function(exclude, 1, 1),
    "union": Function(union, 1, 1),
    "combine": Function(combine, 1, 1),
    "iif": Function(iif, 2, 3),
    "trace": Function(trace, 1, 2),
}
