"""Rounding once, half up, from the exact value."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from analytics.estimates.rounding import exact_percent, round_half_up


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (
            exact_percent(15, 33),
            0,
            "45",
        ),  # 45.4545…; rounding 45.45 to 45.5 and then to 46 is the report's error
        (exact_percent(15, 33), 4, "45.4545"),
        (exact_percent(1, 8), 0, "13"),  # 12.5: half up, not to even
        (exact_percent(1, 8), 1, "12.5"),
        (exact_percent(1, 640), 4, "0.1563"),  # 0.15625 exactly; as a float it may lie below
        (exact_percent(33, 33), 2, "100.00"),
        (exact_percent(0, 33), 2, "0.00"),
        (Fraction(-1, 2), 0, "-1"),
        (2.675, 2, "2.67"),  # the float lies below 2.675
        (Decimal("2.675"), 2, "2.68"),
        (10**30 + Fraction(1, 2), 0, str(10**30 + 1)),
    ],
)
def test_halves_go_up_from_the_exact_value(value, digits, text):
    assert str(round_half_up(value, digits)) == text


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="cannot convert NaN"):
        round_half_up(float("nan"))


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_an_infinite_value_is_refused(value):
    with pytest.raises(ValueError, match=r"^an infinite value cannot be rounded; say 'not reached' instead$"):
        round_half_up(value)


def test_without_digits_a_whole_number_is_meant():
    assert str(round_half_up(45.5)) == "46"
