"""`periop check`: what each site can do, which path its sync takes, and what to ask its administrator for."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedules.cli.session import Session
from schedules.config.settings import Settings, check_sites, load_settings
from schedules.config.toml_models import validate
from schedules.errors import ConfigError, Exit

if TYPE_CHECKING:
    from connectors.check.findings import Diagnosis
    from connectors.http.authenticators import Authenticator
    from connectors.http.client import FhirClient
    from schedules.config.site_settings import BulkSite, SearchSite, Site

FROM_THE_COMMAND_LINE = Path("--url")
ATTEMPTS = 2  # a person waits; a sync is more patient
PATIENCE_SECONDS = 600.0


def run_check(session: Session, sites: Sequence[str], url: str | None, json_wanted: bool) -> Exit:
    """Check the sites, or the server at `url` with no configuration at all."""
    session.log(logging.ERROR)
    settings = _settings(session, sites, url)
    wanted = check_sites(settings, tuple(sites), session.config)
    by_name = {site.name: site for site in settings.sites}
    found = []
    with session.watch() as watch:
        for name in wanted:
            watch.step(f"checking {name}")
            found.append(diagnosis(session, settings, by_name[name]))
    code = exit_code(found)
    if json_wanted:
        session.show_json({"sites": [as_json(each) for each in found], "exit_code": code})
    else:
        from schedules.cli.check_terminal import diagnoses

        session.show(diagnoses(found))
    return code


def _settings(session: Session, sites: Sequence[str], url: str | None) -> Settings:
    if url is None:
        settings = load_settings(session.config)
        session.data_dir = settings.data_dir
        return settings
    if sites:
        raise ConfigError("give the names of sites or --url, not both")
    return settings_of(url)


def settings_of(url: str) -> Settings:
    """The settings of one server without a configuration. Raises `ConfigError` where `url` cannot be one."""
    return validate(Settings, {"sites": [{"name": "url", "kind": "search", "url": url}]}, FROM_THE_COMMAND_LINE)


def diagnosis(session: Session, settings: Settings, site: Site) -> Diagnosis:
    """The check of one site. Raises `ConfigError` where a secret or a certificate is missing."""
    from connectors.check.folder import check_folder
    from schedules.run.sources import folder_source

    if site.kind == "folder":
        return check_folder(site.name, folder_source(settings, site))
    return _server(session, settings, site)


def _server(session: Session, settings: Settings, site: SearchSite | BulkSite) -> Diagnosis:
    from connectors.check.server import Export, ServerCheck
    from schedules.run.sources import TYPES, authenticator, cohort_query

    export = Export(site.level, site.group or "") if site.kind == "bulk" else None
    return ServerCheck(
        site.name,
        partial(connect, session, settings, site),
        authenticator(settings, site, session.environ),
        cohort_query(settings),
        TYPES,
        session.now,
        settings.limits.reconcile_days,
        export,
    ).run()


def connect(session: Session, settings: Settings, site: SearchSite | BulkSite, auth: Authenticator) -> FhirClient:
    """A connection to the server of `site` for a person who waits."""
    from connectors.http.client import FhirClient
    from schedules.config.credentials import encrypted
    from schedules.run.sources import told_timing, transfer_limits

    limits = transfer_limits(settings.limits)
    hurried = dataclasses.replace(limits, attempts=ATTEMPTS, run=min(limits.run, PATIENCE_SECONDS))
    return FhirClient(site.url, auth, hurried, told_timing(site.name), None, encrypted(site, session.environ))


def exit_code(found: Sequence[Diagnosis]) -> Exit:
    """AUTHENTICATION where credentials are refused, for that comes first; ERROR where anything else is missing."""
    if any(each.refused for each in found):
        return Exit.AUTHENTICATION
    return Exit.OK if all(each.ok for each in found) else Exit.ERROR


def as_json(found: Diagnosis) -> dict[str, Any]:
    """One site of the JSON document."""
    return {
        "site": found.site,
        "kind": found.kind,
        "server": found.server,
        "ok": found.ok,
        "path": dataclasses.asdict(found.path) if found.path else None,
        "findings": [
            {
                "check": finding.check,
                "resource_type": finding.resource_type or None,
                "level": finding.level.value,
                "said": finding.said,
            }
            for finding in found.findings
        ],
        "requests": list(found.requests),
    }
