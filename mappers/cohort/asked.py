"""Of which elements the rules ask a meaning, and of which value sets and concept maps: noted while they are built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mappers.cohort.facts import Sources

Question = tuple[str, str, str]  # view, element, name of a value set or concept map
Asked = Mapping[tuple[str, str], frozenset[str]]  # names by (view, element)


# Noted and not listed by hand: a list would miss the next rule.
@dataclass(frozen=True)
class Asking(Sources):
    """Sources that note what they are asked."""

    questions: set[Question] = field(default_factory=set)

    def ask(self, view: str, element: str, name: str) -> str:
        """Note the question, and return by what it is answered."""
        self.questions.add((view, element, name))
        return super().ask(view, element, name)


def by_element(questions: Iterable[Question]) -> Asked:
    """Return the names that are asked of each (view, element)."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for view, element, name in questions:
        found[view, element] = found.get((view, element), frozenset()) | {name}
    return found
