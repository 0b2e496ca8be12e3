"""`repeat`: the items that paths lead to, those that the paths lead to from there, and so on to any depth.

The type of such a tree has no end, so the elements that the paths descend into are read as JSON text and
each item is parsed when it is reached. All that is one fold in the row: a step replaces every item that is
new by itself followed by what its paths lead to, path by path. So the items come depth first, a parent before
its children, as the specification's algorithm gives them. There are as many steps as objects in objects,
which no traversal can exceed, because each path descends.
Source: https://sql-on-fhir.org, ViewDefinition.select.repeat
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.errors import UnsupportedError
from mappers.fhir_model.elements import PRIMITIVES, Choice, is_element, is_type
from mappers.fhir_model.shape import Shape, object_from_json
from mappers.fhirpath.arrays import Make, Scope, Values, filter_items, map_items
from mappers.fhirpath.collection import Collection
from mappers.fhirpath.compiler import PathCompiler
from mappers.fhirpath.operations import fold
from mappers.fhirpath.syntax import Binary, Call, Indexer, Member, Tree, Variable

STRING = r'"(\\.|[^"\\])*"'  # in JSON


@dataclass(frozen=True)
class Texts:
    """Objects that a path leads to, as an array of their JSON texts; never null, without nulls."""

    type: str
    shape: Shape
    make: Make


def repeated(compiler: PathCompiler, paths: Sequence[str], focus: Collection, depth: int) -> Collection:
    """Return the items of a `repeat` as an array without nulls; the compiler is that of the `repeat` as a whole.

    A path may name an element that a type on the way does not have: it leads nowhere from there.

    Raises:
        ViewError: a path that does not descend, or leads to what has no elements.
    """

    steps = [_Path.of(compiler, number, path) for number, path in enumerate(paths)]
    types = _types(steps, focus)
    # No path leads anywhere from this type: no items, of no type.
    if not types:
        none = ibis.literal([], dt.Array(dt.string))
        return Collection("", True, lambda _values: none, null_propagating=True)
    scope = Scope(depth, "node")
    node, below = Shape(), Shape()
    inner = Collection("|".join(types), False, lambda values: values[scope], below, null_propagating=True)
    roots, children = _all(steps, focus, depth), _all(steps, inner, depth + 1)
    return replace(inner, many=True, shape=node, make=_traversal(roots, children, node, below, scope))


@dataclass(frozen=True)
class _Path:
    """One path of a `repeat`."""

    compiler: PathCompiler
    tree: Tree

    @classmethod
    def of(cls, whole: PathCompiler, number: int, text: str) -> _Path:
        """Return the path, in which items have no position: the traversal is not done yet."""
        element = f"{whole.element}[{number}]"

        def refuse() -> Make:
            raise UnsupportedError(element, "%rowIndex in a path of repeat is not supported")

        compiler = replace(whole, element=element, row_index=refuse, resource_ref=None)
        return cls(compiler, compiler.parse(text))

    def texts(self, tree: Tree, focus: Collection, depth: int) -> Texts | None:
        """Return what a tree leads to from `focus`; None where R4 has no such element."""
        match tree:
            case Member(base, name) if base is not None or name != focus.type:
                parent = self._parent(base, focus, depth)
                return None if parent is None else self._descend(parent, name, depth)
            case Call(base, "where", (criterion,)) if base is not None:
                return self._where(self.texts(base, focus, depth), criterion, depth)
            case Call(base, "extension", (url,)):
                extensions = self.texts(Member(base, "extension"), focus, depth)
                return self._where(extensions, Binary("=", Member(None, "url"), url), depth)
            case Call(base, "first", ()) if base is not None:
                return _at(self.texts(base, focus, depth), 0)
            case Indexer(base, index):
                return self._at(self.texts(base, focus, depth), index, focus, depth)
            case _:
                raise self.compiler.unsupported(
                    "a path of repeat other than elements with where(), extension(), first() or an index"
                )

    def _parent(self, tree: Tree | None, focus: Collection, depth: int) -> Collection | None:
        match tree:
            case None | Variable("$this"):
                return focus
            case Member(None, name) if name == focus.type:
                return focus
            case Member(base, name):
                parent = self._parent(base, focus, depth)
                if parent is None or not (parent.choice or self._has(parent.type, name)):
                    return None
                return self.compiler.member(parent, name, depth)
            case Call(base, name, args):
                parent = self._parent(base, focus, depth)
                return None if parent is None else self.compiler.call(name, parent, args, focus, depth)
            case Indexer(base, index):
                parent = self._parent(base, focus, depth)
                position = self.compiler.compile(index, focus, depth)
                return None if parent is None else self.compiler.item(parent, position, depth)
            case _:
                return self.compiler.compile(tree, focus, depth)

    def _descend(self, parent: Collection, name: str, depth: int) -> Texts | None:
        """Take the last step of a path."""
        if not (parent.choice or self._has(parent.type, name)):
            return None
        found = parent.choice or self.compiler.element_of(parent.type, name)
        if found is None or isinstance(found, Choice):
            raise self.compiler.unsupported("a choice of types as the end of a path of repeat")
        # A path must go down, or the traversal would not end.
        if found.type in PRIMITIVES:
            raise self.compiler.error(f"'{name}' is a {found.type}, which has nothing to descend into; use forEach")
        if found.type == "Resource" or parent.shape is None:
            raise self.compiler.unsupported(f"repeat over '{name}', a resource in a resource,")
        # A type inside itself has no finite shape, so the items stay JSON text until they are reached.
        shape = parent.shape.touch_text(name, many=found.many)

        def make(values: Values) -> ir.Value:
            made: Any = parent.make(values)
            if parent.many:
                made = map_items(made, Scope(depth), lambda item: item[name])
                made = made.flatten() if found.many else made
            else:
                made = made[name] if found.many else ibis.array([made[name]])
            return _objects(made, depth)

        return Texts(found.type, shape, make)

    def _has(self, type_name: str, name: str) -> bool:
        """Return whether the type has the element; a name that is nowhere in R4 is a mistake."""
        if not (is_element(name) or is_type(name)):
            raise self.compiler.error(f"R4 has no element '{name}'")
        return self.compiler.element_of(type_name, name) is not None

    def _where(self, texts: Texts | None, criterion: Tree, depth: int) -> Texts | None:
        if texts is None:
            return None
        scope = Scope(depth + 1)
        # The criterion sees the item read from its text, with the shape of its own elements.
        item = Collection(
            texts.type,
            False,
            lambda values: object_from_json(values[scope], texts.shape),
            texts.shape,
            null_propagating=True,
        )
        holds = self.compiler.condition(self.compiler.compile(criterion, item, depth + 1), depth + 1)

        def make(values: Values) -> ir.Value:
            return filter_items(
                texts.make(values), scope, lambda text: holds.make({**values, scope: text}).cast(dt.boolean)
            )

        return replace(texts, make=make)

    def _at(self, texts: Texts | None, index: Tree, focus: Collection, depth: int) -> Texts | None:
        position = self.compiler.compile(index, focus, depth)
        if position.type != "integer" or position.literal is None or position.literal.startswith("-"):
            raise self.compiler.unsupported("an index that is not a natural number")
        return _at(texts, int(position.literal))


def _at(texts: Texts | None, position: int) -> Texts | None:
    if texts is None:
        return None
    return replace(texts, make=lambda values: texts.make(values)[position : position + 1])


def _types(paths: Sequence[_Path], focus: Collection) -> list[str]:
    """Return the types that the paths reach, in the order of reaching them."""
    reached: list[str] = []
    waiting = [focus.type]
    while waiting:
        # A shape to throw away: only the types are wanted here.
        scratch = replace(focus, type=waiting.pop(0), shape=Shape())
        for texts in _all(paths, scratch, depth=0):
            if texts.type not in reached:
                reached.append(texts.type)
                waiting.append(texts.type)
    return reached


def _all(paths: Sequence[_Path], focus: Collection, depth: int) -> list[Texts]:
    if not focus.type:
        return []
    return [texts for path in paths if (texts := path.texts(path.tree, focus, depth)) is not None]


def _objects(texts: Any, depth: int) -> ir.Value:
    """Return the texts that are objects; an empty array for null."""
    non_null = filter_items(texts, Scope(depth), lambda text: text.startswith("{"))
    return non_null.fill_null(ibis.literal([], dt.Array(dt.string)))


def _traversal(roots: Sequence[Texts], children: Sequence[Texts], node: Shape, below: Shape, scope: Scope) -> Make:
    """Return the fold that visits all items.

    `node` is the shape of what is read of an item, `below` that of what the paths need. Only `node` is carried.
    """
    found = Scope(scope.depth, "found")

    def step(items: Any, values: Values) -> Any:
        def expand(one: Any) -> ir.Value:
            text = one["text"]
            # An item is a text until its turn comes; then it is replaced by itself, read, and the texts below it.
            itself = ibis.array([_item(object_from_json(text, node), ibis.null(dt.string))])
            parsed = ibis.array([object_from_json(text, below)])
            lower = map_items(parsed, scope, lambda item: waiting(children, {**values, scope: item}))
            return ibis.ifelse(text.isnull(), ibis.array([one]), _together(itself, lower.flatten()))

        return map_items(items, found, expand).flatten()

    def waiting(texts: Sequence[Texts], values: Values) -> Any:
        joined = _joined(texts, values)
        return map_items(joined, Scope(scope.depth, "text"), lambda text: _item(ibis.null(node.dtype()), text))

    def make(values: Values) -> ir.Value:
        texts = _joined(roots, values)
        if not children:
            return map_items(texts, found, lambda text: object_from_json(text, node))
        # Each step goes one level down, so the nesting of the JSON bounds the number of steps.
        steps = ibis.range(0, _nesting(texts.join(","), scope.depth))
        start = waiting(roots, values)
        items = fold(steps, start, Scope(scope.depth, "step"), lambda items, _number: step(items, values))
        return map_items(items, found, lambda one: one["item"])

    return make


def _item(item: ir.Value, text: ir.Value) -> ir.Value:
    # One type for both states: either the item is null or its text.
    return ibis.struct({"item": item, "text": text})


def _joined(texts: Sequence[Texts], values: Values) -> Any:
    return _together(*(one.make(values) for one in texts))


def _together(*arrays: ir.Value) -> ir.Value:
    """Put arrays that are never null together."""
    # By the engine's own function: Ibis writes `concat` with each array twice, to look for a null first, and DuckDB 2.0
    # mixes up the items of `flatten([a, b])` inside a fold.
    joined, *others = arrays
    for other in others:
        dtype = joined.type()
        concat = ibis.udf.scalar.builtin(name="list_concat", signature=((dtype, dtype), dtype))(_list_concat)
        joined = concat(joined, other.cast(dtype))
    return joined


def _list_concat(one: Any, other: Any) -> Any: ...


def _nesting(json: Any, depth: int) -> Any:
    """Return how deep objects are in objects in a JSON text; 0 for null."""
    # Without strings and everything else but braces, each piece before a "}" is a run of "{" that open.
    closings = json.re_replace(STRING, "").re_replace(r"[^{}]+", "").split("}")
    start = ibis.struct({"depth": ibis.literal(0, dt.int64), "deepest": ibis.literal(0, dt.int64)})

    def step(made: Any, openings: Any) -> ir.Value:
        depth_here = made["depth"] + openings.length()
        return ibis.struct({"depth": depth_here - 1, "deepest": ibis.greatest(made["deepest"], depth_here)})

    return fold(closings, start, Scope(depth, "brace"), step)["deepest"].fill_null(0)
