"""The entries of a page as what a source yields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from connectors.fhir.bundle import Bundle, Entry
from connectors.fhir.events import Deleted, Exists, Expected, Problem, SourceEvent
from connectors.fhir.resource import ID, Reason, Rejected, Resource, read_resource
from connectors.sources.search.paging import Paging, Window

OUTCOME_PROBLEM = (
    "the server reports an error within the result, which may not be whole: see the quarantine of the site"
)
COHORT_PROBLEM = "the server returned resources of patients not asked for (not kept): it may ignore the parameter {}"
VERSION = re.compile(r'(?:W/)?"?([A-Za-z0-9.-]{1,64})"?')


@dataclass(frozen=True)
class Entries:
    """Reads entries. types: those that are asked for. size: bytes of one resource."""

    types: frozenset[str]
    size: int

    def items(self, entry: Entry, window: Window, where: str) -> Iterator[SourceEvent]:
        """One entry: a match of this window, an include (of any type asked for), or set aside.

        What is set aside and has a fullUrl is known to be there.
        """
        included = entry.mode == "include"
        item = self._read(entry, self.types if included else frozenset({window.resource_type}), where)
        if isinstance(item, Rejected):
            yield item
            if item.severe:
                yield Problem(f"{window.label}: {OUTCOME_PROBLEM}")
            if (id_ := named(entry, window.resource_type)) and not included:
                yield Exists(window.resource_type, id_, readable=False)
        elif included or window.patients is None or item.patient is None or item.patient in window.patients:
            yield item
        else:
            yield Rejected(Reason.NOT_IN_COHORT, where, item.raw.encode(), item.resource_type)
            yield Problem(f"{window.resource_type}: {COHORT_PROBLEM.format(window.params[0][0])}")

    def _read(self, entry: Entry, wanted: frozenset[str], where: str) -> Resource | Rejected:
        if not entry.resource:
            return Rejected(Reason.EMPTY_ENTRY, where, b"")
        if len(entry.resource) > self.size:
            return Rejected(Reason.TOO_LARGE, where, entry.resource)
        return read_resource(entry.resource, where, wanted)


def pages_of(paging: Paging, window: Window, entries: Entries) -> Iterator[Iterator[SourceEvent]]:
    """What each page of a window holds, with the number that is expected; each is read before the next.

    Raises ServerError.
    """
    expected = False
    for number, page in enumerate(paging.pages(window), 1):
        announced = None if expected else page.total
        expected = expected or announced is not None
        yield _items(page, announced, window, entries, number)


def _items(page: Bundle, announced: int | None, window: Window, entries: Entries, number: int) -> Iterator[SourceEvent]:
    if announced is not None:
        yield Expected(window.resource_type, announced)
    for place, entry in enumerate(page.entries):
        yield from entries.items(entry, window, f"{window.label}, page {number}, entry {place}")


def found_in(paging: Paging, window: Window, entries: Entries) -> Iterator[SourceEvent]:
    """What all pages of a window hold, with the number that is expected. Raises ServerError."""
    for page in pages_of(paging, window, entries):
        yield from page


def named(entry: Entry, kind: str) -> str | None:
    """The id of an entry by its fullUrl or the URL of its request `…/Type/id[/_history/n]`; None if unclear."""
    for url in (entry.full_url, entry.url):
        stem = url.partition("?")[0].partition("/_history/")[0]
        head, _, id_ = stem.rpartition("/")
        if (head == kind or head.endswith(f"/{kind}")) and ID.fullmatch(id_):
            return id_
    return None


def stated(entry: Entry, kind: str) -> str | None:
    """The id of a resource of this type, from what it says or its fullUrl; None if there is none."""
    try:
        body = orjson.loads(entry.resource)
    except orjson.JSONDecodeError:
        return named(entry, kind)
    if not isinstance(body, dict) or body.get("resourceType") != kind:
        return None
    id_ = body.get("id")
    return id_ if isinstance(id_, str) and ID.fullmatch(id_) else None


def deletion(entry: Entry, kind: str, id_: str, where: str) -> Deleted:
    """An entry of a history with method DELETE (FHIR R4, 3.1.0.11). Its ETag is the version of the deletion."""
    version = VERSION.fullmatch(entry.etag)
    return Deleted(kind, id_, version.group(1) if version else None, entry.modified or None, where)
