"""Medications: resources that name a drug and are about no patient, so that no search for patients returns them.

A MedicationAdministration, dispense, statement or request says its drug as a code, or refers to a Medication (FHIR R4,
medication[x]). A sync asks by id for those that its resources refer to, and for changes of those that the lake has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from connectors.fhir.lenient import json_or_none
from connectors.fhir.resource import Resource

MEDICATION = "Medication"
REFERRERS = ("MedicationAdministration", "MedicationDispense", "MedicationStatement", "MedicationRequest")
REFERENCE = re.compile(r"(?:(https?://.+)/)?Medication/([A-Za-z0-9\-.]{1,256})(?:/_history/[A-Za-z0-9\-.]{1,64})?")

Texts = Callable[[str], Iterator[tuple[str, str | None]]]
"""The id and the text of every version in the lake of a resource type; the text of a deletion is None."""


def no_texts(_: str) -> Iterator[tuple[str, str | None]]:
    """Yield the resources of an empty lake."""
    yield from ()


@dataclass
class Medications:
    """The Medications of one sync.

    stored: ids of those in the lake. references: as written in the resources that refer to one. received: ids of
    those that came.
    """

    stored: set[str] = field(default_factory=set)
    references: set[str] = field(default_factory=set)
    received: set[str] = field(default_factory=set)

    @classmethod
    def of_lake(cls, texts: Texts, *, with_references: bool) -> Medications:
        """Return the Medications that the lake has, and with its references if these are needed."""
        found = cls({id_ for id_, _ in texts(MEDICATION)})
        for kind in REFERRERS if with_references else ():
            for _, text in texts(kind):
                found._add_reference(text or "")
        return found

    def note(self, received: Resource) -> None:
        """Take in a Medication, or the reference of a drug to one; of any other resource nothing."""
        if received.resource_type == MEDICATION:
            self.received.add(received.id)
        elif received.resource_type in REFERRERS:
            self._add_reference(received.raw)

    def _add_reference(self, text: str) -> None:
        if "medicationReference" not in text:  # spares parsing the many that have a code
            return
        body = json_or_none(text.encode())
        element = body.get("medicationReference") if isinstance(body, dict) else None
        reference = element.get("reference") if isinstance(element, dict) else None
        if isinstance(reference, str):
            self.references.add(reference)

    def referenced(self, bases: Collection[str]) -> frozenset[str]:
        """Return the ids of the Medications on this server that are referred to. `bases`: the URLs of the server."""
        matches = map(REFERENCE.fullmatch, self.references)
        return frozenset(match[2] for match in matches if match and match[1] in (None, *bases))

    def elsewhere(self, bases: Collection[str]) -> int:
        """Return how many references lead to another server, to which no request is sent."""
        matches = map(REFERENCE.fullmatch, self.references)
        return sum(match is not None and match[1] not in (None, *bases) for match in matches)
