"""The work of the four stages of a run, each a plain method over the settings.

`schedules.run.nightly` adds what surrounds a stage: lock, ledger, preconditions and exit code. It is handed a
`Pipeline`, so that tests of those can hand in one that needs no FHIR server and no engine.
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

# DuckDB spills to disk beyond it, and a map stays below 1.5 GB whatever the lake holds; Spark needs more to work well.
MEMORY: dict[EngineName, str] = {"duckdb": "1GB", "spark": "4GB"}
MAX_THREADS = 4  # each needs a share of MEMORY, and a server of many cores would run out of it


@dataclass
class Pipeline:
    """The four stages. `environ` is the environment, from which secrets are read by name.

    `statement` replaces the report's usual sentence about disclosure control (the patients of the demo are invented).
    """

    environ: Mapping[str, str]
    statement: str | None = None
    # Sites are synchronised in threads, and two commits to one Delta table at the same time would conflict.
    commit_lock: AbstractContextManager[object] = field(default_factory=Lock, repr=False, compare=False)

    def sync_site(
        self, settings: Settings, site: str, *, full: bool, progress: Callable[[Progress], None]
    ) -> SyncReport:
        """Bring the lake up to date with `site`; `full` fetches everything, not only what has changed.

        Several threads may call this at once for different sites. Raises the `ConnectorError` of a site that cannot
        be read.
        """
        from connectors.sync import sync_site

        configured = next(each for each in settings.sites if each.name == site)
        return sync_site(
            source(settings, configured, self.environ),
            Lake(settings.lake_dir, self.commit_lock),
            site,
            Quarantine(settings.quarantine_dir),
            progress,
            full=full,
            max_bytes=settings.limits.max_site_bytes,
        )

    def map_lake(
        self, settings: Settings, study: Study, *, progress: Callable[[str], None], full: bool = False
    ) -> MapReport:
        """Bring view tables and cohort tables up to date with the lake; `full` builds them from scratch."""
        from mappers.build.mapping import MapConfig, map_lake
        from mappers.engines.start import start_engine
        from schedules.config.credentials import fingerprint, pseudonym_key

        # The key is needed here and not before: a sync stores the identifiers of the patients as they are.
        key, spill = pseudonym_key(settings, self.environ), settings.data_dir / "spill"
        shutil.rmtree(spill, ignore_errors=True)  # left by a run that was killed, and it is patient data
        config = MapConfig(
            lake_dir=settings.lake_dir,
            views_dir=settings.data_dir / "views",
            cohort_dir=settings.cohort_dir,
            study=study,
            sites=settings.site_names,
            terminology_dirs=settings.mapping.terminology,
            view_dirs=settings.mapping.views,
            key_fingerprint=fingerprint(key),
            set_aside={site: quarantined(settings.quarantine_dir, site) for site in settings.site_names},
        )
        threads = min(os.cpu_count() or 1, MAX_THREADS)
        with start_engine(settings.engine, threads, MEMORY[settings.engine], spill, key) as started:
            return map_lake(config, started, progress, full=full)

    def analyze(self, cohort_dir: Path, study: Study, min_cell: int, sites_missing: Sequence[str] = ()) -> Released:
        """Estimate everything that `study` declares from the cohort tables, after disclosure control."""
        from analytics.analysis import analyse, load_cohort
        from analytics.disclosure.control import release

        # The only way from patient-level estimates to a `Released`, which is all that can be published.
        return release(analyse(load_cohort(cohort_dir), study, tuple(sites_missing)), min_cell)

    def publish(self, settings: Settings, study: Study, released: Released, *, dry_run: bool) -> PublishReport:
        """Write the release and deliver it to every target; with `dry_run` only return which release it would be."""
        from schedules.release.publish import deliver, write_release
        from schedules.release.published import load_published

        # Read even where nothing will change: a wrong file of published figures is an error at once.
        figures = load_published(study, study_path(settings.study))
        report = write_release(released, study, settings.releases_dir, figures, self.statement, dry_run=dry_run)
        if not dry_run:
            # Also where nothing changed: a target may be new, or was not reachable the last time.
            for target in settings.target_dirs:
                deliver(report.path, target)
        return report


def quarantined(folder: Path, site: str) -> dict[tuple[str, str], int]:
    """Return the number of quarantined entries of one site by (resource type, reason)."""
    # These become rows of the quality list, next to what the mapping itself could not use.
    counts: dict[tuple[str, str], int] = {}
    for entry in Quarantine(folder).entries(site):
        key = (entry["resource_type"] or "Resource", f"quarantined: {entry['reason']}")
        counts[key] = counts.get(key, 0) + 1
    return counts
