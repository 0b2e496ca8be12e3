"""Medians and quartiles: type 7, days between dates, and follow-up by the reversed curve."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from analytics.analysis import analyse
from analytics.errors import AnalysisError
from analytics.estimates.baseline import estimate_follow_up, estimate_quantiles, values
from analytics.estimates.survival import Times
from mappers.study import QuantileSpec, load_study
from tests.unit.analytics_tables import alneo, cohort


def _spec(**fields):
    return QuantileSpec(**({"id": "q", "label": "q", "unit": "years", "variable": "AGE"} | fields))


def test_type_seven_interpolates_between_order_statistics():
    """h = (n - 1) p + 1: of 1 2 3 4 10 the 2nd, 3rd and 4th, of 1 2 3 4 between them."""
    odd = estimate_quantiles(_spec(), pd.Series([10, 1, 3, 2, 4.0]), 5)
    even = estimate_quantiles(_spec(), pd.Series([1, 2, 3, 4.0]), 4)
    assert (odd.q1, odd.median, odd.q3) == (2, 3, 4)
    assert (even.q1, even.median, even.q3) == (1.75, 2.5, 3.25)
    assert odd.method == "type 7 (Hyndman and Fan 1996)"


def test_missing_values_are_left_out_and_counted():
    found = estimate_quantiles(_spec(), pd.Series([50, np.nan, 70.0]), 3)
    assert (found.n, found.missing, found.median) == (2, 1, 60)


def test_without_values_it_is_not_evaluable():
    found = estimate_quantiles(_spec(), pd.Series([np.nan]), 1)
    assert (found.status, found.median, found.n, found.missing) == ("not_evaluable", None, 0, 1)


def test_weeks_are_days_by_seven():
    rows = [{"USUBJID": p, "ITTFL": "Y", "SURGDT": date(2024, 1, 1)} for p in "ab"]
    rows[0]["AP02SDT"] = date(2024, 1, 1) + timedelta(days=36)
    found = values(cohort(rows), _spec(variable=None, start="SURGDT", end="AP02SDT", unit="weeks"))
    assert found["a"] == pytest.approx(36 / 7)
    assert np.isnan(found["b"])


def test_a_quantity_that_is_not_said_is_an_error():
    with pytest.raises(AnalysisError, match="neither `variable` nor `start` and `end`"):
        values(cohort([{"USUBJID": "a"}]), _spec(variable=None))


def test_follow_up_is_the_curve_of_the_censorings():
    """Times 1+ 2 3+ 4+: a censoring is the event, so S = 3/4, then 1/2 of that at 3, then 0 at 4."""
    times = Times(np.array([1.0, 2, 3, 4]), np.array([False, True, False, False]))
    found = estimate_follow_up(_spec(unit="months"), times, 5)
    assert (found.q1, found.median, found.q3) == (1, 3, 4)
    assert (found.n, found.missing, found.median_status) == (4, 1, "ok")


def test_follow_up_may_not_be_reached():
    """1+ 2 3 4: S stays at 3/4, which is the lower quartile and no more."""
    times = Times(np.array([1.0, 2, 3, 4]), np.array([False, True, True, True]))
    found = estimate_follow_up(_spec(unit="months"), times, 4)
    assert (found.q1, found.median, found.q3, found.median_status) == (1, None, None, "not_reached")


def test_follow_up_is_in_the_unit_of_its_estimate():
    found = estimate_follow_up(_spec(unit="years"), Times(np.array([12.0, 24]), np.array([False, False])), 2)
    assert (found.q1, found.median, found.q3) == (1, 1, 2)


def test_a_death_is_before_a_censoring_of_the_same_day():
    """Two deaths and a censoring at 2, then 5+ 6+: of three at risk S = 2/3. Of all five it would be 4/5."""
    times = Times(np.array([2.0, 2, 2, 5, 6]), np.array([True, True, False, False, False]))
    found = estimate_follow_up(_spec(unit="months"), times, 5)
    assert (found.q1, found.median, found.q3) == (2, 5, 6)


def test_the_reference_cohort_has_the_published_medians():
    """alneo_published_other.csv: 62 (49-74) years, 5.1 (3.6-6.0) weeks, 15.2 (6.8-27.8) and 20.3 months."""
    found = {q.id: q for q in analyse(alneo(), load_study("alneo")).quantiles}
    printed = {
        "baseline.age": (33, 62, 49, 74),
        "treatment.surgery_to_adjuvant": (26, 5.1, 3.6, 6.0),
        "survival.follow_up": (33, 15.2, 6.8, 27.8),
    }
    for name, figures in printed.items():
        q = found[name]
        assert (q.n, round(q.median, 1), round(q.q1, 1), round(q.q3, 1)) == figures
    assert round(found["survival.follow_up@later_cut"].median, 1) == 20.3
