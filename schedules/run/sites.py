"""The sites of a run, side by side: one that fails does not stop the others, and all share the time of the run.

Each site has its own source, cursor, deadline and limits; the lake takes one commit after the other. What is wrong with
this machine (a full disk, a damaged lake) or a request to stop ends all of them, each at its next page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic

from connectors.errors import AuthenticationError, ConnectorError, DeferredError, FolderError, ServerError
from connectors.report import Progress, SyncReport
from schedules.config.settings import Settings
from schedules.errors import StopRequested
from schedules.run.stages import Stages

Attempt = tuple[SyncReport, ConnectorError | None]
PATIENCE = 10.0  # seconds that an end waits for sites which are in the middle of a page


@dataclass
class SideBySide:
    """Synchronises sites. `elapsed` is a clock in seconds that never runs backwards."""

    settings: Settings
    stages: Stages
    page: Callable[[Progress], None]
    full: bool = False
    elapsed: Callable[[], float] = monotonic
    _over: Event = field(default_factory=Event)
    _telling: Lock = field(default_factory=Lock)

    def attempt(self, sites: Sequence[str]) -> list[Attempt]:
        """A report of every site, in order, with the error of one that could not be read."""
        end = self.elapsed() + self.settings.limits.run_seconds
        width = min(self.settings.limits.sites_at_a_time, len(sites))
        if width <= 1:
            return [self._one(site, end) for site in sites]
        waiting, done = iter(sites), SimpleQueue[tuple[str, Attempt | BaseException]]()
        threads = [Thread(target=self._work, args=(waiting, done, end), daemon=True) for _ in range(width)]
        for thread in threads:
            thread.start()
        try:
            found = self._collect(done, len(sites))
        finally:
            self._over.set()
            give_up = self.elapsed() + PATIENCE
            for thread in threads:
                thread.join(max(0.0, give_up - self.elapsed()))
        return [found[site] for site in sites]

    def _collect(self, done: SimpleQueue[tuple[str, Attempt | BaseException]], count: int) -> dict[str, Attempt]:
        found: dict[str, Attempt] = {}
        while len(found) < count:
            try:
                site, attempt = done.get(timeout=1.0)
            except Empty:  # so that Ctrl-C is heard everywhere
                continue
            if isinstance(attempt, BaseException):
                raise attempt
            found[site] = attempt
        return found

    def _work(self, waiting: Iterator[str], done: SimpleQueue[tuple[str, Attempt | BaseException]], end: float) -> None:
        while not self._over.is_set():
            with self._telling:
                site = next(waiting, None)
            if site is None:
                return
            try:
                done.put((site, self._one(site, end)))
            except BaseException as error:  # raised again where it is collected
                done.put((site, error))
                return

    def _one(self, site: str, end: float) -> Attempt:
        """The report of `site`; when it cannot be read, a report that says so. Faults of this machine pass."""
        try:
            settings = self._within(site, end)
            return self.stages.sync(settings, (site,), full=self.full, progress=self._tell)[0], None
        except (FolderError, AuthenticationError, ServerError) as error:
            return SyncReport.failed(site, error), error

    def _within(self, site: str, end: float) -> Settings:
        """The settings of a site that has only so much of the run's time left."""
        left = end - self.elapsed()
        if left <= 0:
            raise DeferredError(
                f"{site}: the time of this run (run_seconds) was over before its turn: the next run tries again"
            )
        limits = self.settings.limits
        seconds = min(limits.site_seconds, left)
        return self.settings.model_copy(update={"limits": limits.model_copy(update={"site_seconds": seconds})})

    def _tell(self, progress: Progress) -> None:
        """One site at a time; at a page after the end, an error that stops the site there."""
        with self._telling:
            if self._over.is_set():
                raise StopRequested("another site ended the run")
            self.page(progress)
