"""Kaplan-Meier estimates against published values and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analytics.estimates.model import Landmark, Survival
from analytics.estimates.survival import Times, curve, estimate_survival, merge_near_ties
from mappers.study import SurvivalSpec

# Remission times in weeks of the leukaemia trial of Freireich et al. 1963 (Blood 21:699), as in Gehan 1965
# (Biometrika 52:203) and Kalbfleisch & Prentice 1980, table 1.2. A plus is a censoring.
SIX_MP = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
PLACEBO = "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"


def _times(text: str) -> Times:
    words = text.split()
    months = np.array([float(word.rstrip("+")) for word in words])
    return Times(months, np.array([not word.endswith("+") for word in words]))


def _spec(**fields) -> SurvivalSpec:
    return SurvivalSpec(id="survival.os", label="OS", paramcd="OS", **fields)


def test_the_curve_of_the_six_mp_arm():
    """By hand: 18/21, then times 16/17, 14/15, 11/12, 10/11, 6/7, 5/6."""
    steps = {p.t: p for p in curve(_times(SIX_MP), 0.95) if p.events}
    s = {6: 18 / 21}
    for t, before, factor in (
        (7, 6, 16 / 17),
        (10, 7, 14 / 15),
        (13, 10, 11 / 12),
        (16, 13, 10 / 11),
        (22, 16, 6 / 7),
        (23, 22, 5 / 6),
    ):
        s[t] = s[before] * factor
    assert {t: p.s for t, p in steps.items()} == pytest.approx(s, abs=1e-12)
    assert [(p.at_risk, p.events, p.censored) for p in steps.values()][:2] == [(21, 3, 1), (17, 1, 0)]


def _band(s: float, greenwood: float) -> tuple[float, float]:
    """S^exp(± 1.96 sqrt(sum of Greenwood) / log S)."""
    theta = 1.959963984540054 * math.sqrt(greenwood) / abs(math.log(s))
    return s ** math.exp(theta), s ** math.exp(-theta)


def test_the_band_is_log_log_with_greenwood():
    """The sum of d / (n (n - d)) over the seven times of an event, by hand."""
    s, greenwood, expected = 1.0, 0.0, {}
    for t, n, d in ((6, 21, 3), (7, 17, 1), (10, 15, 1), (13, 12, 1), (16, 11, 1), (22, 7, 1), (23, 6, 1)):
        s *= (n - d) / n
        greenwood += d / (n * (n - d))
        expected[t] = pytest.approx(_band(s, greenwood), rel=1e-7)
    assert {p.t: (p.low, p.high) for p in curve(_times(SIX_MP), 0.95) if p.events} == expected


def test_the_medians_and_their_intervals():
    """6-MP: S is 0.538 at 22 and 0.448 at 23; the band by hand (above) has its lower limit below 1/2 first at 13
    and its upper one never. Placebo: nobody is censored, so S = left / 21 and Greenwood is (1 / S - 1) / 21."""
    six_mp, placebo = (estimate_survival(_spec(), _times(text)) for text in (SIX_MP, PLACEBO))
    assert (six_mp.median, six_mp.median_status, six_mp.ci.low, six_mp.ci.high) == (23, "ok", 13, None)
    bands = {}
    for t in range(1, 23):
        s = sum(1 for word in PLACEBO.split() if int(word) > t) / 21
        bands[t] = _band(s, (1 / s - 1) / 21)
    low, high = (min(t for t, band in bands.items() if band[side] <= 0.5) for side in (0, 1))
    assert (placebo.median, placebo.ci.low, placebo.ci.high) == (8, low, high)
    assert six_mp.ci.method == "brookmeyer-crowley, log-log"


def test_a_curve_begins_with_everyone_and_every_patient_leaves_it_once():
    points = curve(_times(SIX_MP), 0.95)
    assert (points[0].t, points[0].at_risk, points[0].s, points[0].events) == (0, 21, 1.0, 0)
    left = [point.at_risk - point.events - point.censored for point in points]
    assert [point.at_risk for point in points] == [21, *left[:-1]]
    assert left[-1] == 0


def test_half_is_reached_exactly_although_floats_miss_it():
    """Six patients, three events among censorings: S = 5/6 * 4/5 * 3/4 = 1/2."""
    times = _times("1 2 3 9+ 9+ 9+")
    assert estimate_survival(_spec(), times).median == 3


def test_a_plateau_at_one_half_gives_its_middle():
    """S = 1/2 from 2 to 3. R 4: survfit(Surv(c(1,2,3,4), c(1,1,1,1)) ~ 1) prints 2.5, as half of (2 + 3)."""
    assert estimate_survival(_spec(), _times("1 2 3 4")).median == 2.5
    assert estimate_survival(_spec(), _times("1 2 3+ 4+")).median == 2  # nothing falls after it


@pytest.mark.parametrize("last_digit", [0, 1, -1])
def test_times_that_differ_by_rounding_are_equal(last_digit):
    """152 days in months, by two programs: the event is before the censoring, whatever the last digit says."""
    month = 152 / 30.4375
    other = month if not last_digit else np.nextafter(month, np.inf * last_digit)
    times = Times(merge_near_ties(np.array([2, month, other])), np.array([False, False, True]))
    assert [(p.at_risk, p.events, p.censored, p.s) for p in estimate_survival(_spec(), times).curve[2:]] == [
        (2, 1, 1, 0.5)
    ]


def test_times_of_different_days_stay_apart():
    days = np.arange(1, 3000) / 30.4375
    assert merge_near_ties(days).tolist() == days.tolist()


def test_a_median_that_is_not_reached_has_no_number():
    estimate = estimate_survival(_spec(), _times("1 5+ 6+ 7+ 8+"))
    assert (estimate.median, estimate.median_status, estimate.ci.high) == (None, "not_reached", None)
    assert estimate.events == 1


def test_no_event_has_a_flat_curve_and_no_interval():
    estimate = estimate_survival(_spec(landmarks=(5,), min_at_risk=1), _times("6+ 7+"))
    assert (estimate.median_status, estimate.events) == ("not_reached", 0)
    assert (estimate.landmarks[0].s, estimate.landmarks[0].ci) == (1.0, None)
    assert [point.s for point in estimate.curve] == [1.0, 1.0, 1.0]


def test_when_all_have_died_the_last_point_has_no_limits():
    last = curve(_times(PLACEBO), 0.95)[-1]
    assert (last.t, last.s, last.low, last.high) == (23, pytest.approx(0), None, None)


def test_landmarks_name_their_risk_set_and_are_not_evaluable_below_the_minimum():
    """At 10 weeks 15 have a time of 10 or more and S = 64/85; at 34 only 2 have."""
    estimate = estimate_survival(_spec(landmarks=(34, 10), min_at_risk=3), _times(SIX_MP))
    ten, late = estimate.landmarks
    greenwood = 3 / (21 * 18) + 1 / (17 * 16) + 1 / (15 * 14)
    assert (ten.t, ten.at_risk, ten.status, ten.ci.method) == (10, 15, "ok", "log-log")
    assert ten.s == pytest.approx(64 / 85)
    assert (ten.ci.low, ten.ci.high) == pytest.approx(_band(64 / 85, greenwood))
    assert ten.ci.level == 0.95
    assert late == Landmark(34, 2, None, None, "not_evaluable", "fewer than 3 at risk")
    just_enough = estimate_survival(_spec(landmarks=(10,), min_at_risk=15), _times(SIX_MP)).landmarks[0]
    assert (just_enough.status, just_enough.at_risk) == ("ok", 15)


def test_reversed_times_exchange_events_and_censorings():
    times = _times("1 2+ 3")
    assert times.reversed().event.tolist() == [False, True, False]
    assert times.reversed().months.tolist() == pytest.approx([1, 2, 3], abs=1e-12)


def test_without_patients_nothing_is_evaluable():
    nobody = Times(np.array([]), np.array([], dtype=bool))
    reason = "no patient of population enrolled has a time for OS"
    assert estimate_survival(_spec(landmarks=(24, 12)), nobody) == Survival(
        id="survival.os",
        label="OS",
        population="enrolled",
        n=0,
        events=0,
        median=None,
        median_status="not_evaluable",
        ci=None,
        landmarks=tuple(Landmark(t, None, None, None, "not_evaluable", reason) for t in (12, 24)),
        curve=(),
        status="not_evaluable",
        reason=reason,
    )
