"""Refusals of a token endpoint (RFC 6749, 5.2) as an error that says what to do, and what to ask its administrator.

The server's own description is added as far as `http.server_words` shows it: it may quote what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from connectors.auth.keys import SigningKey
from connectors.errors import AuthenticationError
from connectors.http.retry import http_date
from connectors.http.server_words import quoted

CLOCK_TOLERANCE = 60.0  # seconds; an assertion of a few minutes does not survive a larger difference of two clocks
# What has expired may be the registration of the client: only an assertion that has is about the clocks.
TIME_WORDS = re.compile(
    r"\b(exp|iat|nbf|future|clock|skew)\b|\b(jwt|assertion)\b.*\bexpired\b|\bexpired (jwt|assertion)\b"
)
ERROR_CODE = re.compile(r"[a-z_]{1,40}")  # anything else is not shown: it comes from the network
ASK = "ask its administrator"


class TokenError(msgspec.Struct):
    """An error response (RFC 6749, 5.2)."""

    error: str = ""
    error_description: str = ""


@dataclass(frozen=True)
class RefusedTokenRequest:
    """A request for a token that was refused. key: None for a client with a secret.

    algorithms: those that the server says it accepts.
    """

    server: str
    key: SigningKey | None
    scopes: tuple[str, ...]
    algorithms: tuple[str, ...] = ()


def refusal(
    request: RefusedTokenRequest, status: int, headers: Mapping[str, str], error: TokenError, now: datetime
) -> AuthenticationError:
    """Return the error for a status other than 200. `now`: of this machine, to compare with the Date of the server."""
    if 300 <= status < 400:
        reason = f"redirects ({status}), which is refused: set token_url to the final address"
    elif not ERROR_CODE.fullmatch(error.error):
        reason = f"gave no token ({status}): check token_url, and {ASK} whether this is the token endpoint"
    # The clock before the code: servers report an expired assertion as invalid_client, as they do a wrong key.
    elif request.key and (clock := _clock_advice(headers, error.error_description, now)):
        reason = f"refuses the signed assertion ({error.error}): {clock}"
    else:
        reason = f"{_meaning(error.error, request)} ({error.error})"
    return AuthenticationError(f"token: {request.server} {reason}{quoted(error.error_description)}")


def _meaning(code: str, request: RefusedTokenRequest) -> str:
    match code:
        case "invalid_client" | "invalid_grant":  # for a wrong key servers give the one or the other
            if request.key is None:
                return (
                    f"does not accept the client or its secret: {ASK} whether they are valid, and whether it takes "
                    "the secret in the header or in the body (`sent_in`)"
                )
            return f"does not accept the client or its key: {_key_advice(request.key, request)}"
        case "invalid_scope":
            wanted = ", ".join(request.scopes) or "some, or set `scope`"
            return f"does not allow the scopes that were asked for: {ASK} to allow {wanted}"
        case "unauthorized_client" | "unsupported_grant_type" | "access_denied":
            how = "client_credentials (SMART Backend Services)" if request.key else "client_credentials"
            return f"gives this client no token: {ASK} to allow {how} for it"
        case _:
            return f"refuses the request for a token: {ASK} what its token endpoint expects"


def _key_advice(key: SigningKey, request: RefusedTokenRequest) -> str:
    algorithm = key.algorithm
    # Of what it accepts, only what periop can sign with is worth a suggestion.
    accepted = [name for name in request.algorithms if name in ("ES384", "RS384")]
    if accepted and algorithm not in accepted:
        return f"it takes {accepted[0]} and the key is for {algorithm}; `periop keys new --alg {accepted[0]}` makes one"
    return (
        f"{ASK} to register the client_id of `auth` with the public key {key.kid} ({algorithm}), "
        "which `periop keys show` prints"
    )


def _clock_advice(headers: Mapping[str, str], description: str, now: datetime) -> str:
    """Return what to do about the clocks, '' if they are not to blame."""
    server_now = http_date(headers.get("date", ""))
    difference = (now - server_now).total_seconds() if server_now else 0.0
    if abs(difference) > CLOCK_TOLERANCE:
        where = "ahead of" if difference > 0 else "behind"
        return f"the clock of this machine is {abs(difference):.0f} s {where} the server's; set it right (NTP)"
    if TIME_WORDS.search(description.lower()):
        return "it finds the times in it wrong; compare the clocks of both machines (NTP)"
    return ""
