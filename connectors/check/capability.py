"""What a server says that it can do: its CapabilityStatement (FHIR R4, 5.2; https://hl7.org/fhir/R4/capabilitystatement.html).

A statement is a promise and no proof: `connectors.check.probes` asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.errors import ProtocolError

READABLE_VERSIONS = ("4.0", "4.3")  # R4 and R4B


@dataclass(frozen=True)
class TypeCapability:
    """What is offered for one resource type: codes of interactions, names of search parameters and operations."""

    interactions: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Capability:
    """What is offered. `interactions`: of the whole system. `export`: the levels at which $export is listed.

    `security`: codes of `rest.security.service`, such as SMART-on-FHIR.
    """

    fhir_version: str
    software: str = ""
    interactions: frozenset[str] = frozenset()
    types: Mapping[str, TypeCapability] = field(default_factory=dict)
    export: frozenset[str] = frozenset()
    security: frozenset[str] = frozenset()

    @property
    def readable(self) -> bool:
        """Whether its resources are of a version that can be read here."""
        return self.fhir_version.startswith(READABLE_VERSIONS)

    def offers(self, resource_type: str, interaction: str) -> bool:
        """Whether this interaction, such as `search-type`, is listed for this type."""
        return interaction in self.types.get(resource_type, TypeCapability()).interactions


def read_capability(body: bytes) -> Capability:
    """A CapabilityStatement as JSON. ProtocolError if it is something else."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProtocolError("the answer to /metadata is no JSON: is `url` the base of the FHIR server?") from error
    if not isinstance(found, dict) or found.get("resourceType") != "CapabilityStatement":
        raise ProtocolError("the answer to /metadata is no CapabilityStatement: is `url` the base of the FHIR server?")
    rest = next((each for each in _objects(found.get("rest")) if each.get("mode") == "server"), {})
    resources = {_text(each.get("type")): each for each in _objects(rest.get("resource"))}
    security = rest.get("security")
    return Capability(
        _text(found.get("fhirVersion")),
        _software(found.get("software")),
        _codes(rest.get("interaction")),
        {kind: _type(each) for kind, each in resources.items()},
        frozenset(_export_levels(rest, resources)),
        frozenset(_service_codes(security.get("service") if isinstance(security, dict) else None)),
    )


def _type(resource: dict[str, Any]) -> TypeCapability:
    parameters = frozenset(_text(each.get("name")) for each in _objects(resource.get("searchParam")))
    return TypeCapability(_codes(resource.get("interaction")), parameters)


def _export_levels(rest: dict[str, Any], resources: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """By the definition where it tells (some servers list all three at the system), else by the place."""
    owners = {"system": rest, "group": resources.get("Group", {}), "patient": resources.get("Patient", {})}
    for level, owner in owners.items():
        for operation in _objects(owner.get("operation")):
            definition = _text(operation.get("definition")).rpartition("/")[2].partition("|")[0]
            if definition in ("group-export", "patient-export"):
                yield definition.removesuffix("-export")
            elif _text(operation.get("name")).removeprefix("$") in ("export", f"{level}-export"):
                yield level


def _service_codes(services: object) -> Iterator[str]:
    for service in _objects(services):
        for coding in _objects(service.get("coding")):
            yield _text(coding.get("code"))


def _software(software: object) -> str:
    parts = (software.get("name"), software.get("version")) if isinstance(software, dict) else ()
    return " ".join(_text(part) for part in parts if part)[:80]


def _codes(interactions: object) -> frozenset[str]:
    return frozenset(_text(each.get("code")) for each in _objects(interactions))


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
