"""The elements of FHIR types: what a path may name, of which type, and whether it repeats.

The tables are elements.json for R4 and elements_r5.json for R5, made from fhir.resources by
`mappers.fhir_model.elements_source`. Everything is of R4 where no release is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Release = Literal["R4", "R5"]
TABLES: Mapping[Release, str] = {"R4": "elements.json", "R5": "elements_r5.json"}
INTEGERS = frozenset({"integer", "positiveInt", "unsignedInt"})
DATES = frozenset({"date", "dateTime", "instant"})
TEXTS = frozenset(
    {"string", "code", "id", "uri", "url", "canonical", "oid", "uuid", "markdown", "base64Binary", "xhtml"}
)
SUPERTYPES = {
    **dict.fromkeys(("code", "id", "markdown"), "string"),
    **dict.fromkeys(("url", "canonical", "oid", "uuid"), "uri"),
    **dict.fromkeys(("positiveInt", "unsignedInt"), "integer"),
    **dict.fromkeys(("Age", "Count", "Distance", "Duration"), "Quantity"),
}
NO_DOMAIN_RESOURCES = frozenset({"Binary", "Bundle", "Parameters"})
PRIMITIVES = INTEGERS | DATES | TEXTS | {"boolean", "decimal", "time"}


@dataclass(frozen=True)
class Element:
    """One element: the key in JSON, its FHIR type and whether it is a list.

    `others` are keys in JSON of which one may stand in its place: a choice of types that derive from one (`valueCode`
    for the strings of `value[x]`).
    """

    name: str
    type: str
    many: bool
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return all keys in JSON."""
        return (self.name, *self.others)


@dataclass(frozen=True)
class Choice:
    """An element with a choice of types (`value[x]`): type -> the element that carries it."""

    name: str
    options: Mapping[str, Element]


class AmbiguousElementError(ValueError):
    """An element that is of different types in the types that an item may have."""


@cache
def _table(release: Release = "R4") -> Mapping[str, Mapping[str, str]]:
    table: dict[str, dict[str, str]] = json.loads(
        files("mappers.fhir_model").joinpath(TABLES[release]).read_text("utf-8")
    )
    return table


def is_type(name: str) -> bool:
    """Return whether R4 has a type of this name, primitive or not."""
    return name in PRIMITIVES or name in _table()


def type_names() -> tuple[str, ...]:
    """Return the names of all types of R4, primitive or not, resources too."""
    return (*sorted(PRIMITIVES), *_table())


def resource_names(release: Release = "R4") -> tuple[str, ...]:
    """Return the names of all resources of a release."""
    return tuple(name for name in _table(release) if is_resource(name, release))


def is_element(name: str) -> bool:
    """Return whether any type of R4 has an element of this name."""
    return any(name in elements or f"{name}[x]" in elements for elements in _table().values())


def is_resource(name: str, release: Release = "R4") -> bool:
    """Return whether the type is a resource: it has the elements of Resource and may carry `meta`."""
    # Data types have neither element.
    return "meta" in _table(release).get(name, {}) and "implicitRules" in _table(release)[name]


def is_subtype(type_name: str, of: str) -> bool:
    """Return whether the type is `of` or derived from it (FHIR R4, "Resource types and data types")."""
    # Only one level: no subtype of R4's data types has a subtype itself.
    if type_name == of or SUPERTYPES.get(type_name) == of:
        return True
    # Everything that is no resource derives from Element.
    if of == "Element":
        return not is_resource(type_name)
    return is_resource(type_name) and (
        of == "Resource" or (of == "DomainResource" and type_name not in NO_DOMAIN_RESOURCES)
    )


@cache
def element(type_name: str, name: str, release: Release = "R4") -> Element | Choice | None:
    """Return the element `name` of a type; None where it has none. A choice is named without its type (`value`).

    Of one of several types, `A|B`: what those that have the element agree on.

    Raises:
        AmbiguousElementError: they do not agree.
    """
    # Items of a `repeat` may be of several types.
    if "|" in type_name:
        each = (element(one, name, release) for one in type_name.split("|"))
        known = [found for found in each if found is not None]
        if any(found != known[0] for found in known):
            raise AmbiguousElementError(f"'{name}' is not the same in each of {type_name.replace('|', ', ')}")
        return known[0] if known else None
    found = _table(release).get(type_name, {})
    if name in found:
        return Element(name, found[name].rstrip("*"), found[name].endswith("*"))
    if options := found.get(f"{name}[x]"):
        return Choice(name, {option: _option(name, option) for option in options.split("|")})
    return None


def element_names(type_name: str, release: Release = "R4") -> tuple[str, ...]:
    """Return the elements of a type in the order of its definition; a choice without its type (`value`)."""
    return tuple(name.removesuffix("[x]") for name in _table(release).get(type_name, {}))


def choice_of(type_name: str, name: str, release: Release = "R4") -> str | None:
    """Return the path of an element that is named with its type: `value.ofType(Quantity)` for `valueQuantity`."""
    for key, options in _table(release).get(type_name, {}).items():
        if key.endswith("[x]"):
            for option in options.split("|"):
                if _option(key[:-3], option).name == name:
                    return f"{key[:-3]}.ofType({option})"
    return None


def _option(name: str, option: str) -> Element:
    return Element(name + option[0].upper() + option[1:], option, False)
