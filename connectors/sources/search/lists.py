"""Finds out how many patients a server understands in one search.

A comma in a parameter means "or" (FHIR R4, 3.1.1.4.11), but some servers read only the first value of a list, or answer
200 with nothing. So the first batch is tried before the first list is used: the cohort query has just returned a
resource of each of its patients, and the search by patient must find the same.

Once a server was seen to understand lists, Patients are no longer tried until all ids are compared. The type of the
cohort is, each time that a list is used: a search index that went blank shows in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from connectors.errors import RefusedError, ServerError
from connectors.fhir.events import Note, Problem, SourceEvent
from connectors.fhir.lenient import json_or_none
from connectors.fhir.references import patient_of
from connectors.sources.search import requests
from connectors.sources.search.entries import id_of
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest

SINGLES = 2  # patients who are asked for alone: one may have been deleted just now
SMALLER = "{}: the server does not find all patients of a list, but finds them alone, so it is asked for {} at a time"
BLANK = (
    "{}: a search by patient does not find what the cohort query has just returned, so changes may be missing: "
    "ask the server's administrator whether its search index is complete"
)


@dataclass
class ListCanary:
    """Tries the first batch of patients.

    witnesses: a resource of the type `cohort_type` that the cohort query returned, by patient; '' where none is known:
    then any resource of that type tells that the patient was looked for. batch: after `run`, how
    many patients may be asked for together. blank: after `run`, the search by patient finds nothing that is there.
    known: lists were understood before. learned: after `run`, that they are.
    """

    paging: Paging
    base: str
    cohort_type: str
    witnesses: Mapping[str, str]
    limits: SearchLimits
    known: bool = False
    batch: int = field(init=False)
    blank: bool = field(default=False, init=False)
    learned: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.batch = self.limits.batch

    def run(self, types: Sequence[str]) -> Iterator[SourceEvent]:
        """Try the patients by `_id` and by `subject`, as far as these types need it; yield what was found out."""
        patients = self._patients
        self.learned = min(self.batch, len(patients)) > 1
        for kind in self._kinds(types):
            try:
                yield from self._try(kind, patients)
            except ServerError:  # what cannot be asked here cannot be asked by the sync either, and it says so then
                self.learned = False

    def searches(self, types: Sequence[str]) -> Iterator[SearchRequest]:
        """Yield the searches that `run` sends where lists are understood."""
        for kind in self._kinds(types) if min(self.batch, len(self._patients)) > 1 else ():
            first = next(requests.everything(self.base, kind, self._patients, self.limits))
            yield self._narrow(first)

    def _kinds(self, types: Sequence[str]) -> list[str]:
        tried = (self.cohort_type,) if self.known else ("Patient", self.cohort_type)
        return [kind for kind in dict.fromkeys(tried) if kind in types]

    @property
    def _patients(self) -> list[str]:
        # As in `requests.everything`, so that all of them go into one request.
        room = self.limits.url - len(self.base) - requests.PARAMETER_ROOM
        return next(requests.batches(sorted(self.witnesses), "Patient/", self.limits.batch, room), [])

    def _try(self, kind: str, patients: Sequence[str]) -> Iterator[SourceEvent]:
        size = min(self.batch, len(patients))
        while size > 1:
            missing = self._missing(kind, patients[:size])
            if not missing:
                break
            if all(self._missing(kind, [patient]) for patient in missing[:SINGLES]):
                self.learned = False
                # Not even alone. Of a Patient that proves nothing: the client may not be allowed to see him.
                if len(missing) == size and kind == self.cohort_type and any(self.witnesses.values()):
                    self.blank = True
                    yield Problem(BLANK.format(kind))
                return
            size //= 2
        if size < min(self.batch, len(patients)):
            self.batch = size
            yield Note(SMALLER.format(kind, "one" if size == 1 else size))

    def _missing(self, kind: str, patients: Sequence[str]) -> list[str]:
        """Return those of the patients of whom the search does not return what is known to be there."""
        request = next(requests.everything(self.base, kind, patients, self.limits))
        # By the id of what is known to be there, or by the patient.
        wanted = {each if kind == "Patient" else self.witnesses[each] or each: each for each in request.patients or ()}
        try:
            for id_, owner in self._found(request):
                wanted.pop(id_ or "", None)
                wanted.pop(owner or "", None)
                if not wanted:
                    break
        except RefusedError:
            if len(patients) == 1:
                raise
        return sorted(wanted.values())

    def _found(self, request: SearchRequest) -> Iterator[tuple[str | None, str | None]]:
        """Yield the id of each resource that a search finds, and that of its patient as far as it is said."""
        try:
            yield from self._read(self._narrow(request))
        except RefusedError:  # `_elements` is optional in FHIR
            yield from self._read(request)

    def _narrow(self, request: SearchRequest) -> SearchRequest:
        known = request.resource_type == "Patient" or all(self.witnesses.values())
        return requests.ids(request, self.limits) if known else requests.owners(request, self.limits)

    def _read(self, request: SearchRequest) -> Iterator[tuple[str | None, str | None]]:
        kind = request.resource_type
        for page in self.paging.pages(request):
            for entry in page.entries:
                body = json_or_none(entry.resource)
                yield id_of(entry, kind), patient_of(body) if isinstance(body, dict) and kind != "Patient" else None
