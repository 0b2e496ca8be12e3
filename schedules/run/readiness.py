"""Tries, before a run needs them, what can be tried without a server: secrets, keys, certificates, folders, targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from connectors.errors import ConnectorError
from schedules.config.credentials import client_ssl_context, existing_key
from schedules.errors import ConfigError
from schedules.release.publish import unusable
from schedules.run.sources import authenticator, named_patients, transfer_limits

if TYPE_CHECKING:
    from schedules.config.settings import Settings
    from schedules.config.site_settings import Site


def problems(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each thing that a run will miss. Each stops a part of it only: a site, or a target."""
    for site in settings.sites:
        try:
            _try_site(settings, site, environ)
        except (ConfigError, ConnectorError) as error:
            text = str(error)
            yield text if site.name in text else f"site {site.name}: {text}"
    try:
        existing_key(settings, environ)
    except ConfigError as error:
        yield str(error)
    for target in settings.target_dirs:
        if reason := unusable(target):
            yield reason


def _try_site(settings: Settings, site: Site, environ: Mapping[str, str]) -> None:
    if site.kind == "folder":
        if not site.path.is_dir():
            raise ConfigError(f"site {site.name}: {site.path} is not there; make it, or mount the share")
        return
    authenticator(settings, site, environ)
    client_ssl_context(site, environ)
    transfer_limits(settings, site, environ)  # the password of a proxy
    if site.kind == "search":
        named_patients(site)
