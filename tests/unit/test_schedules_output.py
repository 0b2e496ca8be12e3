"""The results as tables: what is suppressed, what is left to the report, and the mark beside a published figure."""

from __future__ import annotations

import io

import pytest

from analytics.disclosure.control import REASON, Released
from mappers.study import load_study
from schedules.cli.tables.base import print_table
from schedules.cli.tables.results import results
from schedules.release.published import agreements
from tests.example_release import example_release

STUDY = load_study("alneo")


def printed(released: Released) -> list[str]:
    """The lines of the tables, without the space around them."""
    stream = io.StringIO()
    agreed = agreements(released, STUDY, "alneo")
    print_table(results(released, STUDY, agreed), stream)
    return [line.strip() for line in stream.getvalue().splitlines()]


def line(lines: list[str], label: str) -> str:
    (found,) = [each for each in lines if each.startswith(label)]
    return found


@pytest.fixture(scope="module")
def controlled() -> list[str]:
    return printed(example_release(min_cell=11))


@pytest.mark.parametrize(
    ("label", "published"), [("pCR", "4/33"), ("Surgery to adjuvant start", "5.1 (3.6–6.0) weeks")]
)
def test_a_suppressed_figure_is_a_word_and_neither_equal_nor_different(
    controlled: list[str], label: str, published: str
) -> None:
    found = line(controlled, label)
    assert "suppressed" in found
    assert published in found
    assert found.endswith("–")


def test_a_figure_that_is_released_keeps_its_mark(controlled: list[str]) -> None:
    assert line(controlled, "MPR").endswith("✓")
    # 16 lie on each side of the median age, and 8 on the far sides of the quartiles.
    assert "62 years (quartiles suppressed)" in line(controlled, "Age")


def test_the_reason_is_said_once(controlled: list[str]) -> None:
    text = " ".join(controlled)
    assert (
        text.count("Counts of 1 to 10 patients, and all figures from which one could be derived, are suppressed") == 1
    )
    assert REASON not in text
    assert max(each.count("suppressed") for each in controlled) == 1


def test_every_estimate_that_the_study_declares_is_one_line(controlled: list[str]) -> None:
    for spec in STUDY.proportions:
        line(controlled, f"{spec.label}  ")


def test_without_control_nothing_is_suppressed_and_the_grid_is_left_to_the_report() -> None:
    lines = printed(example_release())
    text = " ".join(lines)
    assert "suppressed" not in text
    assert "–" not in {each[-1:] for each in lines}
    assert text.count("worst grade") == 1
    assert lines[-1].startswith("Adverse events by term and worst grade are not shown here")
