"""The patients of a sync by search, where a hospital names them: the members of a Group, or a list in a file.

For servers that allow no search over all patients. Everything of these patients is asked for, whatever their
conditions; who is of the study is decided by the mapping.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

from connectors.errors import RefusedError
from connectors.fhir.events import Note, Problem, SourceEvent
from connectors.fhir.lenient import json_or_none
from connectors.http.client import FhirClient
from connectors.sources.patient_list import PatientList, lines_of
from connectors.sources.search.group import read_members
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import PARAMETER_ROOM, SearchLimits, SearchRequest, everything, ids

UNREADABLE = "the list of patients names nobody in {}: each needs an id, or a system and a value; correct the file"
UNKNOWN_IDENTIFIERS = (
    "no Patient on the server has the identifier in {} of the list of patients: correct them, or ask the "
    "administrator under which system the server has them"
)
UNKNOWN_IDS = "{} patients who were named are not on the server, or the client may not see them{}"
NOBODY = "periop-nobody"  # an id that no patient has
EMPTY_GROUP = "the Group of the site has no patient"
Identifier = tuple[str, str]


@dataclass(frozen=True)
class PatientGroup:
    """A Group on the server. id: of FHIR."""

    id: str


def types_of(named: PatientGroup | PatientList | None) -> tuple[str, ...]:
    """Return the types that are read beside those of the site to find its patients: a client needs scopes for them."""
    return ("Group",) if isinstance(named, PatientGroup) else ()


@dataclass
class ListedCohort:
    """The patients that were named. After `read`, patients: their ids; complete: none is missing for a fault.

    witnesses: each patient, of whom no resource is known yet.
    """

    paging: Paging
    client: FhirClient
    named: PatientGroup | PatientList
    limits: SearchLimits
    patients: set[str] = field(default_factory=set)
    complete: bool = True

    @property
    def witnesses(self) -> Mapping[str, str]:
        """Return for each patient '' in place of the id of a resource."""
        return dict.fromkeys(self.patients, "")

    def read(self) -> Iterator[SourceEvent]:
        """Find the patients; yield what is wrong with the list or the Group. Raises ServerError."""
        if isinstance(self.named, PatientList):
            yield from self._read_list(self.named)
            return
        members = read_members(self.client, self.paging, self.named.id, self.limits)
        self.patients |= set(members.patients)
        # Who is not named for that reason has not left.
        self.complete = not members.problems
        yield from map(Problem, members.problems)
        if not members.patients and not members.problems:
            yield Note(EMPTY_GROUP)

    def unknown(self, known: Collection[str]) -> Iterator[SourceEvent]:
        """Yield that some of the patients who were named are not there. known: those who are."""
        missing = self.patients - set(known)
        if not missing:
            return
        listed = self.named.ids if isinstance(self.named, PatientList) else {}
        lines = [listed[each] for each in missing & listed.keys()]
        yield Note(UNKNOWN_IDS.format(len(missing), f": {lines_of(lines)} of the list" if lines else ""))

    def _read_list(self, listed: PatientList) -> Iterator[SourceEvent]:
        self.complete = not listed.unreadable
        yield from unreadable(listed)
        found, notes = ids_of(self.paging, self.client.base, listed, self.limits)
        self.patients |= found
        yield from notes
        if listed.ids and not listed.identifiers:
            self._ask_for_nobody()

    def _ask_for_nobody(self) -> None:
        """Send a search that finds nothing, so that the time of the server is known before anything is read."""
        (request,) = everything(self.client.base, "Patient", [NOBODY], self.limits)
        with suppress(RefusedError):  # the sync will say so
            self.paging.first(ids(request, self.limits))


def unreadable(listed: PatientList) -> Iterator[Problem]:
    """Yield which lines of a list name nobody, if there are any."""
    if listed.unreadable:
        yield Problem(UNREADABLE.format(lines_of(listed.unreadable)))


def ids_of(paging: Paging, base: str, listed: PatientList, limits: SearchLimits) -> tuple[set[str], list[Note]]:
    """Return the ids of the patients in a list, and notes on the identifiers that nobody has. Raises ServerError."""
    found = by_identifier(paging, base, tuple(listed.identifiers), limits)
    lost = [line for identifier, line in listed.identifiers.items() if not found.get(identifier)]
    notes = [Note(UNKNOWN_IDENTIFIERS.format(lines_of(lost)))] if lost else []
    return {*listed.ids, *(each for named in found.values() for each in named)}, notes


def by_identifier(
    paging: Paging, base: str, identifiers: tuple[Identifier, ...], limits: SearchLimits
) -> dict[Identifier, set[str]]:
    """Return the ids of the Patients with each of these identifiers. Raises ServerError.

    More than one Patient may have one: records of the same person that were not merged.
    """
    found: dict[Identifier, set[str]] = {}
    for batch in _batches(identifiers, limits, limits.url - len(base) - PARAMETER_ROOM):
        try:
            _find(paging, batch, found)
        except RefusedError:
            if len(batch) == 1:
                raise
            # A server may take one value only; which list would be short enough it does not say.
            for each in batch:
                _find(paging, [each], found)
    return found


def _find(paging: Paging, wanted: list[Identifier], found: dict[Identifier, set[str]]) -> None:
    value = ",".join(map(_token, wanted))
    request = SearchRequest("Patient", (("identifier", value),), None, "patients by identifier", counted=True)
    # Without `_elements`, which some servers refuse and others answer without the identifiers.
    for page in paging.pages(request):
        for entry in page.entries:
            body = json_or_none(entry.resource)
            if (
                not isinstance(body, dict)
                or body.get("resourceType") != "Patient"
                or not isinstance(body.get("id"), str)
            ):
                continue
            # Only those that were asked for: a server that ignores the parameter answers with everybody.
            for held in _identifiers(body) & set(wanted):
                found.setdefault(held, set()).add(body["id"])


def _identifiers(body: Mapping[str, object]) -> set[Identifier]:
    listed = body.get("identifier")
    each = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return {(str(item.get("system")), str(item.get("value")).strip()) for item in each}


def _token(identifier: Identifier) -> str:
    """Return an identifier as the value of a search parameter.

    >>> _token(("urn:mrn", "7,5"))
    'urn:mrn|7\\\\,5'
    """
    # What separates values is escaped by a backslash (FHIR R4, 3.1.1.4.0).
    system, value = (escape(each) for each in identifier)
    return f"{system}|{value}"


def escape(text: str) -> str:
    """Return text with the separators of search values escaped."""
    return "".join(f"\\{letter}" if letter in "\\,|$" else letter for letter in text)


def _batches(identifiers: tuple[Identifier, ...], limits: SearchLimits, room: int) -> Iterator[list[Identifier]]:
    batch: list[Identifier] = []
    length = 0
    for each in identifiers:
        added = len(quote(f"{_token(each)},", safe=""))
        if batch and (len(batch) >= limits.batch or length + added > room):
            yield batch
            batch, length = [], 0
        batch.append(each)
        length += added
    if batch:
        yield batch
