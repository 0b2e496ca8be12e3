"""Pool survival curves over sites from their released risk tables.

The steps of an uncontrolled curve are the days of single patients: written out as such they give the estimate of the
patients themselves. Coarsened curves are life tables; at the times at which every site has a step their counts add up
to the life table of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analytics.disclosure.coarsening import Counts, life_table
from analytics.estimates.cohort_tables import DAYS
from analytics.estimates.model import Landmark, MedianStatus, Survival
from analytics.estimates.survival import (
    Times,
    crossing,
    estimate_survival,
    landmark_interval,
    median_interval,
    not_evaluable,
)
from analytics.pooling.sites import Json, Site
from mappers.study import SurvivalSpec

BAND = "log-log on a life table of pooled steps"
MEDIAN_CI = "brookmeyer-crowley, log-log on a life table of pooled steps"
NO_CURVE = "no site releases this curve"
NO_STEP = "not every site has a step here"
ROUNDING = 0.002  # days: half of the last of four decimals of a month


@dataclass(frozen=True)
class PooledSurvival:
    """The pooled curve of the sites that release one, and the names of those that suppress theirs."""

    estimate: Survival
    suppressed_at: tuple[str, ...] = ()


def pool_survival(spec: SurvivalSpec, sites: Sequence[Site]) -> PooledSurvival:
    """Return the pooled estimate of `spec`; not evaluable where no site releases a curve."""
    found = [(site, site.figures("survival").get(spec.id)) for site in sites]
    suppressed = tuple(site.name for site, s in found if s is None or s["status"] == "suppressed")
    shown = [(site, s) for site, s in found if s is not None and s["curve"]]
    if not shown:
        return PooledSurvival(_suppressed(spec) if suppressed else not_evaluable(spec), suppressed)
    if not any(site.protected for site, _ in shown):
        return PooledSurvival(estimate_survival(spec, risk_table_times([s for _, s in shown])), suppressed)
    return PooledSurvival(_life_table(spec, [s for _, s in shown]), suppressed)


def _suppressed(spec: SurvivalSpec) -> Survival:
    blank = not_evaluable(spec)
    marks = tuple(replace(mark, status="suppressed", reason=NO_CURVE) for mark in blank.landmarks)
    return replace(
        blank, n=None, events=None, landmarks=marks, median_status="suppressed", status="suppressed", reason=NO_CURVE
    )


def risk_table_times(curves: Sequence[Json]) -> Times:
    """Return the times behind uncontrolled curves, one a patient: each step stands for those who left at it.

    results.json has four decimals of a month. Where every step lies on a whole day, the day is taken, so that the times
    are those of the patients to the last digit.
    """
    months: list[float] = []
    event: list[bool] = []
    for curve in curves:
        for point in curve["curve"]:
            months += [float(point["t"])] * (point["events"] + point["censored"])
            event += [True] * point["events"] + [False] * point["censored"]
    times = np.asarray(months, dtype=np.float64)
    # A parameter that was measured in other units than days stays as it was written.
    days = np.round(times * DAYS["months"])
    if (np.abs(times * DAYS["months"] - days) <= ROUNDING).all():
        times = days / DAYS["months"]
    return Times(times, np.asarray(event, dtype=np.bool_))


def _life_table(spec: SurvivalSpec, curves: Sequence[Json]) -> Survival:
    n, events = (sum(curve[name] for curve in curves) for name in ("n", "events"))
    # Exact equality will do: coarsened steps are at whole months and at landmarks.
    common = set.intersection(*({float(p["t"]) for p in curve["curve"]} for curve in curves)) - {0.0}
    steps: list[Counts] = []
    before = 0.0
    for t in sorted(common):
        within = [p for curve in curves for p in curve["curve"] if before < float(p["t"]) <= t]
        step = Counts(t, sum(p["events"] for p in within), sum(p["censored"] for p in within))
        # Before the first event there is no band: those who were censored until then are part of the next step.
        if steps or step.events:
            steps.append(step)
            before = t
    points = life_table(n, steps, spec.ci_level)
    complete = sum(step.events for step in steps) == events
    median = crossing(points, 0.5)
    # As for the curve of one site: what lies after the last common step is not known to have no median.
    status: MedianStatus = "ok" if median is not None else "not_reached" if complete else "suppressed"
    interval = median_interval(points, spec.ci_level, MEDIAN_CI)
    landmarks = []
    for at in sorted(spec.landmarks):
        end = next((point for point in points[1:] if point.t == at), None)
        if end is None or (left := end.at_risk - end.events - end.censored) == 0:
            landmarks.append(Landmark(at, None, None, None, "suppressed", NO_STEP))
        else:
            landmarks.append(Landmark(at, left, end.s, landmark_interval(end, spec.ci_level, BAND)))
    return Survival(
        id=spec.id,
        label=spec.label,
        population=spec.population,
        n=n,
        events=events,
        median=median,
        median_status=status,
        ci=interval if complete or interval.high is not None else None,
        landmarks=tuple(landmarks),
        curve=points,
    )
