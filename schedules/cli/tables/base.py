"""The parts of all tables: columns, cells, times, messages; and how a table is printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analytics.report import wording

WIDTH = 140  # of a pipe or a file, which has none of its own
TICK, CROSS, NEITHER = "✓", "✗", "–"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for the session to handle; rich would end the process


def print_table(table: RenderableType, stream: TextIO) -> None:
    """Print `table` on `stream`. No text in it is taken for the markup of rich."""
    width = None if stream.isatty() else WIDTH
    _Console(file=stream, width=width, markup=False, highlight=False, emoji=False).print(table)


def new_table(*names: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """Return an empty table with these columns; those in `right` are aligned to the right."""
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for name in names:
        # fold: at 80 columns a day goes on in the next line; by default it would be cut off with an ellipsis.
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def text_cells(*texts: str) -> tuple[Text, ...]:
    """Return texts as cells, without control characters."""
    return tuple(Text(wording.clean(text)) for text in texts)


def clock(instant: str | None) -> str:
    """Return an instant of a status as all times for people are written: in UTC, as in the log."""
    return f"{datetime.fromisoformat(instant).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if instant else "never"


def message_lines(said: Iterable[tuple[str, Sequence[str]]]) -> Iterator[RenderableType]:
    """Yield a line for each message, indented where it goes on."""
    for name, messages in said:
        for message in messages:
            yield Padding(Text(wording.clean(f"{name}: {message}")), (0, 0, 0, 2))
