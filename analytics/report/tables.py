"""The tables of the report as rows of text: numbers rounded once, a missing value a word with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analytics.estimates.model import Landmark, Proportion, Quantiles, Survival
from analytics.estimates.rounding import round_half_up
from analytics.report import wording
from analytics.report.grades import Bar, GradeTable, Phase, is_worst_grade

# Sections by the first part of an id; an id of another kind lands in "other", so that none is lost.
SECTIONS = {
    "baseline": "baseline",
    "treatment": "response",
    "surgery": "response",
    "response": "response",
    "survival": "survival",
    "safety": "safety",
}
MOST_STEPS = 200
PICTURE_LEFT, PICTURE_SCALE = 8, 1.84


@dataclass(frozen=True)
class Missing:
    """What stands where a value would be: a word and, where known, the reason."""

    word: str
    reason: str | None


@dataclass(frozen=True)
class IntervalPicture:
    """A dot with its interval on an axis from 0 to 100 %, in SVG units."""

    low: str
    middle: str
    high: str


@dataclass(frozen=True)
class EstimateRow:
    """One estimate: `counts` (x/n), `value`, `interval` and its picture, or what is `missing` in their place.

    `plain` is value and interval in one, for a table without intervals.
    """

    id: str
    label: str
    population: str
    breakdown: str
    counts: str = ""
    value: str = ""
    interval: str = ""
    plain: str = ""
    picture: IntervalPicture | None = None
    missing: Missing | None = None


@dataclass(frozen=True)
class TimeRow:
    """Survival at one time, or what is missing in its place."""

    time: str
    at_risk: str
    value: str = ""
    interval: str = ""
    missing: Missing | None = None


@dataclass(frozen=True)
class GradeRow:
    """One term in one phase: patients by worst grade, then at any grade, or what is `missing` instead."""

    term: str
    phase: str
    denominator: str
    cells: tuple[str, ...] = ()
    total: str = ""
    missing: Missing | None = None


def section_rows(
    section: str, proportions: Iterable[Proportion], quantiles: Iterable[Quantiles]
) -> tuple[EstimateRow, ...]:
    """The rows of one section: quantities first, then proportions, in the order of the study."""
    rows = [quantile_row(q) for q in quantiles if section_of(q.id) == section]
    rows += [proportion_row(p) for p in proportions if section_of(p.id) == section and not is_worst_grade(p.id)]
    return tuple(rows)


def section_of(estimate_id: str) -> str:
    """The section of the report that an estimate belongs to, by its id."""
    return SECTIONS.get(estimate_id.split(".", 1)[0], "other")


def proportion_row(estimate: Proportion) -> EstimateRow:
    """x/n, percentage and interval of a proportion."""
    if estimate.status != "ok":
        missing = Missing(wording.WORDS[estimate.status], estimate.reason)
        return EstimateRow(estimate.id, estimate.label, estimate.population, estimate.breakdown, missing=missing)
    x, n = wording.counts(estimate)
    interval = ""
    if estimate.ci is not None:
        interval = f"{wording.percent_interval(estimate.ci)} ({wording.level(estimate.ci)})"
    return EstimateRow(
        id=estimate.id,
        label=estimate.label,
        population=estimate.population,
        breakdown=estimate.breakdown,
        counts=f"{x}/{n}",
        value=wording.share(x, n),
        plain=wording.share(x, n),
        interval=interval,
        picture=_picture(estimate, 100 * x / n),
    )


def _picture(estimate: Proportion, percent: float) -> IntervalPicture | None:
    ci = estimate.ci
    if ci is None or ci.low is None or ci.high is None:
        return None
    low, middle, high = (f"{PICTURE_LEFT + PICTURE_SCALE * value:.1f}" for value in (ci.low, percent, ci.high))
    return IntervalPicture(low, middle, high)


def quantile_row(estimate: Quantiles) -> EstimateRow:
    """Median and quartiles, with the number of patients who had a value and of those who had none."""
    if estimate.status != "ok" or estimate.median_status in ("suppressed", "not_evaluable"):
        status = estimate.status if estimate.status != "ok" else estimate.median_status
        missing = Missing(wording.WORDS[status], estimate.reason)
        return EstimateRow(estimate.id, estimate.label, estimate.population, estimate.id, missing=missing)
    without = f"; {estimate.missing} without a value" if estimate.missing else ""
    return EstimateRow(
        id=estimate.id,
        label=f"{estimate.label}, median and quartiles",
        population=estimate.population,
        breakdown=estimate.id,
        counts=f"n = {wording.present(estimate.n, estimate.id)}{without}",
        value=f"{wording.median(estimate)} {estimate.unit}"
        if estimate.median_status == "ok"
        else wording.median(estimate),
        interval=f"{wording.spread(estimate)} (quartiles)",
        plain=wording.quartiles(estimate),
    )


def landmark_rows(curve: Survival) -> tuple[TimeRow, ...]:
    """Survival at the study's landmarks."""
    return tuple(_landmark_row(landmark, curve.id) for landmark in curve.landmarks)


def _landmark_row(landmark: Landmark, curve_id: str) -> TimeRow:
    at_risk = "" if landmark.at_risk is None else str(landmark.at_risk)
    time = f"{landmark.t:g} months"
    if landmark.status != "ok":
        return TimeRow(time, at_risk, missing=Missing(wording.WORDS[landmark.status], landmark.reason))
    value = wording.fraction_percent(wording.present(landmark.s, curve_id))
    return TimeRow(time, at_risk, value, landmark_interval(landmark))


def landmark_interval(landmark: Landmark) -> str:
    """The interval of a landmark; before the first event there is none."""
    if landmark.ci is None:
        return "no interval before the first event"
    return f"{wording.percent_interval(landmark.ci, scale=100)} ({wording.level(landmark.ci)})"


def step_rows(curve: Survival) -> tuple[tuple[str, ...], ...]:
    """Every released step: months, at risk, events, censored, survival and its limits in percent."""
    rows = []
    for p in curve.curve[:MOST_STEPS]:
        shares = (
            "no limit" if v is None else str(round_half_up(wording.exact(v) * 100, 1)) for v in (p.s, p.low, p.high)
        )
        months = str(round_half_up(wording.exact(p.t), 1))
        rows.append((months, str(p.at_risk), str(p.events), str(p.censored), *shares))
    return tuple(rows)


def grade_rows(table: GradeTable) -> tuple[GradeRow, ...]:
    """Every term and phase of the picture of adverse events."""
    return tuple(
        _grade_row(term, phase, bars[phase.id], table.grades)
        for term, bars in table.bars.items()
        for phase in table.phases
        if phase.id in bars
    )


def _grade_row(term: str, phase: Phase, bar: Bar, grades: tuple[str, ...]) -> GradeRow:
    size = "n not released" if phase.n is None else f"n = {phase.n}"
    denominator = f"{phase.population}, {size}"
    if (cell := bar.missing) is not None:
        missing = Missing(wording.WORDS[cell.status], cell.reason)
        return GradeRow(term, phase.name, denominator, missing=missing)
    cells = tuple(str(bar.cells[g].x) if g in bar.cells else "not counted" for g in grades)
    total = f"{bar.total}" if not phase.n else f"{bar.total} ({wording.share(bar.total, phase.n)})"
    return GradeRow(term, phase.name, denominator, cells, total)
