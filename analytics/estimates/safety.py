"""Adverse events: patients by their worst CTCAE grade per term and phase (docs/endpoint-rules.md 15).

Beside the figures that a study declares, every term that was seen gives one row per worst grade 1 to 5 and
one for an unknown grade, with id ``safety.<phase>.<term>.worst_grade_<grade>``. Only treatment-emergent rows
(TRTEMFL = Y) that are the worst of their patient, term and phase (AOCC01FL = Y).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from analytics.errors import AnalysisError
from analytics.estimates.cohort import Cohort
from mappers.study import Population as PopulationName
from mappers.study import ProportionSpec, Study, Where

GRADES = ("1", "2", "3", "4", "5", "unknown")
UNCODED = "Uncoded term"


@dataclass(frozen=True)
class Phase:
    """A phase of treatment: its value of APERIODC, its part of an id, its name and the population at risk."""

    period: str
    slug: str
    name: str
    population: PopulationName


PHASES = (
    Phase("NEOADJUVANT", "neoadjuvant", "neoadjuvant", "enrolled"),
    Phase("POST-SURGERY", "post_surgery", "post-surgery", "resected"),
    Phase("ADJUVANT", "adjuvant", "adjuvant", "adjuvant"),
)
NEEDED = ("USUBJID", "APERIODC", "AEDECOD", "ATOXGRN", "TRTEMFL", "AOCC01FL")


def worst_grades(cohort: Cohort, study: Study) -> Iterator[tuple[ProportionSpec, frozenset[str]]]:
    """Every cell of the grid with its patients, by phase, term and grade.

    The terms of a phase are those that the study names for it, seen or not, and every other term that was
    seen.
    """
    rows = _worst_rows(cohort)
    for phase in PHASES:
        named = terms_of(study, phase)
        members = cohort.population(phase.population)
        here = rows[(rows["APERIODC"] == phase.period) & rows["USUBJID"].isin(members)]
        seen = sorted(set(here["AEDECOD"]) - set(named))
        for term, slug in {**named, **_slugs(seen, set(named.values()))}.items():
            grades = here.loc[here["AEDECOD"] == term].groupby("USUBJID")["GRADE"].max()
            for grade in GRADES:
                yield _spec(phase, term, slug, grade), frozenset(grades.index[grades == _code(grade)])


def terms_of(study: Study, phase: Phase) -> dict[str, str]:
    """The preferred terms that the study's own figures of `phase` filter on, with their part of the id."""
    found: dict[str, str] = {}
    for spec in study.proportions:
        parts = spec.id.split(".")
        if spec.dataset == "adae" and parts[:2] == ["safety", phase.slug] and len(parts) > 3:
            for term in _named(spec.where):
                found.setdefault(term, parts[2])
    return dict(sorted(found.items()))


def _named(where: tuple[Where, ...]) -> tuple[str, ...]:
    terms = [w.is_in for w in where if w.column == "AEDECOD"]
    return tuple(str(term) for term in terms[0]) if terms and len(terms[0]) == 1 else ()


def slug(term: str) -> str:
    """A term as part of an id: lower-case letters, digits and underscores; "term" where none is left."""
    plain = unicodedata.normalize("NFKD", term).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "term"


def _slugs(terms: list[str], taken: set[str]) -> Mapping[str, str]:
    """A distinct slug for each term: a second one that reads alike is numbered."""
    found: dict[str, str] = {}
    for term in terms:
        base = slug(term)
        tries = (base if i == 1 else f"{base}_{i}" for i in range(1, len(terms) + len(taken) + 2))
        found[term] = next(name for name in tries if name not in taken and name not in found.values())
    return found


def _worst_rows(cohort: Cohort) -> pd.DataFrame:
    columns = {name: cohort.column("adae", name) for name in NEEDED}
    rows = pd.DataFrame(columns)
    rows = rows[(rows["TRTEMFL"] == "Y") & (rows["AOCC01FL"] == "Y")]
    grades = pd.to_numeric(rows["ATOXGRN"], errors="coerce")
    if not grades.dropna().isin(range(1, 6)).all():
        raise AnalysisError("adae", "ATOXGRN", "a grade is not 1 to 5", "give the CTCAE grade or leave it blank")
    return rows.assign(AEDECOD=rows["AEDECOD"].fillna(UNCODED), GRADE=grades.fillna(0).astype(int))


def _code(grade: str) -> int:
    return 0 if grade == "unknown" else int(grade)


def _spec(phase: Phase, term: str, slug: str, grade: str) -> ProportionSpec:
    breakdown = f"safety.{phase.slug}.{slug}"
    conditions = {"APERIODC": phase.period, "TRTEMFL": "Y", "AOCC01FL": "Y"}
    conditions |= {} if term == UNCODED else {"AEDECOD": term}
    where = [Where(column=column, is_in=(value,)) for column, value in conditions.items()]
    if grade != "unknown":
        where.append(Where(column="ATOXGRN", minimum=int(grade), maximum=int(grade)))
    return ProportionSpec(
        id=f"{breakdown}.worst_grade_{grade}",
        label=f"{term}, {phase.name}, worst grade {grade}",
        population=phase.population,
        dataset="adae",
        where=tuple(where),
        breakdown=breakdown,
    )
