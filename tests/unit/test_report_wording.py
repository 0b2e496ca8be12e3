"""Numbers as words. Every expected text is worked out by hand."""

import pytest

from analytics.estimates.model import Interval, Proportion, Quantiles
from analytics.report import wording
from tests.example_release import QUANTILES

AGE = QUANTILES[0]


@pytest.mark.parametrize(
    ("x", "n", "text"),
    [
        (15, 33, "45 %"),  # 45.4545: the published report rounds 45.45 to 45.5 to 46
        (1, 8, "13 %"),  # 12.5: half up
        (1, 200, "1 %"),  # 0.5
        (0, 33, "0 %"),
        (33, 33, "100 %"),
        (22, 33, "67 %"),
    ],
)
def test_share_is_rounded_once_half_up(x: int, n: int, text: str) -> None:
    assert wording.share(x, n) == text.replace(" ", wording.SPACE)


def test_interval_of_mpr_is_30_to_61() -> None:
    ci = Interval(0.9, "clopper-pearson", 30.4910, 61.0597)
    assert wording.percent_interval(ci) == f"30–61{wording.SPACE}%"
    assert wording.level(ci).replace(wording.SPACE, " ") == "90 % CI"


def test_level_keeps_a_decimal_that_it_has() -> None:
    assert wording.level(Interval(0.975, "wilson", 1.0, 2.0)).replace(wording.SPACE, " ") == "97.5 % CI"


def test_a_limit_that_is_not_there_is_a_word() -> None:
    assert wording.percent_interval(Interval(0.95, "log-log", None, 61.0)) == "not evaluable to 61"
    assert wording.median_interval(Interval(0.95, "brookmeyer-crowley", 22.34, None)) == "22.3 to not reached"
    assert wording.median_interval(Interval(0.95, "brookmeyer-crowley", None, None)) == "limits not reached"


def test_survival_fraction_of_0845_is_85_percent_though_its_binary_value_is_below() -> None:
    assert wording.fraction_percent(0.845) == f"85{wording.SPACE}%"


def test_quartiles() -> None:
    assert wording.quartiles(AGE) == "62 (49–74) years"
    weeks = Quantiles("q", "Q", "adjuvant", 26, 36 / 7, 25 / 7, 6.0, "weeks", "type 7")
    assert wording.quartiles(weeks) == "5.1 (3.6–6.0) weeks"


def test_a_quartile_that_is_not_reached_is_said() -> None:
    open_ended = Quantiles("q", "Q", "enrolled", 33, 15.2, 6.8, None, "months", "reverse_km")
    assert wording.quartiles(open_ended) == "15.2 (6.8 to not reached) months"


def test_suppressed_quartiles_are_said_after_the_unit() -> None:
    median_only = Quantiles("q", "Q", "enrolled", 33, 62, None, None, "years", "type 7", quartile_status="suppressed")
    assert wording.quartiles(median_only) == "62 years (quartiles suppressed)"


def test_status_ok_without_a_value_is_an_error_that_names_the_estimate() -> None:
    broken = Proportion("response.mpr", "MPR", "enrolled", "response.mpr", None, 33, None, None)
    with pytest.raises(ValueError, match=r"response\.mpr"):
        wording.counts(broken)


def test_an_empty_denominator_is_an_error() -> None:
    broken = Proportion("response.mpr", "MPR", "enrolled", "response.mpr", 0, 0, None, None)
    with pytest.raises(ValueError, match="not_evaluable"):
        wording.counts(broken)


def test_control_and_bidirectional_characters_are_replaced() -> None:
    assert wording.clean("a\x00b\u202ec\ud800d") == "a\ufffdb\ufffdc\ufffdd"
    assert wording.clean("München ≥ 3 % 肺") == "München ≥ 3 % 肺"
