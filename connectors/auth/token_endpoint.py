"""Access tokens from an OAuth token endpoint, by client_credentials (RFC 6749, 4.4).

How the client proves who it is, is in `clients`. Each attempt does so anew: a server refuses a signed assertion that it
has seen, and may have seen one whose response was lost.
"""

from __future__ import annotations

import json
import math
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx
import msgspec

from connectors.auth.clients import TokenClient
from connectors.auth.token_refusal import RefusedTokenRequest, TokenError, refusal
from connectors.errors import AuthenticationError
from connectors.fhir.lenient import convert_leniently
from connectors.http.client import connect
from connectors.http.connection_errors import ATTEMPTS_AT_FIRST, described, is_refused, permanent_connection_error
from connectors.http.origin import redact_url
from connectors.http.origin_policy import Target
from connectors.http.request_log import log_headers, log_request
from connectors.http.response import Body, permanent_tls_error, refuse_web_page
from connectors.http.retry import (
    DAY,
    RETRIED_STATUSES,
    Clock,
    RetryError,
    Retrying,
    TransferLimits,
    TruncatedError,
    retry_after,
)
from connectors.http.server_words import quoted

HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": "periop",
}
MAX_RESPONSE = 1 << 20  # bytes
DEFAULT_LIFETIME = 300.0  # seconds of a token without expires_in: the longest that SMART recommends
MARGIN = 30.0  # seconds before its end from which on a token is not used
ACCESS_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")  # RFC 6749, appendix A.12; a line break would end the header


@dataclass(frozen=True)
class Token:
    """An access token. fresh_until: by the monotonic clock. granted: its scopes, None if the server does not say."""

    value: str = field(repr=False)
    fresh_until: float
    granted: tuple[str, ...] | None


class _TokenResponse(msgspec.Struct):
    """A token response (RFC 6749, 5.1)."""

    access_token: str = ""
    token_type: object = "bearer"  # noqa: S105 - required by the RFC, left out by some servers
    expires_in: object = None  # a number by the RFC, a string of some servers
    scope: str | None = None


@dataclass
class TokenEndpoint:
    """The token endpoint `url`, reached as `target`.

    new_id: returns another `jti` each time. algorithms: those that the server says it accepts, () if it does not say.
    headers: those that the site needs with each request, if the endpoint is on its origin.
    """

    url: str
    target: Target
    client: TokenClient
    limits: TransferLimits
    clock: Clock
    http_transport: httpx.BaseTransport | None
    new_id: Callable[[], str]
    verify: ssl.SSLContext | bool = True
    algorithms: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._server = redact_url(self.url)
        # One deadline for all tokens of a run, not a new one for each.
        self._retrying = Retrying(self._server, self.limits, self.clock)

    def token(self, scopes: Sequence[str]) -> Token:
        """Obtain a new token.

        Raises AuthenticationError where the server refuses, TlsError, and UnavailableError after the last attempt.
        """
        with connect(self.http_transport, self.verify, self.limits) as http:
            return self._retrying.run("token", lambda: self._attempt(http, scopes))

    def _attempt(self, http: httpx.Client, scopes: Sequence[str]) -> Token:
        started = self.clock.monotonic()  # before the request: the server counts expires_in from when it answers
        try:
            status, headers, body = self._send(http, scopes)
        except TruncatedError as error:
            raise RetryError("gave a response that is cut off") from error
        except httpx.TransportError as error:
            permanent = permanent_tls_error(error, "token", self._server) or permanent_connection_error(
                error, "token", self._server
            )
            few = ATTEMPTS_AT_FIRST if is_refused(error) else None
            raise permanent or RetryError(described(error), attempts=few) from error
        now = self.clock.now()
        if status in RETRIED_STATUSES:
            words = quoted(convert_leniently(_parse(body), TokenError).error_description)
            raise RetryError(f"gave status {status}", retry_after(headers, now), words)
        if status == 200:
            return self._read_token(headers, body, started)
        request = RefusedTokenRequest(self._server, self.client.key, tuple(scopes), tuple(self.algorithms))
        raise refusal(request, status, headers, convert_leniently(_parse(body), TokenError), now)

    def _send(self, http: httpx.Client, scopes: Sequence[str]) -> tuple[int, httpx.Headers, bytes]:
        proof = self.client.prove(self.url, self.clock.now(), self.new_id())
        form = {"grant_type": "client_credentials"} | ({"scope": " ".join(scopes)} if scopes else {}) | proof.form
        headers = {**self.headers, **HEADERS, **self.target.headers, **proof.headers}
        extensions = dict(self.target.extensions)
        began = self.clock.monotonic()
        log_headers("POST token sends", headers)
        with http.stream(
            "POST", self.target.url, content=urlencode(form), headers=headers, extensions=extensions
        ) as response:
            body = b"".join(Body(response, "token", MAX_RESPONSE, self.limits.ratio))
            log_headers("POST token receives", response.headers)
            log_request("POST", "token", str(response.status_code), self.clock.monotonic() - began, len(body))
            return response.status_code, response.headers, body

    def _read_token(self, headers: httpx.Headers, body: bytes, started: float) -> Token:
        refuse_web_page(headers, body, "token", self._server)  # the login page of the token server
        found = convert_leniently(_parse(body), _TokenResponse)
        if not ACCESS_TOKEN.fullmatch(found.access_token) or str(found.token_type).lower() != "bearer":
            raise AuthenticationError(
                f"token: {self._server} answered without a usable bearer token: correct token_url, or ask its "
                "administrator whether this is the token endpoint"
            )
        lifetime = _lifetime(found.expires_in)
        # A fifth of a short lifetime is left as a margin, or a token of 20 s would never be used.
        fresh_until = started + lifetime - min(MARGIN, lifetime / 5)
        return Token(found.access_token, fresh_until, None if found.scope is None else tuple(found.scope.split()))


def _parse(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _lifetime(expires_in: object) -> float:
    """Return the lifetime of a token in seconds, between 0 and a day."""
    if not isinstance(expires_in, int | float | str) or isinstance(expires_in, bool):
        return DEFAULT_LIFETIME
    try:
        seconds = float(expires_in)
    except (ValueError, OverflowError):
        return DEFAULT_LIFETIME
    return min(max(seconds, 0.0), DAY) if math.isfinite(seconds) else DEFAULT_LIFETIME
