"""Tries, before a run needs them, what can be tried without a server: secrets, keys, certificates, folders, targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from connectors.errors import ConnectorError
from schedules.config.credentials import client_ssl_context, existing_key, secret
from schedules.errors import ConfigError
from schedules.release.publish import unusable
from schedules.run.delivery import try_secrets
from schedules.run.sources import authenticator, named_patients, site_headers, transfer_limits

if TYPE_CHECKING:
    from schedules.config.settings import Settings
    from schedules.config.site_settings import BulkSite, SearchSite, Site


def problems(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each thing that a run will miss. Each stops a part of it only: a site, or a target."""
    yield from missing_secrets(settings, settings.sites, environ)
    for site in settings.sites:
        if site.kind == "folder" and not site.path.is_dir():
            yield f"site {site.name}: {site.path} is not there; make it, or mount the share"
    for target in settings.target_dirs:
        if reason := unusable(target):
            yield reason
    for each in settings.notify:
        try:
            try_secrets(each, environ)
        except ConfigError as error:
            yield f"{each.where}: {error}"


def missing_secrets(settings: Settings, sites: Iterable[Site], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each secret, key or certificate that is missing, of these sites and of the pseudonyms."""
    for site in sites:
        if site.kind == "folder":
            continue
        told = set[str]()
        for attempt in _attempts(settings, site, environ):
            try:
                attempt()
            except (ConfigError, ConnectorError) as error:
                # What signs in needs some of the others too, and would tell of them once more.
                if (text := str(error)) not in told:
                    told.add(text)
                    yield text if site.name in text else f"site {site.name}: {text}"
    try:
        existing_key(settings, environ)
    except ConfigError as error:
        yield str(error)


def _attempts(
    settings: Settings, site: SearchSite | BulkSite, environ: Mapping[str, str]
) -> Iterator[Callable[[], object]]:
    """Yield one function for each thing that a site needs, so that one that is missing does not hide the next."""
    yield lambda: authenticator(settings, site, environ)
    for name, value in site.headers.items():
        alone = site.model_copy(update={"headers": {name: value}})
        yield lambda alone=alone: site_headers(alone, environ)  # type: ignore[misc]
    env, file = site.client_key_password_env, site.client_key_password_file
    if env or file:
        yield lambda: secret(env, file, environ)
    yield lambda: client_ssl_context(site, environ)
    yield lambda: transfer_limits(settings, site, environ)  # the password of a proxy
    if site.kind == "search":
        yield lambda: named_patients(site)
