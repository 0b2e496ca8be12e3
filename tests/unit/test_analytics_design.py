"""The test of a rate against a design: p-values by hand, who decides, and what is refused."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from analytics.disclosure.control import release
from analytics.estimates.design import ONE_STAGE, TWO_STAGES, design_test, p_value
from analytics.estimates.model import Proportion, Results
from analytics.estimates.proportions import estimate_proportion
from analytics.report.wording import interval_and_test
from analytics.results import as_json, to_csv
from mappers.study import Design, ProportionSpec


def binomial(x: int, n: int, p: float) -> float:
    return math.comb(n, x) * p**x * (1 - p) ** (n - x)


def estimate(x: int, n: int, **design: float) -> Proportion:
    return estimate_proportion(ProportionSpec(id="mpr", label="MPR", design=Design(**design)), x, n)


def results(x: int, n: int, **design: float) -> Results:
    proportions = (estimate(x, n, **design),)
    return Results("demo", "A demo", "2024-12-01", ("milan",), "", {"enrolled": n}, proportions, (), (), (), ())


def test_one_stage_is_the_upper_tail() -> None:
    p, method = p_value(Design(null_rate=0.2), 15, 33)
    assert p == pytest.approx(math.fsum(binomial(x, 33, 0.2) for x in range(15, 34)), rel=1e-12)
    assert method == ONE_STAGE


def test_two_stages_count_only_what_goes_on() -> None:
    """Simon's optimal design for 0.1 against 0.3: on from 2 of 10, rejected from 6 of 29; its size is 0.047."""
    design = Design(null_rate=0.1, patients=29, responses=6, first_patients=10, first_responses=2)
    p, method = p_value(design, 6, 29)
    ways = (
        binomial(first, 10, 0.1) * binomial(second, 19, 0.1)
        for first in range(2, 11)
        for second in range(20)
        if first + second >= 6
    )
    assert p == pytest.approx(math.fsum(ways), rel=1e-12)
    assert round(p, 3) == 0.047
    assert method == TWO_STAGES
    # Stopped after its first stage it is a trial of one.
    assert p_value(design, 1, 10) == (pytest.approx(1 - 0.9**10), ONE_STAGE)


@pytest.mark.parametrize(
    ("x", "n", "rejected", "planned"), [(11, 33, True, True), (10, 33, False, True), (11, 30, True, False)]
)
def test_the_plan_decides_at_its_number_of_patients_and_p_at_any_other(
    x: int, n: int, rejected: bool, planned: bool
) -> None:
    found = design_test(estimate(x, n, null_rate=0.2, patients=33, responses=11))
    assert found is not None
    assert (found.rejected, found.planned) == (rejected, planned)


def test_it_is_written_beside_its_figure() -> None:
    released = release(results(15, 33, null_rate=0.2, patients=33, responses=11), min_cell=0)
    assert as_json(released, 1)["proportions"][0]["test"] == {
        "null_rate": 0.2,
        "alpha": 0.05,
        "method": ONE_STAGE,
        "p": 0.000839,
        "rejected": True,
        "planned": True,
    }
    assert "mpr,MPR,enrolled,,p,0.000839,probability,ok," in to_csv(released)
    shown = interval_and_test(released.proportions[0]).replace("\N{NO-BREAK SPACE}", " ")
    assert shown.endswith("; null rate of 20 % rejected, one-sided p < 0.001")


def test_a_suppressed_figure_has_no_test() -> None:
    released = release(results(4, 33, null_rate=0.2), min_cell=11)
    assert released.proportions[0].status == "suppressed"
    assert as_json(released, 1)["proportions"][0]["test"] is None
    assert "mpr,MPR,enrolled,,p,,probability,suppressed," in to_csv(released)
    assert design_test(estimate(0, 0, null_rate=0.2)) is None


@pytest.mark.parametrize(
    "design",
    [
        {"null_rate": 0.2, "patients": 33},
        {"null_rate": 0.2, "patients": 33, "responses": 34},
        {"null_rate": 0.2, "patients": 33, "responses": 11, "first_patients": 10},
        {"null_rate": 0.2, "patients": 33, "responses": 11, "first_patients": 33, "first_responses": 3},
        {"null_rate": 0.2, "first_patients": 10, "first_responses": 3},
        {"null_rate": 0.2, "patients": 33, "responses": 11, "first_patients": 10, "first_responses": 11},
    ],
)
def test_half_a_plan_is_refused(design: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Design(**design)
