"""The patient-flow diagram (CONSORT style) as a list of boxes; report.html nests them and report.css draws them."""

from __future__ import annotations

from dataclasses import dataclass

from analytics.estimates.model import FlowStep
from analytics.report import wording


@dataclass(frozen=True)
class Box:
    """A box of the trunk, and those who left it there, a line for each reason."""

    label: str
    count: str
    left: tuple[str, ...]


def count(step: FlowStep) -> str:
    """Return ``n = 33``, or the word of the status; never broken over two lines."""
    text = f"n = {wording.present(step.n, step.id)}" if step.status == "ok" else f"n {wording.WORDS[step.status]}"
    return text.replace(" ", wording.SPACE)


def flowchart(steps: tuple[FlowStep, ...]) -> tuple[Box, ...]:
    """Return the trunk from the first box to the last, each with those who left it.

    Raises `ValueError` where a step hangs from no box, or a box not from the one above: the picture would lie.
    """
    trunk = [step for step in steps if step.kind == "main"]
    names = [step.id for step in trunk]
    lost = [s.id for s in steps if s.kind == "excluded" and s.parent not in names]
    lost += [step.id for above, step in zip(names, trunk[1:], strict=False) if step.parent != above]
    # A reader adds up the boxes: a step that is drawn nowhere would be missing from the sum.
    if lost:
        raise ValueError(f"flow step(s) {', '.join(lost)} do not hang from the box above: give each its parent")
    left = {name: [s for s in steps if s.kind == "excluded" and s.parent == name] for name in names}
    return tuple(
        Box(step.label, count(step), tuple(f"{s.label} ({count(s)})" for s in left[step.id])) for step in trunk
    )
