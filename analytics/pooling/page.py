"""Render pooled results as one self-contained HTML page: a forest by site, survival and patient flow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from analytics.estimates.model import Proportion
from analytics.estimates.proportions import proportion_interval
from analytics.estimates.rounding import exact_percent, round_half_up
from analytics.pooling.pool import Pooled, PooledQuantiles
from analytics.pooling.proportions import Bounds, Heterogeneity, PooledProportion, SiteCount
from analytics.pooling.survival import PooledSurvival
from analytics.provenance import day
from analytics.report import tables, wording
from analytics.report.flowchart import flowchart
from analytics.report.grades import is_worst_grade
from analytics.report.html import ENVIRONMENT
from analytics.report.tables import EstimateRow, Missing


@dataclass(frozen=True)
class ForestRow:
    """One line of the forest: a site, or the pool of all (`whole`)."""

    row: EstimateRow
    whole: bool = False
    note: str = ""


@dataclass(frozen=True)
class CurveTable:
    """A pooled curve in numbers: size, median, landmarks, and the sites that suppress theirs."""

    label: str
    size: str
    median: str
    landmarks: tuple[tables.TimeRow, ...]
    missing: Missing | None
    without: str


def render_pool(pooled: Pooled) -> str:
    """Return the report of pooled results as one HTML document."""
    named = [p for p in pooled.proportions if not is_worst_grade(p.id)]
    return ENVIRONMENT.get_template("pool.html").render(
        pooled=pooled,
        study=pooled.study,
        data_cutoff=day(pooled.study.data_cut.isoformat()),
        # Pooled counts that nobody suppressed are patient data, as those of each site.
        notice=None if pooled.protected else "Internal: not for release",
        forest=tuple(tuple(_forest(p, pooled)) for p in named),
        quantiles=tuple(quantile_text(q) for q in pooled.quantiles),
        curves=tuple(_curve(s) for s in pooled.survival),
        flow=flowchart(pooled.flow),
    )


def _forest(p: PooledProportion, pooled: Pooled) -> Iterator[ForestRow]:
    yield ForestRow(pooled_row(p), whole=True, note=heterogeneity_text(p.heterogeneity) if pooled.by_site else "")
    # A figure that every site suppresses has nothing to compare.
    if pooled.by_site and p.percent is not None:
        for count in p.by_site:
            yield ForestRow(_site_row(p, count))


def _site_row(p: PooledProportion, count: SiteCount) -> EstimateRow:
    if not count.known:
        return EstimateRow(
            p.id, count.site.name, p.population, p.id, missing=Missing(wording.WORDS["suppressed"], None)
        )
    x, n = count.x[0], count.n[0]
    # A site that enrolled nobody yet is in the forest all the same: its absence would look like a mistake.
    if n == 0:
        return EstimateRow(p.id, count.site.name, p.population, p.id, counts="0/0")
    ci = proportion_interval(x, n, p.ci.level, p.ci.method) if p.ci else None
    one = Proportion(p.id, count.site.name, p.population, p.id, x, n, float(exact_percent(x, n)), ci)
    return tables.proportion_row(one)


def pooled_row(p: PooledProportion) -> EstimateRow:
    """Return the pooled figure in words: x/n, percent and interval, or the bounds of each."""
    row = EstimateRow(p.id, p.label, p.population, p.id)
    if p.x is None or p.n is None or p.percent is None:
        return replace(row, missing=Missing(wording.WORDS[p.status], p.reason))
    if p.exact:
        return tables.proportion_row(Proportion(p.id, p.label, p.population, p.id, p.x[0], p.n[0], p.percent[0], p.ci))
    # No dot in the picture: the pool is somewhere in this range, and its middle is no estimate.
    low, high = (str(round_half_up(limit)) for limit in p.percent)
    interval = f"{wording.percent_interval(p.ci)} ({wording.level(p.ci)}, of all these)" if p.ci else ""
    value = f"{low}{wording.DASH}{high}{wording.SPACE}%"
    return replace(row, counts=f"{_range(p.x)}/{_range(p.n)}", value=value, plain=value, interval=interval)


def _range(bounds: Bounds) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]}{wording.DASH}{bounds[1]}"


def heterogeneity_text(found: Heterogeneity | None) -> str:
    """Return ``I² 12 %, Q 2.3 (df 2), p 0.32``, or nothing."""
    if found is None:
        return ""
    share, q, p = round_half_up(found.i_squared), round_half_up(found.q, 1), round_half_up(found.p, 2)
    return f"I² {share}{wording.SPACE}%, Q {q} (df {found.df}), p {p}"


def quantile_text(q: PooledQuantiles) -> tuple[str, str, str]:
    """Return label, n and value: the quartiles where they follow, else the range of the medians of the sites."""
    n = wording.WORDS["suppressed"] if q.estimate.n is None else str(q.estimate.n)
    if q.estimate.status == "ok":
        return q.estimate.label, n, wording.quartiles(q.estimate)
    if q.medians is None:
        return q.estimate.label, n, q.estimate.reason or wording.WORDS["not_evaluable"]
    low, high = (wording.quantity(each, q.estimate.unit) for each in q.medians)
    return q.estimate.label, n, f"medians of the sites from {low} to {high} {q.estimate.unit}"


def _curve(pooled: PooledSurvival) -> CurveTable:
    s = pooled.estimate
    missing = tables.missing(s)
    interval = f" ({wording.level(s.ci)} {wording.median_interval(s.ci)})" if s.ci else ""
    unit = " months" if s.median_status == "ok" else ""
    return CurveTable(
        label=s.label,
        size="" if s.n is None else f"n = {s.n}, events {s.events}",
        median="" if missing else f"{wording.median(s)}{unit}{interval}",
        landmarks=tables.landmark_rows(s),
        missing=missing,
        without=", ".join(pooled.suppressed_at),
    )
