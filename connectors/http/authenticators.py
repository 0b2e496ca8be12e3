"""Credentials for one server.

Each kind is an `Authenticator`. No secret shows in a repr, so none reaches a log or a traceback.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


class Authenticator(Protocol):
    """Supplies the credentials of one server, as request headers."""

    def headers(self) -> Mapping[str, str]:
        """Return the headers that authenticate the next request. May obtain a token first."""
        ...

    def renew(self) -> bool:
        """Get new credentials after a 401. Returns False if there can be no others, so trying again is useless."""
        ...


@runtime_checkable
class ScopedAuthenticator(Protocol):
    """An authenticator whose tokens may not cover everything that was asked for; known after `headers()`."""

    def narrow(self, types: tuple[str, ...]) -> None:
        """Ask for these resource types only. Before the first token."""
        ...

    @property
    def missing_scopes(self) -> tuple[str, ...]:
        """Return the scopes that were requested and not granted."""
        ...

    @property
    def unreadable_types(self) -> tuple[str, ...]:
        """Return the resource types that cannot be read completely because a scope is missing."""
        ...


@dataclass(frozen=True)
class NoAuth:
    """No credentials: an open server, such as a sandbox."""

    def headers(self) -> Mapping[str, str]:
        return {}

    def renew(self) -> bool:
        return False


@dataclass(frozen=True)
class WithHeaders:
    """Other credentials, with headers that the site needs in each request, such as the API key of a gateway."""

    fixed: Mapping[str, str] = field(repr=False)
    inner: Authenticator

    def headers(self) -> Mapping[str, str]:
        return {**self.fixed, **self.inner.headers()}

    def renew(self) -> bool:
        return self.inner.renew()


@dataclass(frozen=True)
class BasicAuth:
    """HTTP Basic authentication (RFC 7617), in UTF-8."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    def headers(self) -> Mapping[str, str]:
        # UTF-8 as RFC 7617 recommends: it leaves the encoding to the server, and most accept this one.
        pair = f"{self.username}:{self.password}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}

    def renew(self) -> bool:
        return False


@dataclass
class BearerAuth:
    """A bearer token (RFC 6750) that is issued and renewed outside of periop.

    read: returns the token as it is now, where another program may have renewed it. None for one that never changes.
    """

    token: str = field(repr=False)
    read: Callable[[], str] | None = field(default=None, repr=False, compare=False)

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def renew(self) -> bool:
        refused = self.token
        if self.read is not None:
            self.token = self.read()
        return self.token != refused
