"""`periop sync`: bring the lake up to date with the sites, or with `--dry-run` print the requests that would be sent.

A dry run stores nothing, not even in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode, user_message

if TYPE_CHECKING:
    from connectors.errors import ConnectorError
    from connectors.sources.base import PlannedRequest
    from schedules.config.settings import Settings


@click.command()
@click.argument("sites", nargs=-1, metavar="[SITE]...")
@click.option("--full", is_flag=True, help="Fetch everything, not only what has changed.")
@click.option("--accept-loss", is_flag=True, help="Believe once that what is missing was deleted.")
@click.option("--dry-run", is_flag=True, help="Print the planned requests without fetching data.")
@as_json
@pass_session
def sync(
    session: Session, sites: tuple[str, ...], full: bool, accept_loss: bool, dry_run: bool, json_wanted: bool
) -> ExitCode:
    """Bring the lake up to date with the sites (all of them, or those named)."""
    from schedules.config.settings import check_sites
    from schedules.run.nightly import recorded_run, sync_sites

    settings = session.settings()
    wanted = check_sites(settings, sites, session.config)
    if dry_run:
        return _print_plans(session, settings, wanted, full, json_wanted)
    with session.progress() as progress, recorded_run(settings, "sync", session.now) as run:
        pipeline = session.pipeline()
        reports = sync_sites(settings, wanted, pipeline, progress, run, full=full, accept_loss=accept_loss)
    if json_wanted:
        session.print_json({"sites": [report.as_json() for report in reports], "exit_code": run.exit_code})
    else:
        from schedules.cli.tables.status import site_reports

        session.print_out(site_reports(reports))
    return run.exit_code


@dataclass(frozen=True)
class SitePlan:
    """The requests that a sync of one site would send, up to `error` where they cannot be known in full."""

    site: str
    requests: tuple[PlannedRequest, ...]
    error: ConnectorError | None = None


def _print_plans(session: Session, settings: Settings, sites: Sequence[str], full: bool, json_wanted: bool) -> ExitCode:
    """Print the plan of each site. The exit code is that of a sync in which the same sites cannot be read."""
    # All plans before the first is printed, because progress and results would mix on a terminal.
    plans = []
    with session.progress() as progress:
        for name in sites:
            progress.step(f"planning the requests to {name}")
            plans.append(_plan(session, settings, name, full))
    code = _exit_code(plans)
    if json_wanted:
        session.print_json({"sites": [_as_json(plan) for plan in plans], "exit_code": code})
    else:
        from schedules.cli.tables.checks import planned_requests

        for plan in plans:
            error = None if plan.error is None else user_message(plan.error)
            session.write_out(planned_requests(plan.site, plan.requests, error))
    return code


def _plan(session: Session, settings: Settings, name: str, full: bool) -> SitePlan:
    from connectors.errors import ConnectorError
    from connectors.lake.table import Lake
    from connectors.sources.base import SupportsPlan
    from schedules.run.sources import source

    site = next(each for each in settings.sites if each.name == name)
    planning = source(settings, site, session.environ)
    assert isinstance(planning, SupportsPlan)  # noqa: S101 - every source of `schedules.run.sources` is
    cursor = Lake(settings.lake_dir).cursor(name)
    # As in `connectors.sync`: a cursor that was made with another url or cohort query says nothing about this one.
    previous = cursor if cursor and cursor.fingerprint == planning.fingerprint and not full else None
    requests: list[PlannedRequest] = []
    try:
        requests.extend(planning.plan(previous))  # a generator: the requests before an error are kept
    except ConnectorError as error:
        return SitePlan(name, tuple(requests), error)
    return SitePlan(name, tuple(requests))


def _exit_code(plans: Sequence[SitePlan]) -> ExitCode:
    from connectors.errors import AuthenticationError

    errors = [plan.error for plan in plans if plan.error is not None]
    # As `sync` itself ends: see `schedules.run.nightly.sync_sites`.
    if not errors:
        return ExitCode.OK
    if len(errors) < len(plans):
        return ExitCode.PARTIAL
    all_refused = all(isinstance(error, AuthenticationError) for error in errors)
    return ExitCode.AUTHENTICATION if all_refused else ExitCode.ERROR


def _as_json(plan: SitePlan) -> dict[str, Any]:
    requests = [
        {"method": each.method, "url": each.url_shown, "what": each.what, "expected": each.expected}
        for each in plan.requests
    ]
    error = None if plan.error is None else user_message(plan.error)
    return {"site": plan.site, "requests": requests, "error": error}
