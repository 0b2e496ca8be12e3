"""`periop sync --dry-run`: the requests that a sync would make. Nothing is stored, not even in the ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analytics.report import wording
from connectors.errors import AuthenticationError, ConnectorError
from connectors.sources.base import PlannedRequest, SupportsPlan
from schedules.cli.session import Session
from schedules.config.settings import Settings
from schedules.errors import Exit, sentence

if TYPE_CHECKING:
    from connectors.sources.base import Source


@dataclass(frozen=True)
class SitePlan:
    """What a sync of one site would ask. error: why it is not known, or not known any further."""

    site: str
    requests: tuple[PlannedRequest, ...]
    error: ConnectorError | None = None


def run_dry(session: Session, settings: Settings, sites: Sequence[str], full: bool, json_wanted: bool) -> Exit:
    """Show what a sync of `sites` would ask. Ends as the sync would where no site can be asked."""
    with session.watch() as watch:
        plans = []
        for name in sites:
            watch.step(f"asking {name} what there is")
            plans.append(_plan(session, settings, name, full))
    code = _code(plans)
    if json_wanted:
        session.show_json({"sites": [as_json(plan) for plan in plans], "exit_code": code})
    else:
        text = "".join(f"{line}\n" for plan in plans for line in _shown(plan))
        session.printed(lambda: session.stdout.write(text))  # as it is: a URL is not folded
    return code


def _plan(session: Session, settings: Settings, name: str, full: bool) -> SitePlan:
    from connectors.lake.table import Lake
    from schedules.run.sources import source

    site = next(each for each in settings.sites if each.name == name)
    asking = source(settings, site, session.environ)
    requests: list[PlannedRequest] = []
    cursor = Lake(settings.lake_dir).cursor(name)
    previous = cursor if cursor and cursor.fingerprint == asking.fingerprint and not full else None
    try:
        requests.extend(_planning(asking).plan(previous))  # what comes before an error stays
    except ConnectorError as error:
        return SitePlan(name, tuple(requests), error)
    return SitePlan(name, tuple(requests))


def _planning(asking: Source) -> SupportsPlan:
    assert isinstance(asking, SupportsPlan)  # noqa: S101 - every source of `schedules.run.sources` is
    return asking


def _code(plans: Sequence[SitePlan]) -> Exit:
    errors = [plan.error for plan in plans if plan.error is not None]
    if not errors:
        return Exit.OK
    if len(errors) < len(plans):
        return Exit.PARTIAL
    return Exit.AUTHENTICATION if all(isinstance(each, AuthenticationError) for each in errors) else Exit.ERROR


def as_json(plan: SitePlan) -> dict[str, Any]:
    """One site of the JSON document."""
    error = sentence(plan.error) if plan.error is not None else None
    return {"site": plan.site, "requests": [_request(each) for each in plan.requests], "error": error}


def _request(request: PlannedRequest) -> dict[str, Any]:
    shown = dataclasses.asdict(request)
    return {"method": shown.pop("method"), "url": shown.pop("url_shown"), **shown}


def _shown(plan: SitePlan) -> Iterator[str]:
    number = len(plan.requests)
    yield f"{plan.site}: {number} request{'' if number == 1 else 's'}, and the next pages of their answers"
    for request in plan.requests:
        expected = "" if request.expected is None else f" · {request.expected} expected"
        yield wording.clean(f"  {request.what}{expected}")
        yield wording.clean(f"    {request.method} {request.url_shown}")
    if plan.error is not None:
        yield wording.clean(f"  {sentence(plan.error)}")
