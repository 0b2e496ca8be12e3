"""The nightly run on one page: sync -> map -> analyze -> publish, each a plain method over what is configured.

    FHIR server --sync--> lake --map--> views, cohort --analyze--> Released --publish--> releases/<n>/, targets

Each stage reads what the one above it left on disk, so each can be run, killed and run again on its own. `Pipeline`
is the `schedules.stages.Stages` of use.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.lake import Lake
from connectors.quarantine import Quarantine
from connectors.report import Progress, SyncReport
from mappers.study import Study, study_path
from schedules.stages import MapReport

if TYPE_CHECKING:
    from analytics.disclosure import Released
    from connectors.auth import Authenticator
    from connectors.received import Source
    from schedules.publish import PublishReport
    from schedules.settings import FolderSite, SearchSite, Settings

TYPES = ("Patient", "Condition", "MedicationAdministration", "Procedure", "AdverseEvent", "Observation")
COHORT_VALUE_SET = "nsclc"
MEMORY = "1GB"  # of DuckDB, which spills beyond it: a map stays below 1.5 GB whatever the lake holds
THREADS = 4  # at most: each needs a share of MEMORY, and a server of many cores would run out of it


@dataclass(frozen=True)
class Pipeline:
    """The four stages. `environ` is the environment, from which secrets are read by name.

    `statement` is what the report says of disclosure in place of the usual words (the demo has invented patients).
    """

    environ: Mapping[str, str]
    statement: str | None = None

    def sync(
        self,
        settings: Settings,
        sites: Sequence[str],
        *,
        full: bool,  # noqa: ARG002
        progress: Callable[[Progress], None],
    ) -> tuple[SyncReport, ...]:
        """Bring the lake up to date with `sites`, in order; a `ConnectorError` of a site passes.

        Every source of this version reads all of the cohort each night, so `full` asks for nothing more.
        """
        from connectors.sync import sync_site

        lake, quarantine = Lake(settings.lake_dir), Quarantine(settings.quarantine_dir)
        configured = {site.name: site for site in settings.sites}
        return tuple(
            sync_site(self._source(settings, configured[name]), lake, name, quarantine, progress) for name in sites
        )

    def _source(self, settings: Settings, site: FolderSite | SearchSite) -> Source:
        from connectors.folder import FolderSource

        if site.kind == "folder":
            return FolderSource(site.path, frozenset(TYPES))
        return self._search(settings, site)

    def _search(self, settings: Settings, site: SearchSite) -> Source:
        import logging
        import time

        from connectors.paging import SearchLimits
        from connectors.search import CohortQuery, SearchSource
        from connectors.transport import Timing, TransferLimits
        from mappers.terminology import load_terminology
        from schedules.credentials import authorization, trusted

        def wait(seconds: float) -> None:
            logging.getLogger(__name__).warning("%s gave no usable answer; trying again in %.0f s", site.name, seconds)
            time.sleep(seconds)

        codes = load_terminology(*settings.terminology_dirs).codes(COHORT_VALUE_SET)
        query = CohortQuery("Condition", (("code", ",".join(f"{system}|{code}" for system, code in codes)),))
        limits = settings.limits
        return SearchSource(
            site.url,
            query,
            TYPES,
            auth=_authenticator(authorization(site, self.environ)),
            limits=SearchLimits(limits.page_size, limits.patients_per_request, pages=limits.max_pages),
            transfer=TransferLimits(
                connect=limits.connect_seconds,
                read=limits.read_seconds,
                run=limits.site_seconds,
                response=limits.max_response_bytes,
            ),
            timing=Timing(sleep=wait),
            verify=trusted(site),
        )

    def map_lake(self, settings: Settings, study: Study, *, progress: Callable[[str], None]) -> MapReport:
        """Bring the view tables up to date with the lake and build the cohort tables of every data cut anew."""
        from mappers.engine import DuckDBEngine
        from mappers.terminology import load_terminology
        from schedules.cohorts import build_cohorts, write_cohorts
        from schedules.credentials import pseudonym_key
        from schedules.tables import ViewStore, load_views

        lake = Lake(settings.lake_dir)
        key, spill = pseudonym_key(settings, self.environ), settings.data_dir / "spill"
        shutil.rmtree(spill, ignore_errors=True)  # what a killed run left there is patient data
        threads = min(os.cpu_count() or 1, THREADS)
        with DuckDBEngine(threads, MEMORY, spill, key) as engine:
            progress("flattening new resources")
            store = ViewStore(settings.data_dir / "views", engine, load_views(*settings.view_dirs))
            reports = store.refresh(lake)
            terminology = load_terminology(*settings.terminology_dirs)
            views = store.current(lake, settings.site_names)
            for site in sorted({file.site for file in lake.files()} - set(settings.site_names)):
                progress(f"site {site} is in the lake but not in periop.toml: left out")
            cohorts = build_cohorts(engine, views, terminology, study, progress)
        set_aside = {site: quarantined(settings.quarantine_dir, site) for site in settings.site_names}
        write_cohorts(cohorts, set_aside, settings.cohort_dir)
        main = cohorts[None]
        return MapReport(
            patients=main["adsl"].num_rows,
            enrolled=main["adsl"]["ITTFL"].to_pylist().count("Y"),
            views_rebuilt=sum(report.rebuilt for report in reports),
            quality_rows=main["quality"].num_rows,
        )

    def analyze(self, cohort_dir: Path, study: Study, min_cell: int, sites_missing: Sequence[str] = ()) -> Released:
        """Estimate everything that `study` declares from the cohort tables, after disclosure control."""
        from analytics.analysis import analyse, load_cohort
        from analytics.disclosure import release

        return release(analyse(load_cohort(cohort_dir), study, tuple(sites_missing)), min_cell)

    def publish(self, settings: Settings, study: Study, released: Released, *, dry_run: bool) -> PublishReport:
        """File the release and deliver it to every target; with `dry_run` only say which release it would be."""
        from schedules.publish import deliver, write_release
        from schedules.published import load_published

        figures = load_published(study, study_path(settings.study))
        report = write_release(released, study, settings.releases_dir, figures, self.statement, dry_run=dry_run)
        if not dry_run:
            for target in settings.target_dirs:
                deliver(report.path, target)
        return report


def _authenticator(credentials: tuple[str, str] | str | None) -> Authenticator:
    from connectors.auth import BasicAuth, BearerAuth, NoAuth

    match credentials:
        case (username, password):
            return BasicAuth(username, password)
        case str():
            return BearerAuth(credentials)
        case _:
            return NoAuth()


def quarantined(folder: Path, site: str) -> dict[tuple[str, str], int]:
    """How many things of one site are in quarantine, by resource type and reason."""
    counts: dict[tuple[str, str], int] = {}
    for entry in Quarantine(folder).entries(site):
        key = (entry["resource_type"] or "Resource", f"quarantined: {entry['reason']}")
        counts[key] = counts.get(key, 0) + 1
    return counts
