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
    from connectors.check.exports import ExportSettings
    from connectors.check.findings import Diagnosis
    from connectors.check.vendors import KnownServer
    from schedules.config.settings import Settings
    from schedules.config.site_settings import BulkSite, Site

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
    from schedules.cli.codes import share_json
    from schedules.config.settings import check_sites
    from schedules.release.publish import unusable
    from schedules.run.inside import understood_shares
    from schedules.run.readiness import missing_secrets

    if url is not None and sites:
        raise ConfigError("give the names of sites or --url, not both")
    session.log(logging.ERROR)
    settings = session.settings(logging.ERROR) if url is None else settings_of(url)
    by_name = {site.name: site for site in settings.sites}
    found = []
    names = check_sites(settings, sites, session.config)
    # All of them, before any server is asked: nobody wants to mend one to be told of the next.
    if missing := [*missing_secrets(settings, [by_name[name] for name in names], session.environ)]:
        raise ConfigError("\n".join(missing))
    with session.progress() as progress:
        for name in names:
            progress.step(f"checking {name}")
            found.append(diagnosis(session, settings, by_name[name]))
        shares = None if url is not None else understood_shares(settings, session.environ)
    targets = {} if url is not None else {str(target): unusable(target) for target in settings.target_dirs}
    code = exit_code(found)
    if any(targets.values()) and code != ExitCode.AUTHENTICATION:
        code = ExitCode.ERROR
    if json_wanted:
        understood = None if shares is None else [share_json(each) for each in shares if each.site in names]
        sites_found = [_as_json(each) for each in found]
        targets_found = [{"path": path, "problem": problem} for path, problem in targets.items()]
        session.print_json(
            {"sites": sites_found, "targets": targets_found, "understood": understood, "exit_code": code}
        )
        return code
    from schedules.cli.tables.checks import diagnoses, target_list
    from schedules.cli.tables.codes import share_table

    session.print_out(diagnoses(found))
    if targets:
        session.print_out(target_list(targets))
    if shares is not None:
        session.print_out(share_table([each for each in shares if each.site in names]))
    elif url is None:
        session.print_out("What share of the codes is understood is known after `periop map`, while no run goes on.")
    return code


def settings_of(url: str) -> Settings:
    """Return the settings of one server without credentials. Raises `ConfigError` where `url` is not an address."""
    from schedules.config.settings import Settings
    from schedules.config.toml_models import validate

    return validate(Settings, {"sites": [{"name": "url", "kind": "search", "url": url}]}, FROM_THE_COMMAND_LINE)


def diagnosis(session: Session, settings: Settings, site: Site) -> Diagnosis:
    """Check one site. Raises `ConfigError` where a secret or a certificate is missing."""
    from connectors.check.folder import check_folder
    from connectors.check.server import ServerCheck
    from connectors.sources.search.dialect import Dialect
    from schedules.config.resource_types import REQUIRED_TYPES
    from schedules.run.sources import (
        authenticator,
        cohort_query,
        dialect_of,
        fhir_client,
        folder_source,
        named_patients,
        transfer_limits,
        types_of,
    )

    required = frozenset(
        (site.types or REQUIRED_TYPES) + site.consent_types
    )  # whoever names the types of a site says that it has them
    if site.kind == "folder":
        return check_folder(site.name, folder_source(settings, site), required, lenient_ids=site.lenient_ids)
    limits = transfer_limits(settings, site, session.environ)
    hurried = dataclasses.replace(limits, attempts=ATTEMPTS, run=min(limits.run, PATIENCE_SECONDS))
    # A function, because the check connects twice: without credentials first, to tell a server that cannot be reached
    # from one that refuses them.
    return ServerCheck(
        site.name,
        lambda auth: fhir_client(site, auth, hurried, session.environ),
        authenticator(settings, site, session.environ),
        cohort_query(settings),
        types_of(site),
        required,
        session.now,
        settings.limits.reconcile_days,
        export_settings(settings, site) if site.kind == "bulk" else None,
        site.lenient_ids,
        dialect_of(site) if site.kind == "search" else Dialect(),
        site.kind == "search" and site.patient_parameter is None,
        named_patients(site) if site.kind == "search" else None,
        known_servers(),
        site.vendor or "",
    ).run()


def export_settings(settings: Settings, site: BulkSite) -> ExportSettings:
    """Return what a check needs to know of the exports of a site."""
    from connectors.check.exports import ExportSettings

    return ExportSettings(site.level, site.group or "", settings.data_dir / "jobs", site.single_export)


def known_servers() -> tuple[KnownServer, ...]:
    """Return what the presets know of servers."""
    from connectors.check.vendors import KnownServer
    from schedules.config.presets import presets

    return tuple(
        KnownServer(each.name, each.title, each.software, each.lacks, each.unfit) for each in presets().values()
    )


def exit_code(found: Sequence[Diagnosis]) -> ExitCode:
    """Return AUTHENTICATION if any site refuses the credentials, PARTIAL if only some resources cannot be read.

    ERROR if anything else is missing, else OK.
    """
    # Refused credentials come first: without them nothing else can be known.
    if any(each.refused for each in found):
        return ExitCode.AUTHENTICATION
    if all(each.ok for each in found):
        return ExitCode.OK
    return ExitCode.PARTIAL if all(each.ok or each.partial for each in found) else ExitCode.ERROR


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
