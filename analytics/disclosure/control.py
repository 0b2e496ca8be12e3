"""Disclosure control: suppress every number that could reveal a small count. The only maker of `Released`.

With threshold k = `min_cell`, a count of 1 to k - 1 patients is protected, and so is a count that leaves 1 to
k - 1 others. Nothing is rounded or perturbed: whole breakdowns are suppressed. The rules, numbered in the comments
below, are those of docs/disclosure.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import InitVar, dataclass, replace
from fractions import Fraction
from itertools import combinations
from types import MappingProxyType
from typing import Any

from analytics.disclosure.coarsening import coarsen
from analytics.disclosure.differencing import disclosed_by_differencing, is_protected, without_cutoff
from analytics.errors import NotReleasedError
from analytics.estimates.model import (
    Estimate,
    FlowStep,
    Landmark,
    Proportion,
    QualityItem,
    Quantiles,
    Results,
    Survival,
)
from analytics.estimates.rounding import round_half_up
from analytics.provenance import Provenance

# One sentence for every cause: a reason that told the rules apart would itself say something about the count.
REASON = "a protected count could be read or derived from it"
# The domains of the quality list that count patients and not resources
PATIENT_DOMAINS = frozenset({"ADSL", "ADRS", "ADTTE", "ADAE", "Patient"})
_KEY = object()


@dataclass(frozen=True)
class Released:
    """The results that may leave the hospital: the fields of `Results` after suppression, and their `min_cell`.

    A suppressed number is None with `status` "suppressed" and a `reason`. Made by `release` alone: the
    constructor and `dataclasses.replace` raise `NotReleasedError` or `ValueError` without its key.
    """

    study: str
    study_title: str
    data_cutoff: str
    sites: tuple[str, ...]
    study_hash: str
    population_sizes: Mapping[str, int | None]
    proportions: tuple[Proportion, ...]
    quantiles: tuple[Quantiles, ...]
    survival: tuple[Survival, ...]
    flow: tuple[FlowStep, ...]
    quality: tuple[QualityItem, ...]
    provenance: Provenance
    min_cell: int
    key: InitVar[object]

    def __post_init__(self, key: object) -> None:
        if key is not _KEY:
            raise NotReleasedError("a Released is made by analytics.disclosure.control.release only; call it instead")

    def __init_subclass__(cls) -> None:
        raise NotReleasedError("Released has no subclasses; use analytics.disclosure.control")

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Return all proportions, quantiles and survival estimates."""
        return (*self.proportions, *self.quantiles, *self.survival)

    @property
    def sites_missing(self) -> tuple[str, ...]:
        """Return the names of the sites whose data are not up to date."""
        return self.provenance.sites_missing

    @property
    def suppressed_entirely(self) -> bool:
        """Return whether disclosure control left not one estimate (exit code 5)."""
        statuses = {estimate.status for estimate in self.estimates}
        return "suppressed" in statuses and "ok" not in statuses

    @property
    def statement(self) -> str:
        """Return one sentence for the reader: what was suppressed and why."""
        if self.min_cell <= 1:
            return f"No disclosure control (min_cell = {self.min_cell}): small counts are shown."
        k = threshold(self.min_cell)
        return (
            f"Counts of 1 to {k - 1} patients, and all figures from which one could be derived, are "
            f"suppressed; survival curves have steps of at least {k} events (min_cell = {self.min_cell})."
        )


_PASSED_ON = tuple(name for name in Released.__dataclass_fields__ if name not in {"min_cell", "key"})


def threshold(min_cell: int) -> int:
    """Return the k that is used for `min_cell`: 0 and 1 protect nothing, and 2 is raised to 3."""
    # With k = 2 only a count of 1 is protected, so that the word "suppressed" would itself say "1".
    return 0 if min_cell <= 1 else max(min_cell, 3)


def release(results: Results, min_cell: int) -> Released:
    """Return `results` after disclosure control with threshold `min_cell`; raise `ValueError` for a negative one.

    >>> from analytics.estimates.model import Results
    >>> from analytics.estimates.proportions import estimate_proportion
    >>> from mappers.study import ProportionSpec
    >>> women = estimate_proportion(ProportionSpec(id="baseline.sex.female", label="Female"), x=4, n=33)
    >>> results = Results("demo", "A demo", "2024-12-01", ("milan",), "", {"enrolled": 33}, (women,), (), (), (), ())
    >>> release(results, min_cell=0).proportions[0].x
    4
    >>> release(results, min_cell=11).proportions[0].status
    'suppressed'
    """
    if min_cell < 0:
        raise ValueError(f"min_cell is {min_cell}; give 0 (no control) or a positive number")
    fields: dict[str, Any] = {name: getattr(results, name) for name in _PASSED_ON}
    if k := threshold(min_cell):
        fields |= _controlled(results, k)
    fields["population_sizes"] = MappingProxyType(dict(fields["population_sizes"]))
    return Released(**fields, min_cell=min_cell, key=_KEY)


def _controlled(results: Results, k: int) -> dict[str, Any]:
    """Return the fields of a `Released` that disclosure control changes."""
    # Rule 6: with fewer than k enrolled patients every count is protected, and "all of them" tells as much as "none".
    everything = is_protected(results.population_sizes["enrolled"], k)
    curves = {s.id: coarsen(s, k) for s in results.survival}
    suppression = Suppression(_breakdowns(results, curves, k), results.population_sizes, everything)
    flow = results.flow
    if everything or "flow" in suppression.breakdowns:
        # The trunk is always there; a reason for leaving is listed only because someone left for it.
        flow = tuple(replace(step, n=None, **SUPPRESSED) for step in flow if step.kind == "main")
    # Rule 6: a count of records is suppressed where it is as small as a protected count of patients. One of patients
    # is suppressed whatever its size, because nothing says which of the other counts it can be subtracted from.
    quality = (
        replace(item, count=None, **SUPPRESSED)
        if everything or item.domain in PATIENT_DOMAINS or is_protected(item.count, k)
        else item
        for item in results.quality
    )
    return {
        "population_sizes": {name: suppression.size(name) for name in results.population_sizes},
        "proportions": tuple(_proportions(results.proportions, suppression)),
        "quantiles": tuple(_quantile(q, suppression) for q in results.quantiles),
        "survival": tuple(_survival(s, curves[s.id], suppression) for s in results.survival),
        "flow": flow,
        "quality": tuple(quality),
    }


@dataclass(frozen=True)
class Suppression:
    """The breakdowns that are suppressed, without their data cutoff, or `everything`; `sizes` of the populations."""

    breakdowns: frozenset[str]
    sizes: Mapping[str, int]
    everything: bool

    def hides(self, population: str) -> bool:
        """Return whether the size of a population is suppressed, and with it every estimate within it."""
        # The number of the enrolled is the denominator of nearly every figure: it is suppressed only with all else.
        return self.everything or (population != "enrolled" and "populations" in self.breakdowns)

    def covers(self, breakdown: str, population: str) -> bool:
        """Return whether an estimate of this breakdown and population is suppressed."""
        return self.hides(population) or without_cutoff(breakdown) in self.breakdowns

    def size(self, population: str) -> int | None:
        """Return the size of a population where it may be shown."""
        return None if self.hides(population) else self.sizes[population]

    def denominator(self, population: str, n: int | None) -> int | None:
        """Return `n` of a suppressed proportion where it is the size of a population that is shown anyway."""
        return n if n == self.sizes.get(population) and not self.hides(population) else None


# Which breakdowns are suppressed


def _breakdowns(results: Results, curves: Mapping[str, Survival | None], k: int) -> frozenset[str]:
    # Rule 4: a curve whose totals are protected has no coarsened form.
    found = {without_cutoff(key) for key, curve in curves.items() if curve is None}
    found |= set(_small_proportions(results, k)) | set(_small_denominators(results, k))
    # Rule 2: populations lie within each other, so that the difference of two sizes is a count of patients as well.
    sizes = results.population_sizes.values()
    if any(is_protected(n, k) for n in (*sizes, *(abs(a - b) for a, b in combinations(sizes, 2)))):
        # What is counted among the enrolled too, whose number is always known, may stay.
        of_enrolled = {without_cutoff(e.breakdown) for e in results.estimates if e.population == "enrolled"}
        found |= {"populations", *(without_cutoff(e.breakdown) for e in results.estimates)} - of_enrolled
    if "populations" in found or _has_small_box(results.flow, k):
        found.add("flow")
    found = _with_differencing(results, curves, k, found)
    # Differencing may have reached the populations only now: the flow diagram shows the same sizes.
    return frozenset(found | {"flow"} if "populations" in found else found)


def _with_differencing(results: Results, curves: Mapping[str, Survival | None], k: int, found: set[str]) -> set[str]:
    """Return `found` and what must be suppressed because counts can be subtracted (rule 5).

    Deaths and events are one table in two parts: the curves, and the proportions that repeat them. A
    part is suppressed as a whole, the second whenever the first is: an event is a progression or a death,
    so that what is left of the table would tell too much of what is not.
    """
    # A count of a curve at a time is published only if the coarsened curve has a step there.
    steps = {key: {point.t for point in curve.curve[1:]} for key, curve in curves.items() if curve is not None}
    cells = [cell for cell in results.cells if cell.time is None or cell.time in steps.get(cell.breakdown, ())]
    events = {cell.breakdown for cell in cells if "events" in cell.variable_groups}
    lines = {without_cutoff(s.id) for s in results.survival}
    repeats = events - lines
    # The curves go first: where a curve and a proportion that repeats it ("alive at the data cutoff") disclose a
    # count only together, the second round suppresses the proportion and keeps the curve.
    first = found | disclosed_by_differencing([c for c in cells if c.breakdown not in found | repeats], k)
    if first & lines:
        first |= events | lines
    second = first | (disclosed_by_differencing([c for c in cells if c.breakdown not in first], k) - lines)
    return second | repeats if second & events else second


def _small_proportions(results: Results, k: int) -> Iterator[str]:
    """Yield the breakdowns with a protected cell, complement or rest (rule 1)."""
    enrolled = results.population_sizes["enrolled"]
    breakdowns: dict[str, list[Proportion]] = {}
    for p in results.proportions:
        breakdowns.setdefault(without_cutoff(p.breakdown), []).append(p)
    for breakdown, cells in breakdowns.items():
        counts = [count for p in cells for count in _counts(p, enrolled)] + list(_changes_between_cutoffs(cells))
        # Unless it is known who is behind the cells, they are taken to exclude each other.
        if not results.cells:
            listed = sum(p.x for p in cells if p.x is not None and "@" not in p.id)
            counts += [p.n - listed for p in cells if p.n is not None]
        if any(is_protected(count, k) for count in counts):
            yield breakdown


def _counts(p: Proportion, enrolled: int) -> tuple[int, ...]:
    if p.x is None or p.n is None:
        return ()
    # At a later data cutoff a few more may be enrolled: the difference to the main cutoff is a count as well.
    new = abs(enrolled - p.n) if p.population == "enrolled" else 0
    return p.x, p.n - p.x, p.n, new


def _changes_between_cutoffs(cells: list[Proportion]) -> Iterator[int]:
    """Yield how much x and n of the same figure differ between data cutoffs: who died in between can be subtracted."""
    for a, b in combinations(cells, 2):
        if without_cutoff(a.id) == without_cutoff(b.id):
            pairs = ((a.x, b.x), (a.n, b.n))
            yield from (abs(left - right) for left, right in pairs if left is not None and right is not None)


def _small_denominators(results: Results, k: int) -> Iterator[str]:
    """Yield the quantities and curves with a value for few patients, or for all but a few (rule 3)."""
    estimates: tuple[Estimate, ...] = (*results.quantiles, *results.survival)
    for estimate in estimates:
        size = results.population_sizes[estimate.population]
        if estimate.n is not None and (is_protected(estimate.n, k) or is_protected(abs(size - estimate.n), k)):
            yield without_cutoff(estimate.id)


def _has_small_box(flow: tuple[FlowStep, ...], k: int) -> bool:
    """Return whether a box is protected, or what is left of a box after those who left it or went on."""
    if any(is_protected(step.n, k) for step in flow):
        return True
    for parent in flow:
        children = [step for step in flow if step.parent == parent.id]
        went_on, left = (sum(step.n or 0 for step in children if step.kind == kind) for kind in ("main", "excluded"))
        if children and any(is_protected((parent.n or 0) - gone, k) for gone in (went_on, left, went_on + left)):
            return True
    return False


# Taking the numbers out

SUPPRESSED: dict[str, Any] = {"status": "suppressed", "reason": REASON}
SUPPRESSED_MEDIAN: dict[str, Any] = {"median_status": "suppressed", **SUPPRESSED}


def _proportions(proportions: tuple[Proportion, ...], suppression: Suppression) -> Iterator[Proportion]:
    # Adverse event terms that the study does not name are listed because they were seen: a suppressed row
    # would still say that somebody had the event, so such breakdowns are left out whole.
    declared = {p.breakdown for p in proportions if ".worst_grade_" not in p.id}
    for p in proportions:
        if p.n is None or not suppression.covers(p.breakdown, p.population):
            yield p
        elif p.breakdown in declared:
            n = suppression.denominator(p.population, p.n)
            yield replace(p, x=None, n=n, percent=None, ci=None, **SUPPRESSED)


def _quantile(q: Quantiles, suppression: Suppression) -> Quantiles:
    if q.n is None or not suppression.covers(q.id, q.population):
        # Rule 3: to four decimals a quartile of follow-up is the day of the first dose of a patient.
        return replace(q, median=_on_grid(q.median), q1=_on_grid(q.q1), q3=_on_grid(q.q3))
    blank: dict[str, Any] = dict.fromkeys(("n", "median", "q1", "q3", "missing"))
    return replace(q, **blank, **SUPPRESSED_MEDIAN)


def _on_grid(value: float | None) -> float | None:
    """Return a value as the report prints it, to one decimal of its unit."""
    # From the shortest decimal that names the float, as in the report: 0.25 may lie below a quarter in binary.
    return None if value is None else float(round_half_up(Fraction(repr(value)), 1))


def _survival(exact: Survival, coarse: Survival | None, suppression: Suppression) -> Survival:
    if coarse is not None and not suppression.covers(exact.id, exact.population):
        return coarse
    blank: dict[str, Any] = dict.fromkeys(("n", "events", "median", "ci"))
    landmarks = tuple(Landmark(mark.t, None, None, None, "suppressed", REASON) for mark in exact.landmarks)
    return replace(exact, landmarks=landmarks, curve=(), **blank, **SUPPRESSED_MEDIAN)
