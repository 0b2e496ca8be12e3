"""`periop check`: what each site can do, how its sync works, and what to request from its administrator."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from connectors.check.findings import Diagnosis
    from schedules.config.settings import Settings
    from schedules.config.site_settings import Site

FROM_THE_COMMAND_LINE = Path("--url")  # in place of the file in messages about a wrong value
ATTEMPTS = 2  # a person waits; a sync is more patient
PATIENCE_SECONDS = 600.0


@click.command()
@click.argument("sites", nargs=-1, metavar="[SITE]...")
@click.option("--url", help="A FHIR server that is not in periop.toml, without credentials: a public sandbox.")
@as_json
@pass_session
def check(session: Session, sites: tuple[str, ...], url: str | None, json_wanted: bool) -> ExitCode:
    """Show what each site supports, how its sync works, and what to request from its administrator."""
    from schedules.config.settings import check_sites

    if url is not None and sites:
        raise ConfigError("give the names of sites or --url, not both")
    session.log(logging.ERROR)
    settings = session.settings(logging.ERROR) if url is None else settings_of(url)
    by_name = {site.name: site for site in settings.sites}
    found = []
    with session.progress() as progress:
        for name in check_sites(settings, sites, session.config):
            progress.step(f"checking {name}")
            found.append(diagnosis(session, settings, by_name[name]))
    code = exit_code(found)
    if json_wanted:
        session.print_json({"sites": [_as_json(each) for each in found], "exit_code": code})
    else:
        from schedules.cli.output import diagnoses

        session.print_out(diagnoses(found))
    return code


def settings_of(url: str) -> Settings:
    """Return the settings of one server without credentials. Raises `ConfigError` where `url` is not an address."""
    from schedules.config.settings import Settings
    from schedules.config.toml_models import validate

    return validate(Settings, {"sites": [{"name": "url", "kind": "search", "url": url}]}, FROM_THE_COMMAND_LINE)


def diagnosis(session: Session, settings: Settings, site: Site) -> Diagnosis:
    """Check one site. Raises `ConfigError` where a secret or a certificate is missing."""
    from connectors.check.folder import check_folder
    from connectors.check.server import ExportSettings, ServerCheck
    from schedules.run.sources import TYPES, authenticator, cohort_query, fhir_client, folder_source, transfer_limits

    if site.kind == "folder":
        return check_folder(site.name, folder_source(settings, site))
    limits = transfer_limits(settings.limits)
    hurried = dataclasses.replace(limits, attempts=ATTEMPTS, run=min(limits.run, PATIENCE_SECONDS))
    # A function, because the check connects twice: without credentials first, to tell a server that cannot be reached
    # from one that refuses them.
    return ServerCheck(
        site.name,
        lambda auth: fhir_client(site, auth, hurried, session.environ),
        authenticator(settings, site, session.environ),
        cohort_query(settings),
        TYPES,
        session.now,
        settings.limits.reconcile_days,
        ExportSettings(site.level, site.group or "") if site.kind == "bulk" else None,
    ).run()


def exit_code(found: Sequence[Diagnosis]) -> ExitCode:
    """Return AUTHENTICATION if any site refuses the credentials, ERROR if anything else is missing, else OK."""
    # Refused credentials come first: without them nothing else can be known.
    if any(each.refused for each in found):
        return ExitCode.AUTHENTICATION
    return ExitCode.OK if all(each.ok for each in found) else ExitCode.ERROR


def _as_json(found: Diagnosis) -> dict[str, Any]:
    path = found.path
    return {
        "site": found.site,
        "kind": found.kind,
        "server": found.server,
        "ok": found.ok,
        "path": path
        and {"transfer": path.transfer, "nights": path.nightly, "deletions": path.deletions, "why": path.why},
        "findings": [
            {
                "check": finding.check,
                "resource_type": finding.resource_type or None,
                "level": finding.level.value,
                "said": finding.message,
            }
            for finding in found.findings
        ],
        "requests": list(found.requests),
    }
