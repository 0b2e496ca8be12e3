"""The four stages of a night as the command line and the service call them; `schedules.run.pipeline` is the
one of use.

The stages are handed in, so that what surrounds them (exit codes, ledger, lock, terminal) is tested
without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from connectors.report import Progress, SyncReport
    from mappers.build.mapping import MapReport
    from mappers.study import Study
    from schedules.config.settings import Settings
    from schedules.release.publish import PublishReport


class Stages(Protocol):
    """sync -> map_lake -> analyze -> publish, each a plain function. `progress` may raise to stop at
    that point."""

    def sync(
        self, settings: Settings, sites: Sequence[str], *, full: bool, progress: Callable[[Progress], None]
    ) -> tuple[SyncReport, ...]:
        """Bring the lake up to date with `sites`, in order. Handles no error: `schedules.run.nightly` asks
        site by site."""
        ...

    def map_lake(
        self, settings: Settings, study: Study, *, progress: Callable[[str], None], full: bool = False
    ) -> MapReport:
        """Bring views and cohort tables up to date with the lake; with `full` build all of them anew."""
        ...

    def analyze(self, cohort_dir: Path, study: Study, min_cell: int, sites_missing: Sequence[str] = ()) -> Released:
        """Estimate everything that `study` declares from the cohort tables, after disclosure control."""
        ...

    def publish(self, settings: Settings, study: Study, released: Released, *, dry_run: bool) -> PublishReport:
        """File the release and deliver it to every target; with `dry_run` only say which release it
        would be."""
        ...
