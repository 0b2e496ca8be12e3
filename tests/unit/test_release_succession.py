"""Which counts of two releases a reader could subtract; every difference is worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from schedules.release.succession import small_moves

K = 5


def proportion(x: int | None, n: int | None, identity: str = "response.mpr", population: str = "enrolled") -> Any:
    return {"id": identity, "population": population, "x": x, "n": n}


def curve(*steps: tuple[float, int, int], n: int = 100, events: int = 40, identity: str = "survival.efs") -> Any:
    """A curve by (month, events, censored) of each step."""
    points = [{"t": t, "events": d, "censored": c} for t, d, c in steps]
    return {"id": identity, "n": n, "events": events, "landmarks": [], "curve": points}


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[tuple[str, str]]:
    return {(move.id, move.statistic) for move in small_moves({"release": 1} | before, after, K)}


@pytest.mark.parametrize(
    ("after", "statistics"),
    [
        ((20, 50), set()),  # as it was
        ((21, 50), {"x", "rest"}),  # one more responder: 21 - 20, and 29 against 30 others
        ((20, 51), {"n", "rest"}),  # one new patient who did not respond
        ((21, 51), {"x", "n"}),  # one new patient who did
        ((25, 55), set()),  # five new responders
        ((22, 55), {"x", "rest"}),  # 2 and 3 of five new patients
        ((25, 51), {"n", "rest"}),  # moves the rest by -4
        ((None, 50), set()),
    ],
)
def test_a_proportion_moves_by_nobody_or_by_enough(after: tuple[int | None, int], statistics: set[str]) -> None:
    # Of one population only its own figure is asked here; the sizes of populations follow below.
    found = moved({"proportions": [proportion(20, 50)]}, {"proportions": [proportion(*after)]})
    assert {statistic for identity, statistic in found if identity == "response.mpr"} == statistics


def test_what_one_release_does_not_list_is_not_compared() -> None:
    term = proportion(7, 50, "safety.asthenia.worst_grade_1")
    assert moved({"proportions": []}, {"proportions": [term]}) == set()
    assert moved({"proportions": [term]}, {"proportions": []}) == set()


def test_fault_130_populations_that_move_apart_by_few_disclose_them() -> None:
    # 12 more enrolled and 11 more resected: one of the new patients was not resected.
    before = {"populations": {"enrolled": 100, "resected": 80}}
    after = {"populations": {"enrolled": 112, "resected": 91}}
    assert moved(before, after) == {("enrolled", "less resected")}


def test_the_rest_of_a_box_of_the_flow_is_a_count() -> None:
    def flow(enrolled: int, resected: int, left: int) -> dict[str, Any]:
        boxes = (("e", None, enrolled), ("r", "e", resected), ("p", "e", left))
        return {"flow": [{"id": identity, "parent": parent, "n": n} for identity, parent, n in boxes]}

    assert moved(flow(50, 40, 10), flow(60, 45, 15)) == set()
    assert moved(flow(50, 40, 10), flow(61, 45, 15)) == {("e", "rest")}  # 1 of whom nothing is said


def test_events_of_one_curve_less_those_of_another() -> None:
    def two(efs: int, os: int) -> dict[str, Any]:
        return {"survival": [curve(events=efs, n=200), curve(events=os, n=200, identity="survival.os")]}

    # 6 more events and 5 more deaths: one event was no death.
    assert moved(two(40, 30), two(46, 35)) == {("survival.efs", "events less those of survival.os")}
    assert moved(two(40, 30), two(50, 35)) == set()


def test_fault_130_a_step_of_a_curve_that_moves_by_few_discloses_them() -> None:
    before = {"survival": [curve((6, 10, 0), (12, 20, 20))]}
    assert moved(before, before) == set()
    after = {"survival": [curve((6, 11, 0), (12, 19, 20))]}
    assert moved(before, after) == {("survival.efs", "events by 6 months"), ("survival.efs", "left by 6 months")}


def test_a_step_between_two_of_the_other_release_is_a_range() -> None:
    before = {"survival": [curve((6, 10, 0), (12, 20, 20))]}
    # By month 9 there were 10 to 30: 20 may be the same patients.
    assert moved(before, {"survival": [curve((6, 10, 0), (9, 10, 10), (12, 10, 10))]}) == set()
    # By month 4 there were at most 10: 12 are two more.
    found = moved(before, {"survival": [curve((4, 12, 0), (12, 18, 20))]})
    assert {statistic for _, statistic in found} == {"events by 4 months", "left by 4 months", "events by 6 months"} | {
        "left by 6 months"
    }


def test_a_median_that_changes_while_its_n_does_not() -> None:
    def age(median: float, n: int = 50) -> dict[str, Any]:
        return {"quantiles": [{"id": "baseline.age", "n": n, "missing": 0, "median": median, "q1": 50, "q3": 70}]}

    assert moved(age(62), age(62.04)) == set()  # the same to the decimal that a protected release has
    assert moved(age(62), age(62.5)) == {("baseline.age", "median")}
    assert moved(age(62), age(64, n=55)) == set()


def test_counts_of_records_and_landmarks() -> None:
    def quality(count: int | None) -> dict[str, Any]:
        return {"quality": [{"site": "milan", "domain": "Observation", "issue": "no code", "count": count}]}

    assert moved(quality(20), quality(21)) == {("milan Observation no code", "count")}
    assert moved(quality(20), quality(None)) == set()
    marks = [{"survival": [curve() | {"landmarks": [{"t": 12, "at_risk": at_risk}]}]} for at_risk in (30, 29)]
    assert moved(*marks) == {("survival.efs", "at risk at 12 months")}
