"""`periop sandbox`: the built-in cohort of invented patients on a FHIR server of your own, for trials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from connectors.sandbox.server import Sandbox
    from schedules.config.settings import Settings
    from schedules.config.site_settings import BulkSite, SearchSite

# The code of the tag on each resource. Changing it would orphan the cohorts that earlier versions have loaded.
COHORT = "alneo"
NOT_A_SANDBOX = (
    "{host} is not marked as a sandbox and may hold real patients: if it does not, pass `--server {host}`, "
    "or set `sandbox = true` in its [[sites]]"
)

where_argument = click.argument("where", metavar="URL|SITE")
server_option = click.option("--server", metavar="HOST", help="Confirm the host name of the sandbox.")


@click.group()
def sandbox() -> None:
    """Load or remove synthetic test patients on a FHIR server."""


@sandbox.command(name="load")
@where_argument
@server_option
@as_json
@pass_session
def load(session: Session, where: str, server: str | None, json_wanted: bool) -> ExitCode:
    """Put the built-in cohort on the server, tagged. Repeating it changes nothing."""
    from schedules.cli.demo import demo_cohort

    resources = read_cohort(demo_cohort())  # first: without the cohort there is no reason to contact the server
    with _open(session, where, server) as (opened, progress):
        loaded = opened.load(resources, progress)
    counts = {"created": loaded.created, "updated": loaded.updated, "unchanged": loaded.unchanged}
    _print_counts(session, counts, ExitCode.OK, json_wanted)
    return ExitCode.OK


@sandbox.command(name="clear")
@where_argument
@server_option
@as_json
@pass_session
def clear(session: Session, where: str, server: str | None, json_wanted: bool) -> ExitCode:
    """Delete what `load` put on the server, and nothing else."""
    from schedules.config.resource_types import TYPES

    with _open(session, where, server) as (opened, progress):
        cleared = opened.clear(TYPES, progress)
    # Not PARTIAL, which speaks of sites: a script that goes on to load again must stop here.
    code = ExitCode.ERROR if cleared.left else ExitCode.OK
    _print_counts(session, {"deleted": cleared.deleted, "left": cleared.left}, code, json_wanted)
    if cleared.left and not json_wanted:
        session.print_err(
            "periop: the server did not delete everything: other resources may refer to what is left; delete those "
            "first, then run `periop sandbox clear` again"
        )
    return code


def read_cohort(folder: Path) -> list[dict[str, Any]]:
    """Return the resources of the NDJSON files in `folder`."""
    return [
        json.loads(line)
        for file in sorted(folder.glob("*.ndjson"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line
    ]


def _print_counts(session: Session, counts: Mapping[str, Mapping[str, int]], code: ExitCode, json_wanted: bool) -> None:
    if json_wanted:
        session.print_json({name: dict(by_type) for name, by_type in counts.items()} | {"exit_code": code})
        return
    for name, by_type in counts.items():
        types = ", ".join(f"{count} {kind}" for kind, count in by_type.items())
        session.print_out(f"{sum(by_type.values())} {name}" + (f": {types}" if types else ""))


@contextmanager
def _open(session: Session, where: str, server: str | None) -> Iterator[tuple[Sandbox, Any]]:
    """Connect to the sandbox at `where`, with a callback for its progress.

    Raises `ConfigError` unless the settings or `server` confirm that it is a sandbox.
    """
    from connectors.sandbox.server import Sandbox
    from schedules.run.sources import authenticator, fhir_client, transfer_limits

    session.log()
    settings, site = _settings_and_site(session, where)
    _check_confirmed(site, server)
    auth = authenticator(settings, site, session.environ)
    client = fhir_client(site, auth, transfer_limits(settings, site, session.environ), session.environ)
    with client, session.progress() as progress:
        yield Sandbox(client, COHORT), progress.step


def _settings_and_site(session: Session, where: str) -> tuple[Settings, SearchSite | BulkSite]:
    """Return the configured site with this name or url, or else one without credentials at this url."""
    from schedules.cli.check import settings_of

    is_url = "://" in where  # no site name has a colon
    if not is_url or session.config.exists():
        settings = session.settings()
        for site in settings.sites:
            if site.kind != "folder" and where.rstrip("/") in (site.name, site.url):
                return settings, site
    if not is_url:
        raise ConfigError(f"{session.config}: has no server named {where!r}; give the url of a server, or such a name")
    settings = settings_of(where)
    (site,) = settings.sites
    assert site.kind == "search"  # noqa: S101 - as `settings_of` makes it
    return settings, site


def _check_confirmed(site: SearchSite | BulkSite, server: str | None) -> None:
    # No host counts as a sandbox by itself, not even localhost: it may be a tunnel to the hospital's server.
    parts = urlsplit(site.url)
    if server is not None and server.lower() not in (parts.hostname, parts.netloc.lower()):
        raise ConfigError(f"--server {server}: the url is that of {parts.hostname}; give the host that you mean")
    if server is None and not site.sandbox:
        raise ConfigError(NOT_A_SANDBOX.format(host=parts.hostname))
