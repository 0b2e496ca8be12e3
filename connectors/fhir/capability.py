"""CapabilityStatements: what a server says that it can do (https://hl7.org/fhir/R4/capabilitystatement.html).

Only the elements that periop reads are declared. A statement is a promise, no proof: `connectors.check.probes` tries.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import orjson

from connectors.errors import ProtocolError
from connectors.fhir.lenient import convert_leniently

READABLE_VERSIONS = ("4.0", "4.3")  # R4 and R4B, whose clinical resources have the same elements


class Element(msgspec.Struct, frozen=True, rename="camel"):
    """The base of the elements below, whose JSON names are those of FHIR."""


class Coded(Element, frozen=True):
    code: str = ""


class Operation(Element, frozen=True):
    name: str = ""
    definition: str = ""


class SearchParameter(Element, frozen=True):
    name: str = ""


class RestResource(Element, frozen=True):
    """The interactions and search parameters of one resource type (CapabilityStatement.rest.resource)."""

    type: str = ""
    interaction: tuple[Coded, ...] = ()
    search_param: tuple[SearchParameter, ...] = ()
    operation: tuple[Operation, ...] = ()

    @property
    def parameters(self) -> frozenset[str]:
        """Return the names of the search parameters."""
        return frozenset(each.name for each in self.search_param)


class Uri(Element, frozen=True):
    url: str = ""
    value_uri: str | None = None


class UriExtension(Element, frozen=True):
    """An extension that holds URIs by name, such as oauth-uris."""

    url: str = ""
    extension: tuple[Uri, ...] = ()


class CodeableConcept(Element, frozen=True):
    coding: tuple[Coded, ...] = ()


class Security(Element, frozen=True):
    service: tuple[CodeableConcept, ...] = ()
    extension: tuple[UriExtension, ...] = ()


class Rest(Element, frozen=True):
    """The part of a CapabilityStatement about the RESTful API (CapabilityStatement.rest)."""

    mode: str = ""
    interaction: tuple[Coded, ...] = ()
    resource: tuple[RestResource, ...] = ()
    operation: tuple[Operation, ...] = ()
    security: Security = Security()


class Software(Element, frozen=True):
    name: str = ""
    version: str = ""


class Implementation(Element, frozen=True):
    """The server itself. url: the base URL that it calls itself by."""

    url: str = ""
    description: str = ""


class CapabilityStatement(Element, frozen=True):
    """A CapabilityStatement."""

    resource_type: str = ""
    fhir_version: str = ""
    publisher: str = ""
    software: Software = Software()
    implementation: Implementation = Implementation()
    rest: tuple[Rest, ...] = ()

    @property
    def server(self) -> Rest:
        """Return the part on the server; a statement may describe a client as well."""
        return next((each for each in self.rest if each.mode == "server"), Rest())

    @property
    def readable(self) -> bool:
        """Return whether its resources are of a FHIR version that periop reads."""
        return self.fhir_version.startswith(READABLE_VERSIONS)

    @property
    def software_label(self) -> str:
        """Return name and version of the software."""
        # Cut, because it is shown, and comes from the network.
        return " ".join(part for part in (self.software.name, self.software.version) if part)[:80]

    @property
    def system_interactions(self) -> frozenset[str]:
        """Return the codes of the interactions with the whole system, such as `transaction`."""
        return frozenset(each.code for each in self.server.interaction)

    @property
    def security_services(self) -> frozenset[str]:
        """Return the codes of the security services, such as `SMART-on-FHIR`."""
        return frozenset(coding.code for each in self.server.security.service for coding in each.coding)

    @property
    def export_levels(self) -> frozenset[str]:
        """Return the levels at which the Bulk Data $export is listed: system, group, patient."""
        return frozenset(self._export_levels())

    def of_type(self, resource_type: str) -> RestResource:
        """Return what is offered for a resource type, which is nothing where it is not listed."""
        # The last one counts where a type is listed twice, as a merged statement of a gateway may do.
        return next((each for each in reversed(self.server.resource) if each.type == resource_type), RestResource())

    def offers(self, resource_type: str, interaction: str) -> bool:
        """Return whether an interaction, such as `search-type`, is listed for a resource type."""
        return any(each.code == interaction for each in self.of_type(resource_type).interaction)

    def _export_levels(self) -> Iterator[str]:
        owners: dict[str, Rest | RestResource] = {"system": self.server}
        owners |= {"group": self.of_type("Group"), "patient": self.of_type("Patient")}
        for level, owner in owners.items():
            for operation in owner.operation:
                # By the definition where it tells, because some servers list all three at the system.
                definition = operation.definition.rpartition("/")[2].partition("|")[0]
                if definition in ("group-export", "patient-export"):
                    yield definition.removesuffix("-export")
                elif operation.name.removeprefix("$") in ("export", f"{level}-export"):
                    yield level


def read_capability_statement(body: bytes) -> CapabilityStatement:
    """Parse a CapabilityStatement. Raises ProtocolError if the body is something else."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProtocolError("the answer to /metadata is not JSON: is `url` the base of the FHIR server?") from error
    statement = convert_leniently(document, CapabilityStatement)
    if statement.resource_type != "CapabilityStatement":
        raise ProtocolError(
            "the answer to /metadata is not a CapabilityStatement: is `url` the base of the FHIR server?"
        )
    return statement
