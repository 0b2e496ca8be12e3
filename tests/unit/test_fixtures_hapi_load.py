"""The loader of the local FHIR server, against a transport that keeps what it is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from fixtures.hapi.load import LoadError, load, main, patient_of, portions, transaction


def _resource(kind: str, identity: str, patient: str | None = None) -> dict[str, Any]:
    subject = {"subject": {"reference": f"Patient/{patient}"}} if patient else {}
    return {"resourceType": kind, "id": identity, **subject}


def _write(folder: Path, name: str, *resources: dict[str, Any]) -> None:
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in resources), encoding="utf-8")


def test_a_resource_belongs_to_its_subject() -> None:
    assert patient_of(_resource("Patient", "a")) == "Patient/a"
    assert patient_of(_resource("Condition", "c", "a")) == "Patient/a"
    assert patient_of(_resource("Organization", "o")) == ""


def test_a_patient_is_never_split_and_the_ownerless_come_first() -> None:
    made = [
        _resource("Condition", "c1", "a"),
        _resource("Condition", "c2", "b"),
        _resource("Organization", "o"),
        _resource("Patient", "a"),
        _resource("Patient", "b"),
    ]
    assert [[one["id"] for one in portion] for portion in portions(made, size=2)] == [
        ["o", "c1", "a"],
        ["c2", "b"],
    ]


def test_a_transaction_puts_by_id() -> None:
    bundle = transaction([_resource("Patient", "a")])
    assert bundle["type"] == "transaction"
    assert bundle["entry"][0]["request"] == {"method": "PUT", "url": "Patient/a"}


def test_loading_counts_what_the_server_took(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"resourceType": "Bundle"})

    _write(tmp_path, "Patient.ndjson", _resource("Patient", "a"), _resource("Patient", "b"))
    _write(tmp_path, "Condition.ndjson", _resource("Condition", "c", "a"))
    with httpx.Client(base_url="http://127.0.0.1/fhir", transport=httpx.MockTransport(answer)) as client:
        assert load(client, tmp_path) == {"Patient": 2, "Condition": 1}
    assert sum(len(bundle["entry"]) for bundle in sent) == 3


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    _write(tmp_path, "Patient.ndjson", _resource("Patient", "a"))
    transport = httpx.MockTransport(lambda _request: httpx.Response(422, text="no"))
    with (
        httpx.Client(base_url="http://127.0.0.1/fhir", transport=transport) as client,
        pytest.raises(LoadError, match="422"),
    ):
        load(client, tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200))
    with (
        httpx.Client(base_url="http://127.0.0.1/fhir", transport=transport) as client,
        pytest.raises(LoadError, match=r"no \*\.ndjson"),
    ):
        load(client, tmp_path)


def test_a_remote_server_needs_consent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["https://fhir.example.org/fhir"]) == 2
    assert "--allow-remote" in capsys.readouterr().err
