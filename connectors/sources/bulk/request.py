"""One question to a server: an export of some types, with the parameters of its kick-off."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from connectors.fhir.resource_types import WITHOUT_PATIENT
from connectors.http.client import NDJSON

Level = Literal["system", "patient", "group"]


@dataclass(frozen=True)
class ExportRequest:
    """One export: these types, at this level, changed since (FHIR instant; None for everything).

    patients: the ids of those who are asked for, () for all.
    """

    level: Level
    group: str | None
    types: tuple[str, ...]
    since: str | None
    type_filter: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return its name in messages."""
        return f"export of {', '.join(self.types)}"

    def holds_all_of(self, kind: str) -> bool:
        """Return whether it asks for all resources of this type that the server has."""
        filtered = any(each.partition("?")[0] == kind for each in self.type_filter)
        return not (filtered or self.patients) and (
            self.level == "system" or (self.level == "patient" and kind not in WITHOUT_PATIENT)
        )

    def digest(self, base: str) -> str:
        """Return a digest that names the request and the server."""
        whom = (",".join(self.patients),) if self.patients else ()
        asked = (base, self.level, self.group or "", self.since or "", ",".join(self.types), *self.type_filter, *whom)
        return hashlib.sha256("\n".join(asked).encode()).hexdigest()[:32]

    def path(self) -> str:
        """Return the path below the base of the server."""
        where = {"system": "", "patient": "Patient/", "group": f"Group/{self.group}/"}[self.level]
        return f"{where}$export"

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters of the kick-off."""
        since = [("_since", self.since)] if self.since else []
        # Only those of its types: a server may refuse a filter of what is not exported.
        filters = [("_typeFilter", each) for each in self.type_filter if each.partition("?")[0] in self.types]
        return [("_outputFormat", NDJSON), ("_type", ",".join(self.types)), *since, *filters]

    def url(self, base: str) -> str:
        """Return the URL of the kick-off by GET."""
        return f"{base}/{self.path()}?{urlencode(self.parameters())}"

    def body(self) -> bytes:
        """Return the body of the kick-off by POST, a Parameters resource."""
        parameters: list[dict[str, Any]] = [
            {"name": name, "valueInstant" if name == "_since" else "valueString": value}
            for name, value in self.parameters()
        ]
        # Bulk Data Access IG 2.0.0: `patient` is a parameter of a kick-off by POST only.
        parameters += [{"name": "patient", "valueReference": {"reference": f"Patient/{id_}"}} for id_ in self.patients]
        return json.dumps({"resourceType": "Parameters", "parameter": parameters}).encode()
