"""The list of what is withheld: each figure that differs from the internal one is on it, with a reason."""

from __future__ import annotations

from schedules.release.withheld import LINKED, LISTED, withheld_cells
from tests.example_release import example_release

INTERNAL = example_release(0)


def test_nothing_is_withheld_without_protection() -> None:
    assert withheld_cells(INTERNAL, INTERNAL, INTERNAL) == ()


def test_every_figure_that_is_withheld_is_listed_with_its_true_value() -> None:
    released = example_release(11)
    cells = withheld_cells(INTERNAL, released, released)
    shown = {p.id: p.x for p in released.proportions}
    differing = {p.id for p in INTERNAL.proportions if shown.get(p.id) != p.x}
    assert {cell.id for cell in cells if cell.section == "proportions"} == differing
    by_id = {cell.id: cell for cell in cells}
    pcr = by_id["response.pcr"]
    assert (pcr.internal, pcr.effect, pcr.why) == ("4/33", "withheld", "x: 1 to 10 patients")
    assert by_id["surgery.r0"].why == "all but x: 1 to 10 patients"  # 24 of 28
    # Seven events are fewer than 11, and so is no step of the curve large enough.
    assert (by_id["survival.efs"].internal, by_id["survival.efs"].effect) == ("7/33, 28 steps", "withheld")
    assert by_id["survival.efs"].why == "events: 1 to 10 patients"
    assert by_id["milan Observation"].why == "records: 1 to 10 patients"
    assert by_id["adjuvant"].internal == "26"
    assert {cell.effect for cell in cells} == {"withheld", "left out", "coarsened"}
    assert {cell.why for cell in cells if cell.effect == "left out"} >= {LISTED}
    assert LINKED in {cell.why for cell in cells}
