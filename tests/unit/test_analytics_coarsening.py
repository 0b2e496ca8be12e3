"""Coarse survival curves, step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analytics.disclosure import coarsening
from analytics.disclosure.coarsening import Counts, life_table, step_times
from analytics.estimates.model import Interval, Landmark
from analytics.estimates.survival import Times, estimate_survival
from mappers.study import SurvivalSpec

Z = 1.959963984540054
METHOD = "log-log on a life table of coarsened steps"
MEDIAN_METHOD = "brookmeyer-crowley, log-log on a life table of coarsened steps"
NOTHING_AT_12 = Landmark(12, None, None, None, "suppressed", "the coarsened curve has no step here")


def _exact(events, censored, landmarks=(), min_at_risk=1):
    spec = SurvivalSpec(id="s", label="s", paramcd="OS", landmarks=landmarks, min_at_risk=min_at_risk)
    months = np.array([*events, *censored], dtype=float)
    return estimate_survival(spec, Times(months, np.arange(len(months)) < len(events)))


def coarsen(exact, k):
    """The curve with every step that it can have; None where it can have none."""
    ends = step_times(exact, k)
    return None if ends is None else coarsening.coarsen(exact, ends)


def test_a_step_that_is_left_out_joins_the_next():
    exact = _exact([1] * 3 + [4] * 3 + [9] * 3, [30] * 4)
    assert step_times(exact, 3) == (1, 4, 9)
    found = coarsening.coarsen(exact, (4, 9))
    assert _steps(found) == [(0, 13, 0, 0), (4, 13, 6, 0), (9, 7, 3, 0)]


def _steps(estimate):
    return [(p.t, p.at_risk, p.events, p.censored) for p in estimate.curve]


def test_steps_wait_for_k_events_and_end_on_whole_months():
    found = coarsen(_exact([0.5, 1.2, 2.9, 3.1, 3.2, 3.9], [30] * 4), 3)
    assert _steps(found) == [(0, 10, 0, 0), (3, 10, 3, 0), (4, 7, 3, 0)]
    assert [p.s for p in found.curve] == pytest.approx([1, 0.7, 0.4])
    assert (found.median, found.median_status, found.events, found.n, found.reason) == (4, "ok", 6, 10, None)
    # The band by hand: at 3 it is 0.33 to 0.89, at 4 its upper limit is 0.4 ** exp(-0.83) = 0.67.
    assert found.ci == Interval(0.95, MEDIAN_METHOD, 3, None)


def test_a_step_waits_until_its_censorings_are_none_or_k():
    found = coarsen(_exact([1, 2, 3, 6, 7, 8], [2.5, 4, 5, 30, 30, 30]), 3)
    assert _steps(found)[1:] == [(5, 12, 3, 3), (8, 6, 3, 0)]


def test_the_last_events_are_shown_only_if_they_are_enough():
    """7 events in steps of 3: the seventh cannot be a tail of 1, so that the second step goes as well."""
    found = coarsen(_exact([1, 2, 3, 4, 5, 6, 7], [30] * 4), 3)
    assert _steps(found)[1:] == [(3, 11, 3, 0)]
    assert (found.events, found.median, found.median_status) == (7, None, "suppressed")
    assert found.ci is None
    assert found.reason == "the last events are too few to show"


def test_a_landmark_ends_a_step_where_it_can():
    found = coarsen(_exact([1, 2, 3, 4, 14, 15, 16], [30] * 5, landmarks=(12,)), 3)
    assert _steps(found)[1:] == [(12, 12, 4, 0), (16, 8, 3, 0)]
    mark = found.landmarks[0]
    assert (mark.t, mark.at_risk, mark.s, mark.status) == (12, 8, pytest.approx(2 / 3), "ok")
    theta = Z * math.sqrt(4 / (12 * 8)) / abs(math.log(2 / 3))
    assert (mark.ci.level, mark.ci.method) == (0.95, METHOD)
    assert (mark.ci.low, mark.ci.high) == pytest.approx(((2 / 3) ** math.exp(theta), (2 / 3) ** math.exp(-theta)))


def test_an_event_at_a_landmark_belongs_to_the_step_that_ends_there():
    found = coarsen(_exact([2.5] * 3 + [2.8] * 3, [30] * 4, landmarks=(2.5,)), 3)
    assert _steps(found)[1:] == [(2.5, 10, 3, 0), (3, 7, 3, 0)]


def test_an_event_in_the_month_of_a_landmark_is_before_it():
    found = coarsen(_exact([1, 2, 3, 6], [30] * 5, landmarks=(6,)), 3)
    assert _steps(found)[1:] == [(6, 9, 4, 0)]


def test_each_landmark_ends_a_step_of_its_own_stretch():
    found = coarsen(_exact([1, 2, 3, 13, 14, 15], [30] * 5, landmarks=(18, 6)), 3)
    assert _steps(found)[1:] == [(6, 11, 3, 0), (18, 8, 3, 0)]
    assert [(mark.t, mark.at_risk) for mark in found.landmarks] == [(6, 8), (18, 5)]


def test_the_last_step_before_a_landmark_takes_the_events_that_are_left():
    """7 events in steps of 3: 3 by month 3, and the second step waits for the seventh."""
    found = coarsen(_exact([1, 2, 3, 4, 5, 6, 7], [30] * 5, landmarks=(12,)), 3)
    assert _steps(found)[1:] == [(3, 12, 3, 0), (12, 9, 4, 0)]


def test_a_single_censoring_before_a_landmark_joins_all_steps_of_the_stretch():
    """Steps of (3 events, 3 censored) and (3, 0), then 1 censored: only all together have 0 or 3 censored and more."""
    found = coarsen(_exact([1, 1, 1, 4, 4, 4], [1, 1, 1, 6, *[30] * 5], landmarks=(12,)), 3)
    assert _steps(found)[1:] == [(12, 15, 6, 4)]
    assert (found.landmarks[0].at_risk, found.landmarks[0].s) == (5, pytest.approx(1 - 6 / 13))


def test_at_a_landmark_after_which_nobody_is_left_nothing_is_shown():
    found = coarsen(_exact([1, 2, 3], [], landmarks=(12,)), 3)
    assert _steps(found)[1:] == [(12, 3, 3, 0)]
    assert found.landmarks == (NOTHING_AT_12,)


def test_a_landmark_with_too_few_at_risk_keeps_its_reason_but_not_the_number():
    found = coarsen(_exact([1, 2, 3, 4], [30] * 5, landmarks=(12,), min_at_risk=6), 3)
    assert found.landmarks == (Landmark(12, None, None, None, "not_evaluable", "fewer than 6 at risk"),)


def test_a_last_censoring_that_is_alone_takes_the_step_before_with_it():
    """3 events and 3 censored by month 3 would leave one patient: nothing of the curve is shown."""
    found = coarsen(_exact([1, 2, 3], [2.5, 2.5, 2.5, 30]), 3)
    assert _steps(found) == [(0, 7, 0, 0)]
    assert (found.median, found.median_status, found.ci) == (None, "suppressed", None)


def test_an_interval_that_ends_in_the_shown_part_is_shown_although_the_last_events_are_not():
    """27 patients, 19 events at month 1: S = 8/27 and its upper limit is 0.47. The other 4 events are 3 and 1."""
    found = coarsen(_exact([1] * 19 + [2] * 3 + [3], [30] * 4), 3)
    assert _steps(found)[1:] == [(1, 27, 19, 0)]
    assert (found.median, found.median_status, found.reason) == (1, "ok", None)
    assert found.ci == Interval(0.95, MEDIAN_METHOD, 1, 1)


def test_a_landmark_with_a_few_events_around_it_is_suppressed():
    found = coarsen(_exact([1, 2, 14, 15, 16], [30] * 5, landmarks=(12,)), 3)
    # 2 events by month 12 are no step. A step of 3 by month 14 would leave the last 2: it goes as well.
    assert _steps(found) == [(0, 10, 0, 0)]
    assert found.landmarks == (NOTHING_AT_12,)


@pytest.mark.parametrize(("events", "censored"), [(2, 10), (10, 2), (1, 1)])
def test_small_totals_leave_no_curve(events, censored):
    assert coarsen(_exact([5] * events, [30] * censored), 3) is None


def test_no_events_at_all_is_a_flat_curve():
    found = coarsen(_exact([], [30] * 5), 3)
    assert (_steps(found), found.median_status, found.events) == ([(0, 5, 0, 0)], "not_reached", 0)


def test_the_life_table_by_hand():
    """20 patients; 4 events and 4 censored: 1 - 4/18. Then 12: 3 events, none censored: 3/4 of it."""
    points = life_table(20, [Counts(6, 4, 4), Counts(12, 3, 0)], 0.95)
    assert [p.s for p in points] == pytest.approx([1, 14 / 18, 14 / 18 * 9 / 12])
    assert [p.at_risk for p in points] == [20, 20, 12]
    assert (points[0].low, points[0].high) == (1, 1)
    variance = 4 / (18 * 14) + 3 / (12 * 9)
    theta = Z * math.sqrt(variance) / abs(math.log(points[2].s))
    assert points[2].low == pytest.approx(points[2].s ** math.exp(theta))
    assert points[2].high == pytest.approx(points[2].s ** math.exp(-theta))


def test_when_everyone_has_died_there_is_no_band():
    last = life_table(5, [Counts(3, 5, 0)], 0.95)[-1]
    assert (last.s, last.low, last.high) == (0, None, None)
