"""Value sets and concept maps to fill in: the codes that were not understood, each in the file that may take it.

A stub changes nothing before it is filled in: each code carries the extension `CANDIDATE`, with which it has no meaning
and is no member (`mappers.terminology.rules`). What a code resembles stands beside it and is never taken for its
meaning.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from connectors.lake.files import write_atomically
from mappers.codes.report import UnknownCode, answers_to_questions
from mappers.terminology import SHIPPED
from mappers.terminology.rules import BASE, CANDIDATE
from mappers.terminology.systems import NO_SYSTEM, TEXT

RESEMBLES = f"{BASE}/resembles"
MAP_NOTE = (
    "Codes that were seen and are not understood, the most frequent first. In place of its extensions give each that "
    'has a meaning a target, like "target": [{{"code": "{target}", "equivalence": "equivalent"}}]; delete the others. '
    "The targets are {targets}."
)
SET_NOTE = (
    "Codes that were seen and are not understood, the most frequent first. Delete the extensions of each that belongs "
    "to this value set: `candidate` says that it does not yet. Delete the others."
)


def stubs(unknown: Iterable[UnknownCode]) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the stubs by name, and how many codes have none.

    A code stands in the file whose concept it resembles; an answer to a known question in those of the question; else
    in that of its element, where only one is asked of it.
    """
    answers = answers_to_questions()
    taken: dict[str, list[UnknownCode]] = defaultdict(list)
    left = 0
    for each in unknown:
        names = _names(each, answers)
        for name in sorted(names):
            taken[name].append(each)
        left += not names
    return {name: _stub(name, codes) for name, codes in sorted(taken.items())}, left


def _names(code: UnknownCode, answers: dict[str, frozenset[str]]) -> frozenset[str]:
    # The question decides before what the text resembles: "1" answers many questions.
    if code.question is not None and code.question in answers:
        return answers[code.question]
    if code.resembles is not None:
        return frozenset({code.resembles.concept.name})
    return code.names if len(code.names) == 1 else frozenset()


def _stub(name: str, codes: Sequence[UnknownCode]) -> dict[str, Any]:
    shipped: dict[str, Any] = json.loads((SHIPPED / f"{name}.json").read_bytes())
    kind = shipped["resourceType"]
    # `draft`: nobody has reviewed it; a canonical URL of the hospital's own, not of the shipped file that it adds to.
    head = {
        "resourceType": kind,
        "url": f"https://hospital.example/fhir/{kind}/{name}",
        "name": name.replace("-", "_"),
        "status": "draft",
    }
    if kind == "ValueSet":
        included = [{"system": system, "concept": concepts} for system, concepts in _concepts(codes)]
        return {**head, "description": SET_NOTE, "compose": {"include": included}}
    elements = [element for group in shipped["group"] for element in group["element"]]
    targets = list(
        dict.fromkeys(str(each["code"]) for one in elements for each in one.get("target", ()) if "code" in each)
    )
    note = MAP_NOTE.format(target=targets[0], targets=", ".join(targets))
    groups = [{"source": system, "element": concepts} for system, concepts in _concepts(codes)]
    return {**head, "description": note, "group": groups}


def _concepts(codes: Sequence[UnknownCode]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (system, concepts) of codes, and of texts under the system of texts; what two sites share comes once."""
    of_system = lambda each: TEXT if each.code is None else (each.system or NO_SYSTEM)  # noqa: E731
    for system, group in groupby(sorted(codes, key=of_system), of_system):  # sorted keeps the order by frequency
        found: dict[str, dict[str, Any]] = {}
        for each in group:
            code = each.code or each.text or ""
            extensions: list[dict[str, Any]] = [{"url": CANDIDATE, "valueBoolean": True}]
            if each.resembles is not None:
                concept = each.resembles.concept
                said = concept.target or concept.display or concept.code
                extensions.append({"url": RESEMBLES, "valueString": f"{said} ({each.resembles.similarity:g})"})
            entry = {"extension": extensions, "code": code}
            if each.code is not None and each.text is not None:
                entry["display"] = each.text
            found.setdefault(code, entry)
        yield system, list(found.values())


def write_stubs(folder: Path, content: dict[str, dict[str, Any]]) -> list[Path]:
    """Write the stubs as files of `folder`, and return them. A file that is there already is not overwritten.

    Raises FileExistsError with its path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}.json": resource for name, resource in content.items()}
    # All are looked at before any is written: what a person filled in is never half replaced.
    for file in files:
        if file.exists():
            raise FileExistsError(17, "already there", str(file))
    for file, resource in files.items():
        write_atomically(file, json.dumps(resource, indent=2, ensure_ascii=False) + "\n")
    return list(files)
