"""Origins (scheme, host, port) of URLs, and the links of a server rewritten to its configured base URL."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from connectors.errors import ForeignOriginError, SourceConfigError

PORTS = {"http": 80, "https": 443}


def check_base_url(url: str) -> str:
    """Return the base URL of a FHIR server without its trailing slash. Raises SourceConfigError if it cannot be one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SourceConfigError("the url of the site is not a URL: write http(s)://host[:port]/path") from error
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise SourceConfigError("the url of the site is not http or https: write https://host[:port]/path")
    if parts.username or parts.password:  # it would show in messages and logs
        raise SourceConfigError("the url of the site holds a user name or password: configure `auth` instead")
    if parts.query or parts.fragment:  # paths are appended to the base
        raise SourceConfigError("the url of the site holds a query: give the base of the FHIR server only")
    return url.rstrip("/")


def origin(url: str) -> tuple[str, str, int]:
    """Return (scheme, host, port), the port also where the URL leaves it out. Raises ForeignOriginError without one.

    >>> origin("https://FHIR.example/Patient")
    ('https', 'fhir.example', 443)
    """
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise ForeignOriginError(
            "a link of the server is not an http(s) URL: refused; correct the base URL of the server"
        ) from error


def redact_url(url: str) -> str:
    """Return scheme, host and port for a message: path and query may hold ids of patients.

    >>> redact_url("https://fhir.example/Patient?identifier=12345")
    'https://fhir.example:443'
    """
    scheme, host, port = origin(url)
    return f"{scheme}://{host}:{port}"


def base_of_self_link(self_link: str | None, resource_type: str) -> str | None:
    """Return the base URL that a server calls itself by, from the self link of a first page; None if that is unclear.

    >>> base_of_self_link("http://inner:8080/fhir/Condition?code=C34", "Condition")
    'http://inner:8080/fhir'
    """
    stem = (self_link or "").partition("?")[0].rstrip("/")
    return stem.removesuffix(f"/{resource_type}") if stem.endswith(f"/{resource_type}") else None


def rebase_link(link: str, current: str, base: str, own_base: str | None) -> str:
    """Return a next link as a URL of the configured server.

    current: the URL of the page that holds the link, which may be relative. own_base: the base URL that the server
    calls itself by (behind a gateway, another host). A link below `own_base` is moved to `base`, and one on the
    configured origin is taken as it is. Any other raises ForeignOriginError, and no request is made.

    >>> rebase_link("http://inner/fhir?page=2", "https://gate/fhir/Patient", "https://gate/fhir", "http://inner/fhir")
    'https://gate/fhir?page=2'
    """
    try:
        target = urljoin(current, link)
        parts = urlsplit(target)
    except ValueError as error:
        raise ForeignOriginError("a link of the server is not a URL: refused") from error
    # A user name in the link (https://fhir.example@evil.example/) fools the eye, and would be sent as a credential.
    if origin(target) == origin(base) and not (parts.username or parts.password):
        return target
    # Only a whole path segment counts: http://inner/fhir must not claim http://inner/fhir-of-others.
    if own_base and target.startswith(own_base) and target[len(own_base) : len(own_base) + 1] in ("", "/", "?"):
        return base + target[len(own_base) :]
    raise ForeignOriginError(
        f"a next link leads to {redact_url(target)}, not to {redact_url(base)}: refused; "
        "correct the base URL of the server"
    )
