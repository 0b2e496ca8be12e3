"""The work of the four stages of a run, each a plain method over the settings.

`schedules.run.nightly` adds what surrounds a stage: lock, ledger, preconditions and exit code. It is handed a
`Pipeline`, so that tests of those can hand in one that needs no FHIR server and no engine.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import Progress, SyncReport
from mappers.study import Study, study_path
from schedules.clock import utc_now
from schedules.errors import is_user_facing
from schedules.run.forget import finish_erasure, load_forgotten, remember_learned
from schedules.run.sources import source

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from analytics.provenance import Provenance
    from mappers.build.mapping import MapReport
    from mappers.build.opened import MapConfig
    from mappers.cohort.consent_rule import ConsentRule
    from mappers.engines.base import Engine
    from mappers.engines.start import EngineName
    from schedules.config.settings import Settings
    from schedules.release.following import Analysis
    from schedules.release.publish import PublishReport
    from schedules.release.release_ledger import Recorder

# DuckDB spills to disk beyond it, and a map stays below 1.5 GB whatever the lake holds; Spark needs more to work well.
MEMORY: dict[EngineName, str] = {"duckdb": "1GB", "spark": "4GB"}
log = logging.getLogger(__name__)

MAX_THREADS = 4  # each needs a share of MEMORY, and a server of many cores would run out of it


@dataclass
class Pipeline:
    """The four stages. `environ` is the environment, from which secrets are read by name.

    `statement` replaces the report's usual sentence about disclosure control (the patients of the demo are invented).
    `target_umask` is the umask for the copies of releases, by default that of the process. `clock` says on which day a
    consent must hold.
    """

    environ: Mapping[str, str]
    statement: str | None = None
    target_umask: int | None = None
    clock: Callable[[], datetime] = utc_now
    # Sites are synchronised in threads, and two commits to one Delta table at the same time would conflict.
    commit_lock: AbstractContextManager[object] = field(default_factory=Lock, repr=False, compare=False)

    def sync_site(
        self,
        settings: Settings,
        site: str,
        *,
        full: bool,
        progress: Callable[[Progress], None],
        accept_loss: bool = False,
    ) -> SyncReport:
        """Bring the lake up to date with `site`; `full` fetches everything, not only what has changed.

        `accept_loss`: what is missing is taken as deleted, however much it is. Several threads may call this at once
        for different sites. Raises the `ConnectorError` of a site that cannot be read.
        """
        from connectors.sync import sync_site

        configured = next(each for each in settings.sites if each.name == site)
        forgotten = load_forgotten(settings, self.environ)
        at_site = forgotten.at(site) if forgotten else None
        report = sync_site(
            source(settings, configured, self.environ, at_site.is_patient if at_site else None),
            Lake(settings.lake_dir, self.commit_lock),
            site,
            Quarantine(settings.quarantine_dir),
            progress,
            full=full,
            max_bytes=settings.limits.max_site_bytes,
            lenient_ids=configured.lenient_ids,
            max_loss=1.0 if accept_loss else configured.max_loss,
            forgotten=at_site,
            required=configured.consent_types,
        )
        if at_site and at_site.learned:
            with self.commit_lock:  # another site may have added to the file meanwhile
                remember_learned(settings, self.environ, at_site)
        return report

    def map_lake(
        self, settings: Settings, study: Study, *, progress: Callable[[str], None], full: bool = False
    ) -> MapReport:
        """Bring view tables and cohort tables up to date with the lake; `full` builds them from scratch."""
        from mappers.build.mapping import map_lake

        finish_erasure(settings, self.environ)
        try:
            with mapping_engine(settings, study, self.environ, self.clock) as (config, engine):
                return map_lake(config, engine, progress, full=full)
        except Exception as error:
            if not self._repaired(settings, error):
                raise
        # What is derived is made again from the lake; once, since a second failure has another cause.
        with mapping_engine(settings, study, self.environ, self.clock) as (config, engine):
            return map_lake(config, engine, progress, full=full)

    def _repaired(self, settings: Settings, error: Exception) -> bool:
        """Return True if a map failed because of damaged view tables, which are deleted now.

        Raises `LakeError` where a file of the lake is damaged, of which nothing here can make another.
        """
        from connectors.lake.verify import refuse_damage
        from mappers.build.repair import delete_damaged, delete_damaged_cohort
        from mappers.errors import DamagedFileError

        # An error with words of its own has a cause of its own; the engines tell of damage in theirs.
        if is_user_facing(error) and not isinstance(error, DamagedFileError):
            return False
        refuse_damage(Lake(settings.lake_dir))
        damaged = delete_damaged(settings.data_dir / "views")
        if damaged:
            log.warning("damaged view tables are built again from the lake: %s", ", ".join(damaged))
        cohort = delete_damaged_cohort(settings.cohort_dir)
        if cohort:
            log.warning("damaged cohort tables are made again")
        return bool(damaged) or cohort

    def verify_share(self, settings: Settings, day: int) -> int:
        """Verify the files of the lake whose turn is on `day`; return how many. Raises `LakeError` for damage."""
        from connectors.lake.verify import refuse_damage

        return refuse_damage(Lake(settings.lake_dir), day)

    def analyze(self, cohort_dir: Path, study: Study, min_cell: int, provenance: Provenance | None = None) -> Released:
        """Estimate everything that `study` declares from the cohort tables, after disclosure control."""
        return self.analyze_for_release(cohort_dir, study, min_cell, provenance).released

    def analyze_for_release(
        self, cohort_dir: Path, study: Study, min_cell: int, provenance: Provenance | None = None
    ) -> Analysis:
        """Estimate as `analyze` does, and give the hospital's own people everything too."""
        from analytics.analysis import analyse, load_cohort
        from analytics.disclosure.control import release, release_after
        from analytics.provenance import NOT_GIVEN
        from schedules.release.following import Analysis

        results = analyse(load_cohort(cohort_dir), study, provenance or NOT_GIVEN)
        # The only way from patient-level estimates to a `Released`, which is all that can be published.
        released, counted = release_after(results, min_cell)
        return Analysis(released, release(results, 0), results, counted)

    def write_internal(self, settings: Settings, study: Study, internal: Released) -> Path:
        """Write the internal report, which never leaves the data folder, and return its file."""
        from schedules.release.internal import write_internal
        from schedules.release.published import load_published

        return write_internal(internal, study, settings.internal_dir, load_published(study, study_path(settings.study)))

    def publish(
        self, settings: Settings, study: Study, analysis: Analysis, *, when: datetime, dry_run: bool
    ) -> PublishReport:
        """Write the release as made at `when` and deliver it; with `dry_run` only return which release it would be."""
        from schedules.release.publish import write_release
        from schedules.release.published import load_published

        # Read even where nothing will change: a wrong file of published figures is an error at once.
        figures = load_published(study, study_path(settings.study))
        released, recorder = analysis.released, release_recorder(settings, analysis, when)
        report = write_release(
            released, study, settings.releases_dir, figures, self.statement, recorder=recorder, dry_run=dry_run
        )
        if not dry_run:
            self.deliver(settings, report.path)
        return report

    def deliver(self, settings: Settings, release: Path) -> None:
        """Copy the release in the folder `release` to every target that does not have it."""
        from schedules.release.publish import deliver

        # Also where nothing changed: a target may be new, or was not reachable the last time.
        with _umask(self.target_umask):
            for target in settings.target_dirs:
                deliver(release, target)


def release_recorder(settings: Settings, analysis: Analysis, when: datetime) -> Recorder:
    """Return what enters the release of `analysis` into the ledger, with the patients behind it."""
    from schedules.release.patients import ReleasePatients
    from schedules.release.policy import figures_digest
    from schedules.release.release_ledger import Recorder, ReleaseLedger

    return Recorder(
        ReleaseLedger(settings.release_ledger_dir),
        when,
        analysis.released.population_sizes,
        figures_digest(analysis),
        ReleasePatients(settings.release_patients_dir),
        analysis.counted,
    )


@contextmanager
def _umask(mask: int | None) -> Iterator[None]:
    """Create files with `mask` in the body, or with the umask of the process where it is None."""
    # It holds for all threads. When a release is published, no other thread of a run writes.
    before = None if mask is None else os.umask(mask)
    try:
        yield
    finally:
        if before is not None:
            os.umask(before)


def quarantined(folder: Path, site: str) -> dict[tuple[str, str], int]:
    """Return the number of quarantined entries of one site by (resource type, reason)."""
    # These become rows of the quality list, next to what the mapping itself could not use.
    counts: dict[tuple[str, str], int] = {}
    for entry in Quarantine(folder).entries(site):
        key = (entry["resource_type"] or "Resource", f"quarantined: {entry['reason']}")
        counts[key] = counts.get(key, 0) + 1
    return counts


def consent_rules(settings: Settings) -> tuple[ConsentRule, ...]:
    """Return the consent that the sites ask for."""
    from mappers.cohort.consent_rule import Coding, ConsentRule

    def codings(tokens: tuple[str, ...]) -> tuple[Coding, ...]:
        return tuple((system, code) for system, _, code in (each.partition("|") for each in tokens))

    return tuple(
        ConsentRule(site.name, codings(site.consent.categories), codings(site.consent.codes), site.consent.without)
        for site in settings.sites
        if site.consent
    )


@contextmanager
def mapping_engine(
    settings: Settings, study: Study, environ: Mapping[str, str], clock: Callable[[], datetime] = utc_now
) -> Iterator[tuple[MapConfig, Engine]]:
    """Start the engine of the mapping, and yield it with what is mapped."""
    from mappers.build.opened import MapConfig
    from mappers.engines.start import start_engine
    from schedules.config.credentials import fingerprint, mark_lake, pseudonym_key

    # The key is needed here and not before: a sync stores the identifiers of the patients as they are.
    key, spill = pseudonym_key(settings, environ), settings.data_dir / "spill"
    mark_lake(settings, key)
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
        identifier_systems=settings.persons.identifier_systems,
        consent=consent_rules(settings),
        day=clock().astimezone(ZoneInfo(settings.schedule.timezone)).date(),
    )
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    with start_engine(settings.engine, threads, MEMORY[settings.engine], spill, key) as engine:
        yield config, engine
