"""x of n patients with an exact confidence interval (docs/endpoint-rules.md 1, 13)."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from analytics.errors import AnalysisError
from analytics.estimates.cohort import Cohort
from analytics.estimates.model import Interval, Proportion
from analytics.estimates.rounding import exact_percent
from mappers.study import ProportionSpec, Where


def clopper_pearson(x: int, n: int, level: float) -> Interval:
    """The exact two-sided interval in percent (Clopper and Pearson 1934), by beta quantiles.

    `0 <= x <= n`, `n >= 1`. The lower limit of x = 0 is 0 and the upper limit of x = n is 100.
    """
    tail = (1 - level) / 2
    low = 0.0 if x == 0 else 100 * float(stats.beta.ppf(tail, x, n - x + 1))
    high = 100.0 if x == n else 100 * float(stats.beta.isf(tail, x + 1, n - x))
    return Interval(level, "clopper-pearson", low, high)


def rows_meeting(cohort: Cohort, dataset: str, where: tuple[Where, ...]) -> pd.Series:
    """A mask over the rows of `dataset`: those that meet every condition."""
    met = pd.Series(data=True, index=cohort.table(dataset).index)
    for condition in where:
        met &= _meets(cohort.column(dataset, condition.column), condition, dataset)
    return met


def _meets(column: pd.Series, condition: Where, dataset: str) -> pd.Series:
    """A blank meets neither `is_in` nor a limit, but it meets `not_in`."""
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
        problem = "a limit is set on it but a value is not a number"
        raise AnalysisError(dataset, str(column.name), problem, "correct the value or the study's `where`") from None


def patients_meeting(cohort: Cohort, spec: ProportionSpec) -> frozenset[str]:
    """The USUBJIDs of the population of `spec` with at least one row that meets every condition."""
    rows = rows_meeting(cohort, spec.dataset, spec.where)
    found = cohort.column(spec.dataset, "USUBJID")[rows]
    return frozenset(found) & cohort.population(spec.population)


def proportion(spec: ProportionSpec, x: int, n: int) -> Proportion:
    """The estimate of `x` of `n`; not evaluable where the population is empty."""
    if n == 0:
        return not_evaluable(spec, f"no patient in population {spec.population}", n=0)
    return Proportion(
        id=spec.id,
        label=spec.label,
        population=spec.population,
        breakdown=spec.breakdown or spec.id,
        x=x,
        n=n,
        percent=float(exact_percent(x, n)),
        ci=clopper_pearson(x, n, spec.ci_level),
    )


def not_evaluable(spec: ProportionSpec, reason: str, n: int | None = None) -> Proportion:
    """The estimate without a value, and why."""
    return Proportion(
        id=spec.id,
        label=spec.label,
        population=spec.population,
        breakdown=spec.breakdown or spec.id,
        x=None if n is None else 0,
        n=n,
        percent=None,
        ci=None,
        status="not_evaluable",
        reason=reason,
    )
