"""Results of sites pooled from aggregates: equal to those of all patients where nothing is suppressed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from scipy import stats

from analytics.analysis import analyse
from analytics.disclosure.control import release
from analytics.errors import PoolingError
from analytics.estimates.cohort_tables import Cohort
from analytics.pooling.page import render_pool
from analytics.pooling.pool import Pooled, audited, pool
from analytics.pooling.proportions import SiteCount, pool_proportion
from analytics.pooling.sites import Site
from analytics.pooling.writing import pooled_json
from analytics.results import as_json
from mappers.study import load_study
from tests.unit.analytics_tables import alneo

STUDY = load_study("alneo")
SITES = ("milan", "rome", "turin")


def at_site(cohort: Cohort, place: int, copies: int = 1) -> Cohort:
    """The patients of one of the three sites: every third; each `copies` times, as so many patients."""
    usubjids = sorted(cohort.adsl["USUBJID"])
    mine = set(usubjids[place :: len(SITES)])

    def part(table: pd.DataFrame) -> pd.DataFrame:
        rows = table[table["USUBJID"].isin(mine)]
        return pd.concat([rows.assign(USUBJID=rows["USUBJID"] + f"-{i}") for i in range(copies)], ignore_index=True)

    return replace(
        cohort,
        adsl=part(cohort.adsl).assign(SITEID=SITES[place]),
        adrs=part(cohort.adrs),
        adtte=part(cohort.adtte),
        adae=part(cohort.adae),
        other_cutoffs={name: at_site(other, place, copies) for name, other in cohort.other_cutoffs.items()},
    )


def results(cohort: Cohort, min_cell: int = 0) -> dict[str, Any]:
    return as_json(release(analyse(cohort, STUDY), min_cell), 1)


def documents(min_cell: int = 0, copies: int = 1) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{name}.json", results(at_site(alneo(), i, copies), min_cell)) for i, name in enumerate(SITES)]


@pytest.fixture(scope="module")
def open_documents() -> list[tuple[str, dict[str, Any]]]:
    return documents()


@pytest.fixture(scope="module")
def pooled(open_documents: list[tuple[str, dict[str, Any]]]) -> Pooled:
    return pool(open_documents, STUDY)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """results.json of all patients together."""
    return results(alneo())


def figures(content: dict[str, Any], section: str, *names: str) -> dict[str, Any]:
    return {figure["id"]: {name: figure[name] for name in names} for figure in content[section]}


# Without suppression


def test_counts_percentages_and_intervals_are_those_of_all_patients(pooled: Pooled, whole: dict[str, Any]) -> None:
    found = pooled_json(pooled)
    names = ("label", "population", "x", "n", "percent", "ci", "status")
    assert figures(found, "proportions", *names) == figures(whole, "proportions", *names)
    assert len(found["proportions"]) > 40


def test_survival_is_that_of_all_patients_to_the_last_digit(pooled: Pooled, whole: dict[str, Any]) -> None:
    found = pooled_json(pooled)
    assert [{**s, "suppressed_at": []} for s in whole["survival"]] == found["survival"]


def test_the_curve_is_the_product_limit_of_lifelines_on_the_patients(pooled: Pooled) -> None:
    adsl, adtte = alneo().adsl, alneo().adtte
    enrolled = adsl.loc[adsl["ITTFL"] == "Y", "USUBJID"]
    rows = adtte[(adtte["PARAMCD"] == "EFS") & adtte["USUBJID"].isin(enrolled)]
    fitted = KaplanMeierFitter().fit(rows["AVAL"], rows["CNSR"] == 0).survival_function_.iloc[:, 0]
    efs = next(s.estimate for s in pooled.survival if s.estimate.id == "survival.efs")
    assert [point.s for point in efs.curve] == pytest.approx(fitted.tolist(), abs=1e-12)


def test_flow_and_follow_up_are_those_of_all_patients(pooled: Pooled, whole: dict[str, Any]) -> None:
    found = pooled_json(pooled)
    assert figures(found, "flow", "label", "kind", "n") == figures(whole, "flow", "label", "kind", "n")
    ids = ("survival.follow_up",)
    names = ("n", "missing", "median", "q1", "q3", "unit")
    assert {i: figures(found, "quantiles", *names)[i] for i in ids} == {
        i: figures(whole, "quantiles", *names)[i] for i in ids
    }


def test_other_medians_are_between_those_of_the_sites(pooled: Pooled, whole: dict[str, Any]) -> None:
    of_all = figures(whole, "quantiles", "n", "median")["baseline.age"]
    age = next(q for q in pooled.quantiles if q.estimate.id == "baseline.age")
    assert age.estimate.n == of_all["n"]
    assert age.estimate.median is None
    assert age.medians is not None
    assert age.medians[0] <= of_all["median"] <= age.medians[1]


def test_heterogeneity_is_the_chi_squared_test_of_sites_by_outcome(pooled: Pooled) -> None:
    mpr = next(p for p in pooled.proportions if p.id == "response.mpr")
    table = [[count.x[0], count.n[0] - count.x[0]] for count in mpr.by_site]
    expected = stats.chi2_contingency(table, correction=False)
    assert mpr.heterogeneity is not None
    assert mpr.heterogeneity.q == pytest.approx(expected.statistic)
    assert mpr.heterogeneity.p == pytest.approx(expected.pvalue)
    assert mpr.heterogeneity.i_squared == pytest.approx(max(0, 100 * (1 - 2 / expected.statistic)))


# With suppression


def hidden(figure: dict[str, Any]) -> dict[str, Any]:
    """A proportion as a site suppresses it: x, and n where that of its population is suppressed too."""
    n = figure["n"] if figure["population"] == "enrolled" else None
    return figure | {"x": None, "n": n, "percent": None, "ci": None, "status": "suppressed", "reason": "protected"}


@pytest.fixture(scope="module")
def protected() -> list[tuple[str, dict[str, Any]]]:
    """Three sites of 110 patients that suppress by number: each fifth figure all of them, of the others one or none."""
    found = []
    for place, (name, content) in enumerate(documents(copies=10)):
        figures = content["proportions"]
        ids = sorted(figure["id"] for figure in figures)
        gone = {each for i, each in enumerate(ids) if i % 5 == 0 or i % 4 == place}
        shown = [hidden(figure) if figure["id"] in gone else figure for figure in figures]
        found.append((name, content | {"disclosure": {"min_cell": 11}, "proportions": shown}))
    return found


def test_fault_135_a_suppressed_count_becomes_a_bound_and_the_interval_follows(
    protected: list[tuple[str, dict[str, Any]]], whole: dict[str, Any]
) -> None:
    truth = figures(whole, "proportions", "x", "n")
    found = pool(protected, STUDY)
    bounded = [p for p in found.proportions if not p.exact and p.x is not None]
    assert bounded
    for p in found.proportions:
        if p.x is None or p.n is None:
            continue
        x, n = 10 * truth[p.id]["x"], 10 * truth[p.id]["n"]
        assert p.x[0] <= x <= p.x[1]
        assert p.n[0] <= n <= p.n[1]
        assert p.percent is not None
        assert p.percent[0] - 1e-9 <= 100 * x / n <= p.percent[1] + 1e-9
        if p.ci is not None:  # that of the true counts lies within, by quantiles of the beta distribution
            tail = (1 - p.ci.level) / 2
            low = stats.beta.ppf(tail, x, n - x + 1) if x else 0.0
            high = stats.beta.isf(tail, x + 1, n - x) if x < n else 1.0
            assert p.ci.low is not None
            assert p.ci.high is not None
            assert p.ci.low <= 100 * low + 1e-9
            assert p.ci.high >= 100 * high - 1e-9


def test_fault_135_the_pool_minus_the_other_sites_tells_no_suppressed_count(
    protected: list[tuple[str, dict[str, Any]]],
) -> None:
    shown = {name: figures(content, "proportions", "x", "n") for name, content in protected}
    checked = 0
    for p in pool(protected, STUDY).proportions:
        for file, mine in shown.items():
            if mine.get(p.id, {"x": None})["x"] is not None or p.x is None:
                continue
            others = [shown[other].get(p.id, {"x": None})["x"] for other in shown if other != file]
            if None in others:
                continue
            checked += 1
            assert p.x[1] - p.x[0] >= 10  # eleven values and more
    assert checked


def test_fault_135_a_range_of_fewer_than_k_values_withholds_the_pooled_figure(
    protected: list[tuple[str, dict[str, Any]]],
) -> None:
    figure = next(p for p in pool(protected, STUDY).proportions if not p.exact and p.x is not None)
    (hidden,) = [count for count in figure.by_site if not count.known][:1]
    rest = tuple(count for count in figure.by_site if count is not hidden and count.known)
    base = sum(count.x[0] for count in rest)
    for width, withheld in ((10, False), (9, True)):
        tight = SiteCount(hidden.site, (0, width), hidden.n)
        given = replace(figure, x=(base, base + width), by_site=(*rest, tight))
        assert (audited(given).x is None) is withheld


def test_coarsened_curves_add_up_where_every_site_has_a_step(protected: list[tuple[str, dict[str, Any]]]) -> None:
    def curve(*steps: tuple[float, int, int], n: int = 100) -> dict[str, Any]:
        points = [{"t": 0, "events": 0, "censored": 0}, *({"t": t, "events": d, "censored": c} for t, d, c in steps)]
        events = sum(d for _, d, _ in steps)
        return {"id": "survival.efs", "n": n, "events": events, "status": "ok", "curve": points}

    def given(file: str, content: dict[str, Any], efs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return file, {**content, "survival": [efs]}

    curves = [
        curve((6, 11, 0), (12, 12, 20)),
        curve((5, 15, 11), (12, 20, 0)),
        curve((6, 11, 0), (12, 14, 11), (18, 12, 0)),
    ]
    found = pool([given(*each, efs) for each, efs in zip(protected, curves, strict=True)], STUDY)
    efs = next(s.estimate for s in found.survival if s.estimate.id == "survival.efs")
    # By month 12: 23 + 35 + 25 events and 20 + 11 + 11 censored of 300; no other time is common to all.
    assert [(p.t, p.at_risk, p.events, p.censored) for p in efs.curve[1:]] == [(12, 300, 83, 42)]
    assert efs.curve[1].s == pytest.approx(1 - 83 / (300 - 21))
    assert (efs.n, efs.events, efs.median, efs.median_status) == (300, 95, None, "suppressed")
    assert [(mark.t, mark.at_risk) for mark in efs.landmarks] == [(12, 175), (24, None)]


def test_bounds_where_sites_hide_their_denominators_too() -> None:
    def site(name: str, x: int | None, n: int | None) -> Site:
        figures = [
            {"id": "a", "label": "A", "population": "enrolled", "x": 20, "n": 50, "ci": None, "status": "ok"},
            {"id": "b", "label": "B", "population": "resected", "x": x, "n": n, "ci": None, "status": "suppressed"},
        ]
        return Site(name, f"{name}.json", {"disclosure": {"min_cell": 11}, "proportions": figures})

    # 20 of 40 are known; of 30 resected and of up to 50 others nobody knows how many have it.
    found = pool_proportion("b", [site("milan", 20, 40), site("rome", None, 30), site("turin", None, None)])
    assert (found.x, found.n) == ((20, 100), (70, 120))
    assert found.percent == pytest.approx((100 * 20 / 120, 100 * 100 / 120))
    assert found.suppressed_at == ("rome", "turin")


def test_two_sites_show_only_the_pool(open_documents: list[tuple[str, dict[str, Any]]]) -> None:
    found = pool(open_documents[:2], STUDY)
    content = pooled_json(found)
    assert not any("by_site" in p or "heterogeneity" in p for p in content["proportions"])
    assert "Fewer than three sites: only the pool is shown." in content["notes"]
    assert '<th scope="row">milan' not in render_pool(found)


def test_the_page_has_a_forest_by_site(pooled: Pooled, protected: list[tuple[str, dict[str, Any]]]) -> None:
    page = render_pool(pooled)
    assert page.count('data-id="response.mpr"') == 4  # three sites and the pool
    assert page.count('<svg class="dot"') > 100
    assert "I² " in page
    assert page.count("Internal: not for release") == page.count("<section") + 2
    assert "Internal: not for release" not in render_pool(pool(protected, STUDY))


# What is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study_hash": "0" * 64}, r"rome.json: the rules of the study \(study_hash\) is 000000000000 and not"),
        ({"data_cut": "2025-05-05"}, "rome.json: the data cutoff is 2025-05-05 and not 2024-12-01"),
        ({"study": "other"}, "rome.json: the study is other and not alneo"),
        ({"sites": ["milan"]}, "rome.json: has site milan, as milan.json does; its patients would count twice"),
        ({"disclosure": {"min_cell": 11}}, "milan.json, turin.json: without disclosure control, and others have it"),
        ({"notice": "Internal: not for release"}, "rome.json: is internal and not for release"),
        ({"schema": "periop.pool/1"}, r"rome.json: is no results.json of periop"),
    ],
)
def test_fault_136_results_that_do_not_belong_together_are_refused_by_name(
    open_documents: list[tuple[str, dict[str, Any]]], changes: dict[str, Any], said: str
) -> None:
    first, (name, content), last = open_documents
    with pytest.raises(PoolingError, match=said):
        pool([first, (name, content | changes), last], STUDY)


def test_one_site_is_no_pool(open_documents: list[tuple[str, dict[str, Any]]]) -> None:
    with pytest.raises(PoolingError, match="at least two sites"):
        pool(open_documents[:1], STUDY)


def test_a_site_that_is_not_up_to_date_is_named(open_documents: list[tuple[str, dict[str, Any]]]) -> None:
    name, content = open_documents[0]
    stale = content | {"sites_missing": ["milan"], "sites_missing_note": "milan is not up to date."}
    found = pool([(name, stale), *open_documents[1:]], STUDY)
    assert "milan: milan is not up to date." in found.notes


def test_a_reason_for_leaving_that_a_site_may_have_suppressed_is_not_added_up() -> None:
    """A release leaves a suppressed reason out, so a missing one is 0 only where nothing is protected."""

    def flow(**reasons: int) -> dict[str, Any]:
        boxes = [("flow.screened", "main", None, 100), ("flow.enrolled", "main", None, 60)]
        boxes += [(f"flow.screened.{reason}", "excluded", "flow.screened", n) for reason, n in reasons.items()]
        names = ("id", "kind", "parent", "n")
        return {"flow": [dict(zip(names, box, strict=True)) | {"label": box[0], "status": "ok"} for box in boxes]}

    def pooled_flow(min_cell: int) -> dict[str, Any]:
        given = [flow(stage=25, other=15), flow(other=40), flow(stage=11, other=29)]
        changed = [
            (name, content | boxes | {"disclosure": {"min_cell": min_cell}})
            for (name, content), boxes in zip(documents(), given, strict=True)
        ]
        return {step["id"]: step["n"] for step in pooled_json(pool(changed, STUDY))["flow"]}

    trunk = {"flow.screened": 300, "flow.enrolled": 180, "flow.screened.other": 84}
    assert pooled_flow(0) == trunk | {"flow.screened.stage": 36}
    assert pooled_flow(11) == trunk


def test_what_every_site_suppresses_is_suppressed_and_no_range(protected: list[tuple[str, dict[str, Any]]]) -> None:
    first = min(figure["id"] for figure in protected[0][1]["proportions"])
    blank = {"n": None, "events": None, "curve": [], "landmarks": [], "status": "suppressed"}
    without = [(name, content | {"survival": [s | blank for s in content["survival"]]}) for name, content in protected]
    found = pool(without, STUDY)
    (figure,) = [p for p in found.proportions if p.id == first]
    assert (figure.status, figure.x, figure.reason) == ("suppressed", None, "suppressed at every site")
    assert [(s.estimate.status, s.estimate.n) for s in found.survival] == [("suppressed", None)] * 2
    assert {mark.reason for s in found.survival for mark in s.estimate.landmarks} == {"no site releases this curve"}
    (one,) = [s for s in pool([*without[:1], *protected[1:]], STUDY).survival if s.estimate.id == "survival.efs"]
    assert (one.suppressed_at, one.estimate.n) == (("milan",), 220)
