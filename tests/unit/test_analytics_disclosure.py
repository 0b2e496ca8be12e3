"""What `release` suppresses, and that nothing else makes a `Released`."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import pytest

from analytics.analysis import analyse
from analytics.disclosure.control import Released, release
from analytics.errors import NotReleasedError
from analytics.estimates.model import FlowStep, Proportion, QualityItem, Quantiles, Results
from mappers.study import load_study
from tests.unit.analytics_tables import alneo, cohort

STUDY = load_study("alneo")
ALNEO = analyse(alneo(), STUDY)


def _proportion(name, x, n, population="enrolled", breakdown=None):
    return Proportion(name, name, population, breakdown or name, x, n, 100 * x / n, None)


def _results(*proportions, sizes=None, quantiles=(), flow=(), quality=()):
    """Results without the patients behind the counts."""
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
        survival=(),
        flow=tuple(flow),
        quality=tuple(quality),
    )


def _status(released):
    return {e.id: e.status for e in (*released.proportions, *released.quantiles, *released.survival)}


# Released


def test_nothing_else_makes_a_released():
    released = release(ALNEO, 0)
    values = {f.name: getattr(released, f.name) for f in fields(released)}
    with pytest.raises(NotReleasedError, match="release only"):
        Released(**values, key=object())
    with pytest.raises(TypeError):
        Released(**values)
    with pytest.raises(ValueError, match="key"):
        replace(released, min_cell=11)
    with pytest.raises(NotReleasedError):
        replace(released, min_cell=11, key=None)
    with pytest.raises(NotReleasedError):
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
        assert found.reason == "a protected count could be read or derived from it"


def test_everyone_is_not_a_small_rest():
    assert _status(release(_results(_proportion("a", 100, 100)), 5)) == {"a": "ok"}


def test_a_breakdown_is_suppressed_whole_and_only_it():
    cells = [_proportion(f"b.{i}", x, 100, breakdown="b") for i, x in enumerate((3, 47, 50))]
    released = release(_results(*cells, _proportion("a", 50, 100)), 5)
    assert _status(released) == {"b.0": "suppressed", "b.1": "suppressed", "b.2": "suppressed", "a": "ok"}


def test_the_rest_of_a_breakdown_is_a_cell():
    cells = [_proportion(f"b.{i}", 49, 100, breakdown="b") for i in range(2)]
    assert set(_status(release(_results(*cells), 5)).values()) == {"suppressed"}


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


def _flow(*boxes):
    return [FlowStep(name, name, kind, parent, n) for name, kind, parent, n in boxes]


@pytest.mark.parametrize(
    ("boxes", "shown"),
    [
        ([("s", "main", None, 120), ("s.x", "excluded", "s", 20), ("e", "main", "s", 100)], True),
        ([("s", "main", None, 102), ("s.x", "excluded", "s", 2), ("e", "main", "s", 100)], False),
        ([("s", "main", None, 102), ("e", "main", "s", 100)], False),
        ([("s", "main", None, 123), ("s.x", "excluded", "s", 20), ("e", "main", "s", 100)], False),
    ],
)
def test_the_flow_diagram_is_one_breakdown(boxes, shown):
    found = release(_results(flow=_flow(*boxes)), 5).flow
    if shown:
        assert [step.n for step in found] == [n for _, _, _, n in boxes]
    else:
        assert {step.kind for step in found} == {"main"}
        assert {(step.n, step.status) for step in found} == {(None, "suppressed")}


# Quantiles, quality, everything


@pytest.mark.parametrize(("n", "status"), [(100, "ok"), (97, "suppressed"), (95, "ok"), (4, "suppressed"), (0, "ok")])
def test_a_median_of_few_or_of_almost_all_is_suppressed(n, status):
    median = Quantiles("age", "Age", "enrolled", n, 62, 49, 74, "years", "type 7", missing=100 - n)
    found = release(_results(quantiles=[median]), 5).quantiles[0]
    assert found.status == status
    if status == "suppressed":
        assert (found.n, found.median, found.q1, found.q3, found.missing) == (None,) * 5
        assert found.median_status == "suppressed"


def test_small_counts_of_records_are_suppressed():
    items = [QualityItem("a", "Patient", "x", n) for n in (0, 4, 5)]
    assert [item.count for item in release(_results(quality=items), 5).quality] == [0, None, 5]


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
