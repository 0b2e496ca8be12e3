"""Disclosure control, first version: safe by being coarse. The only maker of `Released`.

With threshold k = min_cell, a count of 1 to k - 1 patients is protected, and so is a count that leaves 1 to
k - 1 others. Nothing is rounded or perturbed: what could give a protected count away is withheld whole.

1. A breakdown (all cells of one table, at every data cut) with a protected cell, complement or rest is
   withheld: x, percent, interval. Terms of adverse events that are listed only because they were seen are
   left out.
2. The sizes of the populations are one breakdown. Where it is withheld, so is every estimate of a population
   other than the enrolled, its n too, and the flow diagram, which is a breakdown of its own.
3. A median with its quartiles is withheld where its n, or the number of patients without a value, is
   protected.
4. A survival curve has steps of at least k events, and all its numbers follow from these
   (`analytics.disclosure.coarsening`).
5. Breakdowns whose counts give a protected one away when added or subtracted are withheld together
   (`analytics.disclosure.differencing`): resected and begun adjuvant treatment, the same count at two data cuts, EFS
   and OS. The curves of deaths and events are withheld together, and so are the proportions that repeat them.
6. A quality count of 1 to k - 1 is withheld, and everything is where fewer than k are enrolled.

k = 0 and k = 1 protect nothing. With k = 2 the word "suppressed" alone would say "1", so that 3 is used in its
place. Reasons are the same sentence for every cause. Not covered here: differences between successive
releases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import InitVar, dataclass, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

from analytics.disclosure.coarsening import coarsen
from analytics.disclosure.differencing import given_away, group_of, small
from analytics.errors import NotReleasedError
from analytics.estimates.model import (
    Cell,
    FlowStep,
    Landmark,
    Proportion,
    QualityItem,
    Quantiles,
    Results,
    Survival,
)

REASON = "withheld: a protected count could be read or worked out from it"
Estimate = Proportion | Quantiles | Survival
_KEY = object()


@dataclass(frozen=True)
class Released:
    """What may leave the hospital: the fields of `Results` after suppression, and the `min_cell` it had.

    A withheld number is None with `status` "suppressed" and a `reason`. Made by `release` alone: the
    constructor and `dataclasses.replace` raise `NotReleasedError` or `ValueError` without its key.
    """

    study: str
    study_title: str
    data_cut: str
    sites: tuple[str, ...]
    study_hash: str
    population_sizes: Mapping[str, int | None]
    proportions: tuple[Proportion, ...]
    quantiles: tuple[Quantiles, ...]
    survival: tuple[Survival, ...]
    flow: tuple[FlowStep, ...]
    quality: tuple[QualityItem, ...]
    sites_missing: tuple[str, ...]
    min_cell: int
    key: InitVar[object]

    def __post_init__(self, key: object) -> None:
        if key is not _KEY:
            raise NotReleasedError("a Released is made by analytics.disclosure.control.release only; call it instead")

    def __init_subclass__(cls) -> None:
        raise NotReleasedError("Released has no subclasses; use analytics.disclosure.control")

    @property
    def withheld_entirely(self) -> bool:
        """True when disclosure control left not one estimate (exit code 5)."""
        estimates: tuple[Estimate, ...] = (*self.proportions, *self.quantiles, *self.survival)
        statuses = {estimate.status for estimate in estimates}
        return "suppressed" in statuses and "ok" not in statuses

    @property
    def statement(self) -> str:
        """One sentence for the reader about what was withheld and why."""
        if self.min_cell <= 1:
            return f"No disclosure control (min_cell = {self.min_cell}): small counts are shown."
        k = threshold(self.min_cell)
        return (
            f"Counts of 1 to {k - 1} patients, and all figures from which one could be worked out, are "
            f"withheld; survival curves have steps of at least {k} events (min_cell = {self.min_cell})."
        )


def threshold(min_cell: int) -> int:
    """The k that is used for `min_cell`: 0 and 1 protect nothing, and 2 is raised to 3."""
    return 0 if min_cell <= 1 else max(min_cell, 3)


def release(results: Results, min_cell: int) -> Released:
    """`results` after disclosure control with threshold `min_cell`; `ValueError` for a negative one."""
    if min_cell < 0:
        raise ValueError(f"min_cell is {min_cell}; give 0 (no control) or a positive number")
    k = threshold(min_cell)
    shown = results if k == 0 else _controlled(results, k)
    fields: dict[str, Any] = {name: getattr(shown, name) for name in _FIELDS}
    sizes = MappingProxyType(dict(shown.population_sizes))
    return Released(**fields, population_sizes=sizes, min_cell=min_cell, key=_KEY)


_FIELDS = tuple(name for name in Released.__dataclass_fields__ if name not in {"population_sizes", "min_cell", "key"})


@dataclass(frozen=True)
class Controlled:
    """The fields of a `Released` that control changes, and those that it passes on."""

    study: str
    study_title: str
    data_cut: str
    sites: tuple[str, ...]
    study_hash: str
    sites_missing: tuple[str, ...]
    population_sizes: Mapping[str, int | None]
    proportions: tuple[Proportion, ...]
    quantiles: tuple[Quantiles, ...]
    survival: tuple[Survival, ...]
    flow: tuple[FlowStep, ...]
    quality: tuple[QualityItem, ...]


def _controlled(results: Results, k: int) -> Controlled:
    everything = small(results.population_sizes["enrolled"], k)
    curves = {s.id: None if everything else coarsen(s, k) for s in results.survival}
    withheld = Withheld(_groups(results, curves, k), results.population_sizes, everything=everything)
    return Controlled(
        study=results.study,
        study_title=results.study_title,
        data_cut=results.data_cut,
        sites=results.sites,
        study_hash=results.study_hash,
        sites_missing=results.sites_missing,
        population_sizes={name: withheld.size(name) for name in results.population_sizes},
        proportions=tuple(_proportions(results.proportions, withheld)),
        quantiles=tuple(_quantile(q, withheld) for q in results.quantiles),
        survival=tuple(_survival(s, curves[s.id], withheld) for s in results.survival),
        flow=tuple(_flow(results.flow, withheld)),
        quality=tuple(_quality(item, k, withheld) for item in results.quality),
    )


@dataclass(frozen=True)
class Withheld:
    """What is not shown: groups of counts, or everything."""

    groups: frozenset[str]
    sizes: Mapping[str, int]
    everything: bool

    def has(self, breakdown: str, population: str) -> bool:
        """Whether an estimate of this breakdown and population is withheld."""
        outside = population != "enrolled" and "populations" in self.groups
        return self.everything or outside or group_of(breakdown) in self.groups

    def size(self, population: str) -> int | None:
        """The size of a population where it may be shown."""
        return None if self.has("populations", "enrolled") and self._hidden(population) else self.sizes[population]

    def _hidden(self, population: str) -> bool:
        return self.everything or population != "enrolled"

    def denominator(self, population: str, n: int | None) -> int | None:
        """`n` of a withheld proportion: shown only where it is the size of a population that is shown."""
        return n if n == self.sizes.get(population) and self.size(population) is not None else None


# Which groups of counts are withheld


def _groups(results: Results, curves: Mapping[str, Survival | None], k: int) -> frozenset[str]:
    found = {group_of(key) for key, curve in curves.items() if curve is None}
    found |= set(_small_proportions(results, k)) | set(_small_denominators(results, k))
    if _small_sizes(results.population_sizes, k):
        found |= {"populations", *_outside(results)}
    if "populations" in found or _small_flow(results.flow, k):
        found.add("flow")
    found = _subtracted(results, curves, k, found)
    return frozenset(found | {"flow"} if "populations" in found else found)


def _subtracted(results: Results, curves: Mapping[str, Survival | None], k: int, found: set[str]) -> set[str]:
    """`found` and what must be withheld because of subtraction.

    Deaths and events are one table in two parts: the curves, and the proportions that repeat them. A
    part is withheld as a whole, the second whenever the first is: an event is a progression or a death,
    so that what is left of the table would tell too much of what is not.
    """
    cells = [cell for cell in results.cells if _is_shown(cell, curves)]
    events = {cell.group for cell in cells if "events" in cell.families}
    lines = {group_of(s.id) for s in results.survival}
    repeats = events - lines
    first = found | given_away([c for c in cells if c.group not in found | repeats], k)
    if first & lines:
        first |= events | lines
    second = first | (given_away([c for c in cells if c.group not in first], k) - lines)
    return second | repeats if second & events else second


def _is_shown(cell: Cell, curves: Mapping[str, Survival | None]) -> bool:
    """A count of a curve at a time is published only if the coarsened curve has a step there."""
    if cell.time is None:
        return True
    curve = curves.get(cell.group)
    return curve is not None and any(point.t == cell.time for point in curve.curve[1:])


def _outside(results: Results) -> Iterator[str]:
    """The groups of which every estimate is of a population other than the enrolled."""
    populations: dict[str, set[str]] = {}
    estimates: tuple[Estimate, ...] = (*results.proportions, *results.quantiles, *results.survival)
    for estimate in estimates:
        populations.setdefault(_key(estimate), set()).add(estimate.population)
    return (group for group, names in populations.items() if "enrolled" not in names)


def _key(estimate: Estimate) -> str:
    return group_of(estimate.breakdown if isinstance(estimate, Proportion) else estimate.id)


def _small_proportions(results: Results, k: int) -> Iterator[str]:
    breakdowns: dict[str, list[Proportion]] = {}
    for p in results.proportions:
        breakdowns.setdefault(_key(p), []).append(p)
    for group, cells in breakdowns.items():
        enrolled = results.population_sizes["enrolled"]
        if (
            any(_protected(p, enrolled, k) for p in cells)
            or _differ(cells, k)
            or (not results.cells and _small_rest(cells, k))
        ):
            yield group


def _protected(p: Proportion, enrolled: int, k: int) -> bool:
    if p.x is None or p.n is None:
        return False
    sizes = (p.x, p.n - p.x, p.n, abs(enrolled - p.n) if p.population == "enrolled" else 0)
    return any(small(size, k) for size in sizes)


def _differ(cells: list[Proportion], k: int) -> bool:
    """The same figure at two data cuts: the difference is a count as well."""
    pairs = [(a, b) for a, b in combinations(cells, 2) if group_of(a.id) == group_of(b.id)]
    return any(
        small(abs(left - right), k)
        for a, b in pairs
        for left, right in ((a.x, b.x), (a.n, b.n))
        if left is not None and right is not None
    )


def _small_rest(cells: list[Proportion], k: int) -> bool:
    """Unless it is known who is behind the cells, they are taken to exclude each other."""
    counts = [p.x for p in cells if p.x is not None and "@" not in p.id]
    return any(small(p.n - sum(counts), k) for p in cells if p.n is not None)


def _small_denominators(results: Results, k: int) -> Iterator[str]:
    """Quantities and curves with a value for few patients, or for all but a few."""
    estimates: tuple[Estimate, ...] = (*results.quantiles, *results.survival)
    for estimate in estimates:
        size = results.population_sizes[estimate.population]
        if estimate.n is not None and (small(estimate.n, k) or small(abs(size - estimate.n), k)):
            yield group_of(estimate.id)


def _small_sizes(sizes: Mapping[str, int], k: int) -> bool:
    """Populations lie within each other: a size or the difference of two is a count."""
    differ = any(small(abs(a - b), k) for a, b in combinations(sizes.values(), 2))
    return differ or any(small(n, k) for n in sizes.values())


def _small_flow(flow: tuple[FlowStep, ...], k: int) -> bool:
    """A box, or the rest of a box without those who left it or went on."""
    if any(small(step.n, k) for step in flow):
        return True
    for parent in flow:
        children = [step for step in flow if step.parent == parent.id]
        counts = [[step.n or 0 for step in children if step.kind == kind] for kind in ("main", "excluded")]
        rests = [(parent.n or 0) - sum(c) for c in (*counts, counts[0] + counts[1])]
        if children and any(small(rest, k) for rest in rests):
            return True
    return False


# Taking the numbers out


def _proportions(proportions: tuple[Proportion, ...], withheld: Withheld) -> Iterator[Proportion]:
    by_group: dict[str, list[Proportion]] = {}
    for p in proportions:
        by_group.setdefault(p.breakdown, []).append(p)
    seen_only = {b for b, cells in by_group.items() if all(".worst_grade_" in p.id for p in cells)}
    for p in proportions:
        if p.n is None or not withheld.has(p.breakdown, p.population):
            yield p
        elif p.breakdown not in seen_only:
            n = withheld.denominator(p.population, p.n)
            yield replace(p, x=None, n=n, percent=None, ci=None, status="suppressed", reason=REASON)


def _quantile(q: Quantiles, withheld: Withheld) -> Quantiles:
    if q.n is None or not withheld.has(q.id, q.population):
        return q
    return replace(
        q,
        n=None,
        median=None,
        q1=None,
        q3=None,
        missing=None,
        median_status="suppressed",
        status="suppressed",
        reason=REASON,
    )


def _survival(exact: Survival, coarse: Survival | None, withheld: Withheld) -> Survival:
    if coarse is not None and not withheld.has(exact.id, exact.population):
        return coarse
    blank = tuple(Landmark(mark.t, None, None, None, "suppressed", REASON) for mark in exact.landmarks)
    return replace(
        exact,
        n=None,
        events=None,
        median=None,
        median_status="suppressed",
        ci=None,
        landmarks=blank,
        curve=(),
        status="suppressed",
        reason=REASON,
    )


def _flow(flow: tuple[FlowStep, ...], withheld: Withheld) -> Iterator[FlowStep]:
    """A withheld diagram keeps its trunk: the reasons for leaving are there only because someone left."""
    if not withheld.has("flow", "enrolled"):
        yield from flow
        return
    for step in flow:
        if step.kind == "main":
            yield replace(step, n=None, status="suppressed", reason=REASON)


def _quality(item: QualityItem, k: int, withheld: Withheld) -> QualityItem:
    if not (withheld.everything or small(item.count, k)):
        return item
    return replace(item, count=None, status="suppressed", reason=REASON)
