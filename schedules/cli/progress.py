"""Progress of a run on stderr: bars on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TextIO

from rich.progress import TaskID

from connectors.report import Progress
from schedules.errors import StopRequested
from schedules.run.nightly import ProgressReporter

log = logging.getLogger(__name__)

LINE_SECONDS = 10.0  # a night in a log file is then hundreds of lines, not hundreds of thousands
# A step within a step, as `mappers.build.mapping` tells it: a bar on a terminal, and a line only where it takes long.
COUNTED = re.compile(r"(?P<what>.+): (?P<done>\d+) of (?P<total>\d+) statements")


def progress_on(stream: TextIO, elapsed: Callable[[], float]) -> AbstractContextManager[ProgressReporter]:
    """Show progress on `stream`; `elapsed` is a clock in seconds that never runs backwards."""
    # Bars redraw themselves, which would fill a log file with control characters.
    return _bars(stream) if stream.isatty() else nullcontext(_lines(stream, elapsed))


@contextmanager
def timed(shown: AbstractContextManager[ProgressReporter], elapsed: Callable[[], float]) -> Iterator[ProgressReporter]:
    """Log how long each step took, and the resources of each site and type, besides showing the progress."""
    began, name = elapsed(), "synchronising"
    received: dict[tuple[str, str], int] = {}

    def page(progress: Progress) -> None:
        if progress.resource_type:
            received[progress.site, progress.resource_type] = progress.received
        reporter.page(progress)

    def end() -> None:
        for (site, kind), count in sorted(received.items()):
            log.debug("%s: %d %s received", site, count, kind)
        received.clear()
        log.debug("%s took %.1f s", name, elapsed() - began)

    def step(text: str) -> None:
        nonlocal began, name
        if COUNTED.fullmatch(text):
            reporter.step(text)
            return
        end()
        began, name = elapsed(), text
        reporter.step(text)

    with shown as reporter:
        yield ProgressReporter(page, step)
        end()


def stoppable(reporter: ProgressReporter, stop: threading.Event) -> ProgressReporter:
    """Return `reporter`, but raising `StopRequested` at the first page or step after `stop` was set."""

    def page(progress: Progress) -> None:
        _stop_if_asked(stop)
        reporter.page(progress)

    def step(text: str) -> None:
        _stop_if_asked(stop)  # before the step begins, so that nothing of it is lost
        reporter.step(text)

    return ProgressReporter(page, step)


def _stop_if_asked(stop: threading.Event) -> None:
    if stop.is_set():
        raise StopRequested("the service was told to stop")


def _lines(stream: TextIO, elapsed: Callable[[], float]) -> ProgressReporter:
    last = elapsed()

    def page(progress: Progress) -> None:
        nonlocal last
        if elapsed() - last >= LINE_SECONDS:
            last = elapsed()
            print(progress_text(progress), file=stream, flush=True)  # flush: journald shows it at once

    def step(text: str) -> None:
        nonlocal last
        if COUNTED.fullmatch(text):
            if elapsed() - last < LINE_SECONDS:
                return
            last = elapsed()
        print(text, file=stream, flush=True)

    return ProgressReporter(page, step)


def progress_text(progress: Progress) -> str:
    """Return `milan: 500 of 1200 Observation`, or what the server says while it prepares an export."""
    if progress.note:
        return f"{progress.site}: {progress.note}"
    of = f" of {progress.expected}" if progress.expected is not None else ""
    return f"{progress.site}: {progress.received}{of} {progress.resource_type}"


@contextmanager
def _bars(stream: TextIO) -> Iterator[ProgressReporter]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # transient: the bars disappear at the end, and what remains on the terminal is the result.
    bars = Bars(*columns, console=Console(file=stream, highlight=False, markup=False), transient=True)
    tasks: dict[tuple[str, str], TaskID] = {}
    sites: dict[TaskID, str] = {}
    statements: list[TaskID] = []  # the bar of the step that counts them, if there is one

    def finish(site: str | None = None) -> None:
        # Of a type whose number the server does not tell, nobody says that it is the last page: a bar would go on
        # moving. It is done when the next type of the site comes, or the next step.
        for task in bars.tasks:
            if task.total is None and site in (None, sites[task.id]):
                bars.update(task.id, total=task.completed)

    def step(text: str) -> None:
        finish()
        if counted := COUNTED.fullmatch(text):
            done, total = int(counted["done"]), int(counted["total"])
            statements[:] = statements or [bars.add_task(counted["what"], total=total)]
            bars.update(statements[0], description=counted["what"], completed=done, total=total)
            return
        while statements:
            bars.remove_task(statements.pop())
        bars.console.print(text)

    def page(progress: Progress) -> None:
        key = (progress.site, progress.resource_type)
        if key not in tasks:
            finish(progress.site)
        text = progress_text(progress) if progress.note else " ".join(key)
        if key not in tasks:
            tasks[key] = bars.add_task(text, total=progress.expected)
            sites[tasks[key]] = progress.site
        bars.update(tasks[key], description=text, completed=progress.received, total=progress.expected)
        # The bar of the preparation, which has no resource type, ends with the first page.
        if not progress.note and (waited := tasks.pop((progress.site, ""), None)) is not None:
            bars.remove_task(waited)

    with bars:
        yield ProgressReporter(page, step)
