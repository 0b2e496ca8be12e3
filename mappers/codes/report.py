"""The codes that a hospital's data have and no rule understands, with the shipped concepts that they resemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir

from mappers.codes.resembling import Finder, Resembling, concepts
from mappers.codes.seen import shares, unknown
from mappers.cohort.asked import Asked, Question, by_element
from mappers.cohort.facts import RESOURCE_TYPES, Sources
from mappers.cohort.variables import OF_PARAMETERS, VARIABLES
from mappers.engines.base import Engine
from mappers.terminology import SHIPPED


@dataclass(frozen=True)
class UnknownCode:
    """A code, or a text without one, that no rule understands.

    Attributes:
        element: the resource type and the element of the view, like ``Condition.code``.
        text: the display of the code, else the text of the concept.
        question: the value set of the known question that it answers.
        names: the value sets and concept maps that are asked of the element.
        screened: how many of the patients are screened.
        resembles: the shipped concept that it resembles most.
    """

    site: str
    element: str
    system: str | None
    code: str | None
    text: str | None
    question: str | None
    names: frozenset[str]
    resources: int
    patients: int
    screened: int
    resembles: Resembling | None

    @property
    def likely(self) -> bool:
        """Return True where it probably matters: it answers a known question, or resembles a shipped concept."""
        return self.question is not None or self.resembles is not None


@dataclass(frozen=True)
class Share:
    """Counts of the resources with an element of which a meaning is asked, and of those in which it is understood."""

    site: str
    element: str
    resources: int
    understood: int


@dataclass(frozen=True)
class Codes:
    """The findings in a lake: the most frequent code first, and the shares by site and element."""

    unknown: tuple[UnknownCode, ...]
    shares: tuple[Share, ...]


def find_codes(sources: Sources, engine: Engine, questions: Iterable[Question]) -> Codes:
    """Return the codes of all patients that no rule understands; `questions` are what the rules ask."""
    asked = by_element(questions)
    # Not the hospital's own files: a stub that is not filled in would resemble itself.
    shipped = concepts(sorted(SHIPPED.glob("*.json")))
    finder, mapped = Finder(shipped), {concept.name for concept in shipped if concept.target is not None}
    # Of other questions only one answer matters, such as small cell carcinoma: that the rest has no meaning is right.
    known = {question for question, names in answers_to_questions().items() if names & mapped}
    found = [_unknown(row, asked, known, finder) for row in _rows(unknown(sources, asked), engine)]
    # By number first; the rest only makes the order the same at each run.
    found.sort(
        key=lambda each: (-each.resources, each.element, each.site, each.system or "", each.code or "", each.text or "")
    )
    return Codes(tuple(found), _shares(sources, asked, engine))


def answers_to_questions() -> dict[str, frozenset[str]]:
    """Return by value set of a question the names that understand its answers, as the table of variables has them."""
    variables = [each for group in (VARIABLES, OF_PARAMETERS) for table in group.values() for each in table.values()]
    found: dict[str, frozenset[str]] = {}
    for evidence in (one for each in variables for one in each.evidence):
        if evidence.question is not None and evidence.answer is not None and evidence.question[0] == "code":
            for question in evidence.question[1]:
                found[question] = found.get(question, frozenset()) | frozenset(evidence.answer[1])
    return found


def find_shares(sources: Sources, engine: Engine, questions: Iterable[Question]) -> tuple[Share, ...]:
    """Return what share of each element is understood, by site and element."""
    return _shares(sources, by_element(questions), engine)


def _shares(sources: Sources, asked: Asked, engine: Engine) -> tuple[Share, ...]:
    rows = _rows(shares(sources, asked), engine)
    found = [Share(row["site"], _element(row), row["resources"], row["understood"]) for row in rows]
    return tuple(sorted(found, key=lambda share: (share.site, share.element)))


def _rows(tables: Iterable[ir.Table], engine: Engine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.arrow(engine.compile(ibis.union(*tables))).to_pylist()
    return found


def _element(row: Mapping[str, Any]) -> str:
    return f"{RESOURCE_TYPES[row['view']]}.{row['element']}"


def _unknown(row: Mapping[str, Any], asked: Asked, known: set[str], finder: Finder) -> UnknownCode:
    names = asked[row["view"], row["element"]]
    return UnknownCode(
        site=row["site"],
        element=_element(row),
        system=row["system"],
        code=row["code"],
        text=row["text"],
        question=row["question"] if row["question"] in known else None,
        names=names,
        resources=row["resources"],
        patients=row["patients"],
        screened=row["screened"],
        resembles=finder.resembling(row["code"], row["text"], names),
    )
