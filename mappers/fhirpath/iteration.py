"""The items that a function goes through one by one (`where`, `select`, `all`), with `$this` and `$index`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhir_model.elements import PRIMITIVES
from mappers.fhirpath.arrays import ItemIndex, Make, Scope, Values, filter_items, map_items
from mappers.fhirpath.collection import Collection, drop_nulls
from mappers.fhirpath.items import Pairs, pairs
from mappers.fhirpath.language import Compiler
from mappers.fhirpath.syntax import Tree


@dataclass
class Paired:
    """Items with their siblings, `_given` of `given`, only if a path asks for the extensions of an item."""

    pairs: Callable[[], Pairs | None]
    found: Pairs | None = None

    @property
    def used(self) -> bool:
        return self.found is not None

    def sibling(self, pair: Make) -> Collection:
        """Return the sibling of an item; `pair` makes its struct."""
        self.found = self.found or self.pairs()
        assert self.found is not None  # noqa: S101
        return self.found.element(pair)

    def array(self, make: Make) -> Make:
        """Return what makes the array to go through."""
        return self.found.make if self.found else make


@dataclass(frozen=True)
class Iteration:
    """The items of `base`, and one of them as the focus of an expression that stands one lambda deeper."""

    base: Collection
    depth: int
    item_index: ItemIndex
    paired: Paired

    @classmethod
    def over(cls, compiler: Compiler, base: Collection, depth: int) -> Iteration:
        both = Paired(lambda: pairs(compiler, base, depth) if base.many else None)
        return cls(drop_nulls(base, depth), depth, ItemIndex(Scope(depth + 1)), both)

    @property
    def item(self) -> Collection:
        """Return the item, `$this`."""
        scope, many = self.item_index.scope, self.base.many
        item = self._item if many else lambda values: values[scope]
        index = self.item_index.index if many else lambda: lambda _values: ibis.literal(0, dt.int64)
        parent = None if many else self.base.parent_element
        beside = partial(self.paired.sibling, self.item_index.item) if many and self.base.parent_element else None
        one = replace(self.base, many=False, non_null=True, literal=None, parent_element=parent, make=item, index=index)
        return replace(one, null_items=False, sibling=beside or one.sibling)

    def _item(self, values: Values) -> ir.Value:
        item: Any = self.item_index.item(values)
        return item["item"] if self.paired.used else item

    def compile(self, compiler: Compiler, tree: Tree) -> Collection:
        """Compile an expression on the item."""
        return compiler.compile(tree, self.item, self.depth + 1)

    def filtered(self, holds: Make) -> Collection:
        """Return the items for which a condition on the item is true."""
        scope = self.item_index.scope

        def make(values: Values) -> ir.Value:
            if not self.base.many:
                made = self.base.make(values)
                return ibis.cases((_true(holds, {**values, scope: made}), made))
            kept = self._array(values, lambda known: _true(holds, known))
            # Numbered and paired items are structs, out of which they are taken again.
            for struct in (self.item_index.used, self.paired.used):
                kept = map_items(kept, scope, lambda item: item["item"]) if struct else kept
            return kept

        # Items without a value may be kept, and are no values for what comes after.
        # Whether items are paired is known only when all paths are compiled, so any primitive may have nulls.
        non_null = self.base.type not in PRIMITIVES
        return replace(self.base, non_null=non_null, parent_element=None, literal=None, make=make)

    def count_of(self, holds: Make) -> Make:
        """Return the number of items for which a condition on the item is true; a single item counts as one."""

        def make(values: Values) -> ir.Value:
            if self.base.many:
                return self._array(values, holds).length().fill_null(0)
            made = self.base.make(values)
            # A single item is a scalar, and is there if it is not null.
            return ibis.ifelse(made.notnull() & holds({**values, self.item_index.scope: made}), 1, 0)

        return make

    def projected(self, found: Collection) -> Collection:
        """Return the results of an expression for all items, one after the other."""
        scope = self.item_index.scope

        def make(values: Values) -> ir.Value:
            made = self.base.make(values)
            if not self.base.many:
                one = found.make({**values, scope: made})
                # A constant is not null on a null focus; without a focus there is nothing to project.
                return one if found.null_propagating else ibis.cases((made.notnull(), one))
            items = self.item_index.array(self.paired.array(self.base.make))(values)
            each: Any = map_items(items, scope, lambda item: found.make({**values, scope: item}))
            return each.flatten() if found.many else each

        many = self.base.many or found.many
        return replace(
            found,
            many=many,
            non_null=False,
            make=make,
            null_propagating=self.base.null_propagating,
            parent_element=None,
            literal=None,
        )

    def _array(self, values: Values, holds: Make) -> Any:
        scope = self.item_index.scope
        items = self.item_index.array(self.paired.array(self.base.make))(values)
        return filter_items(items, scope, lambda item: holds({**values, scope: item}))


def _true(holds: Make, values: Values) -> ir.Value:
    return holds(values).cast(dt.boolean)
