"""The proxy of a site: from its settings, or from the environment if the settings say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from schedules.config.credentials import secret
from schedules.config.site_settings import ServerSite
from schedules.errors import ConfigError

if TYPE_CHECKING:
    import httpx


def site_proxy(site: ServerSite, environ: Mapping[str, str]) -> httpx.Proxy | None:
    """Return the proxy through which all connections for `site` go, None for none.

    Raises `ConfigError` where its password is missing, or what the environment names is no http(s) proxy.
    """
    if site.proxy is None:
        return None
    import httpx

    if site.proxy == "environment":
        name, url = _from_environment(site.url, environ)
        if not url:
            return None
        try:
            return httpx.Proxy(url if "://" in url else f"http://{url}")
        except (ValueError, httpx.InvalidURL):  # without the address, which may hold a password
            raise ConfigError(f"environment variable {name}: names no http or https proxy; correct it") from None
    user = urlsplit(site.proxy).username
    if user is None:
        return httpx.Proxy(site.proxy)
    password = secret(site.proxy_password_env, site.proxy_password_file, environ)
    address = httpx.URL(site.proxy).copy_with(username=None, password=None)
    return httpx.Proxy(address, auth=(unquote(user), password))


def _from_environment(url: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that names a proxy for `url`, and its value; ('', '') for none."""
    parts = urlsplit(url)
    direct = (environ.get("no_proxy") or environ.get("NO_PROXY") or "").lower().replace(",", " ").split()
    hosts = (f".{parts.hostname}", f".{parts.hostname}:{parts.port}")
    # As curl reads it: an entry stands for the host and for those below it, with or without a dot in front.
    if "*" in direct or any(host.endswith("." + each.lstrip(".")) for each in direct for host in hosts):
        return "", ""
    # HTTP_PROXY in capitals may come from the header Proxy of a request to a CGI program, so it is left out.
    for name in (f"{parts.scheme}_proxy", "HTTPS_PROXY" if parts.scheme == "https" else "", "all_proxy", "ALL_PROXY"):
        if environ.get(name):
            return name, environ[name]
    return "", ""
