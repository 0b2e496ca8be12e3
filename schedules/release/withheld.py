"""List cell by cell what disclosure control withholds or coarsens, and why. It holds true counts: internal only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from analytics.report import wording

if TYPE_CHECKING:
    from collections.abc import Iterable

    from analytics.disclosure.control import Released
    from analytics.estimates.model import FlowStep, Proportion, QualityItem, Quantiles, Survival

Effect = Literal["withheld", "left out", "coarsened"]
# Of a cell that is itself large enough: which other counts it gives away is for the whole release to say.
LINKED = "a protected count could be derived from it and other figures"
LISTED = "is listed only because somebody has it, and its table is withheld"
PAST_RELEASES = "together with past releases it would give few patients away"


@dataclass(frozen=True)
class WithheldCell:
    """One figure that does not leave as it is: `internal` is its true value, in words; `why` the reason.

    `effect`: its numbers are withheld, its row is left out, or it is released coarser.
    """

    section: str
    id: str
    label: str
    internal: str
    effect: Effect
    why: str


def withheld_cells(internal: Released, released: Released, alone: Released) -> tuple[WithheldCell, ...]:
    """Return what `released` does not say, or says coarser, of the figures in `internal`, in their order.

    `alone` is what would be released if nothing had left before: what only that shows is withheld for past releases.
    """
    from analytics.disclosure.control import threshold

    k = threshold(released.min_cell)
    cells = _cells(internal, released, k)
    if released is alone:
        return cells
    anyway = {(cell.section, cell.id, cell.label) for cell in _cells(internal, alone, k)}
    return tuple(
        cell if (cell.section, cell.id, cell.label) in anyway else replace(cell, why=PAST_RELEASES) for cell in cells
    )


def _cells(internal: Released, released: Released, k: int) -> tuple[WithheldCell, ...]:
    return (
        *_proportions(internal.proportions, released.proportions, k),
        *_quantiles(internal.quantiles, released.quantiles, k),
        *_curves(internal.survival, released.survival, k),
        *_flow(internal.flow, released.flow, k),
        *_quality(internal.quality, released.quality, k),
        *_populations(internal, released, k),
    )


def _small(k: int, **counts: int | None) -> str:
    """Return which of the counts are protected, by their words; `LINKED` where none is."""
    found = [name.replace("_", " ") for name, count in counts.items() if count is not None and 0 < count < k]
    return f"{' and '.join(found)}: 1 to {k - 1} patients" if found else LINKED


def _proportions(true: Iterable[Proportion], shown: Iterable[Proportion], k: int) -> Iterator[WithheldCell]:
    by_id = {p.id: p for p in shown}
    for p in (each for each in true if each.x is not None and each.n is not None):
        found = by_id.get(p.id)
        if found is not None and found.x == p.x:
            continue
        why = _small(k, x=p.x, all_but_x=(p.n or 0) - (p.x or 0), n=p.n)
        effect: Effect = "withheld" if found is not None else "left out"
        # Terms that the study does not name are there because somebody has them: a row alone would say so.
        if found is None and why == LINKED:
            why = LISTED
        yield WithheldCell("proportions", p.id, p.label, f"{p.x}/{p.n}", effect, why)


def _quantiles(true: Iterable[Quantiles], shown: Iterable[Quantiles], k: int) -> Iterator[WithheldCell]:
    by_id = {q.id: q for q in shown}
    for q in (each for each in true if each.median is not None):
        found, value = by_id[q.id], wording.quartiles(q)
        if found.status == "suppressed":
            why = _small(k, n=q.n, patients_without_a_value=q.missing)
            yield WithheldCell("quantiles", q.id, q.label, value, "withheld", why)
        elif (found.median, found.q1, found.q3) != (q.median, q.q1, q.q3):
            yield WithheldCell("quantiles", q.id, q.label, value, "coarsened", f"rounded to 0.1 {q.unit}")


def _curves(true: Iterable[Survival], shown: Iterable[Survival], k: int) -> Iterator[WithheldCell]:
    by_id = {s.id: s for s in shown}
    for s in (each for each in true if each.curve):
        found, value = by_id[s.id], f"{s.events}/{s.n}, {len(s.curve) - 1} steps"
        if found.status == "suppressed":
            why = _small(k, events=s.events, patients_without_an_event=(s.n or 0) - (s.events or 0), n=s.n)
            yield WithheldCell("survival", s.id, s.label, value, "withheld", why)
        elif len(found.curve) != len(s.curve):
            steps = max(len(found.curve) - 1, 0)
            why = f"joined to {steps} step{'' if steps == 1 else 's'} of at least {k} events"
            yield WithheldCell("survival", s.id, s.label, value, "coarsened", why)


def _flow(true: Iterable[FlowStep], shown: Iterable[FlowStep], k: int) -> Iterator[WithheldCell]:
    by_id = {step.id: step for step in shown}
    for step in true:
        found = by_id.get(step.id)
        if found is None or found.n != step.n:
            effect: Effect = "withheld" if found is not None else "left out"
            why = _small(k, the_box=step.n)
            yield WithheldCell("flow", step.id, step.label, str(step.n), effect, why)


def _quality(true: Iterable[QualityItem], shown: Iterable[QualityItem], k: int) -> Iterator[WithheldCell]:
    by_key = {(item.site, item.domain, item.issue): item.count for item in shown}
    for item in true:
        if by_key.get((item.site, item.domain, item.issue)) != item.count:
            name = f"{item.site} {item.domain}"
            yield WithheldCell("quality", name, item.issue, str(item.count), "withheld", _small(k, records=item.count))


def _populations(internal: Released, released: Released, k: int) -> Iterator[WithheldCell]:
    for name, size in internal.population_sizes.items():
        if released.population_sizes.get(name) != size:
            yield WithheldCell("populations", name, name, str(size), "withheld", _small(k, its_size=size))
