"""The layout of the flow diagram."""

from itertools import combinations

import pytest

from analytics.estimates.model import FlowStep
from analytics.report.flowchart import SIDE_FONT, Box, Flowchart, flowchart, width, wrap
from tests.example_release import FLOW


def chart(steps: tuple[FlowStep, ...]) -> Flowchart:
    drawn = flowchart(steps)
    assert drawn is not None
    return drawn


def overlap(a: Box, b: Box) -> bool:
    across = a.x < b.x + b.width and b.x < a.x + a.width
    return across and a.y < b.y + b.height and b.y < a.y + a.height


def texts(box: Box) -> str:
    return " ".join(" ".join(line.text for line in box.lines).replace("\N{NO-BREAK SPACE}", " ").split())


def test_boxes_hold_the_numbers_and_do_not_overlap() -> None:
    drawn = chart(FLOW)
    assert [texts(box) for box in drawn.boxes if not box.side] == [
        "Screened n = 45",
        "Enrolled n = 33",
        "Resected n = 28",
        "Began adjuvant treatment n = 26",
        "Completed the adjuvant course n = 5",
    ]
    assert [texts(box) for box in drawn.boxes if box.side][1:] == [
        "Not resected: progression before surgery (n = 2) Not resected: other reason (n = 3)",
        "No adjuvant treatment (n = 2)",
        "Adjuvant course ongoing or stopped (n = 21)",
    ]
    assert not [pair for pair in combinations(drawn.boxes, 2) if overlap(*pair)]
    assert all(box.x + box.width <= drawn.width and box.y + box.height <= drawn.height for box in drawn.boxes)


def test_an_arrow_for_each_step_and_each_side_box() -> None:
    assert len(chart(FLOW).arrows) == 4 + 4


def test_who_left_last_hangs_below_the_last_box() -> None:
    steps = (FlowStep("a", "A", "main", None, 3), FlowStep("b", "Left", "excluded", "a", 1))
    last, side = chart(steps).boxes
    assert side.y > last.y + last.height


def test_suppressed_steps_are_words() -> None:
    step = FlowStep("a", "Enrolled", "main", None, None, "suppressed", "below 11")
    assert texts(chart((step,)).boxes[0]) == "Enrolled n suppressed"


def test_a_branch_from_further_up_is_drawn_round_the_boxes_between() -> None:
    steps = (
        FlowStep("a", "A", "main", None, 3),
        FlowStep("b", "B", "main", "a", 2),
        FlowStep("c", "C", "main", "a", 1),
    )
    straight, round_the_side = chart(steps).arrows
    assert "H" not in straight
    assert round_the_side.count("H") == 2


@pytest.mark.parametrize(
    "label", ["x" * 100, "NO DOSE OF THE STUDY DRUG OF ANY KIND", "肺癌の確定診断がない患者または不明の患者"]
)
def test_no_line_is_wider_than_its_box(label: str) -> None:
    steps = (FlowStep("a", "A", "main", None, 3), FlowStep("b", label, "excluded", "a", 1))
    side = chart(steps).boxes[1]
    assert len(side.lines) > 1
    assert all(width(line.text, SIDE_FONT) <= side.x + side.width - side.text_x for line in side.lines)


def test_wrapping_loses_nothing() -> None:
    text = "Stage at baseline is not IIIA or IIIB " + "y" * 60
    assert "".join(wrap(text, 100, 12.5)).replace(" ", "") == text.replace(" ", "")


def test_patients_who_hang_from_nothing_are_not_lost_silently() -> None:
    steps = (FlowStep("a", "A", "main", None, 3), FlowStep("b", "Left", "excluded", "z", 1))
    with pytest.raises(ValueError, match="b hang from no main step"):
        flowchart(steps)


def test_no_trunk_no_diagram() -> None:
    assert flowchart(()) is None
