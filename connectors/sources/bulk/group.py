"""The Group whose patients are exported: who they are, and whether it has any."""

from __future__ import annotations

import hashlib

import msgspec

from connectors.errors import ConnectorError
from connectors.fhir.lenient import convert_leniently, json_or_none
from connectors.http.client import FhirClient


class GroupMembershipDigest:
    """The patients of a Group as a digest that does not depend on their order and holds no id."""

    def __init__(self) -> None:
        self._value = 0
        self._ids = 0

    def add(self, patient: str) -> None:
        """Add one patient, who comes once."""
        # XOR does not depend on the order. Each patient comes once; a second time would cancel the first.
        self._value ^= int.from_bytes(hashlib.blake2b(patient.encode(), digest_size=16).digest())
        self._ids += 1

    @property
    def digest(self) -> str:
        """Return the number of patients and their digest; '' where none came."""
        return f"{self._ids}-{self._value:032x}" if self._ids else ""


class _Member(msgspec.Struct):
    inactive: bool = False


class _Group(msgspec.Struct, rename="camel"):
    resource_type: str = ""
    actual: bool = True
    quantity: int | None = None
    member: tuple[_Member, ...] = ()


def is_empty(client: FhirClient, group: str) -> bool | None:
    """Return whether the Group exists without a patient; None where the server has none, or does not show it."""
    try:
        body = client.get(f"{client.base}/Group/{group}", "Group", (200,)).body
    except ConnectorError:  # a client for exports may not be allowed to read the Group itself
        return None
    found = convert_leniently(json_or_none(body), _Group)
    # A Group that describes its patients, and does not list them, may have any number.
    if found.resource_type != "Group" or not found.actual:
        return None
    return not found.quantity and all(member.inactive for member in found.member)
