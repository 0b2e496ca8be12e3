"""The shipped value sets and concept maps with a hospital's own, as the rules of one `Terminology`.

A hospital's file adds to the shipped one of its name, and what it says of a code counts before what the shipped file
says; with the extension `replaces-shipped` it takes its place. A file of another name is used where a study or another
file names it, where it translates local codes into standard ones, or where it is a NamingSystem with further names of a
code system. Anything else is an error, because it would silently do nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from mappers.errors import TerminologyError
from mappers.terminology.matching import Terminology
from mappers.terminology.rules import (
    CANDIDATE,
    OPEN_TARGETS,
    REPLACES,
    Condition,
    Reader,
    Rule,
    Translation,
    preference,
    without,
)
from mappers.terminology.systems import TEXT, Systems, code_systems, system_key

SHIPPED = Path(__file__).parents[1] / "valuesets"
KINDS = ("ValueSet", "ConceptMap", "NamingSystem")
# A code without a system is taken for the one public code that looks so, if it is long enough not to be a local one.
DISTINCTIVE = 5


@dataclass(frozen=True)
class File:
    """One file of a folder of terminology; `layer` is 0 for the shipped folder and counts the hospital's own."""

    path: Path
    resource: dict[str, Any]
    layer: int

    @property
    def name(self) -> str:
        """The name by which a rule asks for it."""
        return self.path.stem

    @property
    def kind(self) -> str:
        """The type of the resource."""
        return str(self.resource["resourceType"])

    @property
    def is_stub(self) -> bool:
        """Return True where some of its codes are not decided: then it may say nothing yet."""
        return CANDIDATE in json.dumps(self.resource)

    def says(self, extension: str) -> bool:
        """Return whether the resource carries an extension that is true."""
        return any(
            each.get("url") == extension and each.get("valueBoolean") is True
            for each in self.resource.get("extension", [])
        )


def load_terminology(*folders: Path, asked: Collection[str] | None = None) -> Terminology:
    """Read every ``*.json`` of the shipped folder and of `folders`, the hospital's own.

    Args:
        folders: later ones count before earlier ones.
        asked: names that a study asks for beside the shipped ones; None lets any name pass.

    >>> load_terminology().codes("alk-gene")[0]
    ('http://www.genenames.org', 'HGNC:427')

    Raises:
        TerminologyError: a folder is not there, a file is none of `KINDS`, has a part that is not supported or a target
            that no rule knows, or nothing asks for it.
    """
    return _Loader(_files(folders), asked).terminology()


def value_set_file(name: str, *folders: Path) -> Path:
    """Return the file of a value set: a path, or a name in `folders` or among the shipped ones, the last one first.

    Raises:
        TerminologyError: there is none.
    """
    candidates = [Path(name), *(folder / f"{name}.json" for folder in reversed((SHIPPED, *folders)))]
    for path in candidates:
        if path.is_file():
            return path
    raise TerminologyError(f"{name}: no such file, and no value set of this name")


def unexpanded(file: Path, *folders: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return a ValueSet, and of its `compose` what a terminology server must expand (None: nothing).

    `folders` are the hospital's own, which it may import from.

    Raises:
        TerminologyError: the file is no ValueSet.
    """
    resource = _read(file)
    if resource["resourceType"] != "ValueSet":
        raise TerminologyError(f"{file}: resourceType: must be ValueSet, to be expanded")
    return resource, _Loader(_files(folders), None).reader(str(file)).for_server(resource)


def _files(folders: Sequence[Path]) -> list[File]:
    for folder in folders:
        if not folder.is_dir():
            raise TerminologyError(f"{folder}: no such folder; correct mapping.terminology in periop.toml")
    paths = (
        (layer, path) for layer, folder in enumerate((SHIPPED, *folders)) for path in sorted(folder.glob("*.json"))
    )
    return [File(path, _read(path), layer) for layer, path in paths]


def _read(path: Path) -> dict[str, Any]:
    try:
        resource = json.loads(path.read_bytes())
    except ValueError as error:
        raise TerminologyError(f"{path}: not JSON ({error}); it must be a FHIR ValueSet or ConceptMap") from None
    # Any other resource would silently give no codes.
    if not isinstance(resource, dict) or resource.get("resourceType") not in KINDS:
        raise TerminologyError(f"{path}: resourceType: must be {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    return resource


class _Loader:
    """The work of `load_terminology`: each name is put together once, after those that it imports."""

    def __init__(self, files: Sequence[File], asked: Collection[str] | None) -> None:
        self._asked = asked
        self._systems = Systems(dict(_aliases([file for file in files if file.kind == "NamingSystem"])))
        self._files: dict[str, list[File]] = defaultdict(list)
        for file in files:
            if file.kind != "NamingSystem":
                self._files[file.name].append(file)
        # Of a replaced file nothing is read.
        for name, layers in self._files.items():
            last = max((position for position, file in enumerate(layers) if file.says(REPLACES)), default=0)
            self._files[name] = layers[last:]
        self._shipped = {file.name: file for file in files if file.layer == 0}
        self._urls = {str(file.resource["url"]): file.name for file in files if "url" in file.resource}
        self._done: dict[str, list[Rule]] = {}
        self._running: list[str] = []
        self._imported: set[str] = set()
        self._translations: list[tuple[File, list[Translation]]] = []

    def reader(self, file: str) -> Reader:
        """Return what reads a file with these systems and imports."""
        return Reader(file, self._systems, self._import)

    def terminology(self) -> Terminology:
        """Return the rules of all names, with the translations applied; raise the error of what nothing asks for."""
        rules = {name: self._rules(name) for name in sorted(self._files)}
        notes = []
        for file, translations in self._translations:
            known = [self._translated(each, rules) for each in translations]
            unknown = [each for each, found in zip(translations, known, strict=True) if not found]
            if (file.name in self._known_maps() and unknown) or len(unknown) == len(translations):
                raise self._unknown_target(file, unknown[0])
            if unknown:
                first = f"{unknown[0].element}: {unknown[0].target.system}|{unknown[0].target.value}"
                notes.append(
                    f"{file.path}: {len(unknown)} of {len(translations)} targets are in no value set or concept map, "
                    f"the first is {first}"
                )
            for each, found in zip(translations, known, strict=True):
                for name, target in found.items():
                    rule = Rule((each.source,), target, each.element, each.written, file.layer)
                    rules[name] = [rule, *(old for old in rules[name] if old.code != each.source)]
        self._nothing_unused()
        return Terminology.of(rules, self._systems, _without_system(rules), tuple(notes))

    def _known_maps(self) -> set[str]:
        return {file.name for file in self._shipped.values() if file.kind == "ConceptMap"}

    def _translated(self, translation: Translation, rules: dict[str, list[Rule]]) -> dict[str, str | None]:
        """Return by name what the target of a translation means."""
        target = translation.target
        found = {}
        for name, known in rules.items():
            best = min(
                (rule for rule in known if rule.holds(target.system, target.value)), key=preference, default=None
            )
            if best is not None and best.target != "":
                found[name] = best.target
        return found

    def _unknown_target(self, file: File, translation: Translation) -> TerminologyError:
        target = translation.target
        return TerminologyError(
            f"{file.path}: {translation.element}.target[0].code: {target.value!r} of {target.system} is in no "
            "value set or concept map, so no rule would know what it means"
        )

    def _nothing_unused(self) -> None:
        """Raise the error of a file that nothing asks for."""
        if self._asked is None:
            return
        used = {*self._shipped, *self._imported, *self._asked, *(file.name for file, _ in self._translations)}
        for name in sorted(set(self._files) - used):
            raise TerminologyError(
                f"{self._files[name][0].path}: nothing asks for a {self._files[name][0].kind} of this name; "
                f"the names are {', '.join(sorted({*self._shipped, *self._asked}))}"
            )

    def _rules(self, name: str) -> list[Rule]:
        """Return the rules of a name: of the hospital's files, then of the shipped one."""
        if name in self._done:
            return self._done[name]
        if name in self._running:
            circle = " -> ".join([*self._running[self._running.index(name) :], name])
            raise TerminologyError(f"{self._files[name][0].path}: value sets import one another in a circle: {circle}")
        self._running.append(name)
        found: list[Rule] = []
        for file in self._files[name]:
            found = self._added(file, found)
        self._running.pop()
        self._done[name] = found
        return found

    def _added(self, file: File, below: list[Rule]) -> list[Rule]:
        """Return the rules of one file before those of the files below it."""
        reader = self.reader(str(file.path))
        shipped = self._shipped.get(file.name)
        if shipped is not None and shipped.kind != file.kind:
            raise TerminologyError(f"{file.path}: resourceType: must be {shipped.kind}, as it is in the shipped file")
        if file.kind == "ValueSet":
            included, excluded = reader.value_set(file.resource)
            own = without(included, excluded)
            below = without(below, excluded)
            if not (own or excluded or file.says(REPLACES) or file.is_stub):
                raise reader.error("compose", "has no code")
        else:
            own, translations = reader.concept_map(file.resource, known=shipped is not None)
            if translations:
                self._translations.append((file, translations))
            if not (own or translations or file.says(REPLACES) or file.is_stub):
                raise reader.error("group", "has no element with a target")
            if file.layer:
                self._check_targets(file, own)
        own = [replace(rule, layer=file.layer) for rule in own]
        codes = {rule.code for rule in own if rule.code is not None}
        return [*own, *(rule for rule in below if rule.code not in codes)]

    def _check_targets(self, file: File, own: Iterable[Rule]) -> None:
        shipped = self._shipped.get(file.name)
        if shipped is None or shipped.says(OPEN_TARGETS):
            return
        reader = self.reader(str(shipped.path))
        known = {rule.target for rule in reader.concept_map(shipped.resource, known=True)[0]} | {""}
        for rule in own:
            if rule.target not in known:
                raise TerminologyError(
                    f"{file.path}: {rule.element}.target[0].code: {rule.target!r} is no value that a rule knows; "
                    f"the known ones are {', '.join(sorted(str(each) for each in known if each))}"
                )

    def _import(self, url: str) -> Sequence[Rule]:
        """Return the rules of a value set by its URL, or by its name alone."""
        plain = url.split("|")[0]
        name = self._urls.get(plain, plain.rsplit("/", 1)[-1] if plain.startswith("https://periop.example/") else plain)
        if name not in self._files or self._files[name][0].kind != "ValueSet":
            raise LookupError(url)
        self._imported.add(name)
        return self._rules(name)


def _aliases(files: Iterable[File]) -> Iterator[tuple[str, str]]:
    """Yield (key, canonical name) of the names of code systems in a hospital's NamingSystems."""
    for file in files:
        names = [str(each.get("value", "")) for each in file.resource.get("uniqueId", [])]
        by_key = code_systems()[1]
        known = {by_key[system_key(name)].uri for name in names if system_key(name) in by_key}
        if len(known) != 1:
            raise TerminologyError(
                f"{file.path}: uniqueId: must have the name of one code system that periop knows, and has {len(known)}"
            )
        yield from ((system_key(name), uri) for uri in known for name in names)


def _without_system(rules: dict[str, list[Rule]]) -> dict[str, list[tuple[int, Rule]]]:
    """Return further rules (rank, rule) by name: for codings without a system, of codes of one public system only."""
    public = code_systems()[0]
    systems: dict[str, set[str]] = defaultdict(set)
    for rule in chain.from_iterable(rules.values()):
        if rule.code is not None and rule.code.system != TEXT:
            systems[rule.code.value].add(rule.code.system)
    return {
        name: [
            (rank, replace(rule, conditions=(Condition("code", "", rule.code.value),)))
            for rank, rule in enumerate(known)
            if rule.code is not None
            and rule.code.system in public
            and len(rule.code.value) >= DISTINCTIVE
            and any(letter.isdigit() for letter in rule.code.value)
            and len(systems[rule.code.value]) == 1
        ]
        for name, known in rules.items()
    }
