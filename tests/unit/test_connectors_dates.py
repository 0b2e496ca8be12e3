"""The regular expressions of FHIR dates and times."""

from __future__ import annotations

import re

import pytest

from connectors.fhir import dates


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (dates.DATE, ["2024", "2024-02", "2024-02-10"], ["24", "2024-2", "2024-02-10T10", "2024-02-1"]),
        (dates.TIME, ["10:30:00", "10:30:00.123"], ["10", "10:30", "10:30:00.", "10:30:00Z"]),
        (dates.INSTANT, ["2024-02-10T10:30:00Z", "2024-02-10T10:30:00.5+01:00"], ["2024-02-10T10:30:00", "2024-02-10"]),
        (dates.DATE_TIME, ["2024", "2024-02-10", "2024-02-10T10:30:00Z"], ["2024-02-10T10:30Z", "2024-02T10:30:00Z"]),
        (dates.TIME_TO_MINUTE, ["10:30", "10:30:00"], ["10", "10:3"]),
        (dates.TIME_TO_HOUR, ["10", "10:30", "10:30:00.5"], ["1", "10:"]),
        (dates.BOUNDED_TIME, ["23:59:59"], ["24:00", "10:60"]),
        (dates.BOUNDED_ZONE, ["Z", "-12:00"], ["+24:00", "+1:00"]),
    ],
)
def test_what_the_expressions_take(pattern: str, right: list[str], wrong: list[str]) -> None:
    assert [text for text in right if not re.fullmatch(pattern, text)] == []
    assert [text for text in wrong if re.fullmatch(pattern, text)] == []
