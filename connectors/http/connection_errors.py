"""Failures to connect in words: what it is, what to do about it, and whether another attempt can help.

The causes are those of the system (`socket.gaierror`, `errno`), which httpx wraps in its own errors
(https://www.python-httpx.org/exceptions/).
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from connectors.errors import UnavailableError

# The name server answered that there is no such name; EAI_AGAIN means that it did not answer.
UNKNOWN_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
PROBE_SECONDS = 3.0
SYSTEM = {
    errno.ECONNREFUSED: "refused the connection (nothing listens at that port: compare host and port of `url`)",
    errno.EHOSTUNREACH: "could not be reached (no route: ask your network administrator)",
    errno.ENETUNREACH: "could not be reached (no network: ask your network administrator)",
}
KINDS: tuple[tuple[type[httpx.TransportError], str], ...] = (
    (httpx.ConnectTimeout, "took no connection in time (a firewall may drop it: ask your network administrator)"),
    (httpx.ProxyError, "could not be reached through the proxy (compare `proxy`)"),
    (httpx.TimeoutException, "gave no answer in time"),
    (httpx.RemoteProtocolError, "broke the connection off"),
    (httpx.ReadError, "broke the connection off"),
    (httpx.WriteError, "broke the connection off"),
)
# A port that nobody listens at at the beginning will hardly be open seconds later; a server that restarts in the middle
# of a sync will.
ATTEMPTS_AT_FIRST = 3


def permanent_connection_error(error: httpx.TransportError, label: str, server: str) -> UnavailableError | None:
    """Return what to do where another attempt gives the same, None for every other error."""
    if any(isinstance(each, socket.gaierror) and each.errno in UNKNOWN_NAME for each in _causes(error)):
        return UnavailableError(
            f"{label}: the name in {server} is unknown (DNS): correct the host of `url`, or ask who runs your network"
        )
    return None


def closed_by_server(error: httpx.TransportError) -> bool:
    """Return True if the connection stood, and the server ended it."""
    return isinstance(error, httpx.ReadError | httpx.RemoteProtocolError)


def speaks_tls(server: str) -> bool:
    """Return True if a TLS handshake begins at the port of `server` (like http://host:8443). Nothing else is sent.

    Most servers answer plain HTTP at such a port by closing the connection, some by status 400, and few in words.
    """
    parts = urlsplit(server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only whether it is TLS is of interest
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 80), PROBE_SECONDS) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except OSError:
        return False


def tls_needed(label: str, server: str) -> UnavailableError:
    """Return the error for plain HTTP at a port where TLS is spoken."""
    return UnavailableError(f"{label}: {server} speaks TLS there: begin `url` with https")


def described(error: httpx.TransportError) -> str:
    """Return what the server did, as the end of a sentence that begins with its name."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return "has a name that no name server answered for (DNS: ask your network administrator)"
        if isinstance(cause, OSError) and cause.errno in SYSTEM:
            return SYSTEM[cause.errno]
    return next((words for kind, words in KINDS if isinstance(error, kind)), "could not be reached")


def is_refused(error: httpx.TransportError) -> bool:
    """Return True if nobody listens at the port."""
    return any(isinstance(each, OSError) and each.errno == errno.ECONNREFUSED for each in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was raised from. Of several addresses that failed, each has its own."""
    seen: list[BaseException] = []
    rest: list[BaseException] = [error]
    while rest:
        each = rest.pop()
        if any(each is other for other in seen):
            continue
        seen.append(each)
        yield each
        rest += [link for link in (each.__context__, each.__cause__) if link is not None]
        rest += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
