"""Estimate x of n patients with a confidence interval (docs/endpoint-rules.md 1, 13)."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
from scipy import stats

from analytics.errors import AnalysisError
from analytics.estimates.cohort_tables import Cohort
from analytics.estimates.model import Interval, Proportion
from analytics.estimates.rounding import exact_percent
from mappers.study import ProportionSpec, Where

# The names of methods are part of results.json.
INTERVALS = ("clopper-pearson", "wilson", "jeffreys")
SCIPY_NAMES: dict[str, Literal["exact", "wilson"]] = {"clopper-pearson": "exact", "wilson": "wilson"}


def proportion_interval(x: int, n: int, level: float, method: str) -> Interval:
    """Return the two-sided interval of x of n in percent, for `0 <= x <= n` and `n >= 1`.

    - ``clopper-pearson``: exact (Clopper and Pearson 1934). The lower limit of x = 0 is 0, the upper of x = n is 100.
    - ``wilson``: by the score test, without continuity correction (Wilson 1927).
    - ``jeffreys``: equal tails of the beta distribution of a Jeffreys prior; the lower limit of x = 0 is 0, the upper
      of x = n is 100 (Brown, Cai and DasGupta 2001).

    Raises `ValueError` for counts outside of these bounds.

    >>> ci = proportion_interval(15, 33, 0.90, "clopper-pearson")
    >>> f"{ci.low:.2f} to {ci.high:.2f}"
    '30.49 to 61.06'
    """
    if method == "jeffreys":
        low, high = _jeffreys(x, n, level)
    else:
        found = stats.binomtest(x, n).proportion_ci(level, method=SCIPY_NAMES[method])
        low, high = float(found.low), float(found.high)
    return Interval(level, method, 100 * low, 100 * high)


def _jeffreys(x: int, n: int, level: float) -> tuple[float, float]:
    if not 0 <= x <= n or n < 1:
        raise ValueError("x is not within 0 and n, or n is below 1")
    # The prior is beta(1/2, 1/2).
    posterior, tail = stats.beta(x + 0.5, n - x + 0.5), (1 - level) / 2
    low = 0.0 if x == 0 else float(posterior.ppf(tail))
    high = 1.0 if x == n else float(posterior.ppf(1 - tail))
    return low, high


def patients_meeting(cohort: Cohort, spec: ProportionSpec) -> frozenset[str]:
    """Return the USUBJIDs of the population of `spec` with at least one row that meets every condition."""
    met = pd.Series(data=True, index=cohort.table(spec.dataset).index)
    for condition in spec.where:
        met &= _meets(cohort.column(spec.dataset, condition.column), condition, spec.dataset)
    return frozenset(cohort.column(spec.dataset, "USUBJID")[met]) & cohort.population(spec.population)


def _meets(column: pd.Series, condition: Where, dataset: str) -> pd.Series:
    """Return the rows that meet one condition. A blank meets neither `is_in` nor a limit, but it meets `not_in`."""
    met = pd.Series(data=True, index=column.index)
    if condition.is_in:
        met &= column.isin(condition.is_in)
    if condition.not_in:
        met &= ~column.isin(condition.not_in)
    if condition.minimum is not None:
        met &= _numbers(column, dataset) >= condition.minimum
    if condition.maximum is not None:
        met &= _numbers(column, dataset) <= condition.maximum
    return met


def _numbers(column: pd.Series, dataset: str) -> pd.Series:
    try:
        return pd.to_numeric(column, errors="raise").astype("float64")
    except (ValueError, TypeError):
        # `from None`: the message of pandas quotes the value, which is a patient's.
        problem = "the study sets a limit on it, but a value is not a number"
        raise AnalysisError(dataset, str(column.name), problem, "correct the value or the study's `where`") from None


def estimate_proportion(spec: ProportionSpec, x: int, n: int) -> Proportion:
    """Return the estimate of `x` of `n`; not evaluable where the population is empty."""
    if n == 0:
        return not_evaluable(spec, f"no patient in population {spec.population}", n=0)
    return _proportion(spec, x, n, float(exact_percent(x, n)), proportion_interval(x, n, spec.ci_level, spec.ci_method))


def not_evaluable(spec: ProportionSpec, reason: str, n: int | None = None) -> Proportion:
    """Return the estimate without a value, and why."""
    return _proportion(spec, None if n is None else 0, n, None, None, status="not_evaluable", reason=reason)


def _proportion(
    spec: ProportionSpec, x: int | None, n: int | None, percent: float | None, ci: Interval | None, **further: Any
) -> Proportion:
    # A figure of its own, such as the rate of responses, is a table of one row.
    breakdown = spec.breakdown or spec.id
    further["design"] = spec.design
    return Proportion(spec.id, spec.label, spec.population, breakdown, x, n, percent, ci, **further)
