"""Reads the cohort query, which selects the patients of a sync by search."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from connectors.errors import IncompleteError
from connectors.fhir.events import Expected, Note, Problem, SourceEvent
from connectors.fhir.lenient import json_or_none
from connectors.fhir.references import is_token
from connectors.fhir.resource import Resource
from connectors.sources.search.entries import Entries, events_of
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchRequest

NONE = (
    "{0}: none of the {1} that the cohort query returned has one of the codes asked for, so the server ignores the "
    "parameter code or has the codes of its conditions in other systems: nobody was asked for; ask its administrator "
    "how it codes lung cancer"
)
IGNORED = (
    "{0}: {1} that the cohort query returned have none of the codes asked for, so the server seems to ignore the "
    "parameter code: they were left out here; ask its administrator to switch it on"
)


@dataclass
class Cohort:
    """The cohort query. After `read`, patients: those that it returned; complete: nothing was found missing.

    witnesses: after `read`, the id of a resource of each patient that it returned.

    request: the query. others: queries in its place where it finds nobody.
    """

    paging: Paging
    request: SearchRequest
    entries: Entries
    others: tuple[SearchRequest, ...] = ()
    patients: set[str] = field(default_factory=set)
    complete: bool = True
    witnesses: dict[str, str] = field(default_factory=dict)
    _strangers: int = 0

    def read(self) -> Iterator[SourceEvent]:
        """Read all pages; yield what the searches for the patients will not return again. Raises ServerError."""
        yield from self._read(self.request)
        if not self.patients and self.complete:
            for request in self.others:
                yield from self._read(request)
        # Then the cohort is not empty but unknown: it is no answer that whole wards of a cancer centre have no cancer.
        if self._strangers and not self.patients:
            self.complete = False
            yield Problem(NONE.format(self.request.resource_type, self._strangers))
        elif self._strangers:
            yield Note(IGNORED.format(self.request.resource_type, self._strangers))

    def unknown(self, known: Collection[str]) -> Iterator[SourceEvent]:  # noqa: ARG002 - as `ListedCohort` does
        """Yield nothing: whoever a query returns is there."""
        yield from ()

    def _read(self, request: SearchRequest) -> Iterator[SourceEvent]:
        read_again = request.resource_type in self.entries.types
        wanted, strangers, without_code = _codes_of(request), 0, dict[str, str]()
        try:
            for event in events_of(self.paging, request, self.entries):
                held = _codes_in(event.raw) if isinstance(event, Resource) and wanted else set()
                # A server that ignores `code` returns the conditions of everybody.
                if held and not held & wanted:
                    strangers += 1
                    continue
                # A patient who is named by an identifier only is not known by id, so that nothing can be asked of him.
                if isinstance(event, Resource) and event.patient and not is_token(event.patient):
                    (self.witnesses if held or not wanted else without_code).setdefault(event.patient, event.id)
                    # The search by patient returns it once more, with the patient's other resources of this type.
                    if read_again:
                        continue
                self.complete = self.complete and not isinstance(event, Problem)
                if not isinstance(event, Expected):
                    yield event
        except IncompleteError as error:
            self.complete = False
            yield Problem(str(error))
        self._strangers = max(strangers, self._strangers)  # of several queries: the same conditions again
        if not strangers:  # the server looked for the codes, and found a condition without any by other means
            self.witnesses = without_code | self.witnesses
        self.patients |= self.witnesses.keys()


def _codes_of(request: SearchRequest) -> set[str]:
    """Return the codes that a query asks for, empty if it asks for something else.

    Without their systems, which have several names, and without dots and case, which servers may overlook.
    """
    tokens = [token for name, value in request.params if name == "code" for token in value.split(",")]
    return {_plain(token.rpartition("|")[2]) for token in tokens} - {""}


def _codes_in(text: str) -> set[str]:
    """Return the codes of a resource (element `code`), as `_codes_of` does."""
    body = json_or_none(text.encode())
    code = body.get("code") if isinstance(body, dict) else None
    codings = code.get("coding") if isinstance(code, dict) else None
    held = [each.get("code") for each in (codings if isinstance(codings, list) else []) if isinstance(each, dict)]
    return {_plain(each) for each in held if isinstance(each, str)} - {""}


def _plain(code: str) -> str:
    return "".join(filter(str.isalnum, code)).casefold()
