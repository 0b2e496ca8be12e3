"""The nightly run on one page: sync -> map -> analyze -> publish, each a plain method over what is configured.

    FHIR server --sync--> lake --map--> views, cohort --analyze--> Released --publish--> releases/<n>/, targets

Each stage reads what the one above it left on disk, so each can be run, killed and run again on its own. `Pipeline`
is the `schedules.run.stages.Stages` of use.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import Progress, SyncReport
from mappers.study import Study, study_path
from schedules.run.sources import source

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from mappers.build.mapping import MapReport
    from mappers.engines.start import EngineName
    from schedules.config.settings import Settings
    from schedules.release.publish import PublishReport

# DuckDB spills beyond it, and a map stays below 1.5 GB whatever the lake holds; Spark wants more to work well.
MEMORY: dict[EngineName, str] = {"duckdb": "1GB", "spark": "4GB"}
THREADS = 4  # at most: each needs a share of MEMORY, and a server of many cores would run out of it


@dataclass(frozen=True)
class Pipeline:
    """The four stages. `environ` is the environment, from which secrets are read by name.

    `statement` is what the report says of disclosure in place of the usual words (the demo has invented patients).
    """

    environ: Mapping[str, str]
    statement: str | None = None
    writing: AbstractContextManager[object] = field(default_factory=Lock, repr=False, compare=False)

    def sync(
        self,
        settings: Settings,
        sites: Sequence[str],
        *,
        full: bool,
        progress: Callable[[Progress], None],
    ) -> tuple[SyncReport, ...]:
        """Bring the lake up to date with `sites`, in order; a `ConnectorError` of a site passes.

        With `full` everything is asked for, and not only what has changed. Several threads may call this at once, for
        different sites: their commits to the lake wait for each other.
        """
        from connectors.sync import sync_site

        lake, quarantine = Lake(settings.lake_dir, self.writing), Quarantine(settings.quarantine_dir)
        configured = {site.name: site for site in settings.sites}
        return tuple(
            sync_site(
                source(settings, configured[name], self.environ),
                lake,
                name,
                quarantine,
                progress,
                full=full,
                max_bytes=settings.limits.max_site_bytes,
            )
            for name in sites
        )

    def map_lake(
        self, settings: Settings, study: Study, *, progress: Callable[[str], None], full: bool = False
    ) -> MapReport:
        """Bring view tables and cohort tables up to date with the lake; with `full` build all of them anew."""
        from mappers.build.mapping import MapConfig, map_lake
        from mappers.engines.start import start_engine
        from schedules.config.credentials import fingerprint, pseudonym_key

        key, spill = pseudonym_key(settings, self.environ), settings.data_dir / "spill"
        shutil.rmtree(spill, ignore_errors=True)  # what a killed run left there is patient data
        threads = min(os.cpu_count() or 1, THREADS)
        config = MapConfig(
            lake_dir=settings.lake_dir,
            views_dir=settings.data_dir / "views",
            cohort_dir=settings.cohort_dir,
            study=study,
            sites=settings.site_names,
            terminology_dirs=settings.terminology_dirs,
            view_dirs=settings.view_dirs,
            key_fingerprint=fingerprint(key),
            set_aside={site: quarantined(settings.quarantine_dir, site) for site in settings.site_names},
        )
        memory = MEMORY[settings.engine]
        with start_engine(settings.engine, threads, memory, spill, key) as started:
            return map_lake(config, started, progress, full=full)

    def analyze(self, cohort_dir: Path, study: Study, min_cell: int, sites_missing: Sequence[str] = ()) -> Released:
        """Estimate everything that `study` declares from the cohort tables, after disclosure control."""
        from analytics.analysis import analyse, load_cohort
        from analytics.disclosure.control import release

        return release(analyse(load_cohort(cohort_dir), study, tuple(sites_missing)), min_cell)

    def publish(self, settings: Settings, study: Study, released: Released, *, dry_run: bool) -> PublishReport:
        """File the release and deliver it to every target; with `dry_run` only say which release it would be."""
        from schedules.release.publish import deliver, write_release
        from schedules.release.published import load_published

        figures = load_published(study, study_path(settings.study))
        report = write_release(released, study, settings.releases_dir, figures, self.statement, dry_run=dry_run)
        if not dry_run:
            for target in settings.target_dirs:
                deliver(report.path, target)
        return report


def quarantined(folder: Path, site: str) -> dict[tuple[str, str], int]:
    """How many things of one site are in quarantine, by resource type and reason."""
    counts: dict[tuple[str, str], int] = {}
    for entry in Quarantine(folder).entries(site):
        key = (entry["resource_type"] or "Resource", f"quarantined: {entry['reason']}")
        counts[key] = counts.get(key, 0) + 1
    return counts
