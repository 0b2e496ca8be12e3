"""Estimate medians and quartiles of variables, times between dates and follow-up (docs/endpoint-rules.md 11, 14)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.errors import AnalysisError
from analytics.estimates.cohort_tables import DAYS, Cohort
from analytics.estimates.model import MedianStatus, Quantiles
from analytics.estimates.survival import Times, crossing, curve
from mappers.study import QuantileSpec

# Names of methods are part of results.json; `analytics.report.definitions` explains them.
TYPE7 = "type 7 (Hyndman and Fan 1996)"
REVERSE_KM = "reverse Kaplan-Meier (Schemper and Smith 1996), quartiles of the same curve"


def values(cohort: Cohort, spec: QuantileSpec) -> pd.Series:
    """Return the quantity of every ADSL row in `spec.unit`, indexed by USUBJID; NaN where it is missing."""
    if spec.variable is not None:
        # What is no number counts as missing, and the estimate says how many are.
        found = pd.to_numeric(cohort.column("adsl", spec.variable), errors="coerce")
    elif spec.start is not None and spec.end is not None:
        found = _days(cohort, spec.start, spec.end) / DAYS[spec.unit]
    else:
        problem = "it names neither `variable` nor `start` and `end`"
        raise AnalysisError("study", spec.id, problem, "give the one or the others")
    return found.astype("float64").set_axis(cohort.column("adsl", "USUBJID"))


def _days(cohort: Cohort, start: str, end: str) -> pd.Series:
    first, last = cohort.column("adsl", start), cohort.column("adsl", end)
    try:
        return (pd.to_datetime(last) - pd.to_datetime(first)).dt.days
    except (ValueError, TypeError, AttributeError):
        # `from None`: the message of pandas quotes the date, which is a patient's.
        raise AnalysisError("adsl", end, f"it or {start} is not a date", "give dates as YYYY-MM-DD") from None


def estimate_quantiles(spec: QuantileSpec, observed: pd.Series, population: int) -> Quantiles:
    """Return the quartiles of the `observed` values of `population` patients, by type 7 (linear, the default of R)."""
    numbers = observed.dropna().to_numpy(dtype=float)
    n = len(numbers)
    if n == 0:
        return not_evaluable(spec, "no patient has a value", n=0, missing=population)
    q1, median, q3 = (float(q) for q in np.quantile(numbers, [0.25, 0.5, 0.75], method="linear"))
    return _quantiles(spec, n, median, q1, q3, missing=population - n)


def estimate_follow_up(spec: QuantileSpec, times: Times, population: int) -> Quantiles:
    """Return median follow-up by the Kaplan-Meier curve of the time to censoring; None where it is not reached."""
    if times.n == 0:
        return not_evaluable(spec, f"no patient has a time for {spec.paramcd}", n=0, missing=population)
    # The level is that of a band which is not used here.
    points = curve(times.reversed(), level=0.95)
    # The curve falls: a quarter of the patients has left where it is at 0.75.
    found = (crossing(points, s) for s in (0.75, 0.5, 0.25))
    # The times are in months, whatever the unit of the estimate.
    q1, median, q3 = (None if t is None else t * DAYS["months"] / DAYS[spec.unit] for t in found)
    status: MedianStatus = "not_reached" if median is None else "ok"
    return _quantiles(spec, times.n, median, q1, q3, missing=population - times.n, median_status=status)


def beside(estimate: Quantiles, numbers: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    """Return how many of `numbers` lie on the smaller side of the first quartile, the median and the third quartile.

    A quartile that is not reached has nobody beyond it.
    """
    quartiles = (estimate.q1, estimate.median, estimate.q3)
    low, middle, high = (0 if q is None else int(min((numbers <= q).sum(), (numbers >= q).sum())) for q in quartiles)
    return low, middle, high


def not_evaluable(spec: QuantileSpec, reason: str, n: int | None = None, missing: int | None = None) -> Quantiles:
    """Return the quantity without a value, and why."""
    state = {"status": "not_evaluable", "median_status": "not_evaluable", "reason": reason}
    return _quantiles(spec, n, None, None, None, missing=missing, **state)


def _quantiles(
    spec: QuantileSpec, n: int | None, median: float | None, q1: float | None, q3: float | None, **further: Any
) -> Quantiles:
    method = TYPE7 if spec.method == "type7" else REVERSE_KM
    return Quantiles(spec.id, spec.label, spec.population, n, median, q1, q3, spec.unit, method, **further)
