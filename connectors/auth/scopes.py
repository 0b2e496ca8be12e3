"""Scopes of SMART App Launch: what a token lets a system read.

v2   system/Patient.rs              c, r, u, d, s in this order; a query behind `?` narrows it
v1   system/Patient.read            read = r and s, write = c, u and d, * = all
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from connectors.errors import AuthenticationError
from connectors.fhir.events import Problem
from connectors.http.authenticators import Authenticator, Scoped

READ = frozenset("rs")
V1 = {"read": READ, "write": frozenset("cud"), "*": frozenset("cruds")}
FORM = re.compile(
    r"(?P<context>system|user|patient)/(?P<type>\*|[A-Za-z]{1,64})\.(?P<rights>[a-z]+|\*)(?P<query>\?.*)?"
)
IN_ORDER = re.compile(r"c?r?u?d?s?")


@dataclass(frozen=True)
class Scope:
    """One scope. `whole`: not narrowed to the resources that a query finds."""

    context: str
    resource_type: str
    rights: frozenset[str]
    whole: bool = True

    def covers(self, resource_type: str, rights: frozenset[str]) -> bool:
        """Whether it alone gives a system `rights` on every resource of the type."""
        fits = self.resource_type in ("*", resource_type)
        return self.context == "system" and self.whole and fits and rights <= self.rights


def parse_scope(text: str) -> Scope | None:
    """A scope of v1 or v2 on a resource type; None for one of another kind (`launch`, `https://…/.default`)."""
    match = FORM.fullmatch(text)
    if match is None:
        return None
    rights = V1.get(match["rights"]) or (frozenset(match["rights"]) if IN_ORDER.fullmatch(match["rights"]) else None)
    return Scope(match["context"], match["type"], rights, match["query"] is None) if rights else None


def read_scopes(types: Iterable[str]) -> tuple[str, ...]:
    """The scopes of v2 that let a system read and search `types`."""
    return tuple(f"system/{resource_type}.rs" for resource_type in types)


def missing_scopes(asked: Sequence[str], granted: Sequence[str], types: Sequence[str]) -> tuple[str, ...]:
    """The scopes of `asked` that `granted` does not cover.

    One for all types (`system/*.rs`) counts for each of `types` and for no other: a server may answer it with
    a list of types. Scopes of another kind are compared letter by letter. Rights may be granted in parts.
    """
    have = [scope for scope in map(parse_scope, granted) if scope is not None]
    missing: dict[str, None] = {}
    for text in asked:
        scope = parse_scope(text)
        if text in granted:
            continue
        if scope is None or scope.context != "system":
            missing[text] = None
            continue
        suffix = text.rpartition(".")[2]
        for resource_type in types if scope.resource_type == "*" else (scope.resource_type,):
            if not _covered(resource_type, scope.rights, have):
                missing[f"system/{resource_type}.{suffix}"] = None
    return tuple(missing)


def unreadable(granted: Sequence[str], types: Sequence[str]) -> tuple[str, ...]:
    """The types of `types` that `granted` does not let a system both read and search."""
    have = [scope for scope in map(parse_scope, granted) if scope is not None]
    return tuple(resource_type for resource_type in types if not _covered(resource_type, READ, have))


def _covered(resource_type: str, rights: frozenset[str], have: Sequence[Scope]) -> bool:
    return all(any(scope.covers(resource_type, frozenset(right)) for scope in have) for right in rights)


def scope_problems(auth: Authenticator, needed: str = "") -> Iterator[Problem]:
    """A problem that names the types which the granted scopes do not let us read, none if all can be read.

    Obtains the first token. Raises AuthenticationError where even `needed`, the type that everything else follows
    from, cannot be read.
    """
    if not isinstance(auth, Scoped):
        return
    auth.headers()
    if not auth.unreadable:
        return
    said = (
        f"the token does not let us read every {', '.join(auth.unreadable)}: ask the server's administrator to allow "
        f"{', '.join(auth.missing_scopes)} for the client"
    )
    if needed in auth.unreadable:
        raise AuthenticationError(said)
    yield Problem(said)
