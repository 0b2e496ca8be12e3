"""The boxes of the flow diagram: their order, numbers and reasons. tests/browser looks at where they stand."""

import pytest

from analytics.estimates.model import FlowStep
from analytics.report.flowchart import Box, flowchart
from analytics.report.wording import SPACE
from tests.example_release import FLOW


def plain(text: str) -> str:
    return text.replace(SPACE, " ")


def test_each_box_has_its_number_and_those_who_left_it() -> None:
    assert [(b.label, plain(b.count), tuple(map(plain, b.left))) for b in flowchart(FLOW)] == [
        (
            "Screened",
            "n = 45",
            (
                "Stage at baseline is not IIIA or IIIB (n = 5)",
                "ALK is not positive (n = 4)",
                "No dose of the study drug (n = 3)",
            ),
        ),
        (
            "Enrolled",
            "n = 33",
            ("Not resected: progression before surgery (n = 2)", "Not resected: other reason (n = 3)"),
        ),
        ("Resected", "n = 28", ("No adjuvant treatment (n = 2)",)),
        ("Began adjuvant treatment", "n = 26", ("Adjuvant course ongoing or stopped (n = 21)",)),
        ("Completed the adjuvant course", "n = 5", ()),
    ]


def test_a_number_is_never_broken_over_two_lines() -> None:
    assert flowchart(FLOW)[0].count == f"n{SPACE}={SPACE}45"


def test_those_who_left_last_stand_with_the_last_box() -> None:
    steps = (FlowStep("a", "A", "main", None, 3), FlowStep("b", "Left", "excluded", "a", 1))
    assert flowchart(steps) == (Box("A", f"n{SPACE}={SPACE}3", (f"Left (n{SPACE}={SPACE}1)",)),)


def test_suppressed_steps_are_words() -> None:
    step = FlowStep("a", "Enrolled", "main", None, None, "suppressed", "below 11")
    assert flowchart((step,)) == (Box("Enrolled", f"n{SPACE}suppressed", ()),)


@pytest.mark.parametrize("lost", [FlowStep("b", "Left", "excluded", "z", 1), FlowStep("b", "B", "main", "z", 1)])
def test_patients_who_hang_from_nothing_are_not_lost_silently(lost: FlowStep) -> None:
    with pytest.raises(ValueError, match=r"flow step\(s\) b do not hang from the box above"):
        flowchart((FlowStep("a", "A", "main", None, 3), lost))


def test_no_trunk_no_diagram() -> None:
    assert flowchart(()) == ()
