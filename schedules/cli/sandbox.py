"""`periop sandbox`: the built-in cohort of invented patients on a FHIR server of one's own, and off again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.text import Text

from schedules.cli.check import settings_of
from schedules.cli.session import Session
from schedules.config.settings import Settings, load_settings
from schedules.config.site_settings import BulkSite, SearchSite
from schedules.errors import ConfigError, Exit

if TYPE_CHECKING:
    from connectors.sandbox.server import Sandbox

COHORT = "alneo"  # the code of our tag
NOT_A_SANDBOX = (
    "{host} is not marked as a sandbox, and it may hold real patients: if it does not, say `--server {host}`, "
    "or set `sandbox = true` in its [[sites]]"
)


def run_load(session: Session, where: str, server: str | None, json_wanted: bool) -> Exit:
    """Put the built-in cohort on the server."""
    from schedules.cli.demo import demo_cohort

    resources = read_cohort(demo_cohort())
    with _sandbox(session, where, server) as (sandbox, say):
        loaded = sandbox.load(resources, say)
    counts = {"created": loaded.created, "updated": loaded.updated, "unchanged": loaded.unchanged}
    code = Exit.OK
    if json_wanted:
        session.show_json({name: dict(each) for name, each in counts.items()} | {"exit_code": code})
    else:
        session.show(Text(_told(counts)))
    return code


def run_clear(session: Session, where: str, server: str | None, json_wanted: bool) -> Exit:
    """Take the built-in cohort off the server. ERROR where something stayed."""
    from schedules.run.sources import TYPES

    with _sandbox(session, where, server) as (sandbox, say):
        cleared = sandbox.clear(TYPES, say)
    counts = {"deleted": cleared.deleted, "left": cleared.left}
    code = Exit.ERROR if cleared.left else Exit.OK
    if json_wanted:
        session.show_json({name: dict(each) for name, each in counts.items()} | {"exit_code": code})
        return code
    session.show(Text(_told(counts)))
    if cleared.left:
        session.say(
            "periop: the server did not delete all: other resources may refer to what is left; take those off first, "
            "then clear again"
        )
    return code


def read_cohort(folder: Path) -> list[dict[str, Any]]:
    """The resources of the NDJSON files of `folder`."""
    return [
        json.loads(line)
        for file in sorted(folder.glob("*.ndjson"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line
    ]


@contextmanager
def _sandbox(session: Session, where: str, server: str | None) -> Iterator[tuple[Sandbox, Any]]:
    """The sandbox at `where`, and what takes its progress. Raises `ConfigError` where nobody says that it is one."""
    from connectors.http.client import FhirClient
    from connectors.sandbox.server import Sandbox
    from schedules.config.credentials import encrypted
    from schedules.run.sources import authenticator, told_timing, transfer_limits

    session.log(logging.WARNING)
    settings, site = _site(session, where)
    _refuse_unless_told(site, server)
    transport = FhirClient(
        site.url,
        authenticator(settings, site, session.environ),
        transfer_limits(settings.limits),
        told_timing(site.name),
        None,
        encrypted(site, session.environ),
    )
    with transport, session.watch() as watch:
        yield Sandbox(transport, COHORT), watch.step


def _site(session: Session, where: str) -> tuple[Settings, SearchSite | BulkSite]:
    """The configured site of this name or url, else one without credentials at this url."""
    is_url = "://" in where
    if not is_url or session.config.exists():
        settings = load_settings(session.config)
        session.data_dir = settings.data_dir
        for site in settings.sites:
            if site.kind != "folder" and where.rstrip("/") in (site.name, site.url):
                return settings, site
    if not is_url:
        raise ConfigError(f"{session.config}: has no server named {where!r}; give the url of a server, or such a name")
    settings = settings_of(where)
    (site,) = settings.sites
    assert site.kind == "search"  # noqa: S101 - as `settings_of` makes it
    return settings, site


def _refuse_unless_told(site: SearchSite | BulkSite, server: str | None) -> None:
    parts = urlsplit(site.url)
    if server is not None and server.lower() not in (parts.hostname, parts.netloc.lower()):
        raise ConfigError(f"--server {server}: the url is that of {parts.hostname}; give the server that is meant")
    if server is None and not site.sandbox:
        raise ConfigError(NOT_A_SANDBOX.format(host=parts.hostname))


def _told(counts: Mapping[str, Mapping[str, int]]) -> str:
    return "\n".join(
        f"{sum(each.values())} {name}" + (f": {', '.join(f'{n} {kind}' for kind, n in each.items())}" if each else "")
        for name, each in counts.items()
    )
