"""Turns the entries of a page into the events that a source yields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from connectors.fhir.bundle import Entry
from connectors.fhir.events import Deleted, Exists, Expected, Problem, SourceEvent
from connectors.fhir.resource import ID, Reason, Rejected, id_of_type, read_entry
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchRequest

OUTCOME_PROBLEM = (
    "the server reports an error within the result, which may not be whole: see the quarantine of the site"
)
COHORT_PROBLEM = "the server returned resources of patients not asked for (not kept): it may ignore the parameter {}"
VERSION = re.compile(r'(?:W/)?"?([A-Za-z0-9.-]{1,64})"?')


@dataclass(frozen=True)
class Entries:
    """Reads entries. types: resource types that are asked for. size: limit in bytes of one resource."""

    types: frozenset[str]
    size: int

    def events(self, entry: Entry, request: SearchRequest, where: str) -> Iterator[SourceEvent]:
        """Yield a match of this request, an include (of any type asked for), or why the entry is set aside.

        What is set aside and has a fullUrl is known to exist on the server.
        """
        included = entry.mode == "include"
        wanted = self.types if included else frozenset({request.resource_type})
        item = read_entry(entry.resource, where, wanted, self.size)
        if isinstance(item, Rejected):
            yield item
            if item.severe:
                yield Problem(f"{request.label}: {OUTCOME_PROBLEM}")
            # The resource is there but not readable: without this it would be taken as deleted.
            if (id_ := id_in_url(entry, request.resource_type)) and not included:
                yield Exists(request.resource_type, id_, readable=False)
        # What does not say whom it is about (a Medication, an Organization) cannot be of the wrong patient.
        elif included or request.patients is None or item.patient is None or item.patient in request.patients:
            yield item
        else:
            yield Rejected(Reason.NOT_IN_COHORT, where, item.raw.encode(), item.resource_type)
            yield Problem(f"{request.resource_type}: {COHORT_PROBLEM.format(request.params[0][0])}")


def events_of(paging: Paging, request: SearchRequest, entries: Entries) -> Iterator[SourceEvent]:
    """Yield what all pages of a search hold, and how many resources are expected. Raises ServerError."""
    announced = False
    for number, page in enumerate(paging.pages(request), 1):
        if page.total is not None and not announced:
            announced = True
            yield Expected(request.resource_type, page.total)
        for place, entry in enumerate(page.entries):
            yield from entries.events(entry, request, f"{request.label}, page {number}, entry {place}")


def id_in_url(entry: Entry, kind: str) -> str | None:
    """Return the id in the fullUrl or in the request's URL, `…/Type/id[/_history/n]`; None if it is in neither."""
    for url in (entry.full_url, entry.url):
        stem = url.partition("?")[0].partition("/_history/")[0]
        head, _, id_ = stem.rpartition("/")
        if (head == kind or head.endswith(f"/{kind}")) and ID.fullmatch(id_):
            return id_
    return None


def id_of(entry: Entry, kind: str) -> str | None:
    """Return the id of a resource of this type, from its content or its fullUrl; None if there is none."""
    try:
        body = orjson.loads(entry.resource)
    except orjson.JSONDecodeError:
        return id_in_url(entry, kind)
    return id_of_type(body, kind)


def deletion(entry: Entry, kind: str, id_: str, where: str) -> Deleted:
    """Return the deletion that a history entry with method DELETE reports (FHIR R4, 3.1.0.11)."""
    version = VERSION.fullmatch(entry.etag)
    return Deleted(kind, id_, version.group(1) if version else None, entry.modified or None, where)
