"""`periop terminology`: have a terminology server expand what a value set says by a hierarchy of its code system."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, pass_session
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from connectors.http.client import FhirClient
    from schedules.config.settings import Settings
    from schedules.config.site_settings import ServerSite

SERVER = "https://periop.example/fhir/StructureDefinition/expanded-by"  # extension: the server of an expansion
ATTEMPTS = 2  # a person waits


@click.group()
def terminology() -> None:
    """Value sets and concept maps of the mapping."""


@terminology.command()
@click.argument("value_set", metavar="FILE|NAME")
@click.option("--server", required=True, metavar="URL", help="A FHIR R4 terminology server.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder for the expanded file; by default that of FILE.",
)
@click.option("--page", type=click.IntRange(min=1), default=1_000, show_default=True, help="Codes in one response.")
@pass_session
def expand(session: Session, value_set: str, server: str, out: Path | None, page: int) -> ExitCode:
    """Expand a value set by a terminology server ($expand) into a file with date, server and version.

    Only what periop cannot evaluate itself is expanded, such as is-a of SNOMED CT. No patient data is sent.
    """
    from connectors.expansion import expand as expanded_by
    from connectors.lake.files import write_atomically
    from mappers.terminology import SHIPPED, unexpanded, value_set_file

    session.log(logging.ERROR)
    settings = session.settings(logging.ERROR) if session.config.is_file() else None
    folders = settings.mapping.terminology if settings else ()
    file = value_set_file(value_set, *folders)
    target = file.parent if out is None else out
    if target == SHIPPED:
        raise ConfigError(f"{value_set} is a shipped value set: name a folder of [mapping] terminology with --out")
    resource, compose = unexpanded(file, *folders)
    if compose is None:
        session.print_out(f"{file}: nothing to expand, periop evaluates all of it")
        return ExitCode.OK
    # The id and the URL are left out: a server that knows the value set would expand its own definition.
    asked = {"resourceType": "ValueSet", "status": resource.get("status", "active"), "compose": compose}
    with client(session, settings, server) as opened:
        expansion = expanded_by(opened, asked, page)
    expansion.setdefault("timestamp", session.now().isoformat(timespec="seconds"))
    expansion["extension"] = [*expansion.get("extension", []), {"url": SERVER, "valueUri": server}]
    pinned = json.dumps(resource | {"expansion": expansion}, indent=2, ensure_ascii=False)
    write_atomically(target / file.name, pinned)
    used = ", ".join(versions(expansion)) or "an unnamed version"
    session.print_out(
        f"{target / file.name}: {len(expansion['contains'])} codes of {used}, "
        f"expanded by {server} on {expansion['timestamp'][:10]}"
    )
    return ExitCode.OK


def client(session: Session, settings: Settings | None, server: str) -> FhirClient:
    """Return a client for a terminology server, with the credentials of the site whose server it is.

    settings: those of the configuration file, None without one.
    Raises `ConfigError` where it is no address, or where a secret of the site is missing.
    """
    import dataclasses

    from connectors.http.client import FhirClient
    from schedules.cli.check import settings_of
    from schedules.config.credentials import client_ssl_context
    from schedules.run.sources import authenticator, logging_clock, transfer_limits

    named = settings_of(server)
    own = site_of(settings, server) if settings else None
    # To any other origin nothing of a site goes: neither a secret nor its client certificate.
    known, site = (settings, own) if settings and own else (named, site_of(named, server))
    assert site is not None  # noqa: S101 - `settings_of` makes it of this server
    limits = dataclasses.replace(transfer_limits(known, site, session.environ), attempts=ATTEMPTS)
    return FhirClient(
        server.rstrip("/"),
        authenticator(known, site, session.environ),
        limits,
        logging_clock(site.name),
        verify=client_ssl_context(site, session.environ),
    )


def site_of(settings: Settings, server: str) -> ServerSite | None:
    """Return the site on the origin of `server`, rather one whose base it is or lies below; None without one."""
    from connectors.http.origin import origin

    sites = [each for each in settings.sites if each.kind != "folder" and origin(each.url) == origin(server)]
    below = [each for each in sites if f"{server.rstrip('/')}/".startswith(f"{each.url}/")]
    return next(iter([*below, *sites]), None)


def versions(expansion: dict[str, Any]) -> list[str]:
    """Return the code systems and their versions that a server used: its parameters say them, or each code does."""
    used = [each for each in expansion.get("parameter", []) if each.get("name") in ("version", "used-codesystem")]
    said = [str(value) for each in used for key, value in each.items() if key.startswith("value")]
    codes = [f"{each.get('system')}|{each['version']}" for each in expansion["contains"] if "version" in each]
    return list(dict.fromkeys(said or codes))
