"""Sync of all sites of a run at once: one site that fails does not stop the others.

Each site has its own source, cursor, deadline and limits; their commits to the lake wait for each other. A fault
of this machine (a full disk, a damaged lake) or a request to stop ends all of them, each at its next page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Event, Lock
from time import monotonic

from connectors.errors import AuthenticationError, ConnectorError, DeferredError, FolderError, ServerError
from connectors.report import Progress, SyncReport
from connectors.sources.concurrency import run_concurrently
from schedules.config.settings import Settings
from schedules.errors import StopRequested
from schedules.run.pipeline import Pipeline

Attempt = tuple[SyncReport, ConnectorError | None]


def attempt_sites(
    settings: Settings,
    sites: Sequence[str],
    pipeline: Pipeline,
    on_page: Callable[[Progress], None],
    *,
    full: bool = False,
    accept_loss: bool = False,
    elapsed: Callable[[], float] = monotonic,
) -> list[Attempt]:
    """Synchronise `sites`, up to `sites_at_a_time` at once.

    Returns, in the order of `sites`, the report of each and the error of one that could not be read. Any error that
    is not about a single site is raised. `elapsed` is a clock in seconds that never runs backwards.
    """
    # One deadline for all: a site that hangs must not take the night from those that wait for their turn.
    end = elapsed() + settings.limits.run_seconds
    ended, one_at_a_time = Event(), Lock()

    def report_page(progress: Progress) -> None:
        with one_at_a_time:  # the terminal of the progress bars is not thread-safe
            if ended.is_set():
                raise StopRequested("another site ended the run")
            on_page(progress)

    def attempt(site: str) -> Iterator[tuple[str, Attempt]]:
        try:
            limited = _with_remaining_time(settings, site, end - elapsed())
            report = pipeline.sync_site(limited, site, full=full, progress=report_page, accept_loss=accept_loss)
            yield site, (report, None)
        # The kinds of errors that are about one site. A LakeError or a full disk concerns all of them.
        except (FolderError, AuthenticationError, ServerError) as error:
            yield site, (SyncReport.failed(site, error), error)
        except BaseException:
            # Only the first error is raised: a site that it stopped at a page must not be read before it.
            if ended.is_set():
                return
            # Set here and not by the reader, which first waits for the threads: they stop at this event.
            ended.set()
            raise

    try:
        found = dict(run_concurrently([partial(attempt, site) for site in sites], settings.limits.sites_at_a_time))
    finally:
        ended.set()
    return [found[site] for site in sites]


def _with_remaining_time(settings: Settings, site: str, seconds: float) -> Settings:
    """Return `settings` with the time limit of a site cut to what is left of the run's."""
    if seconds <= 0:
        raise DeferredError(
            f"{site}: the run's time limit (run_seconds) was reached before this site's turn; the next run tries again"
        )
    limits = settings.limits
    shortened = limits.model_copy(update={"site_seconds": min(limits.site_seconds, seconds)})
    return settings.model_copy(update={"limits": shortened})
