"""Equality of items and of collections: `=` on any type, `~` on primitives, membership, distinct items.

Complex items are equal where all their elements are (FHIRPath N1, 6.1.1). All elements of the type are read for that;
extensions, and types inside themselves, whose depth has no end, are compared as the JSON that they are written in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import PRIMITIVES, Choice, Element, is_resource
from mappers.fhir_model.shape import DECIMAL, unmarked
from mappers.fhirpath import comparison
from mappers.fhirpath.arrays import Make, Scope, Values, bind, filter_items, map_items, negated, number_items
from mappers.fhirpath.collection import Collection, boolean, kind, listed, sql_type
from mappers.fhirpath.language import Comparator, Compiler, Operator
from mappers.fhirpath.n1 import quantities
from mappers.fhirpath.n1.decimals import text_of
from mappers.fhirpath.operations import decimal, forced

UNBOUND = frozenset({"Extension", "Resource"})


def item_comparator(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Comparator:
    """Return the comparison of two items, of whatever type; null where it is open.

    Raises:
        ViewError: the types do not compare.
    """
    comparison.reject_choice(compiler, operator, left, right)
    # A Quantity also compares with a plain number, whose unit is 1.
    if left.type and right.type and any(quantities.is_quantity(side) for side in (left, right)):
        return quantities.comparator(compiler, operator, left, right)
    if {left.type, right.type} <= PRIMITIVES | {""}:
        return comparison.comparator(compiler, operator, left, right)
    if not left.type or not right.type:
        return lambda _one, _other: ibis.null(dt.boolean)
    return _complex(compiler, operator, left, right, depth)


def compare(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """Return whether items of any type are equal, or in order. `=` and `!=` also take several items on a side."""
    if {left.type, right.type} <= PRIMITIVES | {""}:
        return comparison.compare_primitives(compiler, operator, left, right, depth)
    if operator in ("=", "!=") and (left.many or right.many):
        equal = _equal_collections(compiler, left, right, depth)
        return boolean(equal if operator == "=" else lambda values: negated(equal(values)))
    compare_items = item_comparator(compiler, operator, left, right, depth)
    return comparison.compare_single(compiler, compare_items, left, right, depth)


def _equal_collections(compiler: Compiler, left: Collection, right: Collection, depth: int) -> Make:
    """Return whether complex items are as many and equal in order; null where either is empty."""
    compare = item_comparator(compiler, "=", left, right, depth)
    one, other = listed(left, depth), listed(right, depth)
    scope, pairs = Scope(depth, "sides"), Scope(depth, "each")

    def same(sides: Any) -> ir.Value:
        zipped = sides["one"].zip(sides["other"])
        unlike = filter_items(zipped, pairs, lambda pair: negated(compare(pair["f1"], pair["f2"]).fill_null(True)))
        like = filter_items(zipped, pairs, lambda pair: compare(pair["f1"], pair["f2"]))
        one_size, other_size = sides["one"].length(), sides["other"].length()
        return ibis.cases(
            ((one_size == 0) | (other_size == 0), ibis.null(dt.boolean)),
            (one_size != other_size, ibis.literal(False)),
            (like.length() == one_size, ibis.literal(True)),
            (unlike.length() > 0, ibis.literal(False)),
        )

    return lambda values: bind(ibis.struct({"one": one.make(values), "other": other.make(values)}), scope, same)


def membership(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """Return `item in items` or `items contains item`; null where there is no item."""
    items, wanted = (left, right) if operator == "contains" else (right, left)
    if not items.type or not wanted.type:
        none = compiler.single(wanted, depth)
        return boolean(lambda values: ibis.cases((none.make(values).notnull(), ibis.literal(False))))
    many, one = listed(items, depth), compiler.single(wanted, depth)
    compare = item_comparator(compiler, "=", many, one, depth)
    bound, scope = Scope(depth, "wanted"), Scope(depth, "among")

    def make(values: Values) -> ir.Value:
        array = many.make(values)

        def among(found: Any) -> ir.Value:
            same = filter_items(array, scope, lambda item: compare(item, found))
            return ibis.cases((found.notnull(), same.length().fill_null(0) > 0))

        return bind(one.make(values), bound, among)

    return boolean(make)


def kept_if_among(compiler: Compiler, base: Collection, others: Collection, depth: int, *, among: bool) -> Collection:
    """Return the items of `base` that are among `others`, or that are not."""
    base, others = listed(base, depth), listed(others, depth)
    if not base.type or not others.type:
        none = Scope(depth, "none")
        # Filtered, because Spark takes the type of an empty array from what was in it.
        return replace(
            base,
            make=lambda values: (
                filter_items(base.make(values), none, lambda item: item.isnull()) if among else base.make(values)
            ),
        )
    compare = item_comparator(compiler, "=", base, others, depth)
    outer, inner, bound = Scope(depth, "item"), Scope(depth, "among"), Scope(depth, "wanted")
    found_by_sql = _equal_in_sql(base, others)

    def kept(items: Any, wanted: Any) -> ir.Value:
        def keep(item: Any) -> ir.Value:
            if found_by_sql:
                return wanted.contains(item) == ibis.literal(among)
            same = filter_items(wanted, inner, lambda other: compare(item, other)).length().fill_null(0)
            return same > 0 if among else same == 0

        return filter_items(items, outer, keep)

    def make(values: Values) -> ir.Value:
        return bind(others.make(values), bound, lambda wanted: kept(base.make(values), wanted))

    return replace(base, make=make)


def _equal_in_sql(left: Collection, right: Collection) -> bool:
    """Return whether SQL finds equal items as FHIRPath does; a lambda for each pair takes minutes for thousands."""
    alike = kind(left.type) == kind(right.type) and sql_type(left.type) == sql_type(right.type)
    return alike and kind(left.type) in comparison.DECIDED


def distinct(compiler: Compiler, found: Collection, depth: int) -> Collection:
    """Return the items without those equal to an earlier one; order is kept, which FHIRPath leaves open."""
    base = listed(found, depth)
    if not base.type:
        return base
    compare = item_comparator(compiler, "=", base, base, depth)
    numbered, outer, inner = Scope(depth, "numbered"), Scope(depth, "later"), Scope(depth, "earlier")
    found_by_sql = _equal_in_sql(base, base)

    def without_later(plain: Any) -> ir.Value:
        # An item is kept if no earlier one equals it; SQL's own distinct knows no FHIRPath equality, nor order.
        items = number_items(plain, numbered)

        def is_first(one: Any) -> ir.Value:
            if found_by_sql:
                return plain.index(one["item"]) == one["index"]
            same = filter_items(
                items, inner, lambda other: (other["index"] < one["index"]) & compare(other["item"], one["item"])
            )
            return same.length().fill_null(0) == 0

        return map_items(filter_items(items, outer, is_first), outer, lambda first: first["item"])

    bound = Scope(depth, "bound")
    return replace(base, make=lambda values: bind(base.make(values), bound, without_later))


def equivalence(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
    """Return `left ~ right` or `left !~ right` (FHIRPath N1, 6.1.2), which are never null."""
    same = _equivalent(compiler, left, right, depth)
    return boolean(same if operator == "~" else lambda values: negated(same(values)))


def _equivalent(compiler: Compiler, left: Collection, right: Collection, depth: int) -> Make:
    """Return whether collections are equivalent: the order of items and the case of texts do not matter."""
    for side in (left, right):
        if side.choice or side.type not in PRIMITIVES | {""} or side.type == "xhtml":
            raise compiler.unsupported(f"'~' on {side.choice.name if side.choice else side.type}")
    if not left.type or not right.type:
        one, other = listed(left, depth), listed(right, depth)
        return lambda values: (one.make(values).length() == 0) & (other.make(values).length() == 0)
    one, other = listed(left, depth), listed(right, depth)
    outer, inner = Scope(depth, "equivalent"), Scope(depth, "counted")

    if {kind(left.type), kind(right.type)} == {"text"}:
        # Equivalence of strings: without regard to case and white space. In order, because pairs take minutes.
        def in_order(items: Any) -> Any:
            return map_items(items, outer, _plain).sort()

        return lambda values: in_order(one.make(values)) == in_order(other.make(values))
    compare = _equivalence(compiler, left, right)

    def count(array: Any, item: Any) -> Any:
        return filter_items(array, inner, lambda each: compare(each, item)).length().fill_null(0)

    def make(values: Values) -> ir.Value:
        first, second = one.make(values), other.make(values)
        # Bags are equal where every item occurs as often on both sides.
        unlike = filter_items(first, outer, lambda item: count(first, item) != count(second, item))
        return (first.length() == second.length()) & (unlike.length() == 0)

    return make


def _equivalence(compiler: Compiler, left: Collection, right: Collection) -> Comparator:
    kinds = {kind(left.type), kind(right.type)}
    if kinds == {"number"} and "decimal" in (left.type, right.type):
        return _rounded_equal
    compare = comparison.comparator(compiler, "=", left, right)
    return lambda one, other: compare(one, other).fill_null(False)


def _plain(text: Any) -> Any:
    """Return a text in lower case, each stretch of white space as one blank."""
    return unmarked(text).lower().re_replace(r"\s+", " ").strip()


def _rounded_equal(one: Any, other: Any) -> ir.Value:
    """Compare rounded to the decimal places of the less precise; trailing zeros do not count."""
    one, other = forced(one, DECIMAL), forced(other, DECIMAL)
    places = ibis.least(*(text_of(side).re_extract(r"\.([0-9]+)$", 1).length() for side in (one, other)))
    half = forced(ibis.literal("0.").concat(ibis.literal("0").repeat(places), "5"), DECIMAL)
    unit = half + half
    away = [ibis.ifelse(side < 0, side - half, side + half) for side in (one, other)]
    rounded = [forced(side - forced(side % unit, DECIMAL), DECIMAL) for side in away]
    return ibis.ifelse(places >= 18, one == other, rounded[0] == rounded[1]) & (unit > decimal(0))


def _complex(compiler: Compiler, operator: str, left: Collection, right: Collection, depth: int) -> Comparator:
    if operator not in ("=", "!="):
        raise compiler.error(f"'{operator}' does not order {left.type} and {right.type}")
    if left.type != right.type:
        raise compiler.error(f"'{operator}' compares {left.type} with {right.type}")
    if "|" in left.type or left.type in UNBOUND or is_resource(left.type) or left.shape is None or right.shape is None:
        raise compiler.unsupported(f"'{operator}' on {left.type}")
    same = _same_item(compiler, left, right, depth, frozenset({left.type}))
    return (lambda one, other: negated(same(one, other))) if operator == "!=" else same


def _same_item(compiler: Compiler, left: Collection, right: Collection, depth: int, seen: frozenset[str]) -> Comparator:
    """Return whether two objects of one type have the same elements; null where either is null."""
    scope = Scope(depth, "pair")

    def side(of: Collection, name: str) -> Collection:
        return Collection(of.type, False, lambda values: values[scope][name], of.shape, null_propagating=True)

    one, other = side(left, "f1"), side(right, "f2")
    elements = [
        _same_element(compiler, one, other, element, depth + 1, seen) for element in _elements(compiler, left.type)
    ]

    def compare(first: ir.Value, second: ir.Value) -> ir.Value:
        def all_same(pair: Any) -> ir.Value:
            known = {scope: pair}
            # Null for a null item, as for primitives.
            both = pair["f1"].notnull() & pair["f2"].notnull()
            return ibis.cases((both, ibis.and_(*(element(known) for element in elements))))

        return bind(ibis.struct({"f1": first, "f2": second}), scope, all_same)

    return compare


def _elements(compiler: Compiler, type_name: str) -> list[Element]:
    found: list[Element] = []
    for name in compiler.elements_of(type_name):
        element = compiler.element_of(type_name, name)
        if isinstance(element, Choice):
            found += element.options.values()
        elif element is not None:
            found.append(element)
    return found


def _same_element(
    compiler: Compiler, left: Collection, right: Collection, element: Element, depth: int, seen: frozenset[str]
) -> Make:
    """Return whether an element is the same in two objects; never null, and the same where both lack it."""
    # Extension and types inside themselves have no finite shape: their JSON text is compared.
    written = element.type in UNBOUND | seen
    sides = [_written(side, element) if written else compiler.step(side, element, depth) for side in (left, right)]
    # Recursion ends at UNBOUND types and at those that were seen on the way down.
    compare = _child_comparator(compiler, sides[0], sides[1], depth, seen)

    def same(one: Any, other: Any) -> ir.Value:
        # Never open: `identical_to` takes two nulls for equal.
        if kind(sides[0].type) in comparison.DECIDED:
            return ibis.ifelse(one.identical_to(other), True, False)  # Ibis 12 sets no parentheses around it
        return ibis.or_(one.isnull() & other.isnull(), compare(one, other).fill_null(False))

    if not element.many:
        return lambda values: same(sides[0].make(values), sides[1].make(values))

    arrays, pairs = Scope(depth, "arrays"), Scope(depth, "elements")

    def all_same(both: Any) -> ir.Value:
        unlike = filter_items(both["one"].zip(both["other"]), pairs, lambda pair: negated(same(pair["f1"], pair["f2"])))
        return (both["one"].length() == both["other"].length()) & (unlike.length() == 0)

    def make(values: Values) -> ir.Value:
        one, other = (ibis.coalesce(made, ibis.literal([], made.type())) for made in (s.make(values) for s in sides))
        return bind(ibis.struct({"one": one, "other": other}), arrays, all_same)

    return make


def _child_comparator(
    compiler: Compiler, left: Collection, right: Collection, depth: int, seen: frozenset[str]
) -> Callable[[Any, Any], Any]:
    if left.type in PRIMITIVES:
        return comparison.comparator(compiler, "=", left, right)
    return _same_item(compiler, left, right, depth + 1, seen | {left.type})


def _written(base: Collection, element: Element) -> Collection:
    """Return an element as the JSON that it is written in."""
    assert base.shape is not None  # noqa: S101
    base.shape.touch_text(element.name, many=element.many)
    name = element.name
    return Collection("string", element.many, lambda values: base.make(values)[name], null_propagating=True)


EQUALITY: dict[str, Operator] = {
    **dict.fromkeys(comparison.COMPARE, compare),
    "in": membership,
    "contains": membership,
    "~": equivalence,
    "!~": equivalence,
}
