"""Plan a release: which figures are shown, coarsened or withheld, so that an audit finds nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from analytics.disclosure.audit import Exposure, audit
from analytics.disclosure.coarsening import step_times
from analytics.disclosure.figures import ANY_GRADE, GRADES, SEVERE_OR_NOT, SIZE
from analytics.disclosure.model import Count
from analytics.disclosure.suppression import Candidate, withheld_units
from analytics.estimates.model import Cell, Results

# What is lost if a figure is withheld, by the first part of its id, where the study says nothing. A population is the
# denominator of many figures, a curve holds many numbers.
WEIGHTS = {"survival": 15.0, "response": 20.0, "surgery": 10.0, "treatment": 10.0, "baseline": 8.0, "safety": 4.0}
OTHER = 8.0
POPULATION, CURVE, STEP, BOX = 40.0, 60.0, 4.0, 2.0
GRADE_LEVELS = {GRADES: 0.2, SEVERE_OR_NOT: 1.0, ANY_GRADE: 2.0}
ROUNDS = 5
PAST = "past releases"  # the unit of all that left before, which cannot be withheld any more


@dataclass(frozen=True)
class Plan:
    """The figures that are shown by id, and the `steps` of each curve in months; `counts` are all that was considered.

    `refused` are the exposures for which nothing is shown: the choice could not be made safe.
    """

    figures: frozenset[str]
    steps: Mapping[str, tuple[float, ...]]
    everything: bool = False
    counts: tuple[Count, ...] = ()
    refused: tuple[Exposure, ...] = ()

    def shows(self, figure: str) -> bool:
        """Return whether a figure is shown."""
        return figure in self.figures


def plan(results: Results, k: int, past: Sequence[Count] = (), withhold: frozenset[str] = frozenset()) -> Plan:
    """Return what may be shown of `results` with threshold k; nothing where the audit finds something all the same.

    `past` are the counts of releases that left before, in the numbering of the patients of `results`: their published
    ones are known whatever is chosen now. `withhold` are ids of counts and figures that are not shown in any case.
    """
    # With fewer than k enrolled patients every count is protected, and "all of them" tells as much as "none".
    if 0 < results.population_sizes["enrolled"] < k:
        return Plan(frozenset(), {}, everything=True)
    candidates, further = _candidates(results, k)
    forced = _forced(candidates, withhold)
    fixed = [Candidate(count, PAST, math.inf) for count in past if count.published]
    unseen = [*further, *(count for count in past if not count.published)]
    withheld = withheld_units([*candidates, *fixed], unseen, k, forced)
    for _ in range(ROUNDS):
        counts = (*_counts(candidates, withheld), *further)
        exposed = _new_exposures((*counts, *past), past, k)
        if not exposed:
            return _plan(results, candidates, withheld, counts)
        # The audit knows more than the choice: whole solutions only. Then all goes that the exposed count follows from.
        used = {name for exposure in exposed for name in exposure.counts}
        withheld = _with_dependants(
            candidates, withheld | {c.unit for c in candidates if c.count.id in used and math.isfinite(c.weight)}
        )
    return Plan(frozenset(), {}, everything=True, refused=exposed)


def _new_exposures(counts: Sequence[Count], past: Sequence[Count], k: int) -> tuple[Exposure, ...]:
    """Return what the audit finds in all `counts` together and not in those of the `past` alone.

    What releases with a lower threshold tell by the one of today cannot be taken back, whatever is withheld now.
    """
    exposed = audit(counts, k)
    if not exposed or not past:
        return exposed
    known = {exposure.patients for exposure in audit(past, k)}
    return tuple(exposure for exposure in exposed if exposure.patients not in known)


def _forced(candidates: list[Candidate], withhold: frozenset[str]) -> frozenset[str]:
    """Return the units with a count or figure of these ids, and all that need one of them."""
    named = {c.unit for c in candidates if {c.unit, c.count.id, c.count.id.partition("#")[0]} & withhold}
    finite = frozenset(c.unit for c in candidates if c.unit in named and math.isfinite(c.weight))
    return _with_dependants(candidates, finite)


def _candidates(results: Results, k: int) -> tuple[list[Candidate], list[Count]]:
    """Return the counts that could be published, and those that never are."""
    ends = {s.id: step_times(s, k) for s in results.survival}
    shown = _terms_to_show(results, k)
    found, further = [], []
    for cell in results.cells:
        count = Count(cell.id, cell.patients, cell.population, cell.variable_groups)
        if not cell.listed:
            further.append(replace(count, published=False))
        elif cell.time is not None and cell.time not in (ends[cell.figure] or ()):
            continue  # no step of the coarsened curve: shown nowhere
        elif cell.figure.endswith(tuple(GRADE_LEVELS)) and cell.figure.partition("#")[0] not in shown:
            continue
        # The totals of such a curve are protected, so that it is withheld as a whole.
        elif cell.figure in ends and ends[cell.figure] is None:
            further.append(replace(count, published=False))
        else:
            found.append(_candidate(cell, count, results))
    return found, further


def _terms_to_show(results: Results, k: int) -> set[str]:
    """Return the terms and phases (as breakdowns) whose patients at any grade are no protected count."""
    sizes = {cell.id: cell.patients.bit_count() for cell in results.cells}
    found = set()
    for cell in results.cells:
        if cell.figure.endswith(ANY_GRADE):
            x, n = cell.patients.bit_count(), sizes[cell.population]
            if not 0 < x < k and not 0 < n - x < k:
                found.add(cell.figure.removesuffix(ANY_GRADE))
    return found


def _candidate(cell: Cell, count: Count, results: Results) -> Candidate:
    unit, needs = cell.figure, []
    if cell.population.startswith(SIZE):
        needs.append(cell.population)  # a proportion shows its denominator, a median how many had no value
    for fine, coarse in ((GRADES, SEVERE_OR_NOT), (SEVERE_OR_NOT, ANY_GRADE)):
        if unit.endswith(fine):
            needs.append(unit.removesuffix(fine) + coarse)
    if cell.time is not None:
        needs, unit = [cell.figure], f"{cell.figure}@{cell.time:g}"
    return Candidate(count, unit, _weight(cell, results), tuple(needs))


def _weight(cell: Cell, results: Results) -> float:
    if cell.id == f"{SIZE}enrolled":
        return math.inf
    if cell.id.startswith(SIZE):
        return POPULATION
    if cell.id.startswith("flow."):
        return BOX
    for level, weight in GRADE_LEVELS.items():
        if cell.figure.endswith(level):
            return weight
    curve = any(s.id == cell.figure for s in results.survival)
    if cell.time is not None:
        return STEP
    # The study knows its endpoints; the defaults know kinds only.
    declared = results.importance.get(cell.figure)
    if declared is not None:
        return declared
    return CURVE / 2 if curve else WEIGHTS.get(cell.id.partition(".")[0], OTHER)


def _counts(candidates: list[Candidate], withheld: frozenset[str]) -> Iterator[Count]:
    for candidate in candidates:
        yield replace(candidate.count, published=candidate.unit not in withheld)


def _with_dependants(candidates: list[Candidate], withheld: frozenset[str]) -> frozenset[str]:
    """Return `withheld` with all units that need one of them."""
    while True:
        more = {c.unit for c in candidates if c.unit not in withheld and not withheld.isdisjoint(c.needs)}
        if not more:
            return withheld
        withheld |= more


def _plan(results: Results, candidates: list[Candidate], withheld: frozenset[str], counts: tuple[Count, ...]) -> Plan:
    shown = frozenset(c.unit for c in candidates) - withheld
    times = {
        s.id: tuple(sorted(float(u.partition("@")[2]) for u in shown if u.startswith(f"{s.id}@")))
        for s in results.survival
    }
    # What is not evaluable for want of tables has no count of its own, and is shown as such.
    empty = frozenset(e.id for e in results.estimates if e.n is None)
    return Plan(shown | empty, times, counts=counts)
