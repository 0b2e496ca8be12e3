"""The product limit against a slow and obvious one in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analytics.disclosure.coarsening import Counts, coarsen, life_table, step_times
from analytics.estimates.model import Survival
from analytics.estimates.survival import Times, crossing, curve, estimate_survival
from mappers.study import SurvivalSpec

PATIENTS = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=60)


def _times(patients: list[tuple[int, bool]]) -> Times:
    return Times(np.array([float(t) for t, _ in patients]), np.array([event for _, event in patients]))


def _reference(
    patients: list[tuple[int, bool]],
) -> dict[int, tuple[int, int, int, Fraction, Fraction | None]]:
    """t -> at risk, events, censored, S, sum of Greenwood (None where S is 0), by counting."""
    s, greenwood, found = Fraction(1), Fraction(0), {}
    for t in sorted({t for t, _ in patients}):
        at_risk = sum(1 for u, _ in patients if u >= t)
        events = sum(1 for u, event in patients if u == t and event)
        s *= Fraction(at_risk - events, at_risk)
        if at_risk > events:
            greenwood += Fraction(events, at_risk * (at_risk - events))
        here = sum(1 for u, _ in patients if u == t)
        found[t] = (at_risk, events, here - events, s, greenwood if s else None)
    return found


@settings(max_examples=150, deadline=None)
@given(PATIENTS)
def test_the_curve_agrees_with_counting(patients):
    points = curve(_times(patients), 0.9)[1:]
    reference = _reference(patients)
    assert [(p.t, p.at_risk, p.events, p.censored) for p in points] == [(t, *r[:3]) for t, r in reference.items()]
    z = stats.norm.ppf(0.95)
    for point, (_, _, _, s, greenwood) in zip(points, reference.values(), strict=True):
        assert math.isclose(point.s, s, abs_tol=1e-12)
        if 0 < s < 1:
            theta = z * math.sqrt(greenwood) / abs(math.log(s))
            assert math.isclose(point.low, float(s) ** math.exp(theta), rel_tol=1e-7, abs_tol=1e-12)
            assert math.isclose(point.high, float(s) ** math.exp(-theta), rel_tol=1e-7, abs_tol=1e-12)


@settings(max_examples=150, deadline=None)
@given(PATIENTS, st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(3, 4)]))
def test_a_quartile_is_the_first_time_at_or_below_it(patients, level):
    exact = next((t for t, row in _reference(patients).items() if row[3] <= level), None)
    assert crossing(curve(_times(patients), 0.95), float(level)) == exact


def _coarsened(exact: Survival, k: int) -> Survival | None:
    ends = step_times(exact, k)
    return None if ends is None else coarsen(exact, ends)


def _small(count: int, k: int) -> bool:
    return 0 < count < k


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=120),
    st.integers(3, 12),
    st.sampled_from([(), (12.0,), (12.0, 24.0), (7.5, 10.0)]),
)
def test_a_coarsened_curve_tells_no_small_count(patients, k, landmarks):
    times = Times(np.array([t / 10 for t, _ in patients]), np.array([event for _, event in patients]))
    spec = SurvivalSpec(id="s", label="s", paramcd="OS", landmarks=landmarks, min_at_risk=1)
    exact = estimate_survival(spec, times)
    coarse = _coarsened(exact, k)
    if coarse is None:
        assert _small(exact.events, k) or _small(exact.n - exact.events, k)
        return
    steps = coarse.curve[1:]
    at_risk = coarse.n
    for step in steps:
        until = times.months <= step.t + 1e-9
        assert step.t in landmarks or step.t == int(step.t)
        assert step.events >= k
        assert not _small(step.censored, k)
        assert step.at_risk == at_risk >= k
        at_risk -= step.events + step.censored
        assert at_risk == coarse.n - int(until.sum())
    tail = exact.events - sum(step.events for step in steps)
    assert not _small(tail, k)
    assert not _small(at_risk - tail, k)
    assert coarse.curve == life_table(coarse.n, [_counts(step) for step in steps], 0.95)
    for mark in coarse.landmarks:
        assert mark.status == "suppressed" or mark.s in {step.s for step in steps if step.t == mark.t}


def _counts(step):
    return Counts(step.t, step.events, step.censored)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=20, max_size=80))
def test_without_censoring_a_coarse_step_lies_on_the_exact_curve(times):
    months = np.array([float(t) for t in times])
    exact = estimate_survival(SurvivalSpec(id="s", label="s", paramcd="OS"), Times(months, np.ones(len(times), bool)))
    coarse = _coarsened(exact, 5)
    assert coarse is not None
    for step in coarse.curve[1:]:
        alive = sum(1 for t in times if t > step.t) / len(times)
        assert math.isclose(step.s, alive, abs_tol=1e-9)
