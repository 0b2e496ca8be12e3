"""The registry of functions and operators, and what the compiler offers to them.

Modules with functions or operators import this one and not the compiler. So the compiler knows none of them, and a
package can register its own: `mappers.fhirpath.core` has those of SQL on FHIR, `mappers.fhirpath.n1` the rest of
FHIRPath N1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import ibis.expr.types as ir

from mappers.errors import UnsupportedError, ViewError
from mappers.fhir_model.elements import Choice, Element, Release
from mappers.fhirpath.collection import Collection
from mappers.fhirpath.syntax import Quantity, Tree

Args = tuple[Tree, ...]
Comparator = Callable[[ir.Value, ir.Value], ir.Value]


class Compiler(Protocol):
    """The compiler of one path of a view. `depth` is everywhere the number of lambdas around an expression.

    `release` is that of FHIR, whose elements the path names.
    """

    @property
    def release(self) -> Release: ...

    def error(self, problem: str) -> ViewError:
        """Return an error that names the place of the path in the view."""

    def unsupported(self, construct: str, why: str = "") -> UnsupportedError:
        """Return the error of something that is right by the specification, but not supported."""

    def compile(self, tree: Tree, focus: Collection, depth: int) -> Collection:
        """Compile a tree relative to `focus`."""

    def member(self, base: Collection, name: str, depth: int) -> Collection:
        """Return `base.name`."""

    def element_of(self, type_name: str, name: str) -> Element | Choice | None:
        """Return the element `name` of a type, or of several (`A|B`) that agree on it; None where FHIR has none."""

    def elements_of(self, *type_names: str) -> tuple[str, ...]:
        """Return the names of the elements of types, in the order of their definitions."""

    def step(self, base: Collection, chosen: Element, depth: int) -> Collection:
        """Take one step along a known element, and touch it in the shape."""

    def item(self, found: Collection, index: Collection, depth: int) -> Collection:
        """Return `found[index]`."""

    def single(self, found: Collection, depth: int) -> Collection:
        """Return the one item of a collection; several end the run with a `CardinalityError`."""

    def condition(self, found: Collection, depth: int) -> Collection:
        """Return a collection as a condition: a boolean is itself, any other single item is true, none is empty."""


Implementation = Callable[[Compiler, Collection, Args, Collection, int], Collection]
"""A function: compiler, what it is called on, its arguments, their focus, depth -> result."""

Operator = Callable[[Compiler, str, Collection, Collection, int], Collection]
"""An operator of two operands: compiler, its symbol, left and right operand, depth -> result."""


@dataclass(frozen=True)
class Function:
    """A function that paths may call, with the number of arguments that it takes.

    `on_choice` says that it may be called on an element whose type is not chosen yet (`value`).
    """

    implementation: Implementation
    fewest: int = 0
    most: int = 0
    on_choice: bool = False


@dataclass(frozen=True)
class Language:
    """The functions and operators that paths may use.

    Attributes:
        functions: by name.
        operators: by symbol.
        quantity: what makes a literal such as `4 'mg'`.
        unsupported: functions of the standards that are left out, with the reason.
    """

    functions: Mapping[str, Function] = field(default_factory=dict)
    operators: Mapping[str, Operator] = field(default_factory=dict)
    quantity: Callable[[Quantity], Collection] | None = None
    unsupported: Mapping[str, str] = field(default_factory=dict)

    def extended(self, other: Language) -> Language:
        """Return this language with all of `other`; a function or operator of the same name replaces the one here."""
        # Later entries win: N1 replaces `=` by one that also compares complex items.
        return Language(
            {**self.functions, **other.functions},
            {**self.operators, **other.operators},
            other.quantity or self.quantity,
            {**self.unsupported, **other.unsupported},
        )
