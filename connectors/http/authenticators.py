"""Credentials for one server. What they are never shows in a repr, so neither in a log nor in a traceback.

Every kind is an `Authenticator`: headers for the next request, and whether there is something new after a
401.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


class Authenticator(Protocol):
    """Supplies the credentials of one server."""

    def headers(self) -> Mapping[str, str]:
        """The headers of the next request to the configured origin. May obtain a token first."""
        ...

    def renew(self) -> bool:
        """After a 401: get new credentials. False if there can be no others, so trying again is useless."""
        ...


@runtime_checkable
class Scoped(Protocol):
    """An authenticator whose tokens let us read some things and others not; known after the first `headers()`."""

    @property
    def missing_scopes(self) -> tuple[str, ...]:
        """The scopes that were asked for and not granted."""
        ...

    @property
    def unreadable(self) -> tuple[str, ...]:
        """The resource types that cannot be read whole for want of a scope."""
        ...


@dataclass(frozen=True)
class NoAuth:
    """An open server (a sandbox)."""

    def headers(self) -> Mapping[str, str]:
        return {}

    def renew(self) -> bool:
        return False


@dataclass(frozen=True)
class BasicAuth:
    """HTTP Basic (RFC 7617), UTF-8."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    def headers(self) -> Mapping[str, str]:
        pair = f"{self.username}:{self.password}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}

    def renew(self) -> bool:
        return False


@dataclass(frozen=True)
class BearerAuth:
    """A token that somebody else issued and renews (RFC 6750)."""

    token: str = field(repr=False)

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def renew(self) -> bool:
        return False
