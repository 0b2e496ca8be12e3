"""CapabilityStatements as servers write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.errors import ProtocolError
from connectors.fhir.capability import CapabilityStatement, Rest, read_capability_statement

IG = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"


def statement(**rest: Any) -> bytes:
    body = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"mode": "server", **rest}]}
    return json.dumps(body).encode()


def export(name: str = "export", definition: str = "export") -> dict[str, str]:
    return {"name": name, "definition": IG + definition}


def test_what_is_offered() -> None:
    searches = [{"code": "read"}, {"code": "search-type"}]
    parameters = [{"name": "subject", "type": "reference"}, {"name": "_lastUpdated", "type": "date"}]
    found = read_capability_statement(
        statement(
            interaction=[{"code": "transaction"}],
            resource=[{"type": "Observation", "interaction": searches, "searchParam": parameters}],
            security={"service": [{"coding": [{"code": "SMART-on-FHIR"}]}]},
        )
    )
    assert found.readable
    assert found.offers("Observation", "search-type")
    assert not found.offers("Observation", "delete")
    assert not found.offers("Patient", "search-type")
    assert found.of_type("Observation").parameters == {"subject", "_lastUpdated"}
    assert found.system_interactions == {"transaction"}
    assert found.security_services == {"SMART-on-FHIR"}


@pytest.mark.parametrize(
    ("system", "group", "patient", "levels"),
    [
        ([export()], [], [], {"system"}),
        ([export("$export")], [], [], {"system"}),
        ([], [export(definition="group-export")], [export(definition="GroupPatient-its-export")], {"group", "patient"}),
        ([export("group-export", "group-export")], [], [], {"group"}),  # listed at the system, and of Group only
        ([export(definition="patient-export|2.0.0"), export()], [], [], {"system", "patient"}),
        ([], [], [], set()),
        ([{"name": "expunge"}], [], [], set()),
    ],
)
def test_the_levels_of_export(system: list[Any], group: list[Any], patient: list[Any], levels: set[str]) -> None:
    resources = [{"type": "Group", "operation": group}, {"type": "Patient", "operation": patient}]
    assert read_capability_statement(statement(operation=system, resource=resources)).export_levels == levels


@pytest.mark.parametrize("version", ["3.0.2", "5.0.0", ""])
def test_versions_that_are_not_read(version: str) -> None:
    assert not CapabilityStatement(fhir_version=version).readable


@pytest.mark.parametrize("version", ["4.0.0", "4.0.1", "4.3.0"])
def test_versions_that_are_read(version: str) -> None:
    assert CapabilityStatement(fhir_version=version).readable


def test_what_a_statement_may_lack() -> None:
    body = b'{"resourceType": "CapabilityStatement", "rest": [{"mode": "client"}, 7], "software": []}'
    found = read_capability_statement(body)
    assert (found.readable, found.software_label, found.export_levels) == (False, "", frozenset())
    assert found.server == Rest()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"resourceType": "Patient"}', b"{", b"\xff"])
def test_something_else(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="base of the FHIR server"):
        read_capability_statement(body)
