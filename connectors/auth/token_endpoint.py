"""One access token from an OAuth token endpoint: client_credentials, authenticated by a signed statement

(RFC 6749, 4.4; RFC 7523, 2.2; SMART App Launch 2.2, "Backend Services"). The statement is new for each attempt:
a server refuses one that it has seen, and a first answer may be lost after it was seen.
"""

from __future__ import annotations

import json
import math
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt

from connectors.auth.keys import SigningKey
from connectors.auth.token_refusal import Asked, refusal
from connectors.errors import AuthenticationError
from connectors.http.origin import redact_url
from connectors.http.origin_policy import Target
from connectors.http.response import Body, refuse_web_page, tls_error
from connectors.http.retry import (
    A_DAY,
    RETRIED,
    Clock,
    RetryError,
    Retrying,
    TransferLimits,
    TruncatedError,
    retry_after,
)

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME = 240  # seconds of a statement: at most 300 by SMART, less a minute for a clock that is ahead
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": "periop",
}
ANSWER = 1 << 20  # bytes
UNSAID = 300.0  # seconds of a token without expires_in: what SMART recommends as the most
MARGIN = 30.0  # seconds before its end from which on a token is not used
A_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")  # RFC 6749, appendix A.12, and fit for a header


@dataclass(frozen=True)
class Client:
    """Who asks: the client as the server has registered it. `jku`: where its JWKS is, if it is to be said."""

    client_id: str = field(repr=False)
    key: SigningKey
    jku: str | None = None

    def assertion(self, audience: str, now: datetime, jti: str) -> str:
        """The signed statement for `audience`, the token endpoint. `jti`: never used before."""
        issued = int(now.timestamp())
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": audience, "jti": jti}
        headers = {"kid": self.key.kid, "typ": "JWT"} | ({"jku": self.jku} if self.jku else {})
        times = {"iat": issued, "exp": issued + LIFETIME}
        return jwt.encode(claims | times, self.key.key, algorithm=self.key.algorithm, headers=headers)


@dataclass(frozen=True)
class Token:
    """An access token. fresh_until: of the monotonic clock. granted: its scopes, None if the server does not say."""

    value: str = field(repr=False)
    fresh_until: float
    granted: tuple[str, ...] | None


@dataclass(frozen=True)
class Asking:
    """What a request needs beside its place. new_id: a `jti`, another one each time."""

    client: Client
    limits: TransferLimits
    clock: Clock
    http_transport: httpx.BaseTransport | None
    new_id: Callable[[], str]


class TokenEndpoint:
    """The token endpoint `url`, reached as `target`. `algorithms`: what it says it accepts, () if it does not."""

    def __init__(
        self,
        url: str,
        target: Target,
        asking: Asking,
        verify: ssl.SSLContext | bool = True,
        algorithms: Sequence[str] = (),
    ) -> None:
        self.url = url
        self._target = target
        self._asking = asking
        self._verify = verify
        self._algorithms = algorithms
        self._server = redact_url(url)
        self._what = "token"
        self._retrying = Retrying(self._server, asking.limits, asking.clock)

    def token(self, scopes: Sequence[str]) -> Token:
        """A new token. Raises AuthenticationError where the server refuses, TlsError, and UnavailableError after
        all attempts."""
        limits = self._asking.limits
        with httpx.Client(
            transport=self._asking.http_transport,
            verify=self._verify,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(limits.read, connect=limits.connect),
        ) as client:
            return self._retrying.run(self._what, lambda: self._attempt(client, scopes))

    def _attempt(self, client: httpx.Client, scopes: Sequence[str]) -> Token:
        started = self._asking.clock.monotonic()
        try:
            status, headers, body = self._sent(client, scopes)
        except TruncatedError as error:
            raise RetryError("a body that is cut off") from error
        except httpx.TransportError as error:
            raise tls_error(error, self._what, self._server) or RetryError(type(error).__name__) from error
        now = self._asking.clock.now()
        if status in RETRIED:
            raise RetryError(f"status {status}", retry_after(headers, now))
        if status == 200:
            return self._token(headers, body, started)
        asked = Asked(self._server, self._asking.client.key, tuple(scopes), tuple(self._algorithms))
        raise refusal(asked, status, headers, _document(body), now)

    def _sent(self, client: httpx.Client, scopes: Sequence[str]) -> tuple[int, httpx.Headers, bytes]:
        target = self._target
        headers = {**HEADERS, **target.headers}
        form, extensions = self._form(scopes), dict(target.extensions)
        with client.stream("POST", target.url, content=form, headers=headers, extensions=extensions) as response:
            body = b"".join(Body(response, self._what, ANSWER, self._asking.limits.ratio))
            return response.status_code, response.headers, body

    def _form(self, scopes: Sequence[str]) -> str:
        client, clock = self._asking.client, self._asking.clock
        return urlencode(
            {
                "grant_type": "client_credentials",
                "scope": " ".join(scopes),
                "client_id": client.client_id,  # RFC 7521, 4.2: optional, and some servers want it
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": client.assertion(self.url, clock.now(), self._asking.new_id()),
            }
        )

    def _token(self, headers: httpx.Headers, body: bytes, started: float) -> Token:
        refuse_web_page(headers, body, self._what, self._server)
        content = _document(body)
        value, kind = content.get("access_token"), content.get("token_type", "bearer")
        if not isinstance(value, str) or not A_TOKEN.fullmatch(value) or str(kind).lower() != "bearer":
            raise AuthenticationError(
                f"{self._what}: {self._server} answered without a usable bearer token: correct token_url, or ask its "
                "administrator whether this is the token endpoint"
            )
        seconds = _seconds(content.get("expires_in"))
        scope = content.get("scope")
        granted = tuple(scope.split()) if isinstance(scope, str) else None
        return Token(value, started + seconds - min(MARGIN, seconds / 5), granted)


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _seconds(value: object) -> float:
    """How long a token lasts, within 0 and a day."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else UNSAID
    except (ValueError, OverflowError):
        return UNSAID
    return min(max(seconds, 0.0), A_DAY) if math.isfinite(seconds) else UNSAID
