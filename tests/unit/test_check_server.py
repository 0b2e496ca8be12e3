"""The check of a server where it is not reached, gives no token, grants too little or fails at times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from connectors.check.findings import Diagnosis, Finding, FindingLevel, join_words, search_path
from connectors.check.server import ServerCheck
from connectors.errors import AuthenticationError, ConnectorError, UnavailableError
from connectors.http.authenticators import Authenticator, BearerAuth, NoAuth
from connectors.http.client import FhirClient
from connectors.http.retry import Clock, TransferLimits
from connectors.sources.search.source import CohortQuery
from tests.fhir_stub import TYPES, FhirStub, fhir_stub, outcome

COHORT = CohortQuery("Condition", (("code", "http://snomed.info/sct|254637007"),))


@pytest.fixture
def server() -> Iterator[FhirStub]:
    with fhir_stub() as stub:
        yield stub


@dataclass
class Checker:
    """Checks one url; it waits without waiting."""

    base: str
    slept: list[float] = field(default_factory=list)

    def connect(self, auth: Authenticator) -> FhirClient:
        clock = Clock(sleep=self.slept.append, random=lambda: 0.0)
        return FhirClient(self.base, auth, TransferLimits(attempts=2), clock)

    def run(self, auth: Authenticator | None = None) -> Diagnosis:
        clock = lambda: datetime.now(UTC)  # noqa: E731
        return ServerCheck("milan", self.connect, auth or NoAuth(), COHORT, TYPES, frozenset(TYPES), clock, 7.0).run()


def only(found: Diagnosis, check: str) -> Finding:
    (finding,) = [each for each in found.findings if each.check == check]
    return finding


def test_nobody_listens(server: FhirStub) -> None:
    server.close()
    found = Checker(server.base).run()
    assert [each.check for each in found.findings] == ["reach"]
    assert found.path is None
    assert found.requests[0].startswith(f"Please let the machine that periop runs on reach {server.origin}")


def test_https_to_a_port_that_speaks_http(server: FhirStub) -> None:
    found = Checker(server.base.replace("http:", "https:")).run()
    assert only(found, "reach").level is FindingLevel.MISSING
    assert "no encrypted connection" in found.requests[0]


@dataclass(frozen=True)
class Refused:
    """Credentials that cannot be had."""

    error: ConnectorError

    def headers(self) -> Mapping[str, str]:
        raise self.error

    def renew(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (AuthenticationError("token: the client is not known"), FindingLevel.REFUSED),
        (UnavailableError("token: no answer"), FindingLevel.MISSING),
    ],
)
def test_no_token(server: FhirStub, error: ConnectorError, level: FindingLevel) -> None:
    found = Checker(server.base).run(Refused(error))
    finding = only(found, "credentials")
    assert (finding.level, finding.message) == (level, str(error))
    assert "it is given no token" in found.requests[0]
    assert {request.path for request in server.requests} == {"metadata"}


@dataclass(frozen=True)
class Limited:
    """A token with fewer scopes than were asked for."""

    missing_scopes: tuple[str, ...] = ()
    unreadable_types: tuple[str, ...] = ()

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": "Bearer token"}

    def renew(self) -> bool:
        return False

    def narrow(self, types: tuple[str, ...]) -> None:
        assert set(types) <= set(TYPES)


def test_a_scope_that_is_not_granted(server: FhirStub) -> None:
    server.token = "token"
    server.rules.append(lambda r: outcome(403, "forbidden") if r.path == "AdverseEvent" else None)
    found = Checker(server.base).run(Limited(("system/AdverseEvent.rs",), ("AdverseEvent",)))
    assert [each.resource_type for each in found.findings if each.check == "scopes"] == ["AdverseEvent"]
    assert (
        f"Please grant the client of periop the SMART scopes system/AdverseEvent.rs at {server.origin}."
        in found.requests
    )
    assert not found.ok


def test_all_scopes_are_granted(server: FhirStub) -> None:
    server.token = "token"
    assert only(Checker(server.base).run(Limited()), "scopes").level is FindingLevel.OK


def test_a_scope_that_is_not_needed(server: FhirStub) -> None:
    found = only(Checker(server.base).run(Limited(("launch",))), "scopes")
    assert (found.level, found.message) == (FindingLevel.NOTE, "not granted: launch")


def test_a_statement_behind_the_credentials(server: FhirStub) -> None:
    secret = "Bearer s3cret"
    server.rules.append(lambda r: outcome(401, "login") if r.headers.get("authorization") != secret else None)
    found = Checker(server.base).run(BearerAuth("s3cret"))
    assert only(found, "fhir").level is FindingLevel.OK
    assert found.path is not None


def test_a_statement_behind_credentials_that_cannot_be_had(server: FhirStub) -> None:
    server.rules.append(lambda r: outcome(401, "login"))
    found = Checker(server.base).run(Refused(AuthenticationError("token: the client is not known")))
    assert [each.check for each in found.findings][-1] == "credentials"
    assert only(found, "reach").level is FindingLevel.OK
    assert found.refused


def test_a_type_that_fails(server: FhirStub) -> None:
    server.rules.append(lambda r: outcome(500, "exception") if r.path == "Observation" else None)
    checker = Checker(server.base)
    found = checker.run()
    (finding,) = [each for each in found.findings if each.level is FindingLevel.MISSING]
    assert (finding.check, finding.resource_type) == ("read", "Observation")
    assert "status 500 in 2 attempts" in finding.message
    assert "a search for Observation ends with no usable answer" in found.requests[0]
    assert checker.slept == [0.5]


def test_a_server_that_is_gone_is_not_asked_for_ever(server: FhirStub) -> None:
    server.rules.append(lambda r: outcome(503, "transient") if r.path in TYPES else None)
    checker = Checker(server.base)
    found = checker.run()
    assert len(checker.slept) == 3
    assert found.path is None


def test_an_empty_server_leaves_open_what_it_can_do() -> None:
    with fhir_stub() as server:
        found = Checker(server.base).run()
    assert only(found, "cohort").level is FindingLevel.NOTE
    assert only(found, "paging").level is FindingLevel.NOTE
    assert found.ok


def test_the_types_that_share_a_sentence_are_named_in_it() -> None:
    text = "Please switch on {types}."
    findings = tuple(Finding("read", FindingLevel.MISSING, "", kind, text) for kind in ("Patient", "Observation"))
    assert Diagnosis("a", "search", "", findings, None).requests == ("Please switch on Patient and Observation.",)
    assert [join_words(words) for words in ((), ("a",), ("a", "b", "c"))] == ["", "a", "a, b and c"]


def test_the_path_of_a_server_with_one_type_that_ignores_changes() -> None:
    findings = [
        Finding(check, FindingLevel.OK, "", kind)
        for kind in ("Patient", "Observation")
        for check in ("read", "history")
    ]
    findings += [
        Finding("changes", FindingLevel.OK, "", "Patient"),
        Finding("changes", FindingLevel.NOTE, "", "Observation"),
    ]
    path = search_path(findings, 7.0)
    assert (path.nightly, path.deletions) == ("changes of some", "by history")
    assert "every nightly run reads all of Observation:" in path.why[1]


def test_deletions_without_a_history_show_by_comparing_ids() -> None:
    findings = [Finding(check, FindingLevel.OK, "", "Patient") for check in ("read", "changes")]
    path = search_path([*findings, Finding("history", FindingLevel.NOTE, "", "Patient")], 7.0)
    assert (path.nightly, path.deletions) == ("changes only", "by a comparison")
    assert path.why[2] == "deletions of Patient are found by comparing all ids, every 7 days"
