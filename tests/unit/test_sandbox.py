"""The Bundles of a sandbox, and a server that takes no transactions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.errors import SandboxError
from connectors.http.authenticators import NoAuth
from connectors.http.client import FhirClient
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
from tests.fhir_stub import FhirStub, fhir_stub


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
