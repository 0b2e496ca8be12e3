"""Comparison of scopes against a slow reference: the set of every (type, right) that a list of scopes gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.auth.scopes import missing_scopes, parse_scope, read_scopes, unreadable_types

TYPES = ("Patient", "Condition", "Observation")
RIGHTS = ["cruds"[a:b] for a in range(5) for b in range(a + 1, 6)] + ["rs", "cs", "rud"]
MEANING = {"read": "rs", "write": "cud", "*": "cruds"}

contexts = st.sampled_from(["system", "system", "system", "user", "patient"])
kinds = st.sampled_from([*TYPES, "*"])
rights = st.sampled_from([*RIGHTS, *MEANING])
queries = st.sampled_from(["", "", "", "?category=a"])
scopes = st.tuples(contexts, kinds, rights, queries)


def text(scope: tuple[str, str, str, str]) -> str:
    context, kind, right, query = scope
    return f"{context}/{kind}.{right}{query}"


def gives(granted: list[tuple[str, str, str, str]]) -> set[tuple[str, str]]:
    return {
        (each, right)
        for context, kind, written, query in granted
        for each in (TYPES if kind == "*" else (kind,))
        for right in MEANING.get(written, written)
        if context == "system" and not query
    }


@given(st.lists(scopes, max_size=6))
def test_types_are_readable_where_both_rights_are_given(granted: list[tuple[str, str, str, str]]) -> None:
    texts = [text(scope) for scope in granted]
    have = gives(granted)
    missing = tuple(kind for kind in TYPES if not {(kind, "r"), (kind, "s")} <= have)
    assert unreadable_types(texts, TYPES) == missing
    assert missing_scopes(read_scopes(TYPES), texts, TYPES) == read_scopes(missing)


@given(st.lists(scopes, max_size=4), st.lists(scopes, max_size=4))
def test_nothing_is_missing_exactly_where_all_that_was_asked_is_given(
    asked: list[tuple[str, str, str, str]], granted: list[tuple[str, str, str, str]]
) -> None:
    """Asked of a system and of whole types; the rest is compared by its letters."""
    plain = [scope for scope in asked if scope[0] == "system" and not scope[3]]
    missing = missing_scopes([text(scope) for scope in plain], [text(scope) for scope in granted], TYPES)
    assert (not missing) == (gives(plain) <= gives(granted))


@given(st.text(max_size=40))
def test_any_text_is_a_scope_or_none(written: str) -> None:
    scope = parse_scope(written)
    assert scope is None or scope.rights <= frozenset("cruds")
