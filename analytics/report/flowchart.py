"""Where the boxes and arrows of the patient-flow diagram stand (CONSORT style); a template draws them as
SVG.

The trunk runs down the left; patients who left it stand in one box beside the arrow that they left from, a
line for each reason. Coordinates are SVG user units. Text is wrapped by its number of characters, with room
to spare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analytics.estimates.model import FlowStep
from analytics.report import wording

WIDTH = 590
TRUNK_LEFT, TRUNK_WIDTH, TRUNK_FONT = 24, 240, 13.5
SIDE_LEFT, SIDE_WIDTH, SIDE_FONT = 312, 276, 12.5
INDENT = "   "
LINE, PADDING, GAP = 17, 10, 28
TRUNK_MIDDLE = TRUNK_LEFT + TRUNK_WIDTH // 2


@dataclass(frozen=True)
class TextLine:
    """One line of text in a box: `y` its baseline; `strong` for the number of patients in the trunk."""

    text: str
    y: int
    strong: bool = False


@dataclass(frozen=True)
class Box:
    """A box with its lines; `side` for those who left the trunk."""

    x: int
    y: int
    width: int
    height: int
    lines: tuple[TextLine, ...]
    side: bool

    @property
    def text_x(self) -> int:
        """Where the text starts (side) or is centred (trunk)."""
        return self.x + PADDING if self.side else self.x + self.width // 2


@dataclass(frozen=True)
class Flowchart:
    """Boxes and arrows (SVG path data) on a canvas of `width` by `height`."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]


def count(step: FlowStep) -> str:
    """``n = 33``, or the word of the status; never broken over two lines."""
    text = f"n = {wording.present(step.n, step.id)}" if step.status == "ok" else f"n {wording.WORDS[step.status]}"
    return text.replace(" ", wording.SPACE)


def flowchart(steps: tuple[FlowStep, ...]) -> Flowchart | None:
    """Lay out the diagram, or None where there is no trunk.

    Raises `ValueError` where those who left hang from no box of the trunk: the picture would lose them.
    """
    trunk = [step for step in steps if step.kind == "main"]
    if not trunk:
        return None
    if lost := [s.id for s in steps if s.kind == "excluded" and s.parent not in {t.id for t in trunk}]:
        raise ValueError(f"flow step(s) {', '.join(lost)} hang from no main step: give each the parent it left from")
    left = {step.id: [s for s in steps if s.kind == "excluded" and s.parent == step.id] for step in trunk}
    boxes: dict[str, Box] = {}
    sides: list[Box] = []
    arrows: list[str] = []
    y = 2
    for step in trunk:
        box = boxes[step.id] = _trunk_box(step, y)
        arrows += _arrow_from_parent(step, boxes, trunk)
        y = box.y + box.height + GAP
        if left[step.id]:
            side = _side_box(left[step.id], box.y + box.height + GAP // 2)
            sides.append(side)
            arrows.append(_arrow_aside(box, side))
            y = side.y + side.height + GAP // 2
    height = max(b.y + b.height for b in (*boxes.values(), *sides)) + 2
    return Flowchart(WIDTH, height, (*boxes.values(), *sides), tuple(arrows))


def width(text: str, font: float) -> float:
    """About how wide `text` is in a sans-serif of size `font`, rather more than less."""
    return font * sum(_em(c) for c in text)


def _em(letter: str) -> float:
    """The width of a letter of Arial, in its size, by class; CJK and other wide letters are square."""
    if ord(letter) > 0x2E7F:
        return 1.0
    if letter.isupper() or letter in "mw%@":
        return 0.72
    return 0.34 if letter in "ijlftr()[]|.,;:'!/-" or letter.isspace() else 0.57


def wrap(text: str, room: float, font: float) -> list[str]:
    """`text` in lines no wider than `room`, broken at spaces, and within a word that alone is wider."""
    lines = [""]
    for piece in (piece for word in text.split(" ") for piece in _pieces(word, room, font)):
        longer = f"{lines[-1]} {piece}".strip(" ")
        if width(longer, font) <= room:
            lines[-1] = longer
        else:
            lines.append(piece)
    return lines


def _pieces(word: str, room: float, font: float) -> Iterator[str]:
    piece = ""
    for letter in word:
        if width(piece + letter, font) > room:
            yield piece
            piece = ""
        piece += letter
    yield piece


def _trunk_box(step: FlowStep, y: int) -> Box:
    texts = [*wrap(step.label, TRUNK_WIDTH - 2 * PADDING, TRUNK_FONT), count(step)]
    lines = tuple(TextLine(t, _baseline(y, i), i == len(texts) - 1) for i, t in enumerate(texts))
    return Box(TRUNK_LEFT, y, TRUNK_WIDTH, _height(texts), lines, side=False)


def _side_box(steps: list[FlowStep], y: int) -> Box:
    texts: list[str] = []
    for step in steps:
        room = SIDE_WIDTH - 2 * PADDING - width(INDENT, SIDE_FONT)
        first, *more = wrap(f"{step.label} ({count(step)})", room, SIDE_FONT)
        texts += [first, *(INDENT + line for line in more)]
    lines = tuple(TextLine(text, _baseline(y, i)) for i, text in enumerate(texts))
    return Box(SIDE_LEFT, y, SIDE_WIDTH, _height(texts), lines, side=True)


def _height(texts: list[str]) -> int:
    return 2 * PADDING + LINE * len(texts) - 4


def _baseline(top: int, line: int) -> int:
    return top + PADDING + LINE * line + 11


def _arrow_from_parent(step: FlowStep, boxes: dict[str, Box], trunk: list[FlowStep]) -> list[str]:
    """Straight down from the box above; round the left side from a box further up."""
    if step.parent not in boxes:
        return []
    parent, box = boxes[step.parent], boxes[step.id]
    above = trunk[trunk.index(step) - 1].id
    if step.parent == above:
        return [f"M{TRUNK_MIDDLE} {parent.y + parent.height}V{box.y - 1}"]
    return [f"M{TRUNK_LEFT} {parent.y + parent.height // 2}H6V{box.y + box.height // 2}H{TRUNK_LEFT - 1}"]


def _arrow_aside(box: Box, side: Box) -> str:
    """From the trunk below `box` to `side`; the line starts at the box, for a box that has nothing below."""
    return f"M{TRUNK_MIDDLE} {box.y + box.height}V{side.y + side.height // 2}H{SIDE_LEFT - 1}"
