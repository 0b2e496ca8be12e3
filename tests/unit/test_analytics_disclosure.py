"""The suppressions of `release`, and that nothing else makes a `Released`."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import numpy as np
import pytest

from analytics.analysis import analyse
from analytics.disclosure.audit import Exposure, audit
from analytics.disclosure.control import Released, release
from analytics.disclosure.plan import plan
from analytics.disclosure.variable_groups import COURSE, EVENTS, UNKNOWN
from analytics.errors import NotReleasedError
from analytics.estimates.model import (
    Cell,
    FlowStep,
    Interval,
    Landmark,
    Proportion,
    QualityItem,
    Quantiles,
    Results,
    Survival,
)
from analytics.estimates.survival import Times, estimate_survival
from mappers.study import SurvivalSpec, load_study
from tests.behind_counts import bits, with_cells
from tests.unit.analytics_tables import alneo, cohort

STUDY = load_study("alneo")
REASON = "a protected count could be read or derived from it"
ALNEO = analyse(alneo(), STUDY)


def _proportion(name, x, n, population="enrolled", breakdown=None):
    ci = Interval(0.95, "clopper-pearson", 0.0, 100.0)
    return Proportion(name, name, population, breakdown or name, x, n, 100 * x / n, ci)


def _median(name, n, population="enrolled"):
    return Quantiles(name, name, population, n, 62, 49, 74, "years", "type 7", missing=100 - n)


def _curve(name, events, censored):
    spec = SurvivalSpec(id=name, label=name, paramcd="EFS", landmarks=(12,), min_at_risk=1)
    months = np.array([*events, *censored], dtype=float)
    return estimate_survival(spec, Times(months, np.arange(len(months)) < len(events)))


def _cell(name, *ranges, groups=COURSE, population="n.enrolled"):
    return Cell(name, name, bits(*ranges), population, groups)


def _results(*proportions, sizes=None, quantiles=(), survival=(), flow=(), quality=(), cells=()):
    """Results with invented patients behind the counts, unless `cells` are given."""
    sizes = {"enrolled": 100, "resected": 80, "adjuvant": 60} | (sizes or {})
    found = Results(
        study="s",
        study_title="S",
        data_cutoff="2024-12-01",
        sites=("a",),
        study_hash="h",
        population_sizes=sizes,
        proportions=proportions,
        quantiles=tuple(quantiles),
        survival=tuple(survival),
        flow=tuple(flow),
        quality=tuple(quality),
        cells=tuple(cells),
    )
    return found if cells else with_cells(found)


def _status(released):
    return {e.id: e.status for e in (*released.proportions, *released.quantiles, *released.survival)}


# Released


def test_nothing_else_makes_a_released():
    released = release(ALNEO, 0)
    values = {f.name: getattr(released, f.name) for f in fields(released)}
    with pytest.raises(NotReleasedError, match=r"^a Released is made by .*control\.release only; call it instead$"):
        Released(**values, key=object())
    with pytest.raises(TypeError):
        Released(**values)
    with pytest.raises(ValueError, match="key"):
        replace(released, min_cell=11)
    with pytest.raises(NotReleasedError):
        replace(released, min_cell=11, key=None)
    with pytest.raises(NotReleasedError, match=r"^Released has no subclasses; use analytics\.disclosure\.control$"):
        type("Forged", (Released,), {})
    with pytest.raises(TypeError):
        released.population_sizes["enrolled"] = 1
    with pytest.raises(AttributeError):
        released.min_cell = 11


def test_a_released_carries_no_one_behind_its_counts():
    assert not hasattr(release(ALNEO, 5), "cells")


@pytest.mark.parametrize("min_cell", [0, 1])
def test_without_control_everything_passes_untouched(min_cell):
    released = release(ALNEO, min_cell)
    for field in {f.name for f in fields(released)} - {"min_cell", "refusal"}:
        assert getattr(released, field) == getattr(ALNEO, field)
    assert released.min_cell == min_cell
    assert "No disclosure control" in released.statement
    assert not released.suppressed_entirely


def test_a_negative_threshold_is_an_error():
    with pytest.raises(ValueError, match="min_cell is -1"):
        release(ALNEO, -1)


def test_releasing_does_not_change_the_results():
    before = copy.deepcopy(ALNEO)
    release(ALNEO, 5)
    assert before == ALNEO


# Proportions


@pytest.mark.parametrize(
    ("x", "status"),
    [(0, "ok"), (1, "suppressed"), (4, "suppressed"), (5, "ok"), (95, "ok"), (96, "suppressed")],
)
def test_a_small_count_or_a_small_rest_is_suppressed(x, status):
    found = release(_results(_proportion("a", x, 100)), 5).proportions[0]
    assert found.status == status
    if status == "suppressed":
        assert (found.x, found.percent, found.ci, found.n) == (None, None, None, 100)
        assert found.reason == REASON


def test_everyone_is_not_a_small_rest():
    assert _status(release(_results(_proportion("a", 100, 100)), 5)) == {"a": "ok"}


def test_a_small_cell_takes_one_other_with_it_and_not_the_breakdown():
    """3 is 100 less 47 less 50; without the 47 it may be anything up to 50. What is more important is kept."""
    cells = [_proportion(f"b.{i}", x, 100, breakdown="b") for i, x in enumerate((3, 47, 50))]
    results = _results(*cells, _proportion("a", 50, 100))
    found = _status(release(replace(results, importance={"b.1": 2, "b.2": 3}), 5))
    assert found == {"b.0": "suppressed", "b.1": "suppressed", "b.2": "ok", "a": "ok"}
    found = _status(release(replace(results, importance={"b.1": 3, "b.2": 2}), 5))
    assert found == {"b.0": "suppressed", "b.1": "ok", "b.2": "suppressed", "a": "ok"}


def test_the_rest_of_a_breakdown_is_a_count():
    cells = [_proportion(f"b.{i}", 49, 100, breakdown="b") for i in range(2)]
    assert sorted(_status(release(_results(*cells), 5)).values()) == ["ok", "suppressed"]


def test_a_sum_of_four_is_looked_at():
    """113 of stage IIIA, less 40, 40 and 30 with T and N that are all IIIA, are 3."""
    stage = frozenset({"stage"})
    cells = [
        _cell("n.enrolled", (0, 200), groups=UNKNOWN, population=""),
        _cell("a", (0, 113), groups=stage),
        *(_cell(f"t.{i}", r, groups=stage) for i, r in enumerate([(0, 40), (40, 80), (80, 110)])),
    ]
    shares = [_proportion(f"t.{i}", x, 200, breakdown="t") for i, x in enumerate((40, 40, 30))]
    found = release(_results(_proportion("a", 113, 200), *shares, sizes={"enrolled": 200}, cells=cells), 11)
    assert sorted(_status(found).values()) == ["ok", "ok", "ok", "suppressed"]


def test_what_was_not_counted_by_patient_is_not_shown():
    """Without the patients behind it, nobody can say what can be subtracted from a count."""
    bare = replace(_results(_proportion("a", 50, 100)), cells=())
    assert _status(release(bare, 5)) == {"a": "suppressed"}


def test_with_a_threshold_of_two_the_word_suppressed_does_not_say_one():
    assert _status(release(_results(_proportion("a", 2, 100)), 2)) == {"a": "suppressed"}
    assert "Counts of 1 to 2 patients" in release(_results(), 2).statement


def test_of_one_figure_at_two_cuts_one_is_withheld_for_a_small_difference():
    """60 and 57 alive: 3 died in between, and no more is withheld than one of the two."""
    everyone = _cell("n.enrolled", (0, 100), groups=UNKNOWN, population="")
    cells = [everyone, _cell("alive", (0, 60)), _cell("alive@later", (0, 57))]
    near = _results(_proportion("alive", 60, 100), _proportion("alive@later", 57, 100), cells=cells)
    assert sorted(_status(release(near, 5)).values()) == ["ok", "suppressed"]
    cells[2] = _cell("alive@later", (0, 50))
    far = _results(_proportion("alive", 60, 100), _proportion("alive@later", 50, 100), cells=cells)
    assert set(_status(release(far, 5)).values()) == {"ok"}


def test_a_few_more_enrolled_at_a_later_data_cutoff_are_a_count():
    cells = [
        _cell("n.enrolled", (0, 100), groups=UNKNOWN, population=""),
        _cell("n.enrolled@later", (0, 103), groups=UNKNOWN, population=""),
        _cell("alive@later", (0, 50), population="n.enrolled@later"),
    ]
    found = release(_results(_proportion("alive@later", 50, 103), cells=cells), 5).proportions[0]
    assert (found.status, found.n) == ("suppressed", None)


# Populations and flow


@pytest.mark.parametrize("sizes", [{"resected": 97}, {"adjuvant": 3, "resected": 50}, {"resected": 62}])
def test_a_small_population_withholds_all_that_is_counted_in_it(sizes):
    inside = (_proportion("r0", 30, 60, "adjuvant"), _proportion("x", 20, 40, "resected"))
    found = _results(_proportion("a", 50, 100), *inside, sizes=sizes)
    released = release(found, 5)
    assert _status(released)["a"] == "ok"
    for name, estimate in (("adjuvant", "r0"), ("resected", "x")):
        hidden = released.population_sizes[name] is None
        assert not hidden or _status(released)[estimate] == "suppressed"
    assert None in released.population_sizes.values()


def _flow(*boxes):
    return [FlowStep(name, name, kind, parent, n) for name, kind, parent, n in boxes]


def test_a_small_box_is_withheld_with_the_one_that_it_is_the_difference_of():
    boxes = _flow(
        ("flow.s", "main", None, 122),
        ("flow.s.x", "excluded", "flow.s", 2),
        ("flow.s.y", "excluded", "flow.s", 20),
        ("flow.enrolled", "main", "flow.s", 100),
    )
    found = {step.id: step.n for step in release(_results(flow=boxes), 5).flow}
    assert found["flow.enrolled"] == 100
    assert "flow.s.x" not in found
    assert (found["flow.s"], found.get("flow.s.y")) in {(None, 20), (122, None)}


# Curves


def test_a_curve_whose_events_are_few_is_withheld_and_the_other_is_not():
    """Two deaths are protected. The 20 events say no more of them than that they are at most 20."""
    found = release(_results(survival=[_curve("os", [5] * 2, [30] * 98), _curve("efs", [5] * 20, [30] * 80)]), 3)
    assert _status(found) == {"os": "suppressed", "efs": "ok"}
    assert found.survival[0] == Survival(
        id="os",
        label="os",
        population="enrolled",
        n=None,
        events=None,
        median=None,
        median_status="suppressed",
        ci=None,
        landmarks=(Landmark(12, None, None, None, "suppressed", REASON),),
        curve=(),
        status="suppressed",
        reason=REASON,
    )


def test_one_small_step_joins_the_next_and_does_not_take_the_curve():
    """3 events in the second month are no step; with the 9 of the fourteenth they are."""
    early = _curve("efs", [2] * 3 + [14] * 9, [30] * 88)
    assert [(p.t, p.events) for p in release(_results(survival=[early]), 5).survival[0].curve] == [(0, 0), (14, 12)]


def test_a_step_of_a_curve_that_gives_a_count_away_with_another_figure_is_left_out():
    """10 events by month 12, of which 7 are counted in x: 3 are not. Without the step 5 and 15 remain."""
    efs = _curve("efs", [10] * 10 + [20] * 10, [30] * 80)
    results = with_cells(replace(_results(survival=[efs]), importance={"x": 50.0}))
    linked = tuple(replace(cell, variable_groups=EVENTS) if cell.figure == "efs" else cell for cell in results.cells)
    x = Cell("x", "x", bits((0, 7)), "n.enrolled", EVENTS)
    found = release(replace(results, cells=(*linked, x), proportions=(_proportion("x", 7, 100),)), 5)
    assert _status(found) == {"x": "ok", "efs": "ok"}
    assert [p.t for p in found.survival[0].curve] == [0, 20]


# Adverse events


def _grades(*counts):
    return [
        _proportion(f"safety.a.t.worst_grade_{grade}", x, 100, breakdown="safety.a.t")
        for grade, x in zip(("1", "2", "3", "4", "5", "unknown"), counts, strict=True)
    ]


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ((20, 10, 6, 0, 0, 0), {"1": 20, "2": 10, "3": 6, "4": 0, "5": 0, "unknown": 0}),
        ((20, 3, 6, 1, 0, 0), {"1-2": 23, "3-5": 7, "unknown": 0}),
        ((20, 3, 2, 1, 0, 0), {"any": 26}),
        ((2, 1, 1, 0, 0, 0), {}),
    ],
)
def test_grades_are_merged_before_a_term_is_left_out(counts, shown):
    found = release(_results(*_grades(*counts)), 5).proportions
    assert {p.id.rpartition("_")[2]: p.x for p in found} == shown
    assert {p.status for p in found} <= {"ok"}


def test_one_rare_event_does_not_take_the_others():
    common = [replace(p, id=p.id.replace(".t.", ".u."), breakdown="safety.a.u") for p in _grades(20, 10, 6, 0, 0, 0)]
    found = release(_results(*_grades(1, 0, 0, 0, 0, 0), *common, _proportion("survival.alive", 80, 100)), 5)
    assert {p.id.split(".")[2] for p in found.proportions if p.id.startswith("safety")} == {"u"}
    assert _status(found)["survival.alive"] == "ok"


# Quantiles, quality, everything


@pytest.mark.parametrize(("n", "status"), [(100, "ok"), (97, "suppressed"), (95, "ok"), (4, "suppressed"), (0, "ok")])
def test_a_median_of_few_or_of_almost_all_is_suppressed(n, status):
    found = release(_results(quantiles=[_median("age", n)]), 5).quantiles[0]
    assert found.status == status
    if status == "suppressed":
        assert (found.n, found.median, found.q1, found.q3, found.missing) == (None,) * 5
        assert found.median_status == "suppressed"


@pytest.mark.parametrize(
    ("beside", "shown"),
    [((5, 10, 5), (49, 62, 74)), ((4, 10, 5), (None, 62, None)), ((2, 4, 2), (None, None, None))],
)
def test_at_least_k_patients_lie_on_each_side_of_a_quartile(beside, shown):
    results = replace(_results(quantiles=[_median("age", 100)]), beside={"age": beside})
    found = release(results, 5).quantiles[0]
    assert (found.q1, found.median, found.q3) == shown
    assert (found.quartile_status == "suppressed") == (shown[1] is not None and shown[0] is None)


def test_a_released_quartile_has_one_decimal():
    follow_up = replace(_median("survival.follow_up", 100), median=15.2279, q1=6.85, q3=49.44, unit="months")
    assert [(q.median, q.q1, q.q3) for q in release(_results(quantiles=[follow_up]), 5).quantiles] == [
        (15.2, 6.9, 49.4)
    ]
    assert release(_results(quantiles=[follow_up]), 0).quantiles == (follow_up,)


def test_records_of_few_patients_are_suppressed():
    """40 records of one patient say how many records he has."""
    items = [QualityItem("a", "Observation", "x", n, patients=p) for n, p in ((0, 0), (4, 4), (40, 1), (40, 5))]
    items.append(QualityItem("a", "Observation", "x", 40))
    found = release(_results(quality=items), 5).quality
    assert [item.count for item in found] == [0, None, None, 40, None]
    assert found[1] == QualityItem("a", "Observation", "x", None, "suppressed", REASON)


@pytest.mark.parametrize("domain", ["ADSL", "ADRS", "ADTTE", "ADAE", "Patient"])
def test_counts_of_patients_in_the_quality_list_are_suppressed_whatever_their_size(domain):
    """200 enrolled less 91 less 91 with an ECOG less 15 without one are 3."""
    items = [QualityItem("a", domain, "enrolled, no baseline ECOG", 15, patients=15)]
    assert [item.count for item in release(_results(quality=items), 11).quality] == [None]
    assert [item.count for item in release(_results(quality=items), 0).quality] == [15]


def test_where_few_are_enrolled_nothing_is_left():
    tables = alneo()
    few = replace(tables, adsl=tables.adsl.assign(ITTFL=["Y"] * 4 + ["N"] * 31), other_cutoffs={})
    released = release(analyse(few, STUDY), 5)
    assert released.suppressed_entirely
    assert set(released.population_sizes.values()) == {None}
    assert {p.n for p in released.proportions} == {None}
    assert {step.n for step in released.flow} == {None}
    assert {item.count for item in released.quality} == {None}
    assert {s.curve for s in released.survival} == {()}


def test_nothing_to_withhold_is_not_suppressed_entirely():
    empty = analyse(cohort([]), STUDY.model_copy(update={"cuts": ()}))
    assert not release(empty, 5).suppressed_entirely


# The reference cohort


def test_the_reference_cohort_at_eleven():
    """33 enrolled. 15 and 18 (MPR), 22 and 11 (ORR), 16 and 17 (nodes), 21 and 12 (stage) may be shown;
    23 and 10 (sex), 4 of 33 (pCR), 28 resected, 2 deaths may not."""
    status = _status(release(ALNEO, 11))
    shown = {name for name, value in status.items() if value == "ok"}
    assert {"response.mpr", "response.orr", "response.nodal_downstaging", "baseline.stage.IIIA"} <= shown
    hidden = {"baseline.sex.female", "response.pcr", "surgery.resected", "surgery.r0", "survival.os"}
    assert not hidden & shown
    assert not any(name.startswith("safety.adjuvant") for name in shown)


def test_resected_and_adjuvant_are_two_apart():
    """28 and 26: neither is small at 3, their difference is. One of them goes."""
    released = release(ALNEO, 3)
    status = _status(released)
    assert {status["surgery.resected"], status["treatment.adjuvant_started"]} == {"suppressed", "ok"}
    assert None in {released.population_sizes["resected"], released.population_sizes["adjuvant"]}


def test_alive_at_two_cuts_is_suppressed_with_the_deaths():
    """31 and 30 of 33: 2 died, and one in between. Of the two counts of the living one at most may stand."""
    status = _status(release(ALNEO, 3))
    assert {status["survival.alive"], status["survival.os"]} == {"suppressed"}


def test_terms_that_are_listed_because_they_were_seen_disappear():
    assert any("creatine" in p.id for p in ALNEO.proportions)
    released = release(ALNEO, 3)
    assert not any("creatine" in p.id for p in released.proportions)
    assert any(p.id.startswith("safety.adjuvant.neutropenia.") for p in released.proportions)


@pytest.mark.parametrize("k", [3, 5, 11])
def test_the_audit_finds_nothing_in_what_is_released_and_something_without_control(k):
    chosen = plan(ALNEO, k)
    assert audit(chosen.counts, k) == ()
    assert audit([replace(count, published=True) for count in chosen.counts], k)


def test_where_the_audit_objects_to_everything_nothing_leaves(monkeypatch):
    exposure = Exposure(1, 1, 1, ("n.enrolled",), "a")
    monkeypatch.setattr("analytics.disclosure.plan.audit", lambda counts, k: (exposure,))
    released = release(_results(_proportion("a", 50, 100)), 5)
    assert released.suppressed_entirely
    assert set(released.population_sizes.values()) == {None}
    assert released.refusal is not None
    assert "the audit" in released.refusal
