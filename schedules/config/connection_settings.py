"""The settings of the connection of a site: headers of a gateway, a proxy, limits of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schedules.config.fields import Count, FilePath, Seconds, Section

# Of headers that a site may set: a token of RFC 9110, 5.6.2, and none by which a request is made or signed in.
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
HEADERS_OF_PERIOP = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def _header_names(headers: Mapping[str, object]) -> Mapping[str, object]:
    for name in headers:
        if not HEADER_NAME.fullmatch(name):
            raise ValueError("holds a name that no header can have; give letters, digits and hyphens")
        if name.lower() in HEADERS_OF_PERIOP:
            raise ValueError(f"sets {name}, which periop sets itself; use `auth` for credentials")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("sets a header twice")
    return headers


def _proxy(url: str) -> str:
    """Check a proxy: an http(s) address with at most a user name, or `environment`."""
    if url == "environment":
        return url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("not a valid address; give it like http://proxy.example.org:3128") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError('must be an address like http://proxy.example.org:3128, or "environment"')
    if parts.password is not None:
        raise ValueError("holds a password; put it into proxy_password_env or proxy_password_file")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be an address without path, ? or #")
    return url


class HeaderSecret(Section):
    """The value of a header, by the name of an environment variable or of a file."""

    env: str | None = None
    file: FilePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> HeaderSecret:
        if (self.env is None) == (self.file is None):
            raise ValueError("give one of env, file")
        return self


# What can be sent as a header: printable ASCII. A line break would begin another header.
HeaderText = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?\z", max_length=4096)]


class SiteLimits(Section):
    """The keys of `[limits]` that a site may have of its own; what is not given is as there."""

    connect_seconds: Seconds | None = None
    read_seconds: Seconds | None = None
    request_seconds: Seconds | None = None
    site_seconds: Seconds | None = None
    streams: Annotated[int, Field(strict=True, ge=1, le=32)] | None = None
    page_size: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    patients_per_request: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    max_pages: Count | None = None
    max_url: Annotated[int, Field(strict=True, ge=500, le=65_536)] | None = None


Headers = Annotated[dict[str, HeaderText | HeaderSecret], AfterValidator(_header_names)]
Proxy = Annotated[str, AfterValidator(_proxy)]
