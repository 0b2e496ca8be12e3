"""Where a request may go: the configured server, or an allowlisted origin that gets no credentials.

The name of an allowlisted origin is looked up once, its addresses are checked, and the connection goes to the address
that was checked, so that the answer of the next look-up (DNS rebinding) cannot lead elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from connectors.errors import ForeignOriginError, SourceConfigError, UnavailableError
from connectors.http.origin import origin, redact_url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as the resolver of the system gives them. OSError if there are none."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Target:
    """A request that may be made. `own`: to the configured origin, the only one that gets credentials."""

    url: str
    own: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)


class OriginPolicy:
    """The origins of one site. `allowed`: further ones, as URLs `https://host[:port]`."""

    def __init__(self, base: str, allowed: Sequence[str] = (), resolve: Resolve = resolve_by_system) -> None:
        self._base = base
        self._origin = origin(base)
        self._allowed = frozenset(_allowed_origin(each) for each in allowed)
        self._resolve = resolve

    def check(self, url: str, what: str) -> Target:
        """The target of `url`. ForeignOriginError, and no request is made, where it may not go there."""
        wanted = origin(url)
        if "@" in urlsplit(url).netloc:
            raise ForeignOriginError(f"{what}: a link of the server to {redact_url(url)} holds credentials: refused")
        if wanted == self._origin:
            return Target(url, own=True)
        if wanted not in self._allowed:
            raise ForeignOriginError(
                f"{what}: a request to {redact_url(url)} was refused, the site is {redact_url(self._base)}: "
                "if its files lie there, add it to `allowed_origins`"
            )
        return pin_ip(url, self._checked_address(url, what))

    def _checked_address(self, url: str, what: str) -> Address:
        addresses = [parse_address(each) for each in resolve_host(url, what, self._resolve)]
        for address in addresses:
            kind = address_kind(address)
            if kind != "public" and (kind == "reserved" or kind not in self._own_kinds(what)):
                raise ForeignOriginError(
                    f"{what}: {redact_url(url)} leads to a {kind} address, which is refused: correct `allowed_origins`"
                )
        return addresses[0]

    def _own_kinds(self, what: str) -> set[str]:
        """Kinds of addresses of the site itself: a server within the hospital may keep its files there too."""
        return {address_kind(parse_address(each)) for each in resolve_host(self._base, what, self._resolve)}


def resolve_host(url: str, what: str, resolve: Resolve) -> Sequence[str]:
    """The addresses of the host of `url`, which may be one itself. UnavailableError if its name has none."""
    _, host, port = origin(url)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            found = resolve(host, port)
        except OSError:
            found = ()
        if not found:
            raise UnavailableError(f"{what}: the name of {redact_url(url)} has no address: check it") from None
        return found
    return (host,)


def pin_ip(url: str, address: Address) -> Target:
    """The request for `url`, to an address of it that was checked; host and certificate stay those of the name."""
    parts = urlsplit(url)
    host = f"[{address}]" if address.version == 6 else str(address)
    port = f":{parts.port}" if parts.port else ""
    named = parts.netloc.rpartition("@")[2]
    pinned_url = urlunsplit((parts.scheme, host + port, parts.path, parts.query, ""))
    return Target(pinned_url, own=False, headers={"Host": named}, extensions={"sni_hostname": parts.hostname or ""})


def _allowed_origin(url: str) -> tuple[str, str, int]:
    try:
        return origin(url)
    except ForeignOriginError as error:
        raise SourceConfigError("an entry of `allowed_origins` is not http(s)://host[:port]: correct it") from error


def parse_address(text: str) -> Address:
    """An address; one of IPv4 that is written within IPv6 (::ffff:127.0.0.1) as what it is."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def address_kind(address: Address) -> str:
    """public | loopback | private | reserved (link-local, multicast, unspecified and the like: never a file server)."""
    if address.is_loopback:
        return "loopback"
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return "reserved"
    return "public" if address.is_global else "private"
