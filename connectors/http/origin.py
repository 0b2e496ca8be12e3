"""Where a link may lead: only to the configured server, because credentials go where requests go."""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

from connectors.errors import ForeignOriginError, SourceConfigError

PORTS = {"http": 80, "https": 443}


def check_base_url(url: str) -> str:
    """The base of a FHIR server without a slash at its end. SourceConfigError if it cannot be one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SourceConfigError("the url of the site is not a URL: write http(s)://host[:port]/path") from error
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise SourceConfigError("the url of the site is not http or https: write https://host[:port]/path")
    if parts.username or parts.password:
        raise SourceConfigError("the url of the site holds a user name or password: configure `auth` instead")
    if parts.query or parts.fragment:
        raise SourceConfigError("the url of the site holds a query: give the base of the FHIR server only")
    return url.rstrip("/")


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port). ForeignOriginError if the URL has none."""
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise ForeignOriginError("a link of the server is not an http(s) URL: refused") from error


def redact_url(url: str) -> str:
    """Scheme, host and port for a message: path and query may hold ids of patients."""
    scheme, host, port = origin(url)
    return f"{scheme}://{host}:{port}"


def base_of_self_link(self_link: str | None, resource_type: str) -> str | None:
    """The base that the server calls itself by, from the self link of a first page `BASE/Type?…`;

    None if unclear.
    """
    if not self_link:
        return None
    stem = self_link.partition("?")[0].rstrip("/")
    return stem.removesuffix(f"/{resource_type}") if stem.endswith(f"/{resource_type}") else None


def rebase_link(link: str, current: str, base: str, own_base: str | None) -> str:
    """The next link as a URL of the configured server.

    `current`: the page it stands in (links may be relative). `own_base`: how the server calls itself
    (behind a gateway that is another host). A link below `own_base` is moved to `base`; one on the
    configured origin is taken as it is; anything else is refused with ForeignOriginError, and no request is
    made.
    """
    target = _joined(current, link)
    if origin(target) == origin(base) and not _has_user(urlsplit(target)):
        return target
    if own_base and target.startswith(own_base) and target[len(own_base) : len(own_base) + 1] in ("", "/", "?"):
        return base + target[len(own_base) :]
    raise ForeignOriginError(
        f"a next link leads to {redact_url(target)}, not to {redact_url(base)}: refused; "
        "correct the base URL of the server"
    )


def _joined(current: str, link: str) -> str:
    try:
        return urljoin(current, link)
    except ValueError as error:
        raise ForeignOriginError("a link of the server is not a URL: refused") from error


def _has_user(parts: SplitResult) -> bool:
    return bool(parts.username or parts.password)
