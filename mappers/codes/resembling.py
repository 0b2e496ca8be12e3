"""Shipped concepts that a display resembles: compared by the groups of three letters that two texts share."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Dice coefficient of trigrams (Adamson & Boreham 1974): "Adenocarcinoma of lung" and "Lung adenocarcinoma" have 0.74,
# names of different tumours of the lung up to 0.5.
SIMILAR = 0.55
# Texts that differ by one of these mean opposite things, however much they share: "non-small cell", "small cell".
NEGATIONS = frozenset(("kein", "keine", "negativ", "negative", "nicht", "no", "non", "not", "ohne", "without"))
SHORTEST = 3  # letters of a code that may be compared with codes of other systems
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


@dataclass(frozen=True)
class Concept:
    """A concept of a value set or concept map: `name` is that of the file, `target` what it means by a concept map."""

    name: str
    system: str
    code: str
    display: str
    target: str | None


@dataclass(frozen=True)
class Resembling:
    """A concept that a code of the hospital resembles, and how much: 1 is the same text, or the same code."""

    concept: Concept
    similarity: float


def concepts(files: Iterable[Path]) -> list[Concept]:
    """Return the concepts of value sets and concept maps in the order of their files."""
    return [concept for file in files for concept in _concepts(file.stem, json.loads(file.read_bytes()))]


def _concepts(name: str, resource: Mapping[str, Any]) -> Iterator[Concept]:
    for include in resource.get("compose", {}).get("include", []):
        for each in include.get("concept", []):
            yield Concept(name, include.get("system", ""), each["code"], each.get("display", ""), None)
    for group in resource.get("group", []):
        for each in group.get("element", []):
            for target in each.get("target", [])[:1]:
                code, display = each.get("code", ""), each.get("display", "")
                yield Concept(name, group.get("source", ""), code, display, target.get("code"))


def words(text: str) -> str:
    """Return a text in the form in which two are compared: without what stands in brackets, unless that is all.

    >>> words("Größe: T2 (finding)")
    'groesse t2'
    """
    plain = text.lower().translate(_UMLAUTS)
    # SNOMED CT adds the kind of a concept in brackets, MedDRA its level.
    found = re.findall(r"[^\W_]+", re.sub(r"\([^)]*\)", " ", plain))
    return " ".join(found or re.findall(r"[^\W_]+", plain))


def trigrams(text: str) -> frozenset[str]:
    """Return the groups of three letters of each word; the ends of a word count as letters."""
    return frozenset(
        padded[start : start + 3]
        for word in words(text).split()
        for padded in (f" {word} ",)
        for start in range(len(padded) - 2)
    )


def negations(text: str) -> frozenset[str]:
    """Return the words of a text that turn its meaning round."""
    return NEGATIONS & set(words(text).split())


class Finder:
    """Finds the concept that a code or a display resembles most."""

    def __init__(self, known: Iterable[Concept]) -> None:
        self._known = list(known)
        self._grams = [trigrams(concept.display) for concept in self._known]
        self._negated = [negations(concept.display) for concept in self._known]
        self._with: dict[str, list[int]] = defaultdict(list)
        self._code: dict[str, list[int]] = defaultdict(list)
        for position, concept in enumerate(self._known):
            self._code[_plain(concept.code)].append(position)
            for gram in self._grams[position]:
                self._with[gram].append(position)

    def resembling(self, code: str | None, text: str | None, names: frozenset[str]) -> Resembling | None:
        """Return the concept of one of `names` that has the same code in another system, or the most similar display.

        None where nothing is similar enough. Of equally similar ones the first in the order of the files counts.
        """
        for position in self._code.get(_plain(code or ""), ()) if len(_plain(code or "")) >= SHORTEST else ():
            if self._known[position].name in names:
                return Resembling(self._known[position], 1.0)
        # Only concepts that share a group are rated, so that thousands of displays take no time.
        grams, negated = trigrams(text or ""), negations(text or "")
        shared: dict[int, int] = defaultdict(int)
        for gram in grams:
            for position in self._with.get(gram, ()):
                shared[position] += self._known[position].name in names and self._negated[position] == negated
        # Dice: twice what is shared, of what both have.
        rated = ((2 * count / (len(grams) + len(self._grams[at])), -at) for at, count in shared.items())
        similarity, at = max(rated, default=(0.0, 0))
        return Resembling(self._known[-at], round(similarity, 2)) if similarity >= SIMILAR else None


def _plain(code: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", code.upper())
