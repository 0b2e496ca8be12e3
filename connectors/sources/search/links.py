"""Records that are linked to those of the cohort (Patient.link): the same people, so they are asked for as well.

The links are those of the Patients in the lake. So a record that is linked to by one of the cohort comes with the next
sync after that one; a server that merges records links both to each other, or moves the resources.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from connectors.fhir.lenient import json_or_none
from connectors.fhir.references import is_token, patient_of
from connectors.sources.search.medications import Texts


def linked(texts: Texts, patients: Collection[str]) -> set[str]:
    """Return the ids of the records that `patients` are linked to in the lake, also over others, without themselves."""
    links: dict[str, set[str]] = defaultdict(set)
    for id_, text in texts("Patient"):
        if text and '"link"' in text:  # spares parsing the many without one
            links[id_].update(_links(text))
    found, waiting = set(patients), list(patients)
    while waiting:
        new = links[waiting.pop()] - found
        found |= new
        waiting += new
    return found - set(patients)


def _links(text: str) -> Iterator[str]:
    body = json_or_none(text.encode())
    listed = body.get("link") if isinstance(body, dict) else None
    for link in listed if isinstance(listed, list) else []:
        other = link.get("other") if isinstance(link, dict) else None
        # A link by identifier says no id that could be asked for.
        if isinstance(other, dict) and (id_ := patient_of({"patient": other})) and not is_token(id_):
            yield id_
