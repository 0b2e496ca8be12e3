"""Reads the cohort query, which selects the patients of a sync by search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from connectors.errors import IncompleteError
from connectors.fhir.events import Expected, Problem, SourceEvent
from connectors.fhir.resource import Resource
from connectors.sources.search.entries import Entries, events_of
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchRequest


@dataclass
class Cohort:
    """The cohort query. After `read`, patients: those that it returned; complete: nothing was found missing."""

    paging: Paging
    request: SearchRequest
    entries: Entries
    patients: set[str] = field(default_factory=set)
    complete: bool = True

    def read(self) -> Iterator[SourceEvent]:
        """Read all pages; yield what the searches for the patients will not return again. Raises ServerError."""
        read_again = self.request.resource_type in self.entries.types
        try:
            for event in events_of(self.paging, self.request, self.entries):
                if isinstance(event, Resource) and event.patient:
                    self.patients.add(event.patient)
                    # The search by patient returns it once more, with the patient's other resources of this type.
                    if read_again:
                        continue
                self.complete = self.complete and not isinstance(event, Problem)
                if not isinstance(event, Expected):
                    yield event
        except IncompleteError as error:
            self.complete = False
            yield Problem(str(error))
