"""How far a run is: bars on a terminal, a line now and then elsewhere, and the point where a run may be
stopped."""

from __future__ import annotations

import io
import threading

import pytest

from connectors.report import Progress
from schedules.cli.progress import progress_on, stoppable
from schedules.errors import StopRequested


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_a_line_every_ten_seconds() -> None:
    stream, seconds = io.StringIO(), iter([0.0, 1, 9.9, 10, 10, 15, 20, 20])
    with progress_on(stream, lambda: next(seconds)) as watch:
        for received in range(5):
            watch.page(Progress("milan", "Patient", received, 9 if received == 2 else None))
        watch.step("estimating")
    assert stream.getvalue() == "milan: 2 of 9 Patient\nmilan: 4 Patient\nestimating\n"


def test_a_terminal_gets_bars_and_keeps_the_steps() -> None:
    stream = Terminal()
    with progress_on(stream, lambda: 0.0) as watch:
        watch.page(Progress("milan", "Patient", 2, None))
        watch.page(Progress("milan", "Patient", 5, 5))
        watch.step("estimating [bold]")
    assert "milan Patient" in stream.getvalue()
    assert "5/5" in stream.getvalue()
    assert "estimating [bold]" in stream.getvalue()


def test_fault_109_a_bar_without_a_total_ends_with_its_type() -> None:
    """A bar that pulses has no m/n; one that is done shows n/n."""
    stream = Terminal()
    with progress_on(stream, lambda: 0.0) as watch:
        watch.page(Progress("milan", "Patient", 7, None))
        watch.page(Progress("rome", "Patient", 3, None))
        watch.page(Progress("milan", "Observation", 4, None))
        shown = stream.getvalue()
        watch.step("flattening")
    assert "7/7" in stream.getvalue()
    ended = stream.getvalue()[len(shown) :]
    for each in ("3/3", "4/4"):
        assert each in ended


def test_what_a_server_says_while_it_prepares_an_export() -> None:
    waiting = Progress("milan", "", 0, None, "the server prepares the export: 40%")
    stream, seconds = io.StringIO(), iter([0.0, 10, 10])
    with progress_on(stream, lambda: next(seconds)) as watch:
        watch.page(waiting)
    assert stream.getvalue() == "milan: the server prepares the export: 40%\n"
    terminal = Terminal()
    with progress_on(terminal, lambda: 0.0) as watch:
        watch.page(waiting)
        watch.step("said in between")
        watch.page(Progress("milan", "Patient", 5, 5))
    shown = terminal.getvalue()
    assert "the server prepares the export: 40%" in shown
    assert "prepares" not in shown[shown.index("5/5") :]


def test_a_run_stops_at_the_next_page_or_step_after_it_was_asked() -> None:
    stream, stop = io.StringIO(), threading.Event()
    with progress_on(stream, lambda: 0.0) as plain:
        watch = stoppable(plain, stop)
        watch.page(Progress("milan", "Patient", 1, None))
        watch.step("one")
        stop.set()
        with pytest.raises(StopRequested):
            watch.page(Progress("milan", "Patient", 2, None))
        with pytest.raises(StopRequested):
            watch.step("two")
    assert stream.getvalue() == "one\n"
