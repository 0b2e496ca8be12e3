"""SMART Backend Services (SMART App Launch 2.2): access tokens for a system, obtained and renewed with its own key.

Also with a secret, for servers whose tokens come from an OAuth server without SMART.

The token endpoint comes from the configuration, else from the FHIR server itself. It may be on another origin: then
only the signed assertion goes there, and only to an address that a server may send us to; a secret never does.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock, local
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from connectors.auth.clients import SecretClient, TokenClient
from connectors.auth.discovery import SmartConfiguration, discover
from connectors.auth.scopes import missing_scopes, parse_scope, read_scopes, unreadable_types
from connectors.auth.token_endpoint import Token, TokenEndpoint
from connectors.errors import AuthenticationError, ConnectorError, ForeignOriginError
from connectors.http.authenticators import NoAuth, WithHeaders
from connectors.http.client import FhirClient
from connectors.http.origin import origin, redact_url
from connectors.http.origin_policy import (
    Resolve,
    Target,
    address_kind,
    parse_address,
    pin_ip,
    resolve_by_system,
    resolve_host,
)
from connectors.http.retry import Clock, TransferLimits

REMEDY = "if that is right, set token_url in `auth`"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def new_id() -> str:
    """Return an identifier that was never used before."""
    return str(uuid4())


@dataclass(eq=False)
class SmartAuth:
    """The access tokens of one client for the FHIR server at `base`. May be used by several threads: one renews.

    types: the resource types to read. scopes: the scopes to ask for; if empty, `system/<Type>.rs` for each type, or
    none of a client with a secret, whose OAuth server may not know these. site_headers: go with each request to the
    origin of `base`.
    verify: TLS settings of the site, with its client certificate. verify_other_origins: those of other origins,
    without it. The first failure to get a token is final and raised again: a server that refused, or is away, is not
    asked anew for every page.
    """

    base: str
    client: TokenClient = field(repr=False)
    types: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    token_url: str | None = None
    limits: TransferLimits = field(default_factory=TransferLimits)
    clock: Clock = field(default_factory=Clock)
    http_transport: httpx.BaseTransport | None = field(default=None, repr=False)
    verify: ssl.SSLContext | bool = field(default=True, repr=False)
    verify_other_origins: ssl.SSLContext | bool = field(default=True, repr=False)
    resolve: Resolve = field(default=resolve_by_system, repr=False)
    new_id: Callable[[], str] = field(default=new_id, repr=False)
    site_headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.scopes and not isinstance(self.client, SecretClient):
            self.scopes = read_scopes(self.types)
        self._lock = Lock()
        self._seen = local()  # .token: the one that this thread used last. A 401 may be about an older one
        self._token: Token | None = None
        self._endpoint: TokenEndpoint | None = None
        self._failure: ConnectorError | None = None

    def narrow(self, types: tuple[str, ...]) -> None:
        """Ask for these resource types only. Before the first token."""
        if self.scopes == read_scopes(self.types):  # and not those of the configuration
            self.scopes = read_scopes(types)
        self.types = types

    def headers(self) -> Mapping[str, str]:
        """Return the header with the current token, or with a new one shortly before its end.

        Raises AuthenticationError where the server refuses or grants nothing, ForeignOriginError, TlsError, and
        UnavailableError where it does not answer.
        """
        with self._lock:
            token = self._token
            if token is None or self.clock.monotonic() >= token.fresh_until:
                token = self._obtain()
        self._seen.token = token
        return {**self.site_headers, "Authorization": f"Bearer {token.value}"}

    def renew(self) -> bool:
        """Obtain a new token after a 401, unless another thread did so since this thread used the refused one."""
        with self._lock:
            if getattr(self._seen, "token", self._token) is self._token:
                self._obtain()
        return True

    @property
    def granted(self) -> tuple[str, ...] | None:
        """Return the scopes of the current token. None before the first, and where the server does not say."""
        return self._token.granted if self._token else None

    @property
    def missing_scopes(self) -> tuple[str, ...]:
        """Return the scopes that were requested and not granted with the current token."""
        if self.granted is None:
            return ()
        # `https://…/.default` and the like are granted under other names: nothing is known from that.
        smart = tuple(scope for scope in self.scopes if parse_scope(scope) or not isinstance(self.client, SecretClient))
        return missing_scopes(smart, self.granted, self.types)

    @property
    def unreadable_types(self) -> tuple[str, ...]:
        """Return the types that cannot be read completely because a requested scope was not granted."""
        return unreadable_types(self.granted or (), self.types) if self.missing_scopes else ()

    def _obtain(self) -> Token:
        if self._failure is not None:
            raise self._failure
        try:
            self._endpoint = self._endpoint or self._find_endpoint()
            self._token = self._endpoint.token(self.scopes)
            self._check_scopes(self._token)
        except ConnectorError as error:  # a bug is not remembered, it is raised each time
            self._failure = error
            raise
        return self._token

    def _check_scopes(self, token: Token) -> None:
        if token.granted is None or any(scope in token.granted for scope in self.scopes):
            return
        # A scope may be granted in other words or in parts, so nothing is refused unless no type can be read at all.
        if self.missing_scopes and self.unreadable_types == self.types:
            raise AuthenticationError(
                f"token: {redact_url(self.base)} granted none of the scopes that were asked for: "
                f"ask its administrator to allow {', '.join(self.missing_scopes)}"
            )

    def _find_endpoint(self) -> TokenEndpoint:
        if self.token_url is not None:
            # Configured by the hospital, so it may lie at a private address, and gets the client certificate.
            found = SmartConfiguration(self.token_url)
            target, verify = Target(self.token_url, origin(self.token_url) == origin(self.base)), self.verify
        else:
            auth = WithHeaders(self.site_headers, NoAuth())
            with FhirClient(self.base, auth, self.limits, self.clock, self.http_transport, self.verify) as client:
                found = discover(client)
            target = check_discovered(found.token_endpoint, self.base, self.resolve)
            verify = self.verify if target.own_origin else self.verify_other_origins
            # An assertion is of use to the endpoint alone that it was made for; a secret is to whoever gets it.
            if isinstance(self.client, SecretClient) and not target.own_origin:
                raise ForeignOriginError(
                    f"token: {redact_url(self.base)} names an endpoint on another origin, "
                    f"{redact_url(found.token_endpoint)}, to which the client secret is not sent: refused; {REMEDY}"
                )
        return TokenEndpoint(
            found.token_endpoint,
            target,
            self.client,
            self.limits,
            self.clock,
            self.http_transport,
            self.new_id,
            verify,
            found.algorithms,
            self.site_headers if target.own_origin else {},
        )


def check_discovered(url: str, base: str, resolve: Resolve) -> Target:
    """Return the target of a token endpoint that the FHIR server at `base` names, if a server may send us there.

    On its own host: by https, or in the way the FHIR server itself is reached. Elsewhere: by https to a public
    address, and to the very address that was checked. Raises ForeignOriginError for any other, before a byte is sent.
    """
    scheme, host, _ = origin(url)
    parts = urlsplit(url)
    server, endpoint = redact_url(base), redact_url(url)
    if not host or parts.username or parts.password or parts.fragment:
        raise ForeignOriginError(f"token: the endpoint that {server} names is not an address: refused; {REMEDY}")
    unencrypted = ForeignOriginError(
        f"token: {server} names an endpoint that is not encrypted, {endpoint}: refused; {REMEDY}"
    )
    base_scheme, base_host, _ = origin(base)
    # localhost and 127.0.0.1 are one machine by two names, as test servers often mix them.
    if host == base_host or {host, base_host} <= LOOPBACK:
        if scheme == "http" and base_scheme == "https" and host not in LOOPBACK:
            raise unencrypted
        return Target(url, own_origin=origin(url) == origin(base))
    if scheme != "https":
        raise unencrypted
    addresses = [parse_address(each) for each in resolve_host(url, "token", resolve)]
    # Else a server outside could make periop send requests to machines inside the hospital.
    if any(address_kind(address) != "public" for address in addresses):
        raise ForeignOriginError(
            f"token: {server} names an endpoint at a private address, {endpoint}: refused; {REMEDY}"
        )
    return pin_ip(url, addresses[0])
