"""How far a run is: bars on a terminal, a line now and then elsewhere, and the point where a run may be
stopped."""

from __future__ import annotations

import io
import re
import threading

import pytest

from connectors.report import Progress
from schedules.cli.progress import progress_on, stoppable, timed
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


STATEMENTS = [f"building the cohort at 2024-12-01: {number} of 40 statements" for number in range(1, 41)]


def test_statements_are_a_line_now_and_then_in_a_file() -> None:
    seconds = iter(range(1000))
    stream = io.StringIO()
    with progress_on(stream, lambda: float(next(seconds))) as watch:
        for text in ("building the cohort at 2024-12-01", *STATEMENTS, "estimating"):
            watch.step(text)
    first, *lines, last = stream.getvalue().splitlines()
    assert (first, last) == ("building the cohort at 2024-12-01", "estimating")
    assert 2 <= len(lines) <= 6
    assert set(lines) < set(STATEMENTS)


def test_a_short_cohort_is_one_line_in_a_file() -> None:
    stream = io.StringIO()
    with progress_on(stream, lambda: 0.0) as watch:
        for text in ("building the cohort at 2024-12-01", *STATEMENTS):
            watch.step(text)
    assert stream.getvalue() == "building the cohort at 2024-12-01\n"


def test_statements_are_one_bar_that_fits_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    with progress_on(stream, lambda: 0.0) as watch:
        for text in STATEMENTS[:7]:
            watch.step(text)
    shown = [line for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", stream.getvalue()) if line.strip()]
    assert "7/40" in stream.getvalue()
    assert "statements" not in stream.getvalue()
    assert max(map(len, shown)) <= 80


def test_with_durations_the_statements_belong_to_their_step(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "schedules.cli.progress")
    with timed(progress_on(io.StringIO(), lambda: 0.0), lambda: 0.0) as watch:
        for text in ("building the cohort at 2024-12-01", *STATEMENTS, "estimating"):
            watch.step(text)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{name} took 0.0 s" for name in ("synchronising", "building the cohort at 2024-12-01", "estimating")
    ]


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
