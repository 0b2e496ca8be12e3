"""The boxes of the flow diagram and the quality list."""

from __future__ import annotations

import pytest

from analytics.errors import AnalysisError
from analytics.estimates.flow import patient_flow
from analytics.estimates.model import QualityItem
from analytics.estimates.quality import quality
from tests.unit.analytics_tables import alneo, cohort


def test_the_reference_cohort_flows_as_published():
    """33 enrolled, 28 resected, 26 with adjuvant treatment, 5 completed; five reasons for no surgery."""
    boxes = {box.step.id: box.step for box in patient_flow(alneo())}
    assert [(s.label, s.n) for s in boxes.values() if s.kind == "main"] == [
        ("Screened", 35),
        ("Enrolled", 33),
        ("Resected", 28),
        ("Began adjuvant treatment", 26),
        ("Completed the adjuvant course", 5),
    ]
    left = [(s.label, s.n) for s in boxes.values() if s.parent == "flow.enrolled" and s.kind == "excluded"]
    assert ("Not resected: progression_before_surgery", 2) in left
    assert left == sorted(left), "an order by counts would tell of counts that are suppressed"
    assert sum(n for _, n in left) == 5


def test_every_box_is_accounted_for_by_what_hangs_from_it():
    steps = [box.step for box in patient_flow(alneo())]
    for parent in steps:
        children = [s for s in steps if s.parent == parent.id]
        if children:
            assert parent.n == sum(s.n for s in children)


def test_without_a_reason_that_is_said_and_columns_may_be_absent():
    table = cohort([{"USUBJID": "a", "ITTFL": "N"}, {"USUBJID": "b", "ITTFL": "Y", "SURGFL": "N"}])
    bare = cohort([])
    for frame in (table.adsl, bare.adsl):
        frame.drop(columns=["NOSURGRS", "ADJCMPFL"], inplace=True)
    labels = [box.step.label for box in patient_flow(table) if box.step.kind == "excluded"]
    assert labels == ["No reason recorded", "Not resected: No reason recorded"]
    assert [box.step.n for box in patient_flow(bare)] == [0, 0, 0, 0, 0]


def test_the_quality_list_is_ordered_and_added_up():
    def row(site, domain, issue, count):
        return {"SITEID": site, "DOMAIN": domain, "ISSUE": issue, "COUNT": count}

    rows = [row("b", "Observation", "x", 1), row("a", "Patient", "y", 2), row("a", "Patient", "y", 3)]
    found = quality(cohort([], quality=rows))
    assert found == (QualityItem("a", "Patient", "y", 5), QualityItem("b", "Observation", "x", 1))


@pytest.mark.parametrize("count", [-1, 1.5, None, "many"])
def test_a_count_that_is_none_is_an_error(count):
    rows = [{"SITEID": "a", "DOMAIN": "Patient", "ISSUE": "x", "COUNT": count}]
    with pytest.raises(AnalysisError, match=r"quality\.COUNT"):
        quality(cohort([], quality=rows))
