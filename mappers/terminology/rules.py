"""One ValueSet or ConceptMap as rules: which codes and texts belong to it, and what they mean.

A rule is a list of conditions on one code, all of which must hold: the code itself, how it begins, or a regular
expression, each within one code system, and each of them may be negated. A text is a code of the system of texts.
What cannot be evaluated on the code alone, such as is-a in SNOMED CT, is refused by name: a terminology server expands
it (`periop terminology expand`), and the expansion is then what counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from mappers.errors import TerminologyError, UnexpandedError
from mappers.terminology.systems import ANALYSIS, NO_SYSTEM, TEXT, CodeSystem, Systems, normal_code

BASE = "https://periop.example/fhir/StructureDefinition"
REPLACES = f"{BASE}/replaces-shipped"
OPEN_TARGETS = f"{BASE}/open-targets"
CANDIDATE = f"{BASE}/candidate"  # of a code of a stub (`periop codes --write`): nobody has decided what it means
# R5 lets an element of a ConceptMap name a value set; this is how R4 carries it (extensions for converting versions)
ELEMENT_VALUE_SET = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ConceptMap.group.element.valueSet"
# A target of these says that the code has no such meaning (FHIR R4 concept-map-equivalence).
NO_MEANING = ("unmatched", "disjoint")
# RE2 and Java agree on what is left without these: look-around, named groups, flags, backreferences, possessive
_NOT_PORTABLE = re.compile(r"\(\?(?!:)|\\[1-9]|[*+?}]\+|\\[pPkGQE]")

Kind = Literal["code", "prefix", "regex"]


@dataclass(frozen=True)
class Condition:
    """One condition on a code in its normal form; `system` is canonical, or empty for a coding without a system."""

    kind: Kind
    system: str
    value: str
    negated: bool = False

    def holds(self, system: str, code: str) -> bool:
        """Return whether a code satisfies the condition."""
        return (system == self.system and self._matches(code)) != self.negated

    def _matches(self, code: str) -> bool:
        if self.kind == "code":
            return code == self.value
        return code.startswith(self.value) if self.kind == "prefix" else re.search(self.value, code) is not None


@dataclass(frozen=True)
class Rule:
    """Conditions that a code must meet, and what it then means.

    Attributes:
        conditions: all of them must hold; at least one is not negated.
        target: None in a value set; empty where a map says that the code has no such meaning.
        written: system and code as in the file, of a rule for one code.
        element: the place in the file, for messages.
        layer: 0 for a shipped file, more for a hospital's own.
    """

    conditions: tuple[Condition, ...]
    target: str | None
    element: str
    written: tuple[str, str] | None = None
    layer: int = 0

    @property
    def code(self) -> Condition | None:
        """The condition of a rule for one code."""
        first = self.conditions[0]
        return first if first.kind == "code" and not first.negated else None

    def holds(self, system: str, code: str) -> bool:
        """Return whether a code satisfies all conditions."""
        return all(condition.holds(system, code) for condition in self.conditions)


@dataclass(frozen=True)
class Translation:
    """An element of a ConceptMap that says which standard code a local one (or a text) is."""

    source: Condition
    target: Condition
    element: str
    written: tuple[str, str]


def preference(rule: Rule) -> tuple[int, int, int]:
    """Return what decides between two rules of one name for one code: the lower one counts.

    A hospital's own before a shipped one, the code itself before how it begins, a longer beginning before a shorter.
    """
    first = rule.conditions[0]
    kind = ("code", "prefix", "regex").index(first.kind)
    return -rule.layer, kind, -len(first.value)


def is_candidate(concept: Mapping[str, Any]) -> bool:
    """Return whether a code is one of a stub of which nobody has decided what it means."""
    return any(each.get("url") == CANDIDATE for each in concept.get("extension", []))


Import = Callable[[str], Sequence[Rule]]


def within(conditions: Sequence[Condition]) -> tuple[Condition, ...] | None:
    """Return the conditions without those that follow from others; None where no code can meet them.

    A rule for one code needs no other condition: the others are evaluated here.
    """
    positive = [each for each in conditions if not each.negated]
    codes = [each for each in positive if each.kind == "code"]
    if codes:
        first = codes[0]
        return (first,) if all(each.holds(first.system, first.value) for each in conditions) else None
    if len({each.system for each in positive}) != 1:
        return None
    system = positive[0].system
    return tuple(dict.fromkeys(each for each in conditions if each.system == system))


def both(left: Sequence[Rule], right: Sequence[Rule]) -> list[Rule]:
    """Return the rules for what belongs to both value sets; the order is that of `left`."""
    joined = ((one, within((*one.conditions, *other.conditions))) for one, other in product(left, right))
    return list(dict.fromkeys(replace(rule, conditions=found) for rule, found in joined if found is not None))


def without(rules: Sequence[Rule], excluded: Sequence[Rule]) -> list[Rule]:
    """Return the rules for what belongs to `rules` and to none of `excluded`."""
    left = list(rules)
    for rule in excluded:
        # Not (a and b) is (not a) or (not b).
        inverted = [replace(condition, negated=not condition.negated) for condition in rule.conditions]
        joined = ((one, within((*one.conditions, condition))) for one, condition in product(left, inverted))
        left = list(dict.fromkeys(replace(one, conditions=found) for one, found in joined if found is not None))
    return left


@dataclass(frozen=True)
class Reader:
    """Reads the rules of one file; `imported` gives the rules of another value set by its URL."""

    file: str
    systems: Systems
    imported: Import

    def error(self, element: str, problem: str) -> TerminologyError:
        """Return the error of one element of the file."""
        return TerminologyError(f"{self.file}: {element}: {problem}")

    # ------------------------------------------------------------------------------------------------ value sets

    def value_set(self, resource: Mapping[str, Any]) -> tuple[list[Rule], list[Rule]]:
        """Return the rules of what a ValueSet includes and of what it excludes.

        An expansion stands for the parts that cannot be evaluated here; the others stay rules, so that a code which
        came after the expansion is known too. Where an exclusion cannot be evaluated, the expansion counts alone.

        Raises:
            UnexpandedError: a part cannot be evaluated here, and there is no expansion.
        """
        expanded = list(self._expansion(resource["expansion"])) if "expansion" in resource else None
        found: dict[str, list[Rule]] = {"include": [], "exclude": []}
        for part, rules in found.items():
            for position, include in enumerate(resource.get("compose", {}).get(part, [])):
                try:
                    rules += self._include(include, f"compose.{part}[{position}]")
                except UnexpandedError:
                    if expanded is None:
                        raise
                    if part == "exclude":
                        return expanded, []
        return [*(expanded or []), *found["include"]], found["exclude"]

    def for_server(self, resource: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the part of a ValueSet that a terminology server must expand, as a `compose`; None if nothing must."""
        compose = resource.get("compose", {})
        unexpanded = []
        for position, include in enumerate(compose.get("include", [])):
            try:
                self._include(include, f"compose.include[{position}]")
            except UnexpandedError:
                unexpanded.append(include)
        excluded = [each for each in compose.get("exclude", []) if each.get("system") not in (TEXT, NO_SYSTEM)]
        return {"include": unexpanded, **({"exclude": excluded} if excluded else {})} if unexpanded else None

    def _expansion(self, expansion: Mapping[str, Any]) -> Iterator[Rule]:
        entries = list(_nested(expansion, "expansion"))
        # The total counts every entry but the headings; a page of an expansion is not the value set.
        total = expansion.get("total")
        if isinstance(total, int) and total > len(entries):
            raise self.error("expansion", f"has {len(entries)} of {total} codes; expand the value set again")
        for entry, element in entries:
            if entry.get("code") and not entry.get("abstract"):
                yield self._one(entry.get("system"), entry["code"], None, element)

    def _include(self, include: Mapping[str, Any], element: str) -> list[Rule]:
        parts = [
            self._imported(url, f"{element}.valueSet[{position}]")
            for position, url in enumerate(include.get("valueSet", []))
        ]
        if "concept" in include and "filter" in include:
            raise self.error(element, "has both concept and filter, which FHIR does not allow (vsd-3)")
        if "concept" in include:
            parts.insert(0, self._concepts(include, element))
        elif "filter" in include:
            parts.insert(0, self._filters(include, element))
        elif "system" in include:
            system = self._named(include, element)
            parts.insert(0, [Rule((Condition("prefix", system.uri, ""),), None, element)])
        if not parts:
            raise self.error(element, "names no system and no valueSet")
        rules = parts[0]
        for other in parts[1:]:
            rules = both(rules, other)
        return rules

    def _imported(self, url: str, element: str) -> list[Rule]:
        try:
            return [replace(rule, element=element, target=None) for rule in self.imported(url)]
        except LookupError:
            raise UnexpandedError(
                f"{self.file}: {element}: no value set of this folder or of periop has the URL {url}"
            ) from None

    def _named(self, include: Mapping[str, Any], element: str) -> CodeSystem:
        if not include.get("system"):
            raise self.error(element, "has codes and no system")
        return self.systems.find(include["system"])

    def _concepts(self, include: Mapping[str, Any], element: str) -> list[Rule]:
        if "system" not in include:
            raise self.error(element, "has codes and no system")
        rules = []
        for position, concept in enumerate(include["concept"]):
            if is_candidate(concept):
                continue
            place = f"{element}.concept[{position}]"
            if not concept.get("code"):
                raise self.error(place, "has no code")
            rules.append(self._one(include["system"], concept["code"], None, place))
        return rules

    def _filters(self, include: Mapping[str, Any], element: str) -> list[Rule]:
        system = self._named(include, element)
        rules: list[Rule] | None = None
        for position, each in enumerate(include["filter"]):
            found = self._filter(each, system, f"{element}.filter[{position}]")
            rules = found if rules is None else both(rules, found)
        return rules or []

    def _filter(self, given: Mapping[str, Any], system: CodeSystem, element: str) -> list[Rule]:
        name, operator, value = given.get("property"), given.get("op"), str(given.get("value", ""))
        if name in ("code", "concept") and operator == "=":
            return [self._one(system.uri, value, None, element)]
        if name in ("code", "concept") and operator == "in":
            return [self._one(system.uri, code, None, element) for code in value.split(",")]
        if name == "code" and operator == "regex":
            return [Rule((self._regex(value, system, element),), None, element)]
        if operator in ("is-a", "descendent-of") and name in ("code", "concept") and system.hierarchy == "prefix":
            code = normal_code(value, system)
            below = [Condition("prefix", system.uri, code)]
            own = [Condition("code", system.uri, code, negated=True)] if operator == "descendent-of" else []
            return [Rule((*below, *own), None, element)]
        raise UnexpandedError(
            f"{self.file}: {element}.op: {operator} of {name!r} in {system.uri} cannot be evaluated here; "
            f"run `periop terminology expand {self.file}` to have a terminology server do it"
        )

    def _regex(self, pattern: str, system: CodeSystem, element: str) -> Condition:
        plain = re.fullmatch(r"((?:[A-Za-z0-9/-]|\\\.)+)\.\*", pattern)
        if plain and not plain[1].endswith("."):  # "C34.*" is every code that begins with C34
            return Condition("prefix", system.uri, normal_code(plain[1].replace("\\.", "."), system))
        if _NOT_PORTABLE.search(pattern):
            raise self.error(
                f"{element}.value",
                f"the regular expression {pattern!r} has a group or flag that only some engines know",
            )
        try:
            re.compile(pattern)
        except re.error as problem:
            raise self.error(f"{element}.value", f"{pattern!r} is no regular expression ({problem})") from None
        # The whole code must match, as terminology servers read it.
        return Condition("regex", system.uri, f"{'(?i)' if system.fold else ''}^(?:{pattern})$")

    # ---------------------------------------------------------------------------------------------- concept maps

    def concept_map(self, resource: Mapping[str, Any], *, known: bool) -> tuple[list[Rule], list[Translation]]:
        """Return the rules of a ConceptMap, and its translations into standard codes.

        A group of which `target` is absent or the code system of analysis values gives rules, every other group
        translations. Only the maps that a rule asks for (`known`) give rules.
        """
        rules: list[Rule] = []
        translations: list[Translation] = []
        for number, group in enumerate(resource.get("group", [])):
            place = f"group[{number}]"
            if "unmapped" in group:
                raise self.error(f"{place}.unmapped", "is not supported: list the codes that have a meaning")
            target = group.get("target")
            means = target is None or target == ANALYSIS
            if means and not known:
                raise self.error(f"{place}.target", "names no code system, and no rule asks for a map of this name")
            for position, element in enumerate(group.get("element", [])):
                if is_candidate(element) and not element.get("target"):
                    continue
                where = f"{place}.element[{position}]"
                if means:
                    rules += self._element(group.get("source"), element, where)
                else:
                    translations += self._translation(group.get("source"), str(target), element, where)
        return rules, translations

    def _element(self, source: str | None, element: Mapping[str, Any], place: str) -> list[Rule]:
        target = self._target(element, place)
        named = [each for each in element.get("extension", []) if each.get("url") == ELEMENT_VALUE_SET]
        if named:
            url = next((str(value) for key, value in named[0].items() if key.startswith("value")), "")
            return [replace(rule, target=target) for rule in self._imported(url, place)]
        if not element.get("code"):
            raise self.error(place, "has no code and names no value set")
        return [self._one(source, element["code"], target, place)]

    def _translation(
        self, source: str | None, system: str, element: Mapping[str, Any], place: str
    ) -> list[Translation]:
        target = self._target(element, place)
        if not element.get("code"):
            raise self.error(place, "has no code")
        if not target:
            return []
        own = Condition("code", *self.systems.normal(source, element["code"]))
        standard = Condition("code", *self.systems.normal(system, target))
        return [Translation(own, standard, place, (source or "", element["code"]))]

    def _target(self, element: Mapping[str, Any], place: str) -> str:
        """Return the target of an element, empty where it says that there is none. The first one listed counts."""
        targets = element.get("target", [])
        for position, target in enumerate(targets):
            for name in ("dependsOn", "product"):
                if name in target:
                    raise self.error(f"{place}.target[{position}].{name}", "is not supported")
        found = [each for each in targets if each.get("equivalence") not in NO_MEANING]
        if found and not found[0].get("code"):
            raise self.error(f"{place}.target[{targets.index(found[0])}]", "has no code")
        return str(found[0]["code"]) if found else ""

    def _one(self, uri: str | None, code: str, target: str | None, element: str) -> Rule:
        """Return the rule for one code of a system, for a text, or for a code without a system."""
        condition = Condition("code", *self.systems.normal(uri, code))
        return Rule((condition,), target, element, (uri or "", code))


def _nested(entry: Mapping[str, Any], element: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the entries of an expansion with their places, at every depth."""
    for position, each in enumerate(entry.get("contains", [])):
        place = f"{element}.contains[{position}]"
        yield each, place
        yield from _nested(each, place)
