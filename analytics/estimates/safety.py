"""Count patients with adverse events by their worst CTCAE grade per term and phase (docs/endpoint-rules.md 15).

In addition to the figures that a study declares, every term that was seen gives one row per worst grade 1 to 5 and
one for an unknown grade, with id ``safety.<phase>.<term>.worst_grade_<grade>``. Only treatment-emergent rows
(TRTEMFL = Y) that are the worst of their patient, term and phase (AOCC01FL = Y).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from analytics.errors import AnalysisError
from analytics.estimates.cohort_tables import Cohort
from mappers.study import Population as PopulationName
from mappers.study import ProportionSpec, Study, Where

# Unknown is a cell of its own: an event whose grade was not recorded must not vanish from the total.
GRADES = ("1", "2", "3", "4", "5", "unknown")
# From fine to coarse, with the codes of the grades in each cell (0: unknown). The coarser ones stand in a release
# where the finer ones are too few: CTCAE grade 3 and above is what trials report (CTCAE v5, severe).
BY_GRADE = {grade: (0,) if grade == "unknown" else (int(grade),) for grade in GRADES}
SEVERE_OR_NOT = {"1-2": (1, 2), "3-5": (3, 4, 5), "unknown": (0,)}
ANY_GRADE = {"any": (0, 1, 2, 3, 4, 5)}
UNCODED = "Uncoded term"


@dataclass(frozen=True)
class Phase:
    """A phase of treatment: its value of APERIODC, its part of an id, its name and the population at risk."""

    period: str
    slug: str
    name: str
    population: PopulationName


# The population of a phase is those who could have an event in it: its denominator.
PHASES = (
    Phase("NEOADJUVANT", "neoadjuvant", "neoadjuvant", "enrolled"),
    Phase("POST-SURGERY", "post_surgery", "post-surgery", "resected"),
    Phase("ADJUVANT", "adjuvant", "adjuvant", "adjuvant"),
)
COLUMNS = ("USUBJID", "APERIODC", "AEDECOD", "ATOXGRN", "TRTEMFL", "AOCC01FL")


def worst_grades(
    cohort: Cohort, study: Study, cells: Mapping[str, tuple[int, ...]] = MappingProxyType(BY_GRADE)
) -> Iterator[tuple[ProportionSpec, frozenset[str]]]:
    """Yield every cell of the grid with its patients, by phase, term and grade or, with other `cells`, several grades.

    The terms of a phase are those that the study names for it, seen or not, and every other term that was
    seen.
    """
    rows = _worst_rows(cohort)
    for phase in PHASES:
        named = terms_of(study, phase)
        members = cohort.population(phase.population)
        here = rows[(rows["APERIODC"] == phase.period) & rows["USUBJID"].isin(members)]
        seen = sorted(set(here["AEDECOD"]) - set(named))
        taken = set(named.values())
        for term, part in {**named, **{term: distinct(slug(term), taken) for term in seen}}.items():
            # One grade for each patient even where two rows claim to be the worst: cells of a term are disjoint.
            worst = here.loc[here["AEDECOD"] == term].groupby("USUBJID")["GRADE"].max()
            for grade, codes in cells.items():
                yield _spec(phase, term, part, grade, codes), frozenset(worst.index[worst.isin(codes)])


def terms_of(study: Study, phase: Phase) -> dict[str, str]:
    """Return the preferred terms that the study's own figures of `phase` filter on, with their part of the id."""
    found: dict[str, str] = {}
    for spec in study.proportions:
        # safety.<phase>.<term>.<figure>: only figures of one single term give it its part of the id.
        parts = spec.id.split(".")
        terms = next((where.is_in for where in spec.where if where.column == "AEDECOD"), ())
        if spec.dataset == "adae" and parts[:2] == ["safety", phase.slug] and len(parts) > 3 and len(terms) == 1:
            found.setdefault(str(terms[0]), parts[2])
    return dict(sorted(found.items()))


def slug(term: str) -> str:
    """Return a term as part of an id: lower-case letters, digits and underscores; "term" where none is left.

    >>> slug("Pain, hip")
    'pain_hip'
    """
    # Accents are dropped rather than the letters below them; the id of an estimate is ASCII.
    plain = unicodedata.normalize("NFKD", term).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "term"


def distinct(name: str, taken: set[str]) -> str:
    """Return `name`, numbered where it is already among `taken`, and add it to them."""
    found = next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)
    taken.add(found)
    return found


def _worst_rows(cohort: Cohort) -> pd.DataFrame:
    rows = pd.DataFrame({name: cohort.column("adae", name) for name in COLUMNS})
    rows = rows[(rows["TRTEMFL"] == "Y") & (rows["AOCC01FL"] == "Y")]
    grades = pd.to_numeric(rows["ATOXGRN"], errors="coerce")
    # A blank grade is allowed and counted as unknown; a 0 or a 2.5 is a fault of the mapping.
    if not grades.dropna().isin(range(1, 6)).all():
        raise AnalysisError("adae", "ATOXGRN", "a grade is not 1 to 5", "give the CTCAE grade or leave it blank")
    return rows.assign(AEDECOD=_terms(cohort, rows).fillna(UNCODED), GRADE=grades.fillna(0).astype(int))


def _terms(cohort: Cohort, rows: pd.DataFrame) -> pd.Series:
    """Return AEDECOD of `rows` with one name a code: hospitals spell the own term of a code in several ways.

    The most frequent name of all events counts, of equally frequent ones the first in the alphabet.
    """
    terms: pd.Series = rows["AEDECOD"]
    if "AEPTCD" not in cohort.adae.columns:  # tables that were made by hand
        return terms
    named = cohort.adae[["AEPTCD", "AEDECOD"]].dropna()
    counted = named.groupby(["AEPTCD", "AEDECOD"]).size().rename("events").reset_index()
    counted = counted.sort_values(["events", "AEDECOD"], ascending=[False, True]).drop_duplicates("AEPTCD")
    names = counted.set_index("AEPTCD")["AEDECOD"]
    of_code: pd.Series = cohort.adae.loc[rows.index, "AEPTCD"].map(names)
    return of_code.fillna(terms)


def _spec(phase: Phase, term: str, part: str, grade: str, codes: tuple[int, ...]) -> ProportionSpec:
    breakdown = f"safety.{phase.slug}.{part}"
    conditions = {"APERIODC": phase.period, "TRTEMFL": "Y", "AOCC01FL": "Y"}
    # An uncoded term has no value to filter on.
    conditions |= {} if term == UNCODED else {"AEDECOD": term}
    where = [Where(column=column, is_in=(value,)) for column, value in conditions.items()]
    if 0 not in codes:
        where.append(Where(column="ATOXGRN", minimum=min(codes), maximum=max(codes)))
    return ProportionSpec(
        id=f"{breakdown}.worst_grade_{grade}",
        label=f"{term}, {phase.name}, worst grade {grade}",
        population=phase.population,
        dataset="adae",
        where=tuple(where),
        breakdown=breakdown,
    )
