"""FHIRPath syntax tree -> Ibis expression.

`Compiler.compile` resolves a tree against the type of its focus (an error names the element of the view) and
gives a `Collection`. Operators are here and in `mappers.fhirpath.comparison`, functions in
`mappers.fhirpath.functions`. Source: FHIRPath N1, https://hl7.org/fhirpath/N1/ and its subset in
https://sql-on-fhir.org
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import ibis
import ibis.expr.types as ir

from mappers.errors import UnsupportedError, ViewError
from mappers.fhir_model.elements import (
    INTEGERS,
    PRIMITIVES,
    AmbiguousElementError,
    Choice,
    Element,
    choice_of,
    element,
    is_resource,
)
from mappers.fhir_model.shape import Shape
from mappers.fhirpath import collections, comparison, equality, functions, math, quantities, types
from mappers.fhirpath.collection import (
    Collection,
    Make,
    Scope,
    Values,
    densify,
    item_at,
    kind,
    listed,
    navigate,
    negated,
    nth,
    sql_type,
)
from mappers.fhirpath.syntax import (
    Binary,
    Call,
    Constant,
    Empty,
    Indexer,
    Literal,
    Member,
    PathSyntaxError,
    Polarity,
    Quantity,
    Tree,
    TypeTest,
    Variable,
    parse,
)

LOGIC = frozenset({"and", "or", "xor", "implies"})
COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">="})
SYSTEMS = {"ucum": "http://unitsofmeasure.org", "sct": "http://snomed.info/sct", "loinc": "http://loinc.org"}
CANONICALS = {"vs-": "http://hl7.org/fhir/ValueSet/", "ext-": "http://hl7.org/fhir/StructureDefinition/"}
LARGEST = {"integer": 2**63, "decimal": 10**20}


@dataclass
class Anchor:
    """The resource of the view, `%resource`; what stands on an item keeps it at hand where a path asks for it."""

    resource: Collection
    used: bool = False

    def found(self) -> Collection:
        self.used = True
        return replace(self.resource, navigates=False)


@dataclass(frozen=True)
class Compiler:
    """Compiles one path of a view.

    `element` is its place, for errors; `constants` are those of the view; `row_index` gives what makes
    `%rowIndex`, the position in the innermost iteration, 0 outside of all; `anchor` is the resource of the view,
    `context` what the path is relative to.
    """

    element: str
    constants: Mapping[str, Literal]
    row_index: Callable[[], Make] | None = None
    anchor: Anchor | None = None
    context: Collection | None = None

    def error(self, problem: str) -> ViewError:
        return ViewError(self.element, problem)

    def unsupported(self, construct: str, why: str = "") -> UnsupportedError:
        return UnsupportedError(self.element, f"{construct} is not supported{': ' if why else ''}{why}")

    def path(self, text: str, focus: Collection, depth: int) -> Collection:
        """Compile a path, given as text.

        `focus` is the item that the path is relative to, `depth` the number of lambdas around it.

        Raises:
            ViewError: no FHIRPath, an unknown element, function or constant, or types that do not fit.
        """
        try:
            return replace(self, context=focus).compile(parse(text), focus, depth)
        except PathSyntaxError as error:
            raise self.error(str(error)) from error

    def compile(self, tree: Tree, focus: Collection, depth: int) -> Collection:
        """Compile a tree relative to `focus`."""
        match tree:
            case Literal():
                return self._literal(tree)
            case Empty():
                return empty()
            case Constant(name):
                return self._constant(name)
            case Variable("$this"):
                return focus
            case Variable("$index"):
                return self._index(focus)
            case Member(base, name):
                return self._member(base, name, focus, depth)
            case Call(base, name, args):
                return self._call(base, name, args, focus, depth)
            case Indexer(base, index):
                found = self.compile(base, focus, depth)
                return self.item(found, self.compile(index, focus, depth), depth)
            case Polarity("-", Quantity(value, unit, calendar)):
                return quantities.literal(Quantity(f"-{value}", unit, calendar))
            case Polarity(operator, operand):
                return self._signed(operator, self.compile(operand, focus, depth), depth)
            case TypeTest(operator, operand, name):
                found = self.compile(operand, focus, depth)
                return types.type_operator(self, operator, found, name, depth)
            case Binary(operator, left, right):
                return self._binary(operator, left, right, focus, depth)
            case Quantity():
                return quantities.literal(tree)
            case Variable(name):
                raise self.unsupported(name, "it is of aggregate()")

    def member(self, base: Collection, name: str, depth: int) -> Collection:
        """`base.name`"""
        if base.choice:
            return self.member(self._only_option(base, base.choice, name, depth), name, depth)
        if not base.type:
            return base
        if base.worked_out:
            return quantities.member(self, base, name, depth)
        if base.type == "Resource":
            raise self.error(f"a resource in a resource has no type yet; write ofType(TYPE).{name}")
        found = self.element_of(base.type, name)
        if found is None and base.home and base.type in PRIMITIVES:
            return self._of_primitive(base, name, depth)
        if found is None:
            written = choice_of(base.type, name)
            hint = f"; write {written}" if written else ""
            raise self.error(f"R4 has no element '{name}' in {base.type}{hint}")
        if isinstance(found, Choice):
            return replace(base, choice=found, home=None)
        return self.step(base, found, depth)

    def element_of(self, type_name: str, name: str) -> Element | Choice | None:
        """The element `name` of a type, or of several (`A|B`) that agree on it; None where R4 has none."""
        try:
            return element(type_name, name)
        except AmbiguousElementError as error:
            raise UnsupportedError(self.element, f"{error}, which is not supported") from error

    def step(self, base: Collection, chosen: Element, depth: int) -> Collection:
        """One step along a known element: touches the shape."""
        if base.shape is None:
            raise self.error(f"'{chosen.name}' is asked of a value that has no elements")
        if chosen.type in PRIMITIVES or chosen.type == "Resource":
            base.shape.touch_primitive(chosen.name, chosen.type, many=chosen.many)
            return navigate(base, chosen, None, depth)
        return navigate(base, chosen, base.shape.touch_complex(chosen.name, many=chosen.many), depth)

    def item(self, found: Collection, index: Collection, depth: int) -> Collection:
        """`found[index]`"""
        if index.type not in INTEGERS:
            raise self.error(f"an index is an integer, not {index.type or 'an empty collection'}")
        if index.literal is None:
            return self._item_at(found, self.single(index, depth), depth)
        position = int(index.literal)
        if position < 0:
            raise self.error(f"the index {position} is negative")
        if not found.many:
            return found if position == 0 else replace(empty(), type=found.type, shape=found.shape)
        dense = densify(found, depth)
        return replace(found, many=False, home=None, make=lambda values: nth(dense.make, values, position))

    def _item_at(self, found: Collection, index: Collection, depth: int) -> Collection:
        """An index that is worked out; nothing where it is negative or too large."""
        items = listed(found, depth)
        return replace(
            items,
            many=False,
            navigates=False,
            make=lambda values: item_at(items.make(values), index.make(values)),
        )

    def single(self, found: Collection, depth: int) -> Collection:
        """The one item of a collection; several end the run with a `CardinalityError`."""
        if not found.many:
            return found
        dense = densify(found, depth)
        return replace(
            found,
            many=False,
            home=None,
            make=lambda values: comparison.only(dense.make(values), self.element),
        )

    def condition(self, found: Collection, depth: int) -> Collection:
        """A collection as a condition: a boolean is itself, any other single item is true, none is empty."""
        one = self.single(found, depth)
        if one.type in ("boolean", "") and not one.choice:
            return replace(one, type="boolean")
        return boolean(lambda values: ibis.cases((one.make(values).notnull(), True)), navigates=one.navigates)

    def _constant(self, name: str) -> Collection:
        if name in self.constants:
            return self._literal(self.constants[name])
        if name == "rowIndex":
            make = self.row_index() if self.row_index else constant(Literal("integer", "0")).make
            return Collection("integer", False, make)
        if name == "context" and self.context is not None:
            return self.context
        if name in ("resource", "rootResource"):
            if self.anchor is None:
                raise self.unsupported(f"%{name} in a path of repeat, or on a resource inside a resource,")
            return self.anchor.found()
        url = _standard_url(name)
        if url is not None:
            return constant(Literal("string", url))
        known = ", ".join(f"%{known}" for known in self.constants) or "none"
        raise self.error(f"unknown constant %{name}; the view defines {known}")

    def _member(self, base: Tree | None, name: str, focus: Collection, depth: int) -> Collection:
        if base is not None:
            return self.member(self.compile(base, focus, depth), name, depth)
        names = {focus.type, "Resource", "DomainResource"} if is_resource(focus.type) else {focus.type}
        return focus if name in names and focus.shape is not None else self.member(focus, name, depth)

    def _only_option(self, base: Collection, choice: Choice, name: str, depth: int) -> Collection:
        """Of an element with a choice of types the one type that has the element `name`."""
        having = [option for option in choice.options.values() if element(option.type, name) is not None]
        if len(having) != 1:
            raise self.error(f"'{choice.name}' has a choice of types; write {choice.name}.ofType(TYPE).{name}")
        return self.step(replace(base, choice=None), having[0], depth)

    def _index(self, focus: Collection) -> Collection:
        if focus.index is None:
            raise self.error("$index stands in the argument of where(), select(), all() or exists() only")
        return Collection("integer", False, focus.index())

    def _literal(self, literal: Literal) -> Collection:
        if literal.type in LARGEST and abs(Decimal(literal.text)) >= LARGEST[literal.type]:
            raise self.error(f"the number {literal.text} is too large")
        return constant(literal)

    def _of_primitive(self, base: Collection, name: str, depth: int) -> Collection:
        """`birthDate.extension`: the id and extensions of a primitive stand in a sibling, `_birthDate`."""
        assert base.home is not None  # noqa: S101
        parent, own = base.home
        if name not in ("id", "extension"):
            raise self.error(f"a {base.type} has no element '{name}'")
        sibling = self.step(parent, Element(f"_{own.name}", "Element", own.many), depth)
        return self.member(sibling, name, depth)

    def _call(self, base: Tree | None, name: str, args: tuple[Tree, ...], focus: Collection, depth: int) -> Collection:
        found = focus if base is None else self.compile(base, focus, depth)
        return functions.call(self, name, found, args, focus, depth)

    def _signed(self, operator: str, operand: Collection, depth: int) -> Collection:
        if kind(operand.type) != "number":
            raise self.error(f"'{operator}' takes a number, not {operand.type or 'an empty collection'}")
        if operator == "+":
            return operand
        if operand.literal is not None:
            return constant(Literal(operand.type, f"-{operand.literal}"))
        one = self.single(operand, depth)
        return replace(one, home=None, make=lambda values: -one.make(values))

    def _binary(self, operator: str, left: Tree, right: Tree, focus: Collection, depth: int) -> Collection:
        first, second = self.compile(left, focus, depth), self.compile(right, focus, depth)
        if operator in LOGIC:
            sides = self.condition(first, depth), self.condition(second, depth)
            return boolean(lambda values: comparison.logic(operator, *(side.make(values) for side in sides)))
        if operator in COMPARISONS:
            return self._compared(operator, first, second, depth)
        match operator:
            case "|":
                return collections.united(self, first, second, depth)
            case "in":
                return boolean(equality.contains(self, second, first, depth))
            case "contains":
                return boolean(equality.contains(self, first, second, depth))
            case "~":
                return boolean(equality.equivalent(self, first, second, depth))
            case "!~":
                same = equality.equivalent(self, first, second, depth)
                return boolean(lambda values: negated(same(values)))
            case _:
                return math.arithmetic(self, operator, first, second, depth)

    def _compared(self, operator: str, first: Collection, second: Collection, depth: int) -> Collection:
        if operator in ("=", "!=") and (first.many or second.many):
            equal = equality.equal(self, first, second, depth)
            return boolean(equal if operator == "=" else lambda values: negated(equal(values)))
        compare = equality.item_comparator(self, operator, first, second, depth)
        one, other = self.single(first, depth), self.single(second, depth)
        return boolean(
            lambda values: compare(one.make(values), other.make(values)),
            navigates=one.navigates or other.navigates,
        )


def boolean(make: Make, *, navigates: bool = False) -> Collection:
    """A single boolean."""
    return Collection("boolean", False, make, navigates=navigates)


def _standard_url(name: str) -> str | None:
    """`%ucum`, `%sct`, `%loinc`, `%`vs-NAME`` and `%`ext-NAME`` (FHIR R4, "Using FHIRPath with FHIR")."""
    if name in SYSTEMS:
        return SYSTEMS[name]
    return next((url + name.removeprefix(key) for key, url in CANONICALS.items() if name.startswith(key)), None)


def empty() -> Collection:
    """The empty collection."""
    return Collection("", False, lambda _values: ibis.null(), navigates=True)


def constant(literal: Literal) -> Collection:
    """A literal, or a constant of the view."""

    def make(_values: Values) -> ir.Value:
        if literal.type == "boolean":
            return ibis.literal(literal.text == "true")
        if literal.type == "decimal":
            return ibis.literal(Decimal(literal.text), sql_type("decimal"))
        return ibis.literal(int(literal.text) if literal.type == "integer" else literal.text, sql_type(literal.type))

    return Collection(literal.type, False, make, literal=literal.text)


def resource(type_name: str, scope: Scope) -> Collection:
    """The focus of a view: a resource, its `resourceType` touched."""
    shape = Shape()
    shape.touch_primitive("resourceType", "code", many=False)
    return Collection(type_name, False, lambda values: values[scope], shape, navigates=True)
