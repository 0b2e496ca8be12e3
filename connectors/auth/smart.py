"""SMART Backend Services (SMART App Launch 2.2): access tokens for a system, obtained and renewed by its own key.

Where the token endpoint is comes from the configuration, else from the FHIR server itself. It may be on another
origin: only the signed statement goes there, and only if the address is one that a server may send us to.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock, local
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from connectors.auth.discovery import SmartConfiguration, discover
from connectors.auth.scopes import missing_scopes, read_scopes, unreadable
from connectors.auth.token_endpoint import Asking, Client, Token, TokenEndpoint
from connectors.errors import AuthenticationError, ConnectorError, ForeignOriginError
from connectors.http.authenticators import NoAuth
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
    """An identifier that nobody had before."""
    return str(uuid4())


@dataclass(eq=False)
class SmartAuth:
    """The tokens of one client for the FHIR server at `base`. Safe for use by several threads: one renews.

    types: what is to be read. scopes: what to ask for, without any `system/<Type>.rs` of each type. verify: TLS of
    the site, with its client certificate. verify_elsewhere: TLS of other origins, without it. The first failure to
    get a token is final: it is raised again instead of asking a server that refused us, or is away, for each page.
    """

    base: str
    client: Client = field(repr=False)
    types: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    token_url: str | None = None
    limits: TransferLimits = field(default_factory=TransferLimits)
    clock: Clock = field(default_factory=Clock)
    http_transport: httpx.BaseTransport | None = field(default=None, repr=False)
    verify: ssl.SSLContext | bool = field(default=True, repr=False)
    verify_elsewhere: ssl.SSLContext | bool = field(default=True, repr=False)
    resolve: Resolve = field(default=resolve_by_system, repr=False)
    new_id: Callable[[], str] = field(default=new_id, repr=False)

    def __post_init__(self) -> None:
        self.scopes = self.scopes or read_scopes(self.types)
        self._lock = Lock()
        self._seen = local()  # .token: the one that this thread used last
        self._token: Token | None = None
        self._endpoint: TokenEndpoint | None = None
        self._failure: ConnectorError | None = None

    def headers(self) -> Mapping[str, str]:
        """The current token, or a new one shortly before its end.

        Raises AuthenticationError where the server refuses or grants nothing, ForeignOriginError, TlsError, and
        UnavailableError where it does not answer.
        """
        with self._lock:
            token = self._token
            if token is None or self.clock.monotonic() >= token.fresh_until:
                token = self._obtain()
        self._seen.token = token
        return {"Authorization": f"Bearer {token.value}"}

    def renew(self) -> bool:
        """After a 401: a new token, unless another thread got one since this thread used the one refused."""
        with self._lock:
            if getattr(self._seen, "token", self._token) is self._token:
                self._obtain()
        return True

    @property
    def granted(self) -> tuple[str, ...] | None:
        """The scopes of the current token; None before the first, and where the server does not say."""
        return self._token.granted if self._token else None

    @property
    def missing_scopes(self) -> tuple[str, ...]:
        """The scopes asked for and not granted with the current token."""
        return () if self.granted is None else missing_scopes(self.scopes, self.granted, self.types)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """The types that cannot be read whole because a scope that was asked for was not granted."""
        return unreadable(self.granted or (), self.types) if self.missing_scopes else ()

    def _obtain(self) -> Token:
        if self._failure is not None:
            raise self._failure
        try:
            self._endpoint = self._endpoint or self._found()
            self._token = self._endpoint.token(self.scopes)
            self._refuse_nothing()
        except ConnectorError as error:
            self._failure = error
            raise
        return self._token

    def _refuse_nothing(self) -> None:
        granted = self.granted
        if granted is not None and not any(scope in granted for scope in self.scopes) and self._all_unreadable():
            raise AuthenticationError(
                f"token: {redact_url(self.base)} granted none of the scopes that were asked for: "
                f"ask its administrator to allow {', '.join(self.missing_scopes)}"
            )

    def _all_unreadable(self) -> bool:
        return bool(self.missing_scopes) and self.unreadable == self.types

    def _found(self) -> TokenEndpoint:
        asking = Asking(self.client, self.limits, self.clock, self.http_transport, self.new_id)
        if self.token_url is not None:
            return TokenEndpoint(self.token_url, Target(self.token_url, own=False), asking, self.verify)
        found = self.discovered()
        target = allowed_target(found.token_endpoint, self.base, self.resolve)
        verify = self.verify if target.own else self.verify_elsewhere
        return TokenEndpoint(found.token_endpoint, target, asking, verify, found.algorithms)

    def discovered(self) -> SmartConfiguration:
        """What the FHIR server declares about its token endpoint."""
        with FhirClient(self.base, NoAuth(), self.limits, self.clock, self.http_transport, self.verify) as client:
            return discover(client)


def allowed_target(url: str, base: str, resolve: Resolve) -> Target:
    """A token endpoint that the FHIR server at `base` names, if a server may send us there.

    On its own host: by https, or as the FHIR server itself is reached. Elsewhere: by https to a public address, and
    to the very address that was looked at. Raises ForeignOriginError for any other, before a byte is sent.
    """
    scheme, host, _ = origin(url)
    parts = urlsplit(url)
    if not host or parts.username or parts.password or parts.fragment:
        raise ForeignOriginError(
            f"token: the endpoint that {redact_url(base)} names is not an address: refused; {REMEDY}"
        )
    own_host = origin(base)[1]
    if host == own_host or {host, own_host} <= LOOPBACK:
        if scheme == "http" and origin(base)[0] == "https" and host not in LOOPBACK:
            raise _unencrypted(url, base)
        return Target(url, own=origin(url) == origin(base))
    if scheme != "https":
        raise _unencrypted(url, base)
    addresses = [parse_address(each) for each in resolve_host(url, "token", resolve)]
    if any(address_kind(address) != "public" for address in addresses):
        raise ForeignOriginError(
            f"token: {redact_url(base)} names an endpoint at a private address, {redact_url(url)}: refused; {REMEDY}"
        )
    return pin_ip(url, addresses[0])


def _unencrypted(url: str, base: str) -> ForeignOriginError:
    return ForeignOriginError(
        f"token: {redact_url(base)} names an endpoint that is not encrypted, {redact_url(url)}: refused; {REMEDY}"
    )
