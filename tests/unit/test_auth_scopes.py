"""What granted scopes cover, in both syntaxes; and where the token endpoint is said to be."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.auth.discovery import OAUTH_URIS, from_capability_statement, from_well_known
from connectors.auth.scopes import Scope, missing_scopes, parse_scope, read_scopes, scope_problems, unreadable_types
from connectors.http.authenticators import NoAuth, ScopedAuthenticator
from tests.smart_servers import FakeClock, smart

TYPES = ("Patient", "Condition", "Observation")
ASKED = read_scopes(TYPES)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("system/Patient.rs", Scope("system", "Patient", frozenset("rs"))),
        ("system/*.cruds", Scope("system", "*", frozenset("cruds"))),
        ("system/Patient.read", Scope("system", "Patient", frozenset("rs"))),
        ("system/*.*", Scope("system", "*", frozenset("cruds"))),
        ("user/Patient.write", Scope("user", "Patient", frozenset("cud"))),
        ("system/Observation.rs?category=laboratory", Scope("system", "Observation", frozenset("rs"), whole=False)),
        ("system/Patient.sr", None),  # the order is fixed
        ("system/Patient.rr", None),
        ("system/Patient.", None),
        ("system/Patient", None),
        ("system/Patient.x", None),
        ("launch/patient", None),
        ("openid", None),
        ("https://fhir.example.org/.default", None),
        ("", None),
    ],
)
def test_a_scope_is_read_in_both_syntaxes(text: str, scope: Scope | None) -> None:
    assert parse_scope(text) == scope


@pytest.mark.parametrize(
    "granted",
    [
        "system/*.rs",
        "system/*.read",
        "system/*.*",
        "system/*.cruds",
        "system/Patient.rs system/Condition.rs system/Observation.rs",
        "system/Patient.read system/Condition.read system/Observation.cruds",
        "system/*.r system/*.s",
        "system/Patient.rs system/*.s system/Condition.r system/Observation.rs?code=a system/Observation.r",
        "openid system/*.rs",
    ],
)
def test_these_scopes_let_everything_be_read(granted: str) -> None:
    assert missing_scopes(ASKED, granted.split(), TYPES) == ()
    assert unreadable_types(granted.split(), TYPES) == ()


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        ("", TYPES),
        ("system/Patient.rs", ("Condition", "Observation")),
        ("system/*.r", TYPES),
        ("system/*.write", TYPES),
        ("user/*.rs patient/*.rs", TYPES),
        ("system/*.rs?_tag=a", TYPES),
        ("system/Patient.rs system/Condition.read system/Observation.rs?category=laboratory", ("Observation",)),
    ],
)
def test_these_do_not(granted: str, missing: tuple[str, ...]) -> None:
    assert missing_scopes(ASKED, granted.split(), TYPES) == read_scopes(missing)
    assert unreadable_types(granted.split(), TYPES) == missing


@pytest.mark.parametrize(
    ("asked", "granted", "missing"),
    [
        ("system/*.read", "system/*.rs", ""),
        ("system/*.rs", "system/*.read", ""),
        ("system/*.read", "system/Patient.rs system/Condition.read", "system/Observation.read"),
        ("system/*.rs openid", "system/*.rs", "openid"),
        ("https://h/.default", "https://h/.default", ""),
        ("https://h/.default", "system/*.rs", "https://h/.default"),
        (
            "system/Group.rs system/*.rs",
            "system/Patient.rs system/Group.read",
            "system/Condition.rs system/Observation.rs",
        ),
    ],
)
def test_what_was_asked_is_compared_by_its_meaning(asked: str, granted: str, missing: str) -> None:
    assert missing_scopes(asked.split(), granted.split(), TYPES) == tuple(missing.split())


def test_credentials_without_scopes_have_no_problem() -> None:
    assert list(scope_problems(NoAuth(), "Condition")) == []
    assert not isinstance(NoAuth(), ScopedAuthenticator)
    assert isinstance(smart("https://fhir.example.org", FakeClock()), ScopedAuthenticator)


# --- discovery ---


def statement(*extensions: Any) -> dict[str, Any]:
    return {
        "resourceType": "CapabilityStatement",
        "rest": [{"mode": "server", "security": {"extension": [*extensions]}}],
    }


def test_the_endpoint_of_a_capability_statement() -> None:
    uris = [{"url": "authorize", "valueUri": "https://h/a"}, {"url": "token", "valueUri": "https://h/t"}]
    found = from_capability_statement(statement({"url": "other"}, {"url": OAUTH_URIS, "extension": uris}))
    assert found is not None
    assert (found.token_endpoint, found.algorithms) == ("https://h/t", ())


def test_algorithms_are_kept_as_far_as_they_are_text() -> None:
    document = {
        "token_endpoint": "https://h/t",
        "token_endpoint_auth_signing_alg_values_supported": ["ES384", 7],
    }
    found = from_well_known(document)
    assert found is not None
    assert found.algorithms == ("ES384",)


@pytest.mark.parametrize("content", [None, [], {}, "x", {"token_endpoint": None}, {"token_endpoint": ["https://h"]}])
def test_a_document_without_an_endpoint(content: Any) -> None:
    assert from_well_known(content) is None


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"rest": {}},
        {"rest": [7, {"security": []}, {"security": {"extension": {}}}]},
        statement(7, {"url": OAUTH_URIS}),
        statement({"url": OAUTH_URIS, "extension": [{"url": "token"}, {"url": "token", "valueUri": 7}]}),
    ],
)
def test_a_statement_without_an_endpoint(content: Any) -> None:
    assert from_capability_statement(content) is None
