"""FHIRPath syntax tree -> Ibis expression.

`PathCompiler.compile` resolves a tree against the type of its focus (an error names the element of the view) and gives
a `Collection`. Elements, literals and variables are here; functions and operators come from a `Language`.
Source: FHIRPath N1, https://hl7.org/fhirpath/N1/ and its subset in https://sql-on-fhir.org
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import ibis

from mappers.errors import UnsupportedError, ViewError
from mappers.fhir_model.elements import (
    INTEGERS,
    PRIMITIVES,
    AmbiguousElementError,
    Choice,
    Element,
    Release,
    choice_of,
    element,
    element_names,
    is_resource,
)
from mappers.fhir_model.suggestions import did_you_mean
from mappers.fhirpath.arrays import Make, item_at
from mappers.fhirpath.cardinality import only
from mappers.fhirpath.collection import Collection, boolean, constant, drop_nulls, empty, kind, navigate
from mappers.fhirpath.items import listed_whole, sibling, whole_items
from mappers.fhirpath.language import Args, Language
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
from mappers.fhirpath.types import type_operator

# FHIR R4, "Using FHIRPath with FHIR": constants that stand for URLs
SYSTEMS = {"ucum": "http://unitsofmeasure.org", "sct": "http://snomed.info/sct", "loinc": "http://loinc.org"}
CANONICALS = {"vs-": "http://hl7.org/fhir/ValueSet/", "ext-": "http://hl7.org/fhir/StructureDefinition/"}
OF_THE_STANDARD = ("rowIndex", "context", "resource", "rootResource", *SYSTEMS)
# what the column types hold: 64-bit integers, and 20 digits before the point of a DECIMAL(38,18)
LARGEST = {"integer": 2**63, "decimal": 10**20}
MOST_DECIMALS = 18


@dataclass
class ResourceRef:
    """The resource of the view, `%resource`. `used` says whether a path asked for it, so that it must be carried along
    where arrays are unnested.
    """

    resource: Collection
    used: bool = False

    def read(self) -> Collection:
        """Return the resource, and note that it is used."""
        self.used = True
        return replace(self.resource, null_propagating=False)


@dataclass(frozen=True)
class PathCompiler:
    """Compiles one path of a view.

    Attributes:
        element: place of the path in the view, for errors.
        language: the functions and operators that it may use.
        constants: those of the view.
        row_index: gives what makes `%rowIndex`, the position in the innermost iteration; 0 outside of all.
        resource_ref: the resource of the view; None where it cannot be reached.
        context: what the path is relative to, `%context`.
        release: of FHIR, whose elements the path names.
    """

    element: str
    language: Language
    constants: Mapping[str, Literal]
    row_index: Callable[[], Make] | None = None
    resource_ref: ResourceRef | None = None
    context: Collection | None = None
    release: Release = "R4"

    def error(self, problem: str) -> ViewError:
        """Return an error that names the place of the path in the view."""
        return ViewError(self.element, problem)

    def unsupported(self, construct: str, why: str = "") -> UnsupportedError:
        """Return the error of something that is right by the specification, but not supported."""
        return UnsupportedError(self.element, f"{construct} is not supported{': ' if why else ''}{why}")

    def path(self, text: str, focus: Collection, depth: int) -> Collection:
        """Compile a path, given as text.

        `focus` is the item that the path is relative to, `depth` the number of lambdas around it.

        Raises:
            ViewError: not FHIRPath, an unknown element, function or constant, or types that do not fit.
        """
        return replace(self, context=focus).compile(self.parse(text), focus, depth)

    def parse(self, text: str) -> Tree:
        """Return the syntax tree of a path.

        Raises:
            ViewError: not FHIRPath.
        """
        try:
            return parse(text)
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
                return self.call(name, focus if base is None else self.compile(base, focus, depth), args, focus, depth)
            case Indexer(base, index):
                found = self.compile(base, focus, depth)
                return self.item(found, self.compile(index, focus, depth), depth)
            case Polarity("-", Quantity(value, unit, calendar)):
                return self._quantity(Quantity(f"-{value}", unit, calendar))
            case Polarity(operator, operand):
                return self._signed(operator, self.compile(operand, focus, depth), depth)
            case TypeTest(operator, operand, name):
                return type_operator(self, operator, self.compile(operand, focus, depth), name, depth)
            case Binary(operator, left, right):
                return self._binary(
                    operator, self.compile(left, focus, depth), self.compile(right, focus, depth), depth
                )
            case Quantity():
                return self._quantity(tree)
            case Variable(name):
                raise self.unsupported(name, "it is of aggregate()")

    def call(self, name: str, base: Collection, args: Args, focus: Collection, depth: int) -> Collection:
        """Call the function `name` on `base`; arguments are relative to `focus`.

        Raises:
            ViewError: no such function, or arguments that do not fit.
            UnsupportedError: a function of FHIRPath that is not supported.
        """
        if name in self.language.unsupported:
            raise self.unsupported(f"{name}()", self.language.unsupported[name])
        if name not in self.language.functions:
            raise self.error(f"unknown function '{name}'{did_you_mean(name, self.language.functions)}")
        function = self.language.functions[name]
        if not function.fewest <= len(args) <= function.most:
            wanted = (
                f"{function.fewest}" if function.fewest == function.most else f"{function.fewest} to {function.most}"
            )
            raise self.error(f"{name}() takes {wanted} arguments, not {len(args)}")
        if base.choice and not function.on_choice:
            raise self.error(
                f"'{base.choice.name}' has a choice of types; write {base.choice.name}.ofType(TYPE).{name}()"
            )
        return function.implementation(self, base, args, focus, depth)

    def member(self, base: Collection, name: str, depth: int) -> Collection:
        """Return `base.name`."""
        if base.choice:
            return self.member(self._only_option(base, base.choice, name, depth), name, depth)
        if not base.type:
            return base
        if base.members:
            if name not in base.members:
                raise self.error(f"a computed {base.type} has {', '.join(base.members)}, and no '{name}'")
            return base.members[name](base, depth)
        # `contained.id` could be an element of any resource type, each with a shape of its own.
        if base.type == "Resource":
            raise self.error(f"a resource in a resource has no type yet; write ofType(TYPE).{name}")
        found = self.element_of(base.type, name)
        # A primitive has id and extensions too, next to it in JSON.
        if found is None and (base.parent_element or base.sibling) and base.type in PRIMITIVES:
            return self._of_primitive(base, name, depth)
        if found is None:
            written = choice_of(base.type, name, self.release)
            near = did_you_mean(name, self.elements_of(*base.type.split("|")))
            hint = f"; write {written}" if written else near
            raise self.error(f"{self.release} has no element '{name}' in {base.type}{hint}")
        if isinstance(found, Choice):
            return replace(base, choice=found, parent_element=None)
        return self.step(base, found, depth)

    def element_of(self, type_name: str, name: str) -> Element | Choice | None:
        """Return the element `name` of a type, or of several (`A|B`) that agree on it; None where FHIR has none."""
        try:
            return element(type_name, name, self.release)
        except AmbiguousElementError as error:
            raise UnsupportedError(self.element, f"{error}, which is not supported") from error

    def elements_of(self, *type_names: str) -> tuple[str, ...]:
        """Return the names of the elements of types, in the order of their definitions."""
        return tuple(name for each in type_names for name in element_names(each, self.release))

    def step(self, base: Collection, chosen: Element, depth: int) -> Collection:
        """Take one step along a known element, and touch it in the shape."""
        if chosen.type == "integer64":  # a text in JSON, and a number in comparisons
            raise self.unsupported(f"'{chosen.name}' of {base.type}, an integer64 of R5,")
        if base.shape is None:
            raise self.error(f"'{chosen.name}' is asked of a value that has no elements")
        if chosen.type in PRIMITIVES or chosen.type == "Resource":
            for name in chosen.names:
                base.shape.touch_primitive(name, chosen.type, many=chosen.many)
            return navigate(base, chosen, None, depth)
        shape = base.shape.touch_complex(chosen.name, many=chosen.many)
        for name in chosen.others:
            shape.unite(base.shape.touch_complex(name, many=chosen.many))
        return navigate(base, chosen, shape, depth)

    def item(self, found: Collection, index: Collection, depth: int) -> Collection:
        """Return `found[index]`; a computed index gives nothing where it is negative or too large."""
        if index.type not in INTEGERS:
            raise self.error(f"an index is an integer, not {index.type or 'an empty collection'}")
        if index.literal is None:
            whole, one = listed_whole(self, found, depth), self.single(index, depth)
            return replace(
                whole,
                many=False,
                null_items=False,
                null_propagating=False,
                make=lambda values: item_at(whole.make(values), one.make(values)),
            )
        position = int(index.literal)
        if position < 0:
            raise self.error(f"the index {position} is negative")
        if not found.many:
            # One item at most: [0] is the item, and there is no other.
            return found if position == 0 else replace(empty(), type=found.type, shape=found.shape)
        items = whole_items(self, found, depth)
        return replace(
            found, many=False, null_items=False, parent_element=None, make=lambda values: items.make(values)[position]
        )

    def single(self, found: Collection, depth: int) -> Collection:
        """Return the one item of a collection; several end the run with a `CardinalityError`."""
        if not found.many:
            return found
        non_null = drop_nulls(found, depth)
        return replace(
            found,
            many=False,
            parent_element=None,
            make=lambda values: only(non_null.make(values), self.element),
        )

    def condition(self, found: Collection, depth: int) -> Collection:
        """Return a collection as a condition: a boolean is itself, any other single item is true, none is empty."""
        one = self.single(found, depth)
        # FHIRPath N1, 4.5: a single item stands for true where a boolean is expected.
        if one.type in ("boolean", "") and not one.choice:
            return replace(one, type="boolean")
        return boolean(
            lambda values: ibis.cases((one.make(values).notnull(), True)), null_propagating=one.null_propagating
        )

    def _constant(self, name: str) -> Collection:
        if name in self.constants:
            return self._literal(self.constants[name])
        if name == "rowIndex":
            make = self.row_index() if self.row_index else constant(Literal("integer", "0")).make
            return Collection("integer", False, make)
        if name == "context" and self.context is not None:
            return self.context
        if name in ("resource", "rootResource"):
            if self.resource_ref is None:
                raise self.unsupported(f"%{name} in a path of repeat, or on a resource inside a resource,")
            return self.resource_ref.read()
        if name in SYSTEMS:
            return constant(Literal("string", SYSTEMS[name]))
        for prefix, url in CANONICALS.items():
            if name.startswith(prefix):
                return constant(Literal("string", url + name.removeprefix(prefix)))
        known = ", ".join(f"%{known}" for known in self.constants) or "none"
        near = did_you_mean(name, (*self.constants, *OF_THE_STANDARD))
        raise self.error(f"unknown constant %{name}; the view defines {known}{near}")

    def _member(self, base: Tree | None, name: str, focus: Collection, depth: int) -> Collection:
        if base is not None:
            return self.member(self.compile(base, focus, depth), name, depth)
        # A path may begin with the type of its focus: `Patient.name` is `name`.
        of_resource = is_resource(focus.type, self.release)
        names = {focus.type, "Resource", "DomainResource"} if of_resource else {focus.type}
        return focus if name in names and focus.shape is not None else self.member(focus, name, depth)

    def _only_option(self, base: Collection, choice: Choice, name: str, depth: int) -> Collection:
        """Take the one type that has the element `name`, of an element with a choice of types."""
        # `value.unit`: only Quantity has a unit, so no ofType() is needed.
        having = [option for option in choice.options.values() if self.element_of(option.type, name) is not None]
        if len(having) != 1:
            raise self.error(f"'{choice.name}' has a choice of types; write {choice.name}.ofType(TYPE).{name}")
        return self.step(replace(base, choice=None), having[0], depth)

    def _index(self, focus: Collection) -> Collection:
        if focus.index is None:
            raise self.error("$index stands in the argument of where(), select(), all() or exists() only")
        return Collection("integer", False, focus.index())

    def _literal(self, literal: Literal) -> Collection:
        self._check_number(literal.type, literal.text)
        return constant(literal)

    def _check_number(self, type_name: str, text: str) -> None:
        """Refuse a number that the type of a column cannot hold.

        Raises:
            ViewError: too large, or too many decimals.
        """
        if type_name not in LARGEST:
            return
        number = Decimal(text)
        if abs(number) >= LARGEST[type_name]:
            raise self.error(f"the number {text} is too large")
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and -exponent > MOST_DECIMALS:
            raise self.error(f"the number {text} has more than {MOST_DECIMALS} decimals")

    def _quantity(self, literal: Quantity) -> Collection:
        if self.language.quantity is None:
            raise self.unsupported("a literal of a Quantity")
        self._check_number("decimal", literal.value)
        return self.language.quantity(literal)

    def _of_primitive(self, base: Collection, name: str, depth: int) -> Collection:
        """Return `birthDate.extension`: id and extensions of a primitive stand in a sibling, `_birthDate`."""
        if name not in ("id", "extension"):
            raise self.error(f"a {base.type} has no element '{name}'")
        return self.member(base.sibling() if base.sibling else sibling(self, base, depth), name, depth)

    def _signed(self, operator: str, operand: Collection, depth: int) -> Collection:
        if kind(operand.type) != "number":
            raise self.error(f"'{operator}' takes a number, not {operand.type or 'an empty collection'}")
        # A literal keeps its text, for the digits and for functions that take literals only.
        if operator == "+":
            return operand
        if operand.literal is not None:
            return constant(Literal(operand.type, f"-{operand.literal}"))
        one = self.single(operand, depth)
        return replace(one, parent_element=None, make=lambda values: -one.make(values))

    def _binary(self, operator: str, left: Collection, right: Collection, depth: int) -> Collection:
        if operator not in self.language.operators:
            raise self.unsupported(f"'{operator}'")
        return self.language.operators[operator](self, operator, left, right, depth)
