"""Estimate survival with the Kaplan-Meier method of lifelines (docs/endpoint-rules.md 8-12).

Product limit (Kaplan and Meier 1958), variance by Greenwood (1926), pointwise band on the log(-log) scale
(Kalbfleisch and Prentice 1980), median = smallest t with S(t) <= 0.5, or the middle of the plateau where S is 0.5, its
interval by inverting that band (Brookmeyer and Crowley 1982). All times are in months. Of an event and a censoring at
the same time the event is first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from lifelines import KaplanMeierFitter

from analytics.estimates.model import CurvePoint, Interval, Landmark, MedianStatus, Survival
from mappers.study import SurvivalSpec

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
BAND = "log-log"
MEDIAN_CI = "brookmeyer-crowley, log-log"
# S is a product of floats: 0.5 may come out a few ulp above. As in R's survfit, equality has a tolerance.
TOLERANCE = 1e-9
NEAR = float(np.sqrt(np.finfo(float).eps))  # the tolerance of `survfit` for times


def merge_near_ties(times: Floats) -> Floats:
    """Return times of which those that differ by rounding alone are equal: the least of each group.

    As `aeqSurv` of the R package survival (Therneau, vignette "Round off error and tied times"): neighbours that differ
    by at most 1.5e-8, in their unit or relative to the mean.

    >>> merge_near_ties(np.array([2.0, 4.9938398357289535, 4.993839835728953])).tolist()
    [2.0, 4.993839835728953, 4.993839835728953]
    """
    if len(times) == 0:
        return times
    values, place = np.unique(times, return_inverse=True)
    steps = np.diff(values, prepend=-np.inf)
    apart = (steps > NEAR) & (steps > NEAR * np.abs(values).mean())
    merged: Floats = values[np.flatnonzero(apart)[np.cumsum(apart) - 1]][place]
    return merged


@dataclass(frozen=True)
class Times:
    """Time to event of one parameter: `months` (n,) and whether it is an `event` (n,) or a censoring."""

    months: Floats
    event: Bools

    @property
    def n(self) -> int:
        """Return the number of patients."""
        return len(self.months)

    def reversed(self) -> Times:
        """Return events and censorings exchanged: the time to the end of follow-up (Schemper and Smith 1996).

        Who dies is no longer at risk of a censoring on the same day, because the event is first (as in `prodlim` of R).
        """
        before = np.nextafter(self.months, 0.0)
        return Times(np.where(self.event, before, self.months), ~self.event)


def curve(times: Times, level: float) -> tuple[CurvePoint, ...]:
    """Return the product-limit curve: a point at 0 and at every time of an event or censoring. Needs n >= 1.

    The band is None where S is 0 (no finite limit) and 1 to 1 before the first event.
    """
    fit = KaplanMeierFitter(alpha=1 - level).fit(times.months, event_observed=times.event)
    table = fit.event_table
    counts = table[["at_risk", "observed", "censored"]].to_numpy(dtype=int).tolist()
    survived = fit.survival_function_.iloc[:, 0].to_numpy(dtype=float).tolist()
    bands = fit.confidence_interval_.to_numpy(dtype=float)
    points = [CurvePoint(0.0, times.n, 0, 0, 1.0, 1.0, 1.0)]
    # lifelines adds a row at time 0 at which nobody leaves: the point at 0 above stands for it.
    for t, (at_risk, events, censored), s, band in zip(table.index.tolist(), counts, survived, bands, strict=True):
        if events or censored:
            points.append(CurvePoint(float(t), at_risk, events, censored, s, *limits(s, band)))
    return tuple(points)


def limits(s: float, band: Floats) -> tuple[float | None, float | None]:
    """Return the limits at survival `s`: the log(-log) band has none at 0 and no width at 1."""
    if s >= 1 - TOLERANCE:
        return 1.0, 1.0
    if s <= TOLERANCE or not np.isfinite(band).all():
        return None, None
    return float(band[0]), float(band[1])


def crossing(points: tuple[CurvePoint, ...], level: float) -> float | None:
    """Return the smallest t with S(t) <= `level`; None where the curve stays above."""
    return next((point.t for point in points if point.s <= level + TOLERANCE), None)


def median_time(values: Iterable[tuple[float, float | None]]) -> float | None:
    """Return the time at which falling values (time, value) reach one half; None where they stay above.

    Where the value is exactly one half up to a later fall, it is the middle of that plateau, as `survfit` of R and
    LIFETEST of SAS have it. Values that are None have no limit and say nothing.

    >>> median_time([(0.0, 1.0), (2.0, 0.5), (5.0, 0.25)])
    3.5
    """
    at_most = [(t, value) for t, value in values if value is not None and value <= 0.5 + TOLERANCE]
    if not at_most:
        return None
    first, value = at_most[0]
    later = next((t for t, lower in at_most if lower < value - TOLERANCE), None)
    return first if later is None or value < 0.5 - TOLERANCE else (first + later) / 2


def median_interval(points: tuple[CurvePoint, ...], level: float, method: str = MEDIAN_CI) -> Interval:
    """Return the times at which the lower and the upper band reach one half (`median_time`)."""
    low, high = median_time((p.t, p.low) for p in points), median_time((p.t, p.high) for p in points)
    return Interval(level, method, low, high)


def landmark(times: Times, points: tuple[CurvePoint, ...], at: float, spec: SurvivalSpec) -> Landmark:
    """Return S at `at` months; at risk are the patients with a time of `at` or later.

    Not evaluable where fewer than the study's `min_at_risk` are left. Before the first event there is no
    interval.
    """
    at_risk = int((times.months >= at - TOLERANCE).sum())
    # The right end of a curve rests on a handful of patients: the study says how many it takes.
    if at_risk < spec.min_at_risk:
        reason = f"fewer than {spec.min_at_risk} at risk"
        return Landmark(at, at_risk, None, None, "not_evaluable", reason)
    # The curve is constant between its steps: S at a landmark is that of the last step before.
    last = [point for point in points if point.t <= at + TOLERANCE][-1]
    return Landmark(at, at_risk, last.s, landmark_interval(last, spec.ci_level))


def landmark_interval(point: CurvePoint, level: float, method: str = BAND) -> Interval | None:
    """Return the band at one point as an interval; None before the first event."""
    return None if point.s >= 1 - TOLERANCE else Interval(level, method, point.low, point.high)


def estimate_survival(spec: SurvivalSpec, times: Times) -> Survival:
    """Return the estimate of one ADTTE parameter; not evaluable without patients."""
    if times.n == 0:
        return not_evaluable(spec)
    points = curve(times, spec.ci_level)
    median = median_time((point.t, point.s) for point in points)
    status: MedianStatus = "not_reached" if median is None else "ok"
    return Survival(
        id=spec.id,
        label=spec.label,
        population=spec.population,
        n=times.n,
        events=int(times.event.sum()),
        median=median,
        median_status=status,
        ci=median_interval(points, spec.ci_level),
        landmarks=tuple(landmark(times, points, at, spec) for at in sorted(spec.landmarks)),
        curve=points,
    )


def not_evaluable(spec: SurvivalSpec) -> Survival:
    """Return the estimate without a value, and why."""
    reason = f"no patient of population {spec.population} has a time for {spec.paramcd}"
    blank = tuple(Landmark(at, None, None, None, "not_evaluable", reason) for at in sorted(spec.landmarks))
    return Survival(
        id=spec.id,
        label=spec.label,
        population=spec.population,
        n=0,
        events=0,
        median=None,
        median_status="not_evaluable",
        ci=None,
        landmarks=blank,
        curve=(),
        status="not_evaluable",
        reason=reason,
    )
