"""Turn estimates into rows of text for the tables of the report: a missing value is a word with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from analytics.disclosure.control import REASON
from analytics.estimates.model import Estimate, Landmark, Proportion, Quantiles, Survival
from analytics.estimates.rounding import round_half_up
from analytics.report import wording
from analytics.report.grades import MERGED, GradeTable, is_worst_grade

# Sections by the first part of an id; an id of another kind lands in "other", so that none is lost.
SECTIONS = {
    "baseline": "baseline",
    "treatment": "response",
    "surgery": "response",
    "response": "response",
    "survival": "survival",
    "safety": "safety",
}
# A page of a registry's curve with thousands of steps helps nobody: the rest is in results.json.
MAX_STEPS = 200
# The axis from 0 to 100 % in the SVG units of the macro `dot` of parts.html: from 8 to 192.
AXIS_START, AXIS_UNITS = 8, 1.84


@dataclass(frozen=True)
class Missing:
    """A word in place of a value and, where known, the reason."""

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


def missing(estimate: Estimate | Landmark) -> Missing | None:
    """Return what stands in place of the value, or of the median, of an estimate that has none to show."""
    statuses = (estimate.status, estimate.median_status if isinstance(estimate, Quantiles | Survival) else "ok")
    # "Not reached" is a result, no missing value.
    word = next((wording.WORDS[status] for status in statuses if status in ("suppressed", "not_evaluable")), None)
    # The sentence of disclosure control stands once, at the head of the report.
    return None if word is None else Missing(word, None if estimate.reason == REASON else estimate.reason)


def section_rows(
    section: str, proportions: Iterable[Proportion], quantiles: Iterable[Quantiles]
) -> tuple[EstimateRow, ...]:
    """Return the rows of one section: quantities first, then proportions, in the order of the study."""
    # Cells by worst grade have a figure and a table of their own.
    rows = [quantile_row(q) for q in quantiles if section_of(q.id) == section]
    rows += [proportion_row(p) for p in proportions if section_of(p.id) == section and not is_worst_grade(p.id)]
    return tuple(rows)


def section_of(estimate_id: str) -> str:
    """Return the section of the report that an estimate belongs to, by its id."""
    return SECTIONS.get(estimate_id.split(".", 1)[0], "other")


def proportion_row(estimate: Proportion) -> EstimateRow:
    """Return x/n, percentage and interval of a proportion."""
    row = EstimateRow(estimate.id, estimate.label, estimate.population, estimate.breakdown, missing=missing(estimate))
    if row.missing:
        return row
    x, n = wording.counts(estimate)
    ci = estimate.ci
    picture = None
    if ci is not None and ci.low is not None and ci.high is not None:
        picture = IntervalPicture(
            *(f"{AXIS_START + AXIS_UNITS * value:.1f}" for value in (ci.low, 100 * x / n, ci.high))
        )
    return replace(
        row,
        counts=f"{x}/{n}",
        value=wording.share(x, n),
        plain=wording.share(x, n),
        interval=wording.interval_and_test(estimate),
        picture=picture,
    )


def quantile_row(estimate: Quantiles) -> EstimateRow:
    """Return median and quartiles, with the number of patients who had a value and of those who had none."""
    row = EstimateRow(estimate.id, estimate.label, estimate.population, estimate.id, missing=missing(estimate))
    if row.missing:
        return row
    unit = f" {estimate.unit}" if estimate.median_status == "ok" else ""
    # How many are left out is part of a median: 33 patients, 5 without a value.
    without = f"; {estimate.missing} without a value" if estimate.missing else ""
    return replace(
        row,
        label=f"{estimate.label}, median and quartiles",
        counts=f"n = {wording.present(estimate.n, estimate.id)}{without}",
        value=f"{wording.median(estimate)}{unit}",
        interval=wording.spread(estimate) + (" (quartiles)" if estimate.quartile_status == "ok" else ""),
        plain=wording.quartiles(estimate),
    )


def landmark_rows(curve: Survival) -> tuple[TimeRow, ...]:
    """Return survival at the study's landmarks."""
    rows = []
    for landmark in curve.landmarks:
        # Shown for a landmark that is not evaluable too: it is the reason for that.
        row = TimeRow(f"{landmark.t:g} months", "" if landmark.at_risk is None else str(landmark.at_risk))
        if gap := missing(landmark):
            rows.append(replace(row, missing=gap))
            continue
        value = wording.fraction_percent(wording.present(landmark.s, curve.id))
        ci = landmark.ci
        limits = f"{wording.percent_interval(ci, scale=100)} ({wording.level(ci)})" if ci else ""
        rows.append(replace(row, value=value, interval=limits or "no interval before the first event"))
    return tuple(rows)


def step_rows(curve: Survival) -> tuple[tuple[str, ...], ...]:
    """Return every released step: months, at risk, events, censored, survival and its limits in percent."""
    rows = []
    for p in curve.curve[:MAX_STEPS]:
        # No limit where the curve has come down to 0: the log(-log) band has none there.
        shares = (
            "no limit" if v is None else str(round_half_up(wording.exact(v) * 100, 1)) for v in (p.s, p.low, p.high)
        )
        months = str(round_half_up(wording.exact(p.t), 1))
        rows.append((months, str(p.at_risk), str(p.events), str(p.censored), *shares))
    return tuple(rows)


def grade_rows(table: GradeTable) -> tuple[GradeRow, ...]:
    """Return a row for every term and phase of the picture of adverse events."""
    rows = []
    for term, phase in product(table.bars, table.phases):
        if (bar := table.bars[term].get(phase.id)) is None:
            continue
        # The denominator is named in every row: phases are counted in different populations.
        size = "n not released" if phase.n is None else f"n = {phase.n}"
        row = GradeRow(term, phase.name, f"{phase.population}, {size}")
        if bar.missing is not None:
            rows.append(replace(row, missing=missing(bar.missing)))
            continue
        absent = "not split" if bar.cells.keys() & MERGED.keys() else "not counted"
        # A column of merged grades is empty where a term has each grade on its own.
        cells = tuple(str(bar.cells[g].x) if g in bar.cells else "" if g in MERGED else absent for g in table.grades)
        # A share of nobody has no value; the count stands alone.
        total = f"{bar.total}" if not phase.n else f"{bar.total} ({wording.share(bar.total, phase.n)})"
        rows.append(replace(row, cells=cells, total=total))
    return tuple(rows)
