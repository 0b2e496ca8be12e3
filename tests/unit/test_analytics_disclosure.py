"""The suppressions of `release`, and that nothing else makes a `Released`."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import numpy as np
import pytest

from analytics.analysis import analyse
from analytics.disclosure.control import Released, release
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


def _cell(breakdown, *ranges, groups=COURSE, time=None):
    return Cell(breakdown, frozenset(i for r in ranges for i in range(*r)), time, groups)


def _results(*proportions, sizes=None, quantiles=(), survival=(), flow=(), quality=(), cells=()):
    """Results without the patients behind the counts, unless `cells` are given."""
    sizes = {"enrolled": 100, "resected": 80, "adjuvant": 60} | (sizes or {})
    return Results(
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
    for field in {f.name for f in fields(released)} - {"min_cell"}:
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


def test_a_breakdown_is_suppressed_whole_and_only_it():
    cells = [_proportion(f"b.{i}", x, 100, breakdown="b") for i, x in enumerate((3, 47, 50))]
    released = release(_results(*cells, _proportion("a", 50, 100)), 5)
    assert _status(released) == {"b.0": "suppressed", "b.1": "suppressed", "b.2": "suppressed", "a": "ok"}


def test_the_rest_of_a_breakdown_is_a_cell():
    cells = [_proportion(f"b.{i}", 49, 100, breakdown="b") for i in range(2)]
    assert set(_status(release(_results(*cells), 5)).values()) == {"suppressed"}


def test_a_small_complement_is_protected_although_the_patients_are_known():
    everyone = _cell("enrolled", (0, 100))
    assert _status(release(_results(_proportion("a", 97, 100), cells=[everyone]), 5)) == {"a": "suppressed"}


def test_cells_of_another_data_cutoff_are_no_part_of_the_rest():
    """55 now and 42 later add up to 97 of 100, but they are the same patients."""
    assert set(_status(release(_results(_proportion("a", 55, 100), _proportion("a@later", 42, 100)), 5)).values()) == {
        "ok"
    }


@pytest.mark.parametrize(("n", "status"), [(103, "suppressed"), (97, "suppressed"), (106, "ok")])
def test_a_few_more_enrolled_at_a_later_data_cutoff_are_a_count(n, status):
    assert _status(release(_results(_proportion("alive@later", 50, n)), 5)) == {"alive@later": status}


def test_the_size_of_another_population_is_not_compared_with_the_enrolled():
    found = _results(_proportion("r0", 40, 98, "resected"), sizes={"resected": 80})
    assert _status(release(found, 5)) == {"r0": "ok"}


def test_with_a_threshold_of_two_the_word_suppressed_does_not_say_one():
    assert _status(release(_results(_proportion("a", 2, 100)), 2)) == {"a": "suppressed"}
    assert "Counts of 1 to 2 patients" in release(_results(), 2).statement


def test_the_same_figure_at_two_cuts_is_suppressed_for_a_small_difference():
    near = _results(_proportion("alive", 60, 100), _proportion("alive@later", 57, 100))
    far = _results(_proportion("alive", 60, 100), _proportion("alive@later", 50, 100))
    grown = _results(_proportion("alive", 60, 100), _proportion("alive@later", 50, 103))
    assert set(_status(release(near, 5)).values()) == {"suppressed"}
    assert set(_status(release(far, 5)).values()) == {"ok"}
    later = release(grown, 5).proportions[1]
    assert (later.status, later.n) == ("suppressed", None)


# Populations and flow


@pytest.mark.parametrize("sizes", [{"resected": 97}, {"adjuvant": 3, "resected": 50}, {"resected": 62}])
def test_a_small_population_suppresses_all_that_is_counted_in_one(sizes):
    inside = (_proportion("r0", 30, 60, "adjuvant"), _proportion("x", 20, 40, "resected"))
    found = _results(_proportion("a", 50, 100), *inside, sizes=sizes)
    released = release(found, 5)
    assert _status(released) == {"a": "ok", "r0": "suppressed", "x": "suppressed"}
    assert [p.n for p in released.proportions] == [100, None, None]
    assert released.population_sizes == {"enrolled": 100, "resected": None, "adjuvant": None}


def test_what_is_counted_in_all_enrolled_stays_where_the_populations_are_suppressed():
    found = _results(
        _proportion("few", 3, 100),
        quantiles=[_median("age", 100), _median("time", 60, "adjuvant")],
        survival=[_curve("efs", [1] * 20, [30] * 80)],
        sizes={"resected": 97},
    )
    released = release(found, 5)
    assert _status(released) == {"few": "suppressed", "age": "ok", "time": "suppressed", "efs": "ok"}
    assert [p.n for p in released.proportions] == [100]


def _flow(*boxes):
    return [FlowStep(name, name, kind, parent, n) for name, kind, parent, n in boxes]


@pytest.mark.parametrize(
    ("boxes", "shown"),
    [
        ([("s", "main", None, 120), ("s.x", "excluded", "s", 20), ("e", "main", "s", 100)], True),
        ([("s", "main", None, 102), ("s.x", "excluded", "s", 2), ("e", "main", "s", 100)], False),
        ([("s", "main", None, 102), ("e", "main", "s", 100)], False),
        ([("s", "main", None, 123), ("s.x", "excluded", "s", 20), ("e", "main", "s", 100)], False),
        ([("s", "main", None, 4)], False),
        ([("s", "main", None, 5)], True),
        ([("s", "main", None, 105), ("s.x", "excluded", "s", 0), ("e", "main", "s", 100)], True),
        ([("s", "main", None, 0), ("e", "main", "s", 0)], True),
    ],
)
def test_the_flow_diagram_is_one_breakdown(boxes, shown):
    found = release(_results(flow=_flow(*boxes)), 5).flow
    if shown:
        assert [step.n for step in found] == [n for _, _, _, n in boxes]
    else:
        assert {step.kind for step in found} == {"main"}
        assert {(step.n, step.status, step.reason) for step in found} == {(None, "suppressed", REASON)}


def test_the_flow_diagram_is_suppressed_with_the_populations_whose_sizes_it_shows():
    boxes = _flow(("s", "main", None, 120), ("e", "main", "s", 100))
    assert [step.n for step in release(_results(flow=boxes, sizes={"resected": 97}), 5).flow] == [None, None]


def test_the_flow_diagram_is_suppressed_where_only_differencing_reaches_the_populations():
    """50 resected and 47 others who were not leave 3 of 100."""
    boxes = _flow(("s", "main", None, 120), ("e", "main", "s", 100))
    cells = [_cell("enrolled", (0, 100), groups=UNKNOWN), _cell("populations", (0, 50)), _cell("x", (50, 97))]
    found = _results(_proportion("x", 47, 100), flow=boxes, cells=cells, sizes={"resected": 50, "adjuvant": 20})
    released = release(found, 5)
    assert released.population_sizes == {"enrolled": 100, "resected": None, "adjuvant": None}
    assert _status(released) == {"x": "suppressed"}
    assert [step.n for step in released.flow] == [None, None]


def test_what_is_suppressed_with_its_population_discloses_nothing_more():
    """46 of the 97 resected and 50 others leave 4; but the 46 are not published."""
    cells = [_cell("enrolled", (0, 100), groups=UNKNOWN), _cell("r0", (0, 46)), _cell("x", (46, 96))]
    found = _results(
        _proportion("r0", 46, 97, "resected"), _proportion("x", 50, 100), cells=cells, sizes={"resected": 97}
    )
    assert _status(release(found, 5)) == {"r0": "suppressed", "x": "ok"}


def test_a_flow_diagram_that_is_suppressed_with_the_populations_discloses_nothing_more():
    """46 in a box and 50 others leave 4; but the box is not published, since 97 of 100 are resected."""
    cells = [_cell("enrolled", (0, 100), groups=UNKNOWN), _cell("flow", (0, 46)), _cell("x", (46, 96))]
    assert _status(release(_results(_proportion("x", 50, 100), cells=cells, sizes={"resected": 97}), 5)) == {"x": "ok"}


# Curves


def test_where_one_curve_is_suppressed_the_other_is_as_well():
    """Two deaths are protected; the 20 events are these and progressions."""
    found = release(_results(survival=[_curve("os", [5] * 2, [30] * 98), _curve("efs", [5] * 20, [30] * 80)]), 3)
    assert _status(found) == {"os": "suppressed", "efs": "suppressed"}
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


EFS = _curve("efs", [1, 2, 3, *[20] * 6], [30] * 21)
THIRTY = [_cell("enrolled", (0, 30), groups=UNKNOWN), _cell("efs", (0, 3), (10, 16), groups=EVENTS)]


def _thirty(*proportions, cells):
    sizes = {"enrolled": 30, "resected": 24, "adjuvant": 18}
    return _status(release(_results(*proportions, survival=[EFS], sizes=sizes, cells=[*THIRTY, *cells]), 3))


@pytest.mark.parametrize(("month", "status"), [(12, "suppressed"), (3, "ok")])
def test_a_step_of_a_curve_is_a_count_and_what_is_no_step_is_none(month, status):
    """3 events by the landmark and 25 other patients leave 2 of 30. The curve has steps at 12 and 20 months only."""
    cells = [_cell("efs", (0, 3), groups=EVENTS, time=month), _cell("x", (3, 28))]
    assert _thirty(_proportion("x", 25, 30), cells=cells) == {"x": status, "efs": status}


def test_proportions_that_repeat_the_events_are_suppressed_rather_than_the_curve():
    """9 events, of which 7 deaths: 2 are no deaths. A second proportion of events goes with the first."""
    cells = [_cell("dead", (0, 3), (10, 14), groups=EVENTS), _cell("worse", (0, 3), (13, 16), groups=EVENTS)]
    found = _thirty(_proportion("dead", 7, 30), _proportion("worse", 6, 30), cells=cells)
    assert found == {"dead": "suppressed", "worse": "suppressed", "efs": "ok"}


def test_proportions_of_events_are_suppressed_with_the_curve():
    cells = [
        _cell("efs", (0, 3), groups=EVENTS, time=12),
        _cell("x", (3, 28)),
        _cell("dead", (0, 3), (10, 13), groups=EVENTS),
    ]
    found = _thirty(_proportion("x", 25, 30), _proportion("dead", 6, 30), cells=cells)
    assert found == {"x": "suppressed", "dead": "suppressed", "efs": "suppressed"}


# Quantiles, quality, everything


@pytest.mark.parametrize(("n", "status"), [(100, "ok"), (97, "suppressed"), (95, "ok"), (4, "suppressed"), (0, "ok")])
def test_a_median_of_few_or_of_almost_all_is_suppressed(n, status):
    found = release(_results(quantiles=[_median("age", n)]), 5).quantiles[0]
    assert found.status == status
    if status == "suppressed":
        assert (found.n, found.median, found.q1, found.q3, found.missing) == (None,) * 5
        assert found.median_status == "suppressed"


def test_a_released_quartile_has_one_decimal():
    follow_up = replace(_median("survival.follow_up", 100), median=15.2279, q1=6.85, q3=None)
    assert [(q.median, q.q1, q.q3) for q in release(_results(quantiles=[follow_up]), 5).quantiles] == [
        (15.2, 6.9, None)
    ]
    assert release(_results(quantiles=[follow_up]), 0).quantiles == (follow_up,)


def test_small_counts_of_records_are_suppressed():
    items = [QualityItem("a", "Observation", "x", n) for n in (0, 4, 5)]
    found = release(_results(quality=items), 5).quality
    assert [item.count for item in found] == [0, None, 5]
    assert found[1] == QualityItem("a", "Observation", "x", None, "suppressed", REASON)


@pytest.mark.parametrize("domain", ["ADSL", "ADRS", "ADTTE", "ADAE", "Patient"])
def test_counts_of_patients_in_the_quality_list_are_suppressed_whatever_their_size(domain):
    """200 enrolled less 91 less 91 with an ECOG less 15 without one are 3."""
    items = [QualityItem("a", domain, "enrolled, no baseline ECOG", 15)]
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
    """28 and 26: neither is small at 3, their difference is. Both sizes and all counted in them go."""
    released = release(ALNEO, 3)
    status = _status(released)
    assert status["surgery.resected"] == status["treatment.adjuvant_started"] == "suppressed"
    assert released.population_sizes["resected"] is None
    assert status["response.pcr"] == "ok"


def test_alive_at_two_cuts_is_suppressed_with_the_deaths():
    """31 and 30 of 33: one died in between. The curve of two deaths goes too."""
    status = _status(release(ALNEO, 3))
    names = ("survival.alive", "survival.alive@later_cut", "survival.os", "survival.efs")
    assert {status[name] for name in names} == {"suppressed"}


def test_terms_that_are_listed_because_they_were_seen_disappear():
    assert any("creatine" in p.id for p in ALNEO.proportions)
    released = release(ALNEO, 3)
    assert not any("creatine" in p.id for p in released.proportions)
    assert any(p.id.startswith("safety.adjuvant.neutropenia.") for p in released.proportions)
