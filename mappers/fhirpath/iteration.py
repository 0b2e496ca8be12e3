"""What a function of FHIRPath goes through, item by item: `where`, `select`, `all`, with `$this` and `$index`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.fhirpath.collection import (
    Collection,
    Make,
    Numbering,
    Scope,
    Sifted,
    Values,
    densify,
    filter_items,
    map_items,
)
from mappers.fhirpath.syntax import Tree

if TYPE_CHECKING:
    from mappers.fhirpath.compiler import Compiler


@dataclass(frozen=True)
class Iteration:
    """The items of `base`, and one of them as the focus of an expression that stands one lambda deeper."""

    base: Collection
    depth: int
    numbering: Numbering

    @classmethod
    def over(cls, base: Collection, depth: int) -> Iteration:
        return cls(densify(base, depth), depth, Numbering(Scope(depth + 1)))

    @property
    def item(self) -> Collection:
        """The item, `$this`."""
        item = self.numbering.item if self.base.many else self._only
        index = self.numbering.index if self.base.many else _first
        home = None if self.base.many else self.base.home  # the extensions of one item are not told from those of all
        return replace(self.base, many=False, dense=True, literal=None, home=home, make=item, index=index)

    def compile(self, compiler: Compiler, tree: Tree) -> Collection:
        """An expression on the item."""
        return compiler.compile(tree, self.item, self.depth + 1)

    def filtered(self, holds: Make) -> Collection:
        """The items for which a condition on the item is true."""
        scope = self.numbering.scope
        if self.base.many and not self.numbering.used:
            sifted = Sifted.of(self.base.make, scope).where(scope, lambda values: _true(holds, values))
            return replace(self.base, home=None, literal=None, make=sifted)

        def make(values: Values) -> ir.Value:
            if not self.base.many:
                made = self.base.make(values)
                return ibis.cases((_true(holds, {**values, scope: made}), made))
            kept = self._array(values, lambda known: _true(holds, known))
            return map_items(kept, scope, lambda item: item["item"])

        return replace(self.base, home=None, literal=None, make=make)

    def count_of(self, holds: Make) -> Make:
        """How many items there are for which a condition on the item is true; a single item counts as one."""

        def make(values: Values) -> ir.Value:
            if self.base.many:
                return self._array(values, holds).length().fill_null(0)
            made = self.base.make(values)
            return ibis.ifelse(made.notnull() & holds({**values, self.numbering.scope: made}), 1, 0)

        return make

    def projected(self, found: Collection) -> Collection:
        """What an expression gives for each item, one after the other."""
        scope = self.numbering.scope

        def make(values: Values) -> ir.Value:
            made = self.base.make(values)
            if not self.base.many:
                one = found.make({**values, scope: made})
                return one if found.navigates else ibis.cases((made.notnull(), one))
            items = self.numbering.array(self.base.make)(values)
            each: Any = map_items(items, scope, lambda item: found.make({**values, scope: item}))
            return each.flatten() if found.many else each

        many = self.base.many or found.many
        return replace(found, many=many, dense=False, make=make, navigates=self.base.navigates, home=None, literal=None)

    def _array(self, values: Values, holds: Make) -> Any:
        scope = self.numbering.scope
        items = self.numbering.array(self.base.make)(values)
        return filter_items(items, scope, lambda item: holds({**values, scope: item}))

    def _only(self, values: Values) -> ir.Value:
        return values[self.numbering.scope]


def _true(holds: Make, values: Values) -> ir.Value:
    return holds(values).cast(dt.boolean)


def _first() -> Make:
    return lambda _values: ibis.literal(0, dt.int64)
