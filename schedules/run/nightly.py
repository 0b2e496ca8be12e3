"""A night: sync -> map -> analyze -> publish, under the run lock, with its end filed in the ledger.

What a run ends with:

    all sites refused the credentials      AuthenticationFailed
    no site could be synchronised          NoSiteError
    no site has ever sent a resource       NothingYetError
    disclosure control left no estimate    WITHHELD, and no release
    a site is missing or incomplete        PARTIAL, said in the release
    else                                   OK
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectors.errors import AuthenticationError, ConnectorError
from connectors.report import Progress, SyncReport
from schedules.config.credentials import private_folder
from schedules.errors import AuthenticationFailed, Exit, NoSiteError, NothingYetError
from schedules.release.publish import releases
from schedules.run.ledger import Clock, Ledger, OpenRun, open_ledger
from schedules.run.lock import run_lock
from schedules.run.sites import SideBySide
from schedules.run.stages import Stages

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from mappers.build.mapping import MapReport
    from mappers.study import Study
    from schedules.config.settings import Settings
    from schedules.release.publish import PublishReport

COHORT_TABLES = ("adsl", "adrs", "adtte", "adae")


@dataclass(frozen=True)
class Watch:
    """Who is told how far a run is. Either may raise to stop the run at that point."""

    page: Callable[[Progress], None]
    step: Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run found, stage by stage; none for a stage that was not reached."""

    exit_code: Exit
    sites: tuple[SyncReport, ...] = ()
    mapped: MapReport | None = None
    released: Released | None = None
    published: PublishReport | None = None


@contextmanager
def recorded_run(settings: Settings, kind: str, now: Clock) -> Iterator[tuple[Ledger, OpenRun]]:
    """The run lock, the ledger, and a run of `kind` in it, around the body. Runs that a kill left open
    are closed."""
    private_folder(settings.data_dir)
    with run_lock(settings.data_dir), open_ledger(settings.ledger_file) as ledger:
        ledger.mark_interrupted()
        with ledger.record(kind, now) as run:
            yield ledger, run


def run_night(
    settings: Settings, study: Study, stages: Stages, watch: Watch, now: Clock, *, full: bool = False
) -> Outcome:
    """All four stages on all sites."""
    with recorded_run(settings, "run", now) as (ledger, run):
        reports = sync_sites(settings, settings.site_names, stages, watch, ledger, run, full=full)
        mapped = map_lake(settings, study, stages, watch, run)
        outcome = release_cohort(settings, study, stages, watch, missing_sites(settings, ledger), run)
        return dataclasses.replace(outcome, sites=reports, mapped=mapped)


def sync_sites(
    settings: Settings,
    sites: Sequence[str],
    stages: Stages,
    watch: Watch,
    ledger: Ledger,
    run: OpenRun,
    *,
    full: bool,
) -> tuple[SyncReport, ...]:
    """Synchronise `sites` and file a report of each. Raises when not one of them gave anything."""
    attempts = SideBySide(settings, stages, watch.page, full).attempt(sites)
    reports = tuple(report for report, _ in attempts)
    for report in reports:
        ledger.add_site_report(run.id, report.site, plain(report))
    errors = [error for _, error in attempts if error is not None]
    if errors and len(errors) == len(attempts):
        _raise_for(reports, errors, settings)
    if any(report.status != "ok" for report in reports):
        run.exit_code = Exit.PARTIAL
    return reports


def _raise_for(reports: Sequence[SyncReport], errors: Sequence[ConnectorError], settings: Settings) -> None:
    told = "; ".join(f"{report.site}: {' '.join(report.messages)}" for report in reports)
    if all(isinstance(error, AuthenticationError) for error in errors):
        raise AuthenticationFailed(f"{told}; check the secrets that periop.toml names and run again")
    standing = "so the last release stands" if releases(settings.releases_dir) else "and there is no release yet"
    raise NoSiteError(f"{told}; no site could be synchronised, {standing}")


def map_lake(
    settings: Settings, study: Study, stages: Stages, watch: Watch, run: OpenRun, *, full: bool = False
) -> MapReport:
    """Build views and cohort tables. Raises `NothingYetError` where the lake holds nothing of the
    configured sites."""
    from connectors.lake.table import Lake

    if {file.site for file in Lake(settings.lake_dir).files()}.isdisjoint(settings.site_names):
        raise NothingYetError(
            f"{settings.lake_dir}: holds no resource of any configured site yet; run `periop sync`, which says "
            "what each site sent"
        )
    mapped = stages.map_lake(settings, study, progress=watch.step, full=full)
    run.detail["map"] = dataclasses.asdict(mapped)
    return mapped


def estimate(settings: Settings, study: Study, stages: Stages, missing: Sequence[str]) -> Released:
    """What the configured cohort tables give, after disclosure control. Raises `NothingYetError` where
    they are not there."""
    folder = settings.cohort_dir
    absent = [name for name in COHORT_TABLES if not _is_there(folder / name)]
    if absent:
        raise NothingYetError(f"{folder}: holds no {', '.join(absent)} yet; run `periop map`")
    return stages.analyze(folder, study, settings.disclosure.min_cell, missing)


def _is_there(table: Path) -> bool:
    return any(table.with_suffix(suffix).is_file() for suffix in (".parquet", ".csv"))


def release_cohort(
    settings: Settings,
    study: Study,
    stages: Stages,
    watch: Watch,
    missing: Sequence[str],
    run: OpenRun,
    *,
    dry_run: bool = False,
) -> Outcome:
    """Estimate from the cohort tables and publish; nothing is published when nothing may be released."""
    watch.step("estimating")
    released = estimate(settings, study, stages, missing)
    if released.withheld_entirely:
        run.exit_code = Exit.WITHHELD
        return Outcome(run.exit_code, released=released)
    if missing:
        run.exit_code = Exit.PARTIAL
        run.detail["sites_missing"] = list(missing)
    watch.step("publishing")
    published = stages.publish(settings, study, released, dry_run=dry_run)
    run.release = None if dry_run else published.release
    return Outcome(run.exit_code, released=released, published=published)


def missing_sites(settings: Settings, ledger: Ledger) -> tuple[str, ...]:
    """Configured sites whose last synchronisation was not whole, or that never had one."""
    return tuple(site for site in settings.site_names if not _is_whole(ledger, site))


def plain(report: SyncReport) -> dict[str, Any]:
    """A site report as plain data for the ledger and for `--json`."""
    return report.as_json()


def _is_whole(ledger: Ledger, site: str) -> bool:
    found = ledger.last_sync(site)
    return found is not None and found[1].get("status") == "ok"
