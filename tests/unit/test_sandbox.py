"""The Bundles of a sandbox, and a server that takes no transactions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.errors import SandboxError
from connectors.http.authenticators import NoAuth
from connectors.http.client import FhirClient
from connectors.http.retry import Clock
from connectors.sandbox.bundles import (
    add_tag,
    chunks_by_patient,
    cohort_reference,
    create_entries,
    differs,
    is_tagged,
    patient_of,
    put_entry,
    referrers_first,
    rewrite_references,
)
from connectors.sandbox.server import Cleared, Loaded, Sandbox
from tests.fhir_stub import FhirStub, Reply, Request, fhir_stub, outcome


def of(kind: str, identity: str, patient: str | None = None, **more: Any) -> dict[str, Any]:
    subject = {"subject": {"reference": f"Patient/{patient}"}} if patient else {}
    return {"resourceType": kind, "id": identity, **subject, **more}


FAMILY = [of("Condition", "c", "a"), of("Observation", "o", "a"), of("Patient", "a")]


@pytest.fixture
def server() -> Iterator[FhirStub]:
    with fhir_stub() as stub:
        yield stub


def test_a_resource_belongs_to_its_subject() -> None:
    assert patient_of(of("Patient", "a")) == "Patient/a"
    assert patient_of(of("Condition", "c", "a")) == "Patient/a"
    assert patient_of(of("Organization", "o")) == ""


def test_a_patient_is_never_split_and_the_ownerless_come_first() -> None:
    made = [of("Condition", "c1", "a"), of("Condition", "c2", "b"), of("Organization", "o"), of("Patient", "a")]
    made.append(of("Patient", "b"))
    assert [[one["id"] for one in portion] for portion in chunks_by_patient(made, size=2)] == [
        ["o", "c1", "a"],
        ["c2", "b"],
    ]


def test_a_tagged_resource_keeps_profile_and_security_and_loses_what_the_server_gives() -> None:
    meta = {"versionId": "1", "lastUpdated": "2025-06-01T03:00:00Z", "profile": ["p"], "security": [{"code": "HTEST"}]}
    made = add_tag(of("Patient", "a", meta=meta), "x")
    assert set(made["meta"]) == {"profile", "security", "tag"}
    assert is_tagged(made, "x")
    assert not is_tagged(made, "y")
    assert not is_tagged(of("Patient", "a", meta={"tag": "nonsense"}), "x")


def test_what_the_server_adds_is_no_difference() -> None:
    ours = add_tag(of("Patient", "a", gender="male"), "x")
    theirs = {**ours, "id": "7", "text": {"div": "…"}, "meta": {**ours["meta"], "versionId": "3", "source": "#1"}}
    assert not differs(ours, theirs)
    assert differs(ours, {**theirs, "gender": "female"})
    assert differs(ours, {**theirs, "meta": {**theirs["meta"], "profile": ["other"]}})


def test_references_are_written_anew_wherever_they_stand() -> None:
    made = of("Condition", "c", "a", stage=[{"assessment": [{"reference": "Observation/o"}, {"reference": "#in"}]}])
    found = rewrite_references(made, {"Patient/a": "Patient/1", "Observation/o": "urn:uuid:2"})
    assert found["subject"]["reference"] == "Patient/1"
    assert found["stage"][0]["assessment"] == [{"reference": "urn:uuid:2"}, {"reference": "#in"}]
    assert made["subject"]["reference"] == "Patient/a"


def test_a_put_goes_to_the_id_that_the_server_gave() -> None:
    made = put_entry("http://h/fhir", of("Patient", "a"), {"Patient/a": "Patient/7"})
    assert made["request"] == {"method": "PUT", "url": "Patient/7"}
    assert (made["resource"]["id"], made["fullUrl"]) == ("7", "http://h/fhir/Patient/7")
    assert put_entry("http://h/fhir", of("Patient", "a"), {})["request"]["url"] == "Patient/a"


def test_conditional_creates_refer_to_each_other_and_to_what_is_there() -> None:
    resources = [add_tag(each, "x") for each in (of("Condition", "c", "a"), of("Observation", "o", "a"))]
    first, second = create_entries("http://h/fhir", resources, {"Patient/a": "Patient/7"})
    assert first["request"]["method"] == "POST"
    assert first["request"]["url"] == "Condition"
    assert first["request"]["ifNoneExist"].startswith("_tag=http%3A%2F%2F")
    assert first["request"]["ifNoneExist"].endswith("%7CCondition%2Fc")
    assert "id" not in first["resource"]
    assert first["resource"]["subject"]["reference"] == "Patient/7"
    assert first["fullUrl"] != second["fullUrl"]
    assert cohort_reference({**first["resource"], "id": "99"}) == "Condition/c"


def test_referrers_come_before_what_they_refer_to_even_in_circles() -> None:
    circle = of("Condition", "c", "a", stage=[{"assessment": [{"reference": "Observation/o"}]}])
    back = of("Observation", "o", "a", focus=[{"reference": "Condition/c"}])
    found = [each["id"] for each in referrers_first([of("Patient", "a"), circle, back, of("Procedure", "p", "a")])]
    assert found[-1] == "a"
    assert sorted(found) == ["a", "c", "o", "p"]


def test_batches_where_there_are_no_transactions(server: FhirStub) -> None:
    """The patient comes last, and the server wants it first: what failed is sent again."""
    server.transactions = False
    with FhirClient(server.base, NoAuth()) as client:
        counts = {"Condition": 1, "Observation": 1, "Patient": 1}
        assert Sandbox(client, "x").load(FAMILY) == Loaded(counts, {}, {})
        assert Sandbox(client, "x").load(FAMILY) == Loaded({}, {}, counts)
        assert Sandbox(client, "x").clear(tuple(counts)) == Cleared(counts, {})
    assert server.store == {}


def test_no_transactions_and_no_ids_of_ours(server: FhirStub) -> None:
    server.transactions = server.own_ids = False
    with (
        FhirClient(server.base, NoAuth()) as client,
        pytest.raises(SandboxError, match="does not take the resources"),
    ):
        Sandbox(client, "x").load(FAMILY)
    assert server.store == {}


def test_another_cohort_on_the_same_server_is_left_alone(server: FhirStub) -> None:
    with FhirClient(server.base, NoAuth()) as client:
        Sandbox(client, "x").load(FAMILY)
        Sandbox(client, "y").load([of("Patient", "b")])
        Sandbox(client, "x").clear(("Patient", "Condition", "Observation"))
    assert list(server.store) == ["Patient/b"]


# --- 74: how much a server takes at once ---


def ward(patients: int, each: int = 4) -> list[dict[str, Any]]:
    """Patients with observations of their own, which come before them."""
    made = []
    for number in range(patients):
        made += [of("Observation", f"o{number}-{count}", f"p{number}") for count in range(each)]
        made.append(of("Patient", f"p{number}"))
    return made


def too_large(size: int, status: int, kinds: tuple[str, ...] = ("transaction", "batch")) -> Any:
    """A rule: refuse a Bundle with more entries than that."""

    def rule(request: Request) -> Reply | None:
        bundle = request.body if request.method == "POST" and request.path == "" else {}
        refused = bundle.get("type") in kinds and len(bundle["entry"]) > size
        return outcome(status, "too-costly") if refused else None

    return rule


def loaded(server: FhirStub, resources: list[dict[str, Any]]) -> list[str]:
    """Load them; check that all are there, and return the messages on the way."""
    said: list[str] = []
    with FhirClient(server.base, NoAuth()) as client:
        found = Sandbox(client, "x").load(resources, said.append)
    assert sum(found.created.values()) == len(resources) == len(server.store)
    return [each for each in said if not each.endswith("resources put")]


def bundles(server: FhirStub, kind: str) -> list[int]:
    posts = [each.body for each in server.requests if each.method == "POST" and each.path == ""]
    return [len(each["entry"]) for each in posts if each["type"] == kind]


@pytest.mark.parametrize("status", [413, 400, 422, 409])
def test_fault_74_a_transaction_that_is_too_large_is_sent_in_parts(server: FhirStub, status: int) -> None:
    server.rules.append(too_large(30, status))
    assert loaded(server, ward(20)) == ["the server takes at most 25 resources in a transaction"]
    assert not bundles(server, "batch")
    accepted = [each for each in bundles(server, "transaction") if each <= 30]
    assert sum(accepted) == 100


def test_fault_163_a_transaction_that_a_gateway_does_not_wait_for_is_sent_in_parts(server: FhirStub) -> None:
    server.rules.append(too_large(30, 504))
    assert loaded(server, ward(20)) == ["the server takes at most 25 resources in a transaction"]
    assert sum(each for each in bundles(server, "transaction") if each <= 30) == 100


def test_fault_163_what_cannot_be_divided_is_sent_again_after_a_504(server: FhirStub) -> None:
    server.own_ids = False  # then the resources of a patient belong together
    left = 2

    def busy(request: Request) -> Reply | None:
        nonlocal left
        if request.method == "POST" and request.path == "" and left:
            left -= 1
            return Reply(504, "gateway timeout", "text/plain")
        return None

    server.rules.append(busy)
    clock = Clock(sleep=lambda _: None)
    with FhirClient(server.base, NoAuth(), clock=clock) as client:
        found = Sandbox(client, "x").load(ward(1))
    assert (sum(found.created.values()), left) == (5, 0)


def test_fault_74_a_patient_who_is_too_large_is_put_before_what_refers_to_him(server: FhirStub) -> None:
    server.rules.append(too_large(3, 413))
    assert loaded(server, ward(2)) == [
        "the server takes at most 3 resources in a transaction",
    ]


def test_fault_74_a_server_that_takes_no_transaction_after_all_gets_batches(server: FhirStub) -> None:
    server.rules.append(too_large(0, 400, ("transaction",)))
    server.rules.append(too_large(8, 413, ("batch",)))
    assert loaded(server, ward(4)) == ["the server takes at most 5 resources in a batch"]


def test_fault_74_a_server_that_takes_no_bundle_gets_each_resource_alone(server: FhirStub) -> None:
    server.rules.append(too_large(0, 405))
    assert loaded(server, ward(3)) == ["the server takes no Bundle: each resource is put alone"]
    assert len([each for each in server.requests if each.method == "PUT"]) == 15


def test_fault_74_a_server_that_chooses_the_ids_gets_whole_patients(server: FhirStub) -> None:
    server.own_ids = False
    server.rules.append(too_large(5, 413))
    assert loaded(server, ward(4)) == ["the server takes at most 5 resources in a transaction"]
    assert len(server.of_type("Patient")) == 4


def test_fault_74_one_resource_that_is_refused_is_said_in_the_words_of_the_server(server: FhirStub) -> None:
    def refuse(request: Request) -> Reply | None:
        if request.method not in ("POST", "PUT") or "o1-1" not in json.dumps(request.body):
            return None
        words = {
            "severity": "error",
            "code": "invalid",
            "diagnostics": "Observation.status is missing in Observation/o1-1",
        }
        return Reply(422, {"resourceType": "OperationOutcome", "issue": [words]})

    server.rules.append(refuse)
    with FhirClient(server.base, NoAuth()) as client, pytest.raises(SandboxError) as raised:
        Sandbox(client, "x").load(ward(3))
    assert str(raised.value).endswith('; it says "Observation.status is missing in …"')
    assert "(422, invalid)" in str(raised.value)
