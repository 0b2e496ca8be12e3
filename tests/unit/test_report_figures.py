"""Figures: the numbers under a curve, the order of bars, and what may be drawn at all."""

import re
from dataclasses import replace

import pytest

from analytics.estimates.model import CurvePoint, Proportion
from analytics.report.figures import (
    adverse_events,
    kaplan_meier,
    risk_table,
    ticks,
)
from analytics.report.grades import grade_table
from tests.example_release import curve, example_release, example_results

# Five patients: events at 1 and 4 months, censored at 2, 4 and 7.
FIVE = (
    CurvePoint(0.0, 5, 0, 0, 1.0, 1.0, 1.0),
    CurvePoint(1.0, 5, 1, 0, 0.8, None, None),
    CurvePoint(2.0, 4, 0, 1, 0.8, None, None),
    CurvePoint(4.0, 3, 1, 1, 0.8 * 2 / 3, None, None),
    CurvePoint(7.0, 1, 0, 1, 0.8 * 2 / 3, None, None),
)


def cell(term: str, slug: str, phase: str, grade: str, x: int, n: int = 33) -> Proportion:
    name = f"safety.{phase}.{slug}"
    label = f"{term}, {phase.replace('_', '-')}, worst grade {grade}"
    return Proportion(f"{name}.worst_grade_{grade}", label, "enrolled", name, x, n, 100 * x / n, None)


def test_risk_table_by_hand() -> None:
    rows = [(c.at_risk, c.events, c.censored) for c in risk_table(FIVE, (0, 2, 3, 4, 6, 8))]
    assert rows == [(5, 0, 0), (4, 1, 0), (3, 1, 1), (3, 1, 1), (1, 2, 2), (0, 2, 3)]


def test_risk_table_of_a_coarsened_curve_stands_just_after_each_step() -> None:
    rows = [(c.t, c.at_risk, c.events, c.censored) for c in risk_table(FIVE, None)]
    assert rows == [(0, 5, 0, 0), (1, 4, 1, 0), (2, 3, 1, 1), (4, 1, 2, 2), (7, 0, 2, 3)]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (42.3, (0, 6, 12, 18, 24, 30, 36, 42)),
        (5.5, (0, 1, 2, 3, 4, 5)),
        (0.4, (0,)),
        (600, tuple(range(0, 601, 60))),
    ],
)
def test_ticks(last: float, expected: tuple[float, ...]) -> None:
    assert ticks(last) == expected


def test_numbers_at_risk_are_text_in_the_figure() -> None:
    release = example_release()
    svg = kaplan_meier(release, release.survival[0], "km0")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg or "")
    # Days 60 and 63 are before month 6 (182.6 days), and so are five censorings: 139 146 153 162 171.
    assert texts[texts.index("At risk") : texts.index("At risk") + 3] == ["At risk", "33", "26"]
    assert texts[texts.index("Events") + 2] == "2"
    assert texts[texts.index("Censored") + 2] == "5"


def test_ids_and_links_carry_the_prefix() -> None:
    release = example_release()
    svg = str(kaplan_meier(release, release.survival[0], "km0"))
    names = re.findall(r'\bid="([^"]*)"', svg) + re.findall(r'(?:url\(#|href="#)([^")]*)', svg)
    assert names
    assert all(name.startswith("km0-") for name in names)


def test_figures_take_nothing_but_a_release() -> None:
    results = example_results()
    with pytest.raises(TypeError, match="Results"):
        kaplan_meier(results, results.survival[0], "km")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Results"):
        adverse_events(results, "ae")  # type: ignore[arg-type]


def test_a_curve_from_elsewhere_is_refused() -> None:
    other = curve("survival.efs", "Event-free survival", (60,), (70, 80))
    with pytest.raises(ValueError, match=r"survival\.efs"):
        kaplan_meier(example_release(), other, "km")


def test_a_suppressed_curve_has_no_figure() -> None:
    release = example_release(11)
    assert release.survival[0].status == "suppressed"
    assert kaplan_meier(release, release.survival[0], "km") is None


def test_a_coarsened_curve_has_no_censor_marks() -> None:
    events, censored = tuple(range(30, 330, 3)), tuple(range(100, 1300, 6))
    big = curve("survival.efs", "Event-free survival", events, censored)
    common = {
        "survival": (big,),
        "population_sizes": {"enrolled": 300},
        "proportions": (),
        "quantiles": (),
        "flow": (),
    }
    exact, coarse = example_release(0, **common), example_release(11, **common)
    marks = [str(kaplan_meier(r, r.survival[0], "km")).count("<use") for r in (exact, coarse)]
    ticks_only = marks[1]
    assert coarse.survival[0].status == "ok"
    assert marks[0] >= ticks_only + 200 - 1  # at least as many more as there are times of censoring


def test_one_row_for_a_term_that_two_phases_name_differently() -> None:
    cells = (
        cell("Asthenia", "asthenia", "neoadjuvant", "1", 1),
        cell("AST increased", "ast_increased", "neoadjuvant", "2", 3),
        cell("AST increased", "aspartate", "adjuvant", "1", 2),
    )
    table = grade_table(cells)
    assert list(table.bars) == ["AST increased", "Asthenia"]
    assert {phase: bar.total for phase, bar in table.bars["AST increased"].items()} == {
        "neoadjuvant": 3,
        "adjuvant": 2,
    }


def test_phases_stand_in_the_order_of_treatment() -> None:
    cells = tuple(cell("Pain", "pain", phase, "1", 1) for phase in ("adjuvant", "post_surgery", "neoadjuvant"))
    assert [phase.name for phase in grade_table(cells).phases] == ["neoadjuvant", "post-surgery", "adjuvant"]


def test_an_unknown_grade_is_shown_only_where_there_is_one() -> None:
    assert grade_table((cell("Pain", "pain", "adjuvant", "unknown", 0),)).grades == ("1", "2", "3", "4", "5")
    assert grade_table((cell("Pain", "pain", "adjuvant", "unknown", 1),)).grades[-1] == "unknown"


def test_absence_of_a_bar_is_a_statement_only_without_disclosure_control() -> None:
    big = {"population_sizes": {"enrolled": 300}, "quantiles": (), "survival": (), "flow": ()}
    cells = (
        cell("Pain", "pain", "neoadjuvant", "1", 100, 300),
        cell("Rash", "rash", "post_surgery", "1", 100, 300),
    )
    assert "none recorded" in str(adverse_events(example_release(0, proportions=cells, **big), "ae"))
    controlled = str(adverse_events(example_release(11, proportions=cells, **big), "ae"))
    assert "not shown" in controlled
    assert "none recorded" not in controlled


def test_a_suppressed_bar_is_a_word() -> None:
    shown = cell("Pain", "pain", "neoadjuvant", "1", 5)
    gone = replace(
        cell("Rash", "rash", "neoadjuvant", "1", 1), x=None, percent=None, status="suppressed", reason="small"
    )
    table = grade_table((shown, gone))
    assert table.bars["Rash"]["neoadjuvant"].missing is gone
    assert "suppressed" in str(adverse_events(example_release(proportions=(shown, gone)), "ae"))


def test_mathematics_and_markup_in_a_term_are_only_text() -> None:
    svg = str(adverse_events(example_release(proportions=(cell("$x^2$ <b>&", "x", "adjuvant", "1", 5),)), "ae"))
    assert "$x^2$ &lt;b&gt;&amp;" in svg


def test_letters_that_the_measuring_font_lacks_do_not_warn() -> None:
    assert "乏力" in str(adverse_events(example_release(proportions=(cell("乏力", "x", "adjuvant", "1", 5),)), "ae"))
