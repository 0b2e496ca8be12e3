"""Scopes of SMART App Launch: what an access token lets a system read.

v2   system/Patient.rs              c, r, u, d, s in this order; a query behind `?` narrows it
v1   system/Patient.read            read = r and s, write = c, u and d, * = all
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from connectors.errors import AuthenticationError
from connectors.fhir.events import Problem
from connectors.http.authenticators import Authenticator, ScopedAuthenticator

READ = frozenset("rs")
V1_RIGHTS = {"read": READ, "write": frozenset("cud"), "*": frozenset("cruds")}
SCOPE = re.compile(
    r"(?P<context>system|user|patient)/(?P<type>\*|[A-Za-z]{1,64})\.(?P<rights>[a-z]+|\*)(?P<query>\?.*)?"
)
V2_RIGHTS = re.compile(r"c?r?u?d?s?")


@dataclass(frozen=True)
class Scope:
    """One scope. whole: it is not narrowed to the resources that a query finds."""

    context: str
    resource_type: str
    rights: frozenset[str]
    whole: bool = True

    def covers(self, resource_type: str, rights: frozenset[str]) -> bool:
        """Return whether this scope alone gives a system `rights` on every resource of the type."""
        # A narrowed scope (`?category=…`) would hide resources without a word, so it does not count.
        fits = self.resource_type in ("*", resource_type)
        return self.context == "system" and self.whole and fits and rights <= self.rights


def parse_scope(text: str) -> Scope | None:
    """Parse a scope of v1 or v2 on a resource type. Returns None for other kinds (`launch`, `https://…/.default`).

    >>> parse_scope("system/Patient.read") == parse_scope("system/Patient.rs")
    True
    """
    match = SCOPE.fullmatch(text)
    if match is None:
        return None
    rights = V1_RIGHTS.get(match["rights"])
    if rights is None and V2_RIGHTS.fullmatch(match["rights"]):
        rights = frozenset(match["rights"])
    return Scope(match["context"], match["type"], rights, match["query"] is None) if rights else None


def read_scopes(types: Iterable[str]) -> tuple[str, ...]:
    """Return the v2 scopes that let a system read and search `types`.

    >>> read_scopes(["Patient", "Condition"])
    ('system/Patient.rs', 'system/Condition.rs')
    """
    return tuple(f"system/{resource_type}.rs" for resource_type in types)


def missing_scopes(requested: Sequence[str], granted: Sequence[str], types: Sequence[str]) -> tuple[str, ...]:
    """Return the requested scopes that the granted ones do not cover.

    `system/*.rs` counts for each of `types` and no other: a server may answer it with a list of types. Rights may be
    granted in parts. Scopes of another kind are compared as text.

    >>> missing_scopes(["system/*.rs"], ["system/Patient.r", "system/Patient.s"], ["Patient", "Condition"])
    ('system/Condition.rs',)
    """
    have = [scope for scope in map(parse_scope, granted) if scope is not None]
    missing: dict[str, None] = {}  # in the order of the request, each once
    for text in requested:
        scope = parse_scope(text)
        if text in granted:
            continue
        if scope is None or scope.context != "system":
            missing[text] = None
            continue
        suffix = text.rpartition(".")[2]  # v1 or v2, as it was requested: the server knows that form
        for resource_type in types if scope.resource_type == "*" else (scope.resource_type,):
            if not _covered(resource_type, scope.rights, have):
                missing[f"system/{resource_type}.{suffix}"] = None
    return tuple(missing)


def unreadable_types(granted: Sequence[str], types: Sequence[str]) -> tuple[str, ...]:
    """Return those of `types` that the granted scopes do not let a system both read and search."""
    have = [scope for scope in map(parse_scope, granted) if scope is not None]
    return tuple(resource_type for resource_type in types if not _covered(resource_type, READ, have))


def _covered(resource_type: str, rights: frozenset[str], have: Sequence[Scope]) -> bool:
    # Right by right, because servers grant `.r` and `.s` as two scopes.
    return all(any(scope.covers(resource_type, frozenset(right)) for scope in have) for right in rights)


def scope_problems(auth: Authenticator, required_type: str = "") -> Iterator[Problem]:
    """Give a problem that names the types which the granted scopes do not cover, if there are any.

    Obtains the first token. Raises AuthenticationError where `required_type`, from which everything else follows,
    is one of them.
    """
    if not isinstance(auth, ScopedAuthenticator):
        return
    auth.headers()  # the granted scopes come with the token
    if not auth.unreadable_types:
        return
    message = (
        f"the token does not let us read every {', '.join(auth.unreadable_types)}: ask the server's administrator "
        f"to allow {', '.join(auth.missing_scopes)} for the client"
    )
    if required_type in auth.unreadable_types:
        raise AuthenticationError(message)
    yield Problem(message)
