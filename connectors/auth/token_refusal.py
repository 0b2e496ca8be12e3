"""What the refusal of a token endpoint means (RFC 6749, 5.2), and what to tell its administrator.

The server's own description is read for a hint and never shown: it may quote what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.auth.keys import SigningKey
from connectors.errors import AuthenticationError
from connectors.http.retry import http_date

APART = 60.0  # seconds between two clocks that a statement of a few minutes does not bear
OF_TIME = re.compile(r"\b(exp|iat|nbf|expired|future|clock|skew)\b")
CODE = re.compile(r"[a-z_]{1,40}")
ASK = "ask its administrator"


@dataclass(frozen=True)
class Asked:
    """What was asked of whom. algorithms: of signatures that the server says it accepts, () if it does not say."""

    server: str
    key: SigningKey
    scopes: tuple[str, ...]
    algorithms: tuple[str, ...] = ()


def refusal(
    asked: Asked, status: int, headers: Mapping[str, str], content: Mapping[str, Any], now: datetime
) -> AuthenticationError:
    """The error for an answer other than 200. `now`: of this machine, to compare with the Date of the answer."""
    code = _text(content.get("error"))
    if 300 <= status < 400:
        said = f"redirects ({status}), which is refused: set token_url to the final address"
    elif not CODE.fullmatch(code):
        said = f"gave no token ({status}): check token_url, and {ASK} whether this is the token endpoint"
    elif clock := _clock(headers, _text(content.get("error_description")), now):
        said = f"refuses the signed statement ({code}): {clock}"
    else:
        said = f"{_meaning(code, asked)} ({code})"
    return AuthenticationError(f"token: {asked.server} {said}")


def _meaning(code: str, asked: Asked) -> str:
    match code:
        case "invalid_client" | "invalid_grant":
            return f"does not accept the client or its key: {_key_advice(asked)}"
        case "invalid_scope":
            return f"does not allow the scopes that were asked for: {ASK} to allow {', '.join(asked.scopes)}"
        case "unauthorized_client" | "unsupported_grant_type" | "access_denied":
            return f"gives this client no token: {ASK} to allow client_credentials (SMART Backend Services) for it"
        case _:
            return f"refuses the request for a token: {ASK} what its token endpoint expects"


def _key_advice(asked: Asked) -> str:
    algorithm, accepted = asked.key.algorithm, [name for name in asked.algorithms if name in ("ES384", "RS384")]
    if accepted and algorithm not in accepted:
        return f"it takes {accepted[0]} and the key is for {algorithm}; `periop keys new --alg {accepted[0]}` makes one"
    return (
        f"{ASK} to register the client_id of `auth` with the public key {asked.key.kid} ({algorithm}), "
        "which `periop keys show` prints"
    )


def _clock(headers: Mapping[str, str], description: str, now: datetime) -> str:
    """What to do about the clocks, '' if they are not to blame."""
    theirs = http_date(headers.get("date", ""))
    apart = (now - theirs).total_seconds() if theirs else 0.0
    if abs(apart) > APART:
        where = "ahead of" if apart > 0 else "behind"
        return f"the clock of this machine is {abs(apart):.0f} s {where} the server's; set it right (NTP)"
    if OF_TIME.search(description.lower()):
        return "it finds the times in it wrong; compare the clocks of both machines (NTP)"
    return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
