"""Disclosure control: suppress every number that could reveal a small count. The only maker of `Released`.

With threshold k = `min_cell`, a count of 1 to k - 1 patients is protected, and so is a count that leaves 1 to
k - 1 others. No count is rounded or perturbed. Every count of the release stands in one linear model (`model`), what to
withhold is chosen at once (`suppression`), and what is left is attacked before it leaves (`audit`): docs/disclosure.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import InitVar, dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from analytics.disclosure.coarsening import coarsen
from analytics.disclosure.figures import ANY_GRADE, GRADES, SEVERE_OR_NOT, SIZE, quality_name
from analytics.disclosure.model import Count, is_protected
from analytics.disclosure.past import NO_PAST, CountedPatients, past_counts
from analytics.disclosure.plan import Plan, plan
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
REFUSAL = (
    "the audit of disclosure control can still derive {} protected count(s) from what would be published, "
    "so nothing is; take the finest breakdowns out of the study file"
)
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
    # Why nothing at all may leave, for the person in the hospital. Without numbers: it may reach a log.
    refusal: str | None
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


_PASSED_ON = tuple(name for name in Released.__dataclass_fields__ if name not in {"min_cell", "refusal", "key"})


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
    return release_after(results, min_cell)[0]


def release_after(
    results: Results,
    min_cell: int,
    past: Mapping[int, CountedPatients] = NO_PAST,
    withhold: frozenset[str] = frozenset(),
) -> tuple[Released, CountedPatients]:
    """Return `results` after disclosure control together with all `past` releases, by number.

    Also returns the patients behind its counts, to be kept inside for the releases after it. `withhold` are ids of
    counts and figures, and names of lines of the quality list, that are suppressed in any case.
    """
    if min_cell < 0:
        raise ValueError(f"min_cell is {min_cell}; give 0 (no control) or a positive number")
    fields: dict[str, Any] = {name: getattr(results, name) for name in _PASSED_ON} | {"refusal": None}
    counts: tuple[Count, ...] = ()
    if k := threshold(min_cell):
        chosen = plan(results, k, past_counts(results.subjects, past, k) if past else (), withhold)
        fields |= _controlled(results, chosen, k, withhold)
        counts = chosen.counts
    fields["population_sizes"] = MappingProxyType(dict(fields["population_sizes"]))
    released = Released(**fields, min_cell=min_cell, key=_KEY)
    return released, CountedPatients(results.subjects, counts)


def _controlled(results: Results, chosen: Plan, k: int, withhold: frozenset[str]) -> dict[str, Any]:
    """Return the fields of a `Released` that disclosure control changes."""
    return {
        "refusal": REFUSAL.format(len(chosen.refused)) if chosen.refused else None,
        "population_sizes": {
            name: size if chosen.shows(f"{SIZE}{name}") else None for name, size in results.population_sizes.items()
        },
        "proportions": tuple(_proportions(results, chosen)),
        "quantiles": tuple(_quantile(q, results, chosen, k) for q in results.quantiles),
        "survival": tuple(_survival(s, chosen) for s in results.survival),
        "flow": tuple(_flow(results.flow, chosen)),
        "quality": tuple(_quality(item, chosen, k, withhold) for item in results.quality),
    }


# Taking the numbers out

SUPPRESSED: dict[str, Any] = {"status": "suppressed", "reason": REASON}
SUPPRESSED_MEDIAN: dict[str, Any] = {"median_status": "suppressed", **SUPPRESSED}


def _proportions(results: Results, chosen: Plan) -> Iterator[Proportion]:
    # Adverse event terms that the study does not name are listed because they were seen: a suppressed row
    # would still say that somebody had the event, so such terms are left out.
    declared = {p.breakdown for p in results.proportions if not _is_grade(p)}
    begun = set()
    for p in results.proportions:
        if not _is_grade(p):
            yield p if chosen.shows(p.id) or p.n is None else _withheld(p, results, chosen)
        elif chosen.shows(f"{p.breakdown}{GRADES}"):
            yield p
        elif p.breakdown not in begun:
            begun.add(p.breakdown)
            # The finest of the coarser splits that is safe
            shown = next(
                (f for level in (SEVERE_OR_NOT, ANY_GRADE) if chosen.shows(f := f"{p.breakdown}{level}")), None
            )
            if shown is not None:
                yield from results.coarser[shown]
            elif p.breakdown in declared:
                own = (other for other in results.proportions if other.breakdown == p.breakdown and _is_grade(other))
                yield from (_withheld(other, results, chosen) for other in own)


def _is_grade(p: Proportion) -> bool:
    return ".worst_grade_" in p.id


def _withheld(p: Proportion, results: Results, chosen: Plan) -> Proportion:
    known = p.n == results.population_sizes.get(p.population) and chosen.shows(f"{SIZE}{p.population}")
    return replace(p, x=None, n=p.n if known else None, percent=None, ci=None, **SUPPRESSED)


def _quantile(q: Quantiles, results: Results, chosen: Plan, k: int) -> Quantiles:
    if q.n is None or (q.n == 0 and chosen.shows(q.id)):
        return q
    if not chosen.shows(q.id):
        blank: dict[str, Any] = dict.fromkeys(("n", "median", "q1", "q3", "missing"))
        return replace(q, **blank, **SUPPRESSED_MEDIAN)
    # A quartile with few patients beyond it, or before it, is close to the value of one of them.
    enough = [side >= k for side in results.beside[q.id]]
    values = [_on_grid(v, q.unit) if fine else None for v, fine in zip((q.q1, q.median, q.q3), enough, strict=True)]
    q1, median, q3 = values
    if q.median is not None and median is None:
        return replace(q, median=None, q1=None, q3=None, **SUPPRESSED_MEDIAN)
    if not (enough[0] and enough[2]) and q.q1 is not None:
        return replace(q, q1=None, median=median, q3=None, quartile_status="suppressed")
    return replace(q, q1=q1, median=median, q3=q3 if enough[2] else None)


def _on_grid(value: float | None, unit: str) -> float | None:
    """Return a value on the grid of its unit: whole days, weeks and years to 0.1, months to 0.1."""
    # From the shortest decimal that names the float, as in the report: 0.25 may lie below a quarter in binary.
    digits = 0 if unit == "days" else 1
    return None if value is None else float(round_half_up(Fraction(repr(value)), digits))


def _survival(exact: Survival, chosen: Plan) -> Survival:
    if chosen.shows(exact.id):
        return coarsen(exact, chosen.steps[exact.id])
    blank: dict[str, Any] = dict.fromkeys(("n", "events", "median", "ci"))
    landmarks = tuple(Landmark(mark.t, None, None, None, "suppressed", REASON) for mark in exact.landmarks)
    return replace(exact, landmarks=landmarks, curve=(), **blank, **SUPPRESSED_MEDIAN)


def _flow(flow: Collection[FlowStep], chosen: Plan) -> Iterator[FlowStep]:
    for step in flow:
        if chosen.shows(step.id):
            yield step
        # The trunk is always there; a reason for leaving is listed only because someone left for it.
        elif step.kind == "main":
            yield replace(step, n=None, **SUPPRESSED)


def _quality(item: QualityItem, chosen: Plan, k: int, withhold: frozenset[str]) -> QualityItem:
    """Return a line of the quality list; one that few patients are behind, or nobody knows how many, is withheld.

    A count of patients is withheld whatever its size, because nothing says which of the other counts it can be
    subtracted from; a count of records says how many one patient has, if he is the only one.
    """
    shown = not chosen.everything and item.domain not in PATIENT_DOMAINS
    shown &= quality_name(item.site, item.domain, item.issue) not in withhold
    shown &= item.count == 0 or (item.patients is not None and item.patients >= k and not is_protected(item.count, k))
    return replace(item, patients=None) if shown else replace(item, patients=None, count=None, **SUPPRESSED)
