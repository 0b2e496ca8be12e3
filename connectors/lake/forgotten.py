"""Patients who were erased on request, so that no later sync brings them back: keyed hashes, and no ids.

A hash is HMAC-SHA-256 under the key of the pseudonyms. Without the key nobody can tell from the file who was erased;
with it a resource is recognised when it comes again. Hashed are the records of a patient, the identifiers by which
other resources refer to them, and the resources that were erased or refused.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from connectors.errors import LakeError
from connectors.fhir.references import ALSO, PATIENT_REFERENCE, TOKEN, conditional, is_token
from connectors.fhir.resource import Resource
from connectors.lake.files import write_atomically

EVERY_SITE = "*"
ANY_SYSTEM = "any system"
KEPT = 32  # hex digits of a hash: 128 bits


@dataclass
class Forgotten:
    """The hashes in `file`, which is made by `save`.

    Attributes:
        key: that of the pseudonyms.
        hashes: everything that is remembered.
        unfinished: an erasure was begun, and has not ended.
    """

    file: Path
    key: bytes = field(repr=False)
    hashes: set[str] = field(default_factory=set)
    unfinished: bool = False

    @classmethod
    def load(cls, file: Path, key: bytes) -> Forgotten:
        """Return what `file` holds; nothing where there is no file.

        Raises:
            LakeError: it is damaged, or was made with another key. To go on would bring erased patients back.
        """
        found = cls(file, key)
        if not file.exists():
            return found
        try:
            content: dict[str, Any] = json.loads(file.read_bytes())
            made_with, hashes = str(content["key"]), {str(each) for each in content["hashes"]}
            unfinished = bool(content["unfinished"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LakeError(
                f"{file}: the list of erased patients cannot be read ({type(error).__name__}): restore it from the "
                "backup, or they would come back with the next sync"
            ) from None
        # A wrong key recognises nobody, without an error anywhere.
        if made_with != found._hash("key"):
            raise LakeError(
                f"{file}: the list of erased patients was made with another pseudonym key: restore that key, "
                "or they would come back with the next sync"
            )
        found.hashes, found.unfinished = hashes, unfinished
        return found

    def save(self) -> None:
        """Write the file, for its owner only."""
        # Sorted: the order in which they were remembered would tell who belongs to whom.
        content = {"key": self._hash("key"), "unfinished": self.unfinished, "hashes": sorted(self.hashes)}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, json.dumps(content, indent=1) + "\n")

    def remember_resource(self, site: str, resource_type: str, id_: str) -> None:
        """Remember a resource; of a Patient, also everything that refers to it."""
        self.hashes.add(self._hash(site, resource_type, id_))

    def remember_identifier(self, site: str, identifier: str) -> None:
        """Remember `system|value` as an identifier of a patient; `site` may be EVERY_SITE."""
        self.hashes.add(self._hash(site, "identifier", identifier))
        # A conditional reference may ask for a value of any system (FHIR R4 search.html#token).
        self.hashes.add(self._hash(site, "identifier", f"{ANY_SYSTEM}|{identifier.partition('|')[2]}"))

    def remember_text(self, text: str) -> None:
        """Remember a text that stands for a patient, such as a pseudonym."""
        self.hashes.add(self._hash("text", text))

    def has_text(self, text: str) -> bool:
        """Return True if `remember_text` was told this text."""
        return self._hash("text", text) in self.hashes

    def at(self, site: str) -> ForgottenAtSite:
        """Return what is remembered as it concerns one site."""
        return ForgottenAtSite(self, site)

    def has(self, site: str, kind: str, value: str) -> bool:
        """Return True if this is remembered for the site or for every site."""
        return self._hash(site, kind, value) in self.hashes or self._hash(EVERY_SITE, kind, value) in self.hashes

    def _hash(self, *parts: str) -> str:
        # Apart from all other uses of the key, above all from the pseudonyms.
        message = "\n".join(("periop forgotten", *parts)).encode("utf-8", "surrogatepass")
        return hmac.digest(self.key, message, "sha256").hex()[:KEPT]


@dataclass
class ForgottenAtSite:
    """The part of a `Forgotten` that concerns `site`. `learned`: resources that were refused, by (type, id)."""

    forgotten: Forgotten
    site: str
    learned: set[tuple[str, str]] = field(default_factory=set)

    def is_patient(self, id_: str) -> bool:
        """Return True if this is the id of a record of an erased patient."""
        return self.is_resource("Patient", id_)

    def is_resource(self, resource_type: str, id_: str) -> bool:
        """Return True if this resource was erased, or refused because of an erased patient."""
        return (resource_type, id_) in self.learned or self.forgotten.has(self.site, resource_type, id_)

    def refuses(self, resource: Resource) -> bool:
        """Return True if a received resource must not be stored."""
        refused = self.concerns(resource.resource_type, resource.id, resource.patient, resource.raw)
        if refused:
            self.learned.add((resource.resource_type, resource.id))
        return refused

    def concerns(self, resource_type: str, id_: str, patient: str | None, raw: str | None) -> bool:
        """Return True if a version of a resource is about an erased patient or mentions one.

        Args:
            resource_type: of the resource.
            id_: of the resource.
            patient: id or token (`connectors.fhir.references`) of the patient, None for nobody.
            raw: its JSON, None for a deletion.
        """
        if self.is_resource(resource_type, id_) or self._is_key(patient):
            return True
        return raw is not None and any(map(self._is_mentioned, _objects(orjson.loads(raw))))

    def text_concerns(self, text: str) -> bool:
        """Return True if a text that may be no JSON has, between quotes, the id or an identifier of such a patient."""
        # Split at the quotes: every string of JSON is one of the parts, whatever else is broken.
        return any(self._is_value(part) for part in text.split('"') if 0 < len(part) <= 400)

    def _is_value(self, part: str) -> bool:
        part = part.strip()
        return (
            self._is_reference(part)
            or self.is_patient(part)
            or self.forgotten.has(self.site, "identifier", f"{ANY_SYSTEM}|{part}")
        )

    def _is_key(self, patient: str | None) -> bool:
        if patient is None:
            return False
        if not is_token(patient):
            return self.is_patient(patient)
        return any(self._is_identifier(each) for each in patient.removeprefix(TOKEN).split(ALSO))

    def _is_identifier(self, identifier: str) -> bool:
        named = identifier if "|" in identifier else f"{ANY_SYSTEM}|{identifier}"
        return self.forgotten.has(self.site, "identifier", named)

    def _is_reference(self, reference: str) -> bool:
        if match := PATIENT_REFERENCE.fullmatch(reference):
            return self.is_patient(match.group(1))
        # As `connectors.fhir.references` reads them: the id of the Patient is the UUID.
        if reference[:9].lower() == "urn:uuid:":
            return self.is_patient(reference[9:].lower())
        kind, identifiers = conditional(reference)
        return kind == "Patient" and any(map(self._is_identifier, identifiers))

    def _is_mentioned(self, element: Mapping[str, Any]) -> bool:
        """Return True if an element is a reference to an erased patient, or a Patient with such an identifier."""
        reference, identifier = element.get("reference"), element.get("identifier")
        if isinstance(reference, str) and self._is_reference(reference.strip()):
            return True
        if isinstance(identifier, dict):  # of a Reference; a resource has a list of them
            return self._is_identifier_element(identifier)
        if element.get("resourceType") == "Patient" and isinstance(identifier, list):
            return any(isinstance(each, dict) and self._is_identifier_element(each) for each in identifier)
        return False

    def _is_identifier_element(self, identifier: Mapping[str, Any]) -> bool:
        # A Quantity has a system and a value too, but its value is a number.
        value, system = identifier.get("value"), identifier.get("system")
        if not isinstance(value, str):
            return False
        return self._is_identifier(f"{system.strip() if isinstance(system, str) else ''}|{value.strip()}")


Concerns = Callable[[str, str, str, str | None, str | None], bool]
"""Say whether a row of the lake is to be erased: site, resource type, id, patient, JSON."""


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a JSON object and all objects in it."""
    # Not recursive: how deep a resource nests is up to its sender.
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, dict):
            yield each
            rest.extend(each.values())
        elif isinstance(each, list):
            rest.extend(each)
