"""Turns the entries of a page into the events that a source yields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from connectors.fhir.bundle import Entry
from connectors.fhir.events import Deleted, Exists, Expected, Note, Problem, SourceEvent
from connectors.fhir.lenient import json_or_none
from connectors.fhir.references import is_token
from connectors.fhir.resource import ID, Reason, Rejected, Resource, id_of_type, is_remark, last_updated, read_entry
from connectors.fhir.resource_types import WITHOUT_PATIENT
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchRequest

OUTCOME_PROBLEM = (
    "the server reports an error within the result, which may not be whole: see the quarantine of the site"
)
REMARK = (
    "the server adds remarks to its pages (OperationOutcome of severity information or warning), which are not "
    "kept: if something is missing, ask its administrator what they say"
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
        if is_remark_of_page(entry, request.resource_type):
            yield Note(REMARK)
            return
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
        # What does not say whom it is about, or by an identifier only, which the server has looked up, cannot be of the
        # wrong patient.
        elif included or request.patients is None or (owner := asked_by(item)) is None or owner in request.patients:
            yield item
        else:
            yield Rejected(Reason.NOT_IN_COHORT, where, item.raw.encode(), item.resource_type)
            yield Problem(f"{request.resource_type}: {COHORT_PROBLEM.format(request.params[0][0])}")


def is_remark_of_page(entry: Entry, kind: str) -> bool:
    """Return True for a harmless OperationOutcome about the page, and not in the place of a resource."""
    if entry.mode not in ("", "outcome") or b"OperationOutcome" not in entry.resource:
        return False
    return id_in_url(entry, kind) is None and is_remark(json_or_none(entry.resource))


def asked_by(resource: Resource) -> str | None:
    """Return the id by which this resource is asked for: of its patient, or its own where its type has no patients."""
    if resource.resource_type in WITHOUT_PATIENT:
        return resource.id
    return None if is_token(resource.patient) else resource.patient


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


def version_of(entry: Entry, kind: str) -> Exists | None:
    """Return that a resource of this type exists, with its version as far as it is stated; None without an id."""
    id_ = id_of(entry, kind)
    body = json_or_none(entry.resource)
    meta = body.get("meta") if isinstance(body, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    version = meta.get("versionId")
    stated = version if isinstance(version, str) and ID.fullmatch(version) else None
    return None if id_ is None else Exists(kind, id_, True, stated, last_updated(meta))


def deletion(entry: Entry, kind: str, id_: str, where: str) -> Deleted:
    """Return the deletion that a history entry with method DELETE reports (FHIR R4, 3.1.0.11)."""
    version = VERSION.fullmatch(entry.etag)
    return Deleted(kind, id_, version.group(1) if version else None, entry.modified or None, where)
