"""The origins that requests may go to: the configured server, and allowlisted origins that get no credentials.

The host name of an allowlisted origin is resolved once, its addresses are checked, and the connection goes to the
address that was checked. So a second answer of the DNS (DNS rebinding) cannot lead a request into the internal network.
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
    """Return the addresses of a host from the resolver of the system. Raises OSError if there are none."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Target:
    """A request that may be made. own_origin: it goes to the configured origin, the only one to get credentials."""

    url: str
    own_origin: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)


class OriginPolicy:
    """The origins that requests of one site may go to. allowed: further ones, as URLs `https://host[:port]`.

    >>> policy = OriginPolicy("https://fhir.example/r4")
    >>> policy.check("https://fhir.example/r4/Patient", "Patient").own_origin
    True
    >>> policy.check("https://elsewhere.example/Patient", "Patient")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    connectors.errors.ForeignOriginError: Patient: a request to https://elsewhere.example:443 was refused, ...
    """

    def __init__(self, base: str, allowed: Sequence[str] = (), resolve: Resolve = resolve_by_system) -> None:
        self._base = base
        self._origin = origin(base)
        self._resolve = resolve
        try:
            self._allowed = frozenset(origin(each) for each in allowed)
        except ForeignOriginError as error:
            raise SourceConfigError("an entry of `allowed_origins` is not http(s)://host[:port]: correct it") from error

    def check(self, url: str, label: str) -> Target:
        """Return the target of a request for `url`. Raises ForeignOriginError where it may not go there."""
        wanted = origin(url)
        # An empty user name (https://@host/) too, which urlsplit would not show as one.
        if "@" in urlsplit(url).netloc:
            raise ForeignOriginError(f"{label}: a link of the server to {redact_url(url)} holds credentials: refused")
        if wanted == self._origin:
            return Target(url, own_origin=True)
        if wanted not in self._allowed:
            raise ForeignOriginError(
                f"{label}: a request to {redact_url(url)} was refused, the site is {redact_url(self._base)}: "
                "if its files lie there, add it to `allowed_origins`"
            )
        return pin_ip(url, self._checked_address(url, label))

    def _checked_address(self, url: str, label: str) -> Address:
        """Return the first address of the host, if all are public or of a kind that the site itself has."""
        addresses = [parse_address(each) for each in resolve_host(url, label, self._resolve)]
        # All of them, though only the first is used: a name with a private address among public ones is no file server.
        for address in addresses:
            kind = address_kind(address)
            if kind == "public":
                continue
            # A server inside the hospital may keep its files there too; a public one has no business to send us in.
            site = [] if kind == "reserved" else resolve_host(self._base, label, self._resolve)
            if kind not in {address_kind(parse_address(each)) for each in site}:
                raise ForeignOriginError(
                    f"{label}: {redact_url(url)} leads to a {kind} address, which is refused: correct `allowed_origins`"
                )
        return addresses[0]


def resolve_host(url: str, label: str, resolve: Resolve) -> Sequence[str]:
    """Return the addresses of the host of `url`, which may be one itself. Raises UnavailableError without any."""
    _, host, port = origin(url)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            found = resolve(host, port)
        except OSError:
            found = ()
        if not found:
            raise UnavailableError(f"{label}: the name of {redact_url(url)} has no address: check it") from None
        return found
    return (host,)


def pin_ip(url: str, address: Address) -> Target:
    """Return the request for `url` to an address that was checked. Host header and certificate stay those of the name.

    >>> pin_ip("https://files.example/a", parse_address("192.0.2.7")).url
    'https://192.0.2.7/a'
    """
    parts = urlsplit(url)
    host = f"[{address}]" if address.version == 6 else str(address)
    port = f":{parts.port}" if parts.port else ""
    name = parts.netloc.rpartition("@")[2]  # with the port, as browsers send it
    pinned_url = urlunsplit((parts.scheme, host + port, parts.path, parts.query, ""))
    # sni_hostname (httpcore): the name to send in the TLS handshake, and to find in the certificate
    extensions = {"sni_hostname": parts.hostname or ""}
    return Target(pinned_url, own_origin=False, headers={"Host": name}, extensions=extensions)


def parse_address(text: str) -> Address:
    """Parse an IP address. An IPv4 address written as IPv6 (::ffff:127.0.0.1) is returned as IPv4.

    Else 127.0.0.1 would pass as a public IPv6 address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])  # %eth0: the scope of a link-local address
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def address_kind(address: Address) -> str:
    """Return public, loopback, private or reserved (link-local, multicast, unspecified: never a file server).

    Link-local matters most: 169.254.169.254 hands out the credentials of a machine in a cloud.
    """
    if address.is_loopback:
        return "loopback"
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return "reserved"
    return "public" if address.is_global else "private"
