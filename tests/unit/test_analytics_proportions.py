"""Who is counted in x and n, and the exact interval."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from analytics.analysis import analyse
from analytics.errors import AnalysisError
from analytics.estimates.model import Proportion
from analytics.estimates.proportions import estimate_proportion, not_evaluable, patients_meeting, proportion_interval
from mappers.study import ProportionSpec, Where, load_study
from tests.unit.analytics_tables import alneo, cohort

PUBLISHED = Path(__file__).parents[2] / "mappers" / "studies" / "alneo_published.csv"


def _adsl(patient, **columns):
    return {"USUBJID": patient, "ITTFL": "Y", "SURGFL": "N", "ADJSAFFL": "N"} | columns


def _spec(**fields):
    return ProportionSpec(id="x", label="x", **fields)


def test_the_interval_of_the_primary_endpoint():
    """15 of 33 at 90 %: 30.49 to 61.06 (docs/endpoint-rules.md 13)."""
    ci = proportion_interval(15, 33, 0.90, "clopper-pearson")
    assert (round(ci.low, 2), round(ci.high, 2)) == (30.49, 61.06)
    assert (ci.level, ci.method) == (0.90, "clopper-pearson")


@pytest.mark.parametrize(("n", "level"), [(1, 0.95), (33, 0.95), (33, 0.90), (5000, 0.99)])
def test_at_the_ends_the_interval_has_a_closed_form(n, level):
    """x = 0: 1 - (alpha/2)^(1/n); x = n: its mirror."""
    tail = ((1 - level) / 2) ** (1 / n)
    none, everyone = (proportion_interval(x, n, level, "clopper-pearson") for x in (0, n))
    assert (none.low, none.high) == (0, pytest.approx(100 * (1 - tail), rel=1e-9))
    assert (everyone.low, everyone.high) == (pytest.approx(100 * tail, rel=1e-9), 100)


def _tail(x, n, p):
    """P(X >= x) of a binomial, as a sum."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(x, n + 1))


@pytest.mark.parametrize(
    ("x", "n", "level"), [(7, 20, 0.95), (1, 2, 0.95), (15, 33, 0.90), (32, 33, 0.99), (1, 200, 0.8)]
)
def test_beyond_each_limit_the_observed_count_is_in_a_tail_of_half_the_error(x, n, level):
    """The definition of Clopper and Pearson (1934): P(X >= x) at the lower limit, P(X <= x) at the upper one."""
    ci = proportion_interval(x, n, level, "clopper-pearson")
    tails = _tail(x, n, ci.low / 100), 1 - _tail(x + 1, n, ci.high / 100)
    assert tails == pytest.approx(((1 - level) / 2,) * 2, abs=1e-9)


@pytest.mark.parametrize(("x", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_are_none_have_no_interval(x, n):
    with pytest.raises(ValueError, match=r"\b[nk]\b"):
        proportion_interval(x, n, 0.95, "clopper-pearson")


def test_every_published_count_is_found():
    found = {p.id: p for p in analyse(alneo(), load_study("alneo")).proportions}
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        published = list(csv.DictReader(file))
    assert len(published) == 41
    for row in published:
        ours = found[row["id"]]
        assert (ours.x, ours.n, ours.status) == (int(row["x"]), int(row["n"]), "ok"), row["id"]
        assert ours.percent == pytest.approx(float(row["percent_exact"]), abs=5e-5)


def test_a_blank_meets_neither_a_list_nor_a_limit_but_is_not_among_the_excluded():
    rows = [_adsl("a", SEX="F", AGE=50), _adsl("b", SEX=None, AGE=None), _adsl("c", SEX="M", AGE=70)]
    table = cohort(rows)
    cases = {
        Where(column="SEX", is_in=("F",)): {"a"},
        Where(column="SEX", not_in=("F",)): {"b", "c"},
        Where(column="AGE", minimum=50): {"a", "c"},
        Where(column="AGE", maximum=69.9): {"a"},
        Where(column="AGE", is_in=(70,)): {"c"},
        Where(column="AGE", minimum=60, maximum=80): {"c"},
        Where(column="AGE", is_in=(50,), minimum=60): set(),
        Where(column="SEX", is_in=("F", "M"), not_in=("M",)): {"a"},
    }
    for where, patients in cases.items():
        assert patients_meeting(table, _spec(where=(where,))) == patients


def test_a_patient_counts_once_and_one_row_must_meet_everything():
    adae = [
        {"USUBJID": "a", "AEDECOD": "Nausea", "ATOXGRN": 3},
        {"USUBJID": "a", "AEDECOD": "Nausea", "ATOXGRN": 4},
        {"USUBJID": "b", "AEDECOD": "Nausea", "ATOXGRN": 1},
        {"USUBJID": "b", "AEDECOD": "Asthenia", "ATOXGRN": 3},
    ]
    table = cohort([_adsl("a"), _adsl("b")], adae=adae)
    where = (Where(column="AEDECOD", is_in=("Nausea",)), Where(column="ATOXGRN", minimum=3))
    assert patients_meeting(table, _spec(dataset="adae", where=where)) == {"a"}


def test_the_populations_lie_within_the_enrolled():
    rows = [
        _adsl("a", SURGFL="Y", ADJSAFFL="Y"),
        _adsl("b"),
        _adsl("c", ITTFL="N", SURGFL="Y", ADJSAFFL="Y"),
        _adsl("d", ITTFL=None, SURGFL="Y"),
    ]
    table = cohort(rows)
    expected = {"enrolled": {"a", "b"}, "resected": {"a"}, "adjuvant": {"a"}}
    assert {name: table.population(name) for name in expected} == expected


def test_an_estimate_has_its_counts_its_percentage_and_its_interval():
    found = estimate_proportion(_spec(population="resected", breakdown="b", ci_level=0.90), 15, 33)
    ci = proportion_interval(15, 33, 0.90, "clopper-pearson")
    assert found == Proportion("x", "x", "resected", "b", 15, 33, pytest.approx(100 * 15 / 33, abs=1e-12), ci)


def test_an_empty_population_is_not_evaluable():
    reason = "no patient in population adjuvant"
    expected = Proportion("x", "x", "adjuvant", "x", 0, 0, None, None, "not_evaluable", reason)
    assert estimate_proportion(_spec(population="adjuvant"), 0, 0) == expected


def test_an_estimate_without_tables_has_no_counts():
    expected = Proportion("x", "x", "enrolled", "b", None, None, None, None, "not_evaluable", "no tables")
    assert not_evaluable(_spec(breakdown="b"), "no tables") == expected


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(AnalysisError, match=r"^adsl\.HEIGHT: this column is missing; add it"):
        patients_meeting(cohort([_adsl("a")]), _spec(where=(Where(column="HEIGHT", minimum=1),)))


def test_a_limit_on_text_is_an_error_without_the_value():
    table = cohort([_adsl("a", SMKSTAT="secret")])
    for limit in ({"minimum": 1}, {"maximum": 1}):
        with pytest.raises(AnalysisError) as caught:
            patients_meeting(table, _spec(where=(Where(column="SMKSTAT", **limit),)))
        assert str(caught.value) == (
            "adsl.SMKSTAT: the study sets a limit on it, but a value is not a number; "
            "correct the value or the study's `where`."
        )
