"""The nightly run on one page: sync -> map -> analyze -> publish -> maintain, under the run lock and in the ledger.

    FHIR server --sync--> lake --map--> views, cohort --analyze--> Released --publish--> releases/<n>/, targets

`run_nightly` runs all stages; `periop sync`, `map`, `analyze`, `publish` and `maintain` call the functions of single
ones. Each stage reads what the one before it left on disk, so each can be killed and run again on its own. How a run
ends:

    all sites refused the credentials         AuthenticationFailed
    no site could be synchronised             NoSiteError
    no site has ever sent a resource          NothingYetError
    disclosure control left no estimate       SUPPRESSED, and no release
    past releases could be subtracted         SUPPRESSED, and no new release
    far fewer patients than in the last one   PublishError
    no release is due by the declared dates   as if there were one
    a site is missing or incomplete           PARTIAL, and the release says so
    otherwise                                 OK
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from connectors.errors import AuthenticationError
from connectors.report import Progress, SyncReport
from schedules.config.credentials import private_folder
from schedules.errors import AuthenticationFailed, ExitCode, NoSiteError, NothingYetError
from schedules.release.following import Analysis
from schedules.release.policy import AS_CONFIGURED, Asked, Waiting, decide
from schedules.release.publish import PublishReport, current_release, releases, switch, unusable
from schedules.release.release_ledger import ReleaseLedger
from schedules.run.ledger import Clock, OpenRun, open_ledger
from schedules.run.lock import run_lock
from schedules.run.maintain import Maintenance, maintain
from schedules.run.pipeline import Pipeline
from schedules.run.provenance import provenance
from schedules.run.sync import Attempt, attempt_sites

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from mappers.build.mapping import MapReport
    from mappers.study import Study
    from schedules.config.settings import Settings

log = logging.getLogger(__name__)

COHORT_TABLES = ("adsl", "adrs", "adtte", "adae")


@dataclass(frozen=True)
class ProgressReporter:
    """Receives the progress of a run: the pages of each site, and the steps by name.

    Either function may raise to stop the run: it is called only where stopping loses nothing.
    """

    page: Callable[[Progress], None]
    step: Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """The results of the stages of a run. `published` is None where disclosure control suppressed everything, and a
    `Waiting` where no release is made for another reason."""

    exit_code: ExitCode
    sites: tuple[SyncReport, ...]
    mapped: MapReport
    released: Released
    published: PublishReport | Waiting | None


def run_nightly(
    settings: Settings,
    study: Study,
    pipeline: Pipeline,
    progress: ProgressReporter,
    now: Clock,
    *,
    full: bool = False,
    accept_loss: bool = False,
) -> Outcome:
    """Run all four stages on all sites; `full` and `accept_loss` as in `sync_sites`."""
    for target in settings.target_dirs:
        # Said at the start, when somebody may still mend it; the release is made all the same.
        if reason := unusable(target):
            log.warning(reason)
    with recorded_run(settings, "run", now) as run:
        sites = sync_sites(settings, settings.site_names, pipeline, progress, run, full=full, accept_loss=accept_loss)
        verify_share(settings, pipeline, progress, run)
        # A full sync needs no full map: the map finds what the sync stored, and gives the same tables either way.
        mapped = map_lake(settings, study, pipeline, progress, run)
        analysis = analyze_cohort(settings, study, pipeline, progress, run)
        released, published = publish_release(settings, study, pipeline, progress, run, analysis)
        # After the map: what it has read need not be kept in small files. After the release: nobody waits for this.
        if settings.maintain.nightly:
            maintain_data(settings, progress, run)
        return Outcome(run.exit_code, sites, mapped, released, published)


@contextmanager
def recorded_run(settings: Settings, kind: str, now: Clock) -> Iterator[OpenRun]:
    """Hold the run lock and record a run of `kind` in the ledger around the body.

    Raises `LockBusyError` when another run is in progress. Runs that a kill left open are closed first: with the
    lock held, none of them can still be running.
    """
    private_folder(settings.data_dir)  # before anything is written into it with the usual permissions
    with run_lock(settings.data_dir), open_ledger(settings.ledger_file) as ledger:
        ledger.mark_interrupted()
        with ledger.record(kind, now) as run:
            yield run


def sync_sites(
    settings: Settings,
    sites: Sequence[str],
    pipeline: Pipeline,
    progress: ProgressReporter,
    run: OpenRun,
    *,
    full: bool,
    accept_loss: bool = False,
) -> tuple[SyncReport, ...]:
    """Synchronise `sites` into the lake and record a report of each.

    `full` fetches everything, not only what has changed. `accept_loss` takes what is missing as deleted, however much
    it is. Raises `AuthenticationFailed` or `NoSiteError` when not one of them could be read.
    """
    # No error of a single site is raised before the reports of all are recorded.
    attempts = attempt_sites(settings, sites, pipeline, progress.page, full=full, accept_loss=accept_loss)
    reports = tuple(report for report, _ in attempts)
    for report in reports:
        run.add_site_report(report.site, report.as_json())
    # If at least one site could be read, the run continues, and its release names the missing sites.
    if attempts and all(error is not None for _, error in attempts):
        raise _no_site(attempts, settings)
    if any(report.status != "ok" for report in reports):
        run.exit_code = ExitCode.PARTIAL
    return reports


def _no_site(attempts: Sequence[Attempt], settings: Settings) -> AuthenticationFailed | NoSiteError:
    # Another exit code only where renewing the secrets is all there is to do.
    reasons = "; ".join(f"{report.site}: {' '.join(report.messages)}" for report, _ in attempts)
    if all(isinstance(error, AuthenticationError) for _, error in attempts):
        return AuthenticationFailed(f"{reasons}; check the secrets that periop.toml names and run again")
    release = (
        "so the last release is still current" if releases(settings.releases_dir) else "and there is no release yet"
    )
    return NoSiteError(f"{reasons}; no site could be synchronised, {release}")


def verify_share(settings: Settings, pipeline: Pipeline, progress: ProgressReporter, run: OpenRun) -> None:
    """Verify a thirtieth of the lake, another one each day. Raises `LakeError` where it is damaged."""
    progress.step("verifying a share of the lake")
    # Before anything is derived from it: figures from damaged data would look like any others.
    run.detail["verified_files"] = pipeline.verify_share(settings, run.started.toordinal())


def maintain_data(
    settings: Settings, progress: ProgressReporter, run: OpenRun, *, dry_run: bool = False
) -> Maintenance:
    """Keep the data folder small; with `dry_run` only count what would be done. Raises `LakeError` for damage."""
    done = maintain(settings, run.ledger, run.started, progress.step, dry_run=dry_run)
    run.detail["maintain"] = done.as_json()
    return done


def map_lake(
    settings: Settings,
    study: Study,
    pipeline: Pipeline,
    progress: ProgressReporter,
    run: OpenRun,
    *,
    full: bool = False,
) -> MapReport:
    """Build views and cohort tables: of what has changed, or with `full` from scratch.

    Raises `NothingYetError` where the lake holds nothing of the configured sites.
    """
    # Without this, a first run against an empty server would publish a release of zeros.
    refuse_an_empty_lake(settings)
    mapped = pipeline.map_lake(settings, study, progress=progress.step, full=full)
    run.detail["map"] = dataclasses.asdict(mapped)
    return mapped


def refuse_an_empty_lake(settings: Settings) -> None:
    """Raise `NothingYetError` where the lake holds nothing of the configured sites."""
    from connectors.lake.table import Lake

    if {file.site for file in Lake(settings.lake_dir).files()}.isdisjoint(settings.site_names):
        raise NothingYetError(
            f"{settings.lake_dir}: holds no resource of any configured site yet; run `periop sync`, which says "
            "what each site sent"
        )


def analyze_cohort(
    settings: Settings, study: Study, pipeline: Pipeline, progress: ProgressReporter, run: OpenRun
) -> Analysis:
    """Estimate from the configured cohort tables, with and without disclosure control.

    Raises `NothingYetError` where a table has not been made yet.
    """
    folder = settings.cohort_dir
    absent = [
        name for name in COHORT_TABLES if not any((folder / f"{name}{end}").is_file() for end in (".parquet", ".csv"))
    ]
    if absent:
        raise NothingYetError(f"{folder}: holds no {', '.join(absent)} yet; run `periop map`")
    found = provenance(settings, run)
    progress.step("estimating")
    analysis = pipeline.analyze_for_release(folder, study, settings.disclosure.min_cell, found)
    if analysis.released.suppressed_entirely:
        run.exit_code = ExitCode.SUPPRESSED
    elif found.sites_missing:
        run.exit_code = ExitCode.PARTIAL
    return analysis


def publish_release(
    settings: Settings,
    study: Study,
    pipeline: Pipeline,
    progress: ProgressReporter,
    run: OpenRun,
    analysis: Analysis,
    *,
    asked: Asked = AS_CONFIGURED,
    dry_run: bool = False,
) -> tuple[Released, PublishReport | Waiting | None]:
    """Write the internal report and the release, and deliver the release; with `dry_run` write nothing.

    Returns what was released, from which is withheld what past releases would give away together with it, and the
    release: None, and nothing is written, when disclosure control suppressed everything; a `Waiting` when none is due,
    or when past releases could be subtracted from it. Raises `PublishError` where far fewer patients are enrolled than
    in the last release.
    """
    released = analysis.released
    if not dry_run:
        # First: whatever stops the release, the people of the hospital can see the figures and why.
        progress.step("writing the internal report")
        pipeline.write_internal(settings, study, analysis.internal)
    if released.suppressed_entirely:
        if released.refusal:
            run.detail["refused"] = released.refusal
            log.warning(released.refusal)
        return released, None
    if released.sites_missing:
        run.detail["sites_missing"] = list(released.sites_missing)
    ledger = ReleaseLedger(settings.release_ledger_dir)
    ledger.adopt(settings.releases_dir, releases(settings.releases_dir))
    today = run.started.astimezone(ZoneInfo(settings.schedule.timezone)).date()
    progress.step("comparing with past releases")
    found = decide(settings, analysis, ledger, today, asked)
    if isinstance(found, Waiting):
        run.detail["waiting"] = found.reason
        log.info(found.reason)
        if found.by_disclosure_control:
            run.exit_code = ExitCode.SUPPRESSED
    if isinstance(found, Waiting | PublishReport):
        # The release that stays goes to targets that could not be reached before.
        if not dry_run and found.path is not None:
            pipeline.deliver(settings, found.path)
        if isinstance(found, PublishReport) and not dry_run:
            if current_release(settings.releases_dir) != found.release:  # after a kill between rename and switch
                switch(settings.releases_dir, found.release)
            run.release = found.release
        return released, found
    progress.step("publishing")
    # `release` is recorded after everything is written and delivered; until then the run has none.
    published = pipeline.publish(settings, study, found, when=run.started, dry_run=dry_run)
    run.release = None if dry_run else published.release
    return found.released, published
