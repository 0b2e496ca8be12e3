"""The records and identifiers of patients in the lake, over all versions: whom an id or an identifier names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.fhir.references import PATIENT_REFERENCE, identifiers_of
from connectors.lake.table import Lake

Record = tuple[str, str]  # site, id of a Patient


@dataclass
class Records:
    """The Patients of the lake: their identifiers as `system|value`, and which are linked to which."""

    identifiers: defaultdict[Record, set[str]] = field(default_factory=lambda: defaultdict(set))
    links: defaultdict[Record, set[Record]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, lake: Lake) -> Records:
        """Read all versions of all Patients. Raises LakeError."""
        found = cls()
        for file in lake.files("Patient"):
            for batch in lake.read(file, ["id", "resource"]):
                for id_, text in zip(batch["id"].to_pylist(), batch["resource"].to_pylist(), strict=True):
                    found._add((file.site, id_), orjson.loads(text) if text else {})
        return found

    def _add(self, record: Record, body: dict[str, Any]) -> None:
        # Of all versions: a number that was corrected later may stand in references of that time.
        self.identifiers[record].update(identifiers_of(body))
        for other in _linked(body):
            self.links[record].add((record[0], other))
            self.links[record[0], other].add(record)

    def with_identifier(self, identifier: str, site: str | None) -> set[Record]:
        """Return the records that ever had this identifier, at one site or at all."""
        return {record for record, own in self.identifiers.items() if identifier in own and site in (None, record[0])}

    def of_persons(self, records: Collection[Record]) -> set[Record]:
        """Return these records and all that are linked to them, over others too: they are of the same persons."""
        found, rest = set(records), [*records]
        while rest:
            new = self.links.get(rest.pop(), set()) - found
            found |= new
            rest += new
        return found

    def only_of(self, records: Collection[Record]) -> Iterator[tuple[str, str]]:
        """Yield (site, identifier) of the identifiers that these records have and no other record of the site has."""
        # A family or an insurance may share one: by it others would be erased too.
        others = {
            (site, each) for (site, id_), own in self.identifiers.items() if (site, id_) not in records for each in own
        }
        for site, id_ in sorted(records):
            yield from (
                (site, each) for each in sorted(self.identifiers.get((site, id_), ())) if (site, each) not in others
            )


def _linked(body: dict[str, Any]) -> Iterator[str]:
    links = body.get("link")
    # A link to a RelatedPerson is of no use here: it says that both are one person, but the lake has none of them.
    for link in links if isinstance(links, list) else []:
        other = link.get("other") if isinstance(link, dict) else None
        reference = other.get("reference") if isinstance(other, dict) else None
        if isinstance(reference, str) and (match := PATIENT_REFERENCE.fullmatch(reference.strip())):
            yield match.group(1)
