"""What each command does: read the settings, run the stages, print the result, say the exit code."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from rich.text import Text

from mappers.study import study_path
from schedules.cli.session import Session
from schedules.config.credentials import private_folder
from schedules.config.settings import STARTER_FILE, Disclosure, Settings, check_sites
from schedules.errors import ConfigError, Exit
from schedules.run.nightly import (
    Outcome,
    estimate,
    map_lake,
    missing_sites,
    plain,
    recorded_run,
    release_cohort,
    run_night,
    sync_sites,
)
from schedules.run.stages import Stages

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from mappers.study import Study
    from schedules.release.published import Agreement

UNPUBLISHED = 0  # the release number in results that are shown and not filed
WITHHELD = "Disclosure control left nothing that may be released; no release was written."


def run_demo(session: Session, out: Path) -> Exit:
    """The whole way on the built-in cohort. ERROR when a figure differs from the published one."""
    from schedules.cli.demo import INVENTED, demo_cohort, demo_settings
    from schedules.cli.terminal import comparison

    session.log(logging.WARNING)
    cohort = demo_cohort()
    if not out.exists():
        private_folder(out)
    settings = demo_settings(out, cohort)
    session.data_dir = settings.data_dir
    study = session.study(settings.study)
    with session.watch() as watch:
        outcome = run_night(settings, study, _stages(session, settings), watch, session.now)
    assert outcome.released is not None  # noqa: S101 - a night that returns has one
    agreed = _agreements(outcome.released, study, settings.study)
    session.show(comparison(agreed, study.title))
    session.show(Text(_summary(agreed)))
    session.show(Text(INVENTED))
    session.show(Text(_filed(outcome)))
    return outcome.exit_code if all(row.equal for row in agreed) else Exit.ERROR


def write_starter(session: Session, force: bool) -> Exit:
    """Write the starting `periop.toml`. Raises `ConfigError` where one is, unless `force`."""
    file = session.config
    try:
        with file.open("w" if force else "x", encoding="utf-8") as handle:
            handle.write(STARTER_FILE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"{file}: is there already; edit it, or replace it with `periop init --force`") from None
    except FileNotFoundError:
        raise ConfigError(f"{file.parent}: no such folder; make it first") from None
    session.show(
        Text(
            f"Wrote {file}. Next:\n"
            f"  1. edit the [[sites]] in {file}: a folder of FHIR NDJSON, or the url of a FHIR server\n"
            "  2. periop run      sync, map, analyze and publish once\n"
            "  3. periop status   what came in, what was set aside, and where the release lies\n"
            "  4. periop serve    the same every night"
        )
    )
    return Exit.OK


def run_sync(session: Session, sites: Sequence[str], full: bool, json_wanted: bool, *, dry_run: bool = False) -> Exit:
    """Bring the lake up to date, or with `dry_run` say what would be asked. PARTIAL when a site gave nothing, or not
    all.
    """
    settings = _settings(session)
    wanted = check_sites(settings, tuple(sites), session.config)
    if dry_run:
        from schedules.cli.dry_run import run_dry

        return run_dry(session, settings, wanted, full, json_wanted)
    with session.watch() as watch, recorded_run(settings, "sync", session.now) as (ledger, run):
        reports = sync_sites(settings, wanted, _stages(session, settings), watch, ledger, run, full=full)
    if json_wanted:
        session.show_json({"sites": [plain(report) for report in reports], "exit_code": run.exit_code})
    else:
        from schedules.cli.terminal import site_reports

        session.show(site_reports(reports))
    return run.exit_code


def run_map(session: Session, full: bool, json_wanted: bool) -> Exit:
    """Build views and cohort tables: what changed, or with `full` all of it anew."""
    settings = _settings(session)
    study = session.study(settings.study)
    with session.watch() as watch, recorded_run(settings, "map", session.now) as (_, run):
        mapped = map_lake(settings, study, _stages(session, settings), watch, run, full=full)
    if json_wanted:
        session.show_json(dataclasses.asdict(mapped))
    else:
        session.show(
            Text(
                f"{mapped.enrolled} enrolled of {mapped.patients} patients with the condition, "
                f"{mapped.derived} of them derived again; "
                f"{mapped.quality_rows} entries in the quality list.\nTables: {settings.cohort_dir}"
            )
        )
    return Exit.OK


def run_analyze(
    session: Session, cohort: Path | None, study_name: str | None, min_cell: int | None, json_wanted: bool
) -> Exit:
    """Show the results of the configured cohort tables, or of those in `cohort` with no configuration at
    all."""
    if cohort is not None:
        session.log(logging.WARNING)
        session.data_dir = cohort
        name = study_name or "alneo"
        study = session.study(name)
        least = Disclosure().min_cell if min_cell is None else min_cell
        released = session.stages().analyze(cohort, study, least)
        return _show_results(session, released, study, name, json_wanted)
    if min_cell is not None:
        raise ConfigError(f"--min-cell goes with --cohort; else set disclosure.min_cell in {session.config}")
    settings = _settings(session)
    name = study_name or settings.study
    study = session.study(name)
    with recorded_run(settings, "analyze", session.now) as (ledger, run):
        released = estimate(settings, study, _stages(session, settings), missing_sites(settings, ledger))
        run.exit_code = _analysis_code(released)
    return _show_results(session, released, study, name, json_wanted)


def run_publish(session: Session, dry_run: bool, json_wanted: bool) -> Exit:
    """File the results of the cohort tables as a release."""
    settings = _settings(session)
    study = session.study(settings.study)
    kind = "publish --dry-run" if dry_run else "publish"
    with session.watch() as watch, recorded_run(settings, kind, session.now) as (ledger, run):
        missing = missing_sites(settings, ledger)
        stages = _stages(session, settings)
        outcome = release_cohort(settings, study, stages, watch, missing, run, dry_run=dry_run)
    if json_wanted:
        session.show_json(_outcome_json(outcome) | {"dry_run": dry_run})
    else:
        session.show(Text(_filed(outcome, dry_run)))
    return outcome.exit_code


def run_all(session: Session, full: bool, json_wanted: bool) -> Exit:
    """The night, now."""
    settings = _settings(session)
    study = session.study(settings.study)
    with session.watch() as watch:
        outcome = run_night(settings, study, _stages(session, settings), watch, session.now, full=full)
    assert outcome.released is not None  # noqa: S101 - a night that returns has one
    if json_wanted:
        session.show_json(_outcome_json(outcome))
    else:
        from schedules.cli.terminal import results

        session.show(results(outcome.released, study, _agreements(outcome.released, study, settings.study)))
        session.show(Text(_filed(outcome)))
    return outcome.exit_code


def run_service(session: Session) -> Exit:
    """Run every night until told to stop."""
    from schedules.cli.progress import stoppable
    from schedules.config.cron import WallClockCron
    from schedules.service import Nightly, serve

    settings = _settings(session, logging.INFO)
    study, stages = session.study(settings.study), _stages(session, settings)
    stop = threading.Event()
    cron = WallClockCron(settings.schedule.nightly, ZoneInfo(settings.schedule.timezone))

    def night() -> Exit:
        with session.watch() as watch:
            return run_night(settings, study, stages, stoppable(watch, stop), session.now).exit_code

    with recorded_run(settings, "serve", session.now):
        pass  # from here on a slot that passes is one that was missed
    return serve(Nightly(cron, settings.ledger_file, session.now, night), stop, _leave_now)


def show_status(session: Session, json_wanted: bool) -> Exit:
    """How things stand; STALE when the last good run is too old."""
    from schedules.cli.terminal import status as status_tables
    from schedules.run.status import status

    found, code = status(_settings(session), session.now())
    if json_wanted:
        session.show_json(found | {"exit_code": code})
    else:
        session.show(status_tables(found))
    return code


def _settings(session: Session, level: int = logging.WARNING) -> Settings:
    session.log(level)
    return session.settings()


def _stages(session: Session, settings: Settings) -> Stages:
    return session.stages(settings.disclosure.note)


def _show_results(session: Session, released: Released, study: Study, name: str, json_wanted: bool) -> Exit:
    if json_wanted:
        from analytics.results import as_json

        session.show_json(as_json(released, UNPUBLISHED))
    else:
        from schedules.cli.terminal import results

        session.show(results(released, study, _agreements(released, study, name)))
    return _analysis_code(released)


def _analysis_code(released: Released) -> Exit:
    if released.suppressed_entirely:
        return Exit.WITHHELD
    return Exit.PARTIAL if released.sites_missing else Exit.OK


def _agreements(released: Released, study: Study, name: str) -> tuple[Agreement, ...]:
    from schedules.release.published import agreements, load_published

    return agreements(released, study, load_published(study, study_path(name)))


def _summary(agreed: Sequence[Agreement]) -> str:
    proportions = [row.equal for row in agreed if row.is_proportion]
    medians = [row.equal for row in agreed if not row.is_proportion]
    return (
        f"{sum(proportions)} of {len(proportions)} published proportions are equal in x and n, "
        f"{sum(medians)} of {len(medians)} medians as printed."
    )


def _filed(outcome: Outcome, dry_run: bool = False) -> str:
    published = outcome.published
    if published is None:
        return WITHHELD
    if published.unchanged:
        return f"Nothing changed: release {published.release} stands.\nReport: {published.path / 'report.html'}"
    if dry_run:
        return f"This would be release {published.release}; nothing was written."
    return f"Release {published.release} is written.\nReport: {published.path / 'report.html'}"


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    released, published = outcome.released, outcome.published
    return {
        "exit_code": outcome.exit_code,
        "sites": [plain(report) for report in outcome.sites],
        "map": dataclasses.asdict(outcome.mapped) if outcome.mapped else None,
        "sites_missing": list(released.sites_missing) if released else [],
        "withheld": bool(released and released.suppressed_entirely),
        "release": published.release if published else None,
        "path": str(published.path) if published else None,
        "unchanged": published.unchanged if published else None,
    }


def _leave_now(code: int) -> None:
    """End the process without waiting for the thread of a night."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
