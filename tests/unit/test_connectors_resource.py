"""Reading one raw resource: what is kept, and what is rejected for which reason."""

from __future__ import annotations

import hashlib
import pkgutil

import pytest

from connectors.fhir.instants import instant
from connectors.fhir.resource import Reason, Rejected, Resource, read_resource
from connectors.fhir.resource_types import KNOWN, R4, R4B_ADDED

OBSERVATIONS = frozenset({"Observation"})


def rejected(raw: bytes, wanted: frozenset[str] | None = None) -> Rejected:
    item = read_resource(raw, "here", wanted)
    assert isinstance(item, Rejected)
    return item


def accepted(raw: bytes) -> Resource:
    item = read_resource(raw, "here")
    assert isinstance(item, Resource)
    return item


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"hello", Reason.NOT_JSON),
        (b'{"resourceType":"Patient","id":"a"', Reason.TRUNCATED),
        (b'{"resourceType":"Patient","id":"\xff"}', Reason.INVALID_UTF8),
        (b'{"resourceType":"Patient","id":"a","x":"\xed\xa0\x80"}', Reason.INVALID_UTF8),
        (b'{"resourceType":"Patient","id":"a","x":"\\ud800"}', Reason.LONE_SURROGATE),
        (b'{"resourceType":"Patient","id":"a","x":NaN}', Reason.NOT_A_NUMBER),
        (b'{"resourceType":"Patient","id":"a","x":-Infinity}', Reason.NOT_A_NUMBER),
        (b'{"resourceType":"Patient","id":"a","x":' + b"1" * 5000 + b"}", Reason.NUMBER_OUT_OF_RANGE),
        (b'{"resourceType":"Patient","id":"a","x":1e400}', Reason.NUMBER_OUT_OF_RANGE),
        (b'{"resourceType":"Patient","id":"a","x":' + b"[" * 300 + b"]" * 300 + b"}", Reason.TOO_DEEP),
        (b'{"resourceType":"Patient","id":"a","x":' + b"[" * 9999 + b"]" * 9999 + b"}", Reason.TOO_DEEP),
        (b'{"resourceType":"Patient","id":"a","id":"b"}', Reason.DUPLICATE_KEY),
        (b'{"resourceType":"Patient","id":"a","x":[{"y":1.10,"y":2}]}', Reason.DUPLICATE_KEY),
        (b'["Patient"]', Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
        (b'{"id":"a"}', Reason.NO_RESOURCE_TYPE),
        (b'{"resourceType":7,"id":"a"}', Reason.NO_RESOURCE_TYPE),
        (b'{"resourceType":"../../etc","id":"a"}', Reason.UNKNOWN_RESOURCE_TYPE),
        (b'{"resourceType":"patient","id":"a"}', Reason.UNKNOWN_RESOURCE_TYPE),
        (b'{"resourceType":"OperationOutcome","id":"a"}', Reason.OPERATION_OUTCOME),
        (b'{"resourceType":"Patient"}', Reason.NO_ID),
        (b'{"resourceType":"Patient","id":null}', Reason.NO_ID),
        (b'{"resourceType":"Patient","id":7}', Reason.INVALID_ID),
        (b'{"resourceType":"Patient","id":""}', Reason.INVALID_ID),
        (b'{"resourceType":"Patient","id":"../x"}', Reason.INVALID_ID),
        (b'{"resourceType":"Patient","id":"a\\u0000"}', Reason.INVALID_ID),
        (b'{"resourceType":"Patient","id":"a\\n"}', Reason.INVALID_ID),
        (b'{"resourceType":"Patient","id":"' + b"a" * 257 + b'"}', Reason.INVALID_ID),
    ],
)
def test_fault_19_each_kind_of_nonsense_has_its_reason(raw: bytes, reason: Reason) -> None:
    assert rejected(raw).reason is reason
    assert rejected(raw).content == raw


def test_a_type_that_was_not_asked_for() -> None:
    item = rejected(b'{"resourceType":"Patient","id":"a"}', OBSERVATIONS)
    assert (item.reason, item.resource_type) == (Reason.UNREQUESTED_TYPE, "Patient")


@pytest.mark.parametrize(
    ("severity", "severe"), [("fatal", True), ("error", True), ("warning", False), ("information", False)]
)
def test_fault_21_an_outcome_knows_whether_it_is_severe(severity: str, severe: bool) -> None:
    raw = f'{{"resourceType":"OperationOutcome","issue":[{{"severity":"{severity}","code":"x"}}]}}'
    assert rejected(raw.encode()).severe is severe


def test_the_text_is_kept_and_the_digest_is_that_of_the_sorted_json() -> None:
    raw = b'{"resourceType": "Observation", "id": "o1", "valueQuantity": {"value": 1.10}}'
    item = accepted(b"\xef\xbb\xbf" + raw + b"\r")
    assert item.raw == raw.decode()
    canonical = '{"id":"o1","resourceType":"Observation","valueQuantity":{"value":1.1}}'
    assert item.digest == hashlib.sha256(canonical.encode()).hexdigest()
    assert item.version_id == "sha256-" + item.digest[:32]
    assert (item.last_updated, item.patient) == (None, None)


def test_the_head_of_a_resource_from_a_server() -> None:
    item = accepted(
        b'{"resourceType":"Observation","id":"o1","meta":{"versionId":"7",'
        b'"lastUpdated":"2024-05-01T10:00:00.123+02:00"},'
        b'"subject":{"reference":"https://fhir.example/r4/Patient/p-1/_history/3"}}'
    )
    assert (item.version_id, item.last_updated, item.patient) == ("7", "2024-05-01T10:00:00.123+02:00", "p-1")


@pytest.mark.parametrize("meta", ["null", "7", '{"versionId":3,"lastUpdated":"yesterday"}', '{"versionId":"a/b"}'])
def test_a_strange_meta_counts_as_none(meta: str) -> None:
    item = accepted(f'{{"resourceType":"Patient","id":"a","meta":{meta}}}'.encode())
    assert item.version_id.startswith("sha256-")
    assert item.last_updated is None
    assert item.patient == "a"


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.000001+01:00", 1),
        ("1970-01-02T00:00:00.1234567Z", 86_400_123_456),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("2024-02-30T00:00:00Z", None),
        ("2024-02-01", None),
        ("2024-02-01T00:00:00", None),
        (None, None),
    ],
)
def test_instants_in_microseconds(text: str | None, microseconds: int | None) -> None:
    assert instant(text) == microseconds


def test_the_names_of_types_are_those_of_the_model_of_r4b() -> None:
    """fhir.resources has R4B: all that R4B took over from R4 or added is known."""
    import fhir.resources.R4B

    modules = {module.name for module in pkgutil.iter_modules(fhir.resources.R4B.__path__)}
    assert {name for name in R4B_ADDED if name.lower() not in modules} == set()
    dropped = {name for name in R4 if name.lower() not in modules}
    assert all(name.startswith(("MedicinalProduct", "Substance", "EffectEvidence", "RiskEvidence")) for name in dropped)
    # R4 has 148 resource types, of which Resource and DomainResource are abstract
    assert len(R4) == 146
    assert len(KNOWN) == 159
