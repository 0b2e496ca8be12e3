"""Read adverse events by phase, term and worst CTCAE grade from the proportions of a release.

Their ids are ``safety.<phase>.<term>.worst_grade_<g>`` (`analytics.estimates.safety`): patients of the phase's
population whose worst grade of that term was g, or ``unknown``. A patient has one worst grade per term and
phase, so the cells of a bar are disjoint and add up. Disclosure control may have merged 1 and 2, 3 to 5, or all grades.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analytics.estimates.model import Proportion

GRADES = ("1", "2", "3", "4", "5", "unknown")
# Grades that were merged, and how a reader sees them
MERGED = {"1-2": "1–2", "3-5": "≥ 3", "any": "not split"}
ORDER = ("1", "2", "1-2", "3", "4", "5", "3-5", "unknown", "any")
ID = re.compile(r"safety\.(?P<phase>[^.]+)\.(?P<term>[^.]+)\.worst_grade_(?P<grade>1-2|3-5|[1-5]|unknown|any)")
# The order of treatment. A study with other phases shows them after these, by name.
CHRONOLOGY = ("neoadjuvant", "post_surgery", "adjuvant")


@dataclass(frozen=True)
class Phase:
    """One phase of treatment and the population it is counted in; `n` is None where it is not released."""

    id: str
    population: str
    n: int | None

    @property
    def name(self) -> str:
        """Return ``post_surgery`` as ``post-surgery``."""
        return self.id.replace("_", "-")


@dataclass(frozen=True)
class Bar:
    """Patients by worst grade of one term in one phase: `cells[g]` is the proportion of worst grade g."""

    cells: dict[str, Proportion]

    @property
    def missing(self) -> Proportion | None:
        """Return the first cell without a value, if any: then the bar is not drawn and the cell says why."""
        return next((cell for cell in self.cells.values() if cell.status != "ok"), None)

    @property
    def total(self) -> int:
        """Return the patients with the term at any grade. Only for a bar without a missing cell."""
        return sum(cell.x or 0 for cell in self.cells.values())


@dataclass(frozen=True)
class GradeTable:
    """`bars[term][phase]`, terms by falling number of patients, phases in the order of treatment."""

    phases: tuple[Phase, ...]
    bars: dict[str, dict[str, Bar]]

    @property
    def grades(self) -> tuple[str, ...]:
        """Return grades 1 to 5, those that are merged somewhere, and unknown where a patient has one."""
        bars = [bar for bars in self.bars.values() for bar in bars.values()]
        used = {grade for bar in bars for grade in bar.cells}
        unknown = any((cell := bar.cells.get("unknown")) is not None and cell.x for bar in bars)
        shown = {*GRADES[:-1], *(used & MERGED.keys()), *(("unknown",) if unknown else ())}
        return tuple(grade for grade in ORDER if grade in shown)

    @property
    def headings(self) -> tuple[str, ...]:
        """Return `grades` as a reader sees them."""
        return tuple(MERGED.get(grade, grade) for grade in self.grades)


def is_worst_grade(estimate_id: str) -> bool:
    """Return whether the id is one cell of the picture of adverse events."""
    return ID.fullmatch(estimate_id) is not None


def grade_table(proportions: tuple[Proportion, ...]) -> GradeTable:
    """Read the worst-grade cells of `proportions`; empty where there are none."""
    cells: dict[str, dict[str, dict[str, Proportion]]] = {}
    for cell in proportions:
        if match := ID.fullmatch(cell.id):
            phase, grade = match["phase"], match["grade"]
            # By name, not by the part of the id: the same term may have another one in another phase.
            term = cell.label.removesuffix(f", {phase.replace('_', '-')}, worst grade {grade}")
            cells.setdefault(term, {}).setdefault(phase, {})[grade] = cell
    bars = {term: {phase: Bar(found) for phase, found in phases.items()} for term, phases in cells.items()}
    # A bar that is not drawn counts as none: its place must not tell its size.
    totals = {t: sum(bar.total for bar in phases.values() if bar.missing is None) for t, phases in bars.items()}
    order = sorted(bars, key=lambda term: (-totals[term], term))
    return GradeTable(_phases(bars), {term: bars[term] for term in order})


def _phases(bars: dict[str, dict[str, Bar]]) -> tuple[Phase, ...]:
    """Return every phase that a term names, with the denominator of its first released cell."""
    found: dict[str, Phase] = {}
    for phases in bars.values():
        for phase, bar in phases.items():
            # Any released cell has the denominator; a suppressed one may have lost it.
            cell = next((c for c in bar.cells.values() if c.n is not None), next(iter(bar.cells.values())))
            if phase not in found or found[phase].n is None:
                found[phase] = Phase(phase, cell.population, cell.n)
    rank = {phase: i for i, phase in enumerate(CHRONOLOGY)}
    return tuple(sorted(found.values(), key=lambda phase: (rank.get(phase.id, len(rank)), phase.id)))
