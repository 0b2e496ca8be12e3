"""The patients whom a sync by search is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from connectors.errors import IncompleteError
from connectors.fhir.events import Expected, Problem, SourceEvent
from connectors.fhir.resource import Resource
from connectors.sources.search.entries import Entries, pages_of
from connectors.sources.search.paging import Paging, Window


@dataclass
class Cohort:
    """The cohort query, page by page. patients: whom it has brought so far. whole: nothing of it was found missing."""

    paging: Paging
    window: Window
    entries: Entries
    patients: set[str] = field(default_factory=set)
    whole: bool = True

    def pages(self) -> Iterator[tuple[list[str], list[SourceEvent]]]:
        """Of each page the patients who are new, in order, and what the searches for them cannot bring again.

        Raises ServerError.
        """
        try:
            for page in pages_of(self.paging, self.window, self.entries):
                new, told = set[str](), list[SourceEvent]()
                for item in page:
                    self._take(item, new, told)
                self.patients |= new
                yield sorted(new), told
        except IncompleteError as error:
            self.whole = False
            yield [], [Problem(str(error))]

    def alone(self) -> Iterator[SourceEvent]:
        """All pages: what the searches for the patients cannot bring again. Raises ServerError."""
        for _, told in self.pages():
            yield from told

    def _take(self, item: SourceEvent, new: set[str], told: list[SourceEvent]) -> None:
        if isinstance(item, Resource) and item.patient:
            new |= {item.patient} - self.patients
            if self.window.resource_type in self.entries.types:
                return
        self.whole = self.whole and not isinstance(item, Problem)
        if not isinstance(item, Expected):
            told.append(item)
