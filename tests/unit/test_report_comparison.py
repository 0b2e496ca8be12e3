"""Published / here: the differences, worked out by hand from the printed figures."""

from dataclasses import replace

import pandas as pd
import pytest

from analytics.report.comparison import Comparison, compare
from mappers.study import load_study
from tests.example_release import example_release, example_results, published

STUDY = load_study("alneo")


def rows(**changes: object) -> dict[str, Comparison]:
    min_cell = changes.pop("min_cell", 0)
    assert isinstance(min_cell, int)
    return {row.id: row for row in compare(example_release(min_cell, **changes), STUDY, *published())}


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_every_published_figure_has_a_row() -> None:
    assert len(compare(example_release(), STUDY, *published())) == 41 + 6


def test_mpr_differs_by_rounding_and_the_study_says_why() -> None:
    row = rows()["response.mpr"]
    assert plain(row.published) == "15/33 · 46 % (31–61 %)"
    assert plain(row.here) == "15/33 · 45 % (30–61 %)"
    assert row.difference == "−1 percentage point; lower limit −1"
    assert "rounding twice" in row.reasons[0]


def test_pcr_is_the_same() -> None:
    row = rows()["response.pcr"]
    assert plain(row.here) == plain(row.published) == "4/33 · 12 % (3–28 %)"
    assert not row.differs


def test_only_mpr_differs() -> None:
    assert [row.id for row in rows().values() if row.differs] == ["response.mpr"]


def test_an_inferred_count_is_marked() -> None:
    assert rows()["response.nodal_downstaging"].inferred
    assert not rows()["response.mpr"].inferred


def test_medians() -> None:
    assert rows()["baseline.age"].here == "62 (49–74) years"
    assert rows()["survival.efs"].here == rows()["survival.efs"].published == "not reached"
    assert rows()["survival.follow_up@later_cut"].here == "20.3 months"


def test_another_count_is_named_and_unexplained() -> None:
    results = example_results()
    changed = tuple(
        replace(p, x=21, percent=100 * 21 / 33) if p.id == "response.orr" else p for p in results.proportions
    )
    row = rows(proportions=changed)["response.orr"]
    assert row.difference == "21/33 for 22/33; −3 percentage points"  # 63.6 to 64, printed 67
    assert row.reasons == ("The study file gives no reason.",)


def test_another_median_is_named() -> None:
    changed = tuple(replace(q, median=63.0) if q.id == "baseline.age" else q for q in example_results().quantiles)
    assert rows(quantiles=changed)["baseline.age"].difference == "median +1.0 years"


def test_where_quartiles_are_suppressed_the_median_is_compared() -> None:
    def age(**changes: object) -> Comparison:
        shown = (
            replace(q, q1=None, q3=None, quartile_status="suppressed", **changes) if q.id == "baseline.age" else q
            for q in example_results().quantiles
        )
        return rows(quantiles=tuple(shown))["baseline.age"]

    assert (age().here, age().difference) == ("62 years (quartiles suppressed)", "none")
    assert age(median=63.0).difference == "median +1.0 years"


def test_a_suppressed_figure_is_not_compared() -> None:
    row = rows(min_cell=11)["response.pcr"]
    assert (row.here, row.difference) == ("suppressed", "not comparable")
    assert row.reasons == ()  # the report says it once, at its head


def test_a_figure_that_is_not_estimated_is_said() -> None:
    row = rows(proportions=())["response.mpr"]
    assert (row.here, row.difference) == ("not estimated here", "not comparable")


def test_without_a_count_the_percentage_is_compared_alone() -> None:
    frame = published()[0].assign(x=None, n=None)
    row = {r.id: r for r in compare(example_release(), STUDY, frame, None)}["response.orr"]
    assert plain(row.published) == "67 %"
    assert not row.differs


def test_a_frame_without_a_column_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="percent_printed"):
        compare(example_release(), STUDY, published()[0].drop(columns="percent_printed"), None)


def test_no_published_figures_no_rows() -> None:
    assert compare(example_release(), STUDY, None, None) == ()
    assert compare(example_release(), STUDY, pd.DataFrame(columns=published()[0].columns), None) == ()
