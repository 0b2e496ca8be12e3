"""Proofs by which a token endpoint knows a client: a signed assertion, or a secret."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote_plus

import jwt

from connectors.auth.keys import SigningKey

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFETIME = 240  # seconds: SMART allows 300, less a minute for a clock that is ahead


@dataclass(frozen=True)
class Proof:
    """The proof of one request for a token: fields of its form, and headers."""

    form: dict[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class RegisteredClient:
    """A client with a key, as it is registered at the server. `jku`: the URL of its JWK Set, if it is to be sent.

    (RFC 7523, 2.2; SMART App Launch 2.2, "Backend Services".)
    """

    client_id: str = field(repr=False)
    key: SigningKey
    jku: str | None = None

    def prove(self, audience: str, now: datetime, jti: str) -> Proof:
        """Return the proof for `audience`, the token endpoint. `jti` must never have been used before."""
        return Proof(
            {
                "client_id": self.client_id,  # RFC 7521, 4.2: optional, and some servers want it
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": self.assertion(audience, now, jti),
            }
        )

    def assertion(self, audience: str, now: datetime, jti: str) -> str:
        """Return the signed assertion for `audience`, the token endpoint. `jti` must never have been used before."""
        issued = int(now.timestamp())
        # `iss` and `sub` are both the client: it speaks for itself, not for a user.
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": audience, "jti": jti}
        headers = {"kid": self.key.kid, "typ": "JWT"} | ({"jku": self.jku} if self.jku else {})
        times = {"iat": issued, "exp": issued + ASSERTION_LIFETIME}
        return jwt.encode(claims | times, self.key.key, algorithm=self.key.algorithm, headers=headers)


@dataclass(frozen=True)
class SecretClient:
    """A client with a secret (RFC 6749, 2.3.1).

    in_body: the secret goes into the form and not into the header. parameters: further fields of the form, such as
    `audience` and `resource` (RFC 8707).
    """

    client_id: str = field(repr=False)
    secret: str = field(repr=False)
    in_body: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: None = field(default=None, init=False, repr=False)

    def prove(self, audience: str, now: datetime, jti: str) -> Proof:  # noqa: ARG002 - a secret is always the same
        """Return the proof, the same for each request.

        >>> SecretClient("a:b", "c d").prove("", datetime.max, "").headers
        {'Authorization': 'Basic YSUzQWI6Yytk'}
        """
        if self.in_body:
            return Proof({**self.parameters, "client_id": self.client_id, "client_secret": self.secret})
        # Each half is encoded as in a form first, so that a colon in the client id ends nothing.
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
        header = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
        return Proof(dict(self.parameters), {"Authorization": header})


TokenClient = RegisteredClient | SecretClient
