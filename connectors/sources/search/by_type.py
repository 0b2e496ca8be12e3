"""Resources of given types by search, without a cohort query: of all patients, of those in a list, or of a Group."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import httpx

from connectors.errors import IncompleteError, RefusedError, ServerError
from connectors.fhir.events import Note, NotOffered, Problem, SourceEvent
from connectors.fhir.lenient import json_or_none
from connectors.fhir.outcome import lacks_type
from connectors.fhir.resource import Resource
from connectors.fhir.resource_types import WITHOUT_PATIENT
from connectors.http.authenticators import Authenticator, NoAuth, ScopedAuthenticator
from connectors.http.client import FhirClient
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.table import Cursor
from connectors.sources.parts import Part, PartEnd, read_parts
from connectors.sources.patient_list import PatientList
from connectors.sources.search.batches import LearnedBatches
from connectors.sources.search.dialect import Dialect
from connectors.sources.search.entries import Entries, events_of
from connectors.sources.search.group import read_members
from connectors.sources.search.listed import ids_of
from connectors.sources.search.medications import Medications
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest, changes, everything, ids

TRIES_AGAIN = ": the next run tries again"  # which a pull does not: it has asked again already
UNKNOWN = "the server says that it does not have them"


@dataclass
class TypeSearch:
    """All resources of `types` on the server at `url`.

    patients: ids of those whose resources are asked for, None for all. group: the id of a Group whose patients they
    are. since: an instant; only what changed since then is asked for.

    >>> TypeSearch("https://fhir.example.org/r4", ("Patient", "Condition")).whole
    False
    """

    url: str
    types: tuple[str, ...]
    patients: Sequence[str] | None = None
    group: str | None = None
    since: str | None = None
    auth: Authenticator = field(default_factory=NoAuth)
    limits: SearchLimits = field(default_factory=SearchLimits)
    transfer: TransferLimits = field(default_factory=TransferLimits)
    clock: Clock = field(default_factory=Clock)
    http_transport: httpx.BaseTransport | None = None
    verify: ssl.SSLContext | bool = True
    dialect: Dialect = field(default_factory=Dialect)
    server_time: str | None = field(default=None, init=False)
    whole: bool = field(default=False, init=False)
    asked: frozenset[str] | None = field(default=None, init=False)
    state: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def fingerprint(self) -> str:
        who = ",".join(self.patients) if self.patients is not None else ""
        asked = (self.url, *self.types, self.group or "", self.since or "", who, *self.dialect.identity)
        return hashlib.sha256("\n".join(("types", *asked)).encode()).hexdigest()

    def pull(self, previous: Cursor | None = None) -> Iterator[SourceEvent]:  # noqa: ARG002
        """Yield everything that is asked for. What cannot be read whole becomes a Problem."""
        found, absent = Medications(), set[str]()
        with self.client() as client:
            for parts in (self.parts(client), self.medications(client, found)):
                for event in read_parts(tuple(parts), self.limits.streams):
                    if isinstance(event, PartEnd):
                        if event.error:
                            yield Problem(str(event.error))
                        continue
                    if isinstance(event, Resource):
                        found.note(event)
                    if isinstance(event, NotOffered):
                        absent.add(event.resource_type)
                    yield event
            self.server_time = client.server_time
        self.asked = frozenset(self.types) - absent
        # Then what the lake has beyond what came was deleted on the server.
        self.whole = self.patients is None and self.group is None and self.since is None

    def client(self) -> FhirClient:
        """Return a client of the server, for `parts`."""
        if isinstance(self.auth, ScopedAuthenticator):
            self.auth.narrow(self.types)
        return FhirClient(self.url, self.auth, self.transfer, self.clock, self.http_transport, self.verify)

    def parts(self, client: FhirClient) -> Iterator[Part]:
        """Yield the searches: one for each type, or one for each type and batch of patients. Raises ServerError."""
        paging, patients = Paging(client, self.limits, self.dialect), self.patients
        if patients is None and self.group is not None:
            patients = members(client, self.group, self.limits)
        if patients is None:
            for kind in self.types:
                yield self._part(paging, SearchRequest(kind, (), None, kind, counted=True))
            return
        limits = self.dialect.within(self.limits)
        limits = replace(limits, batch=patients_of_a_search(paging, client.base, patients, limits))
        batches = LearnedBatches(limits.batch)
        for kind in self.types:
            if kind not in WITHOUT_PATIENT:
                for request in everything(client.base, kind, patients, limits):
                    yield self._part(paging, request, batches)

    def medications(self, client: FhirClient, found: Medications) -> Iterator[Part]:
        """Yield the searches for types without patients: by the ids that the resources in `found` refer to."""
        if self.patients is None and self.group is None:
            return
        # No search for patients returns them: they are asked for by the ids in the references to them.
        new = sorted(found.referenced({client.base}) - found.received - found.stored)
        for kind in self.types:
            if kind in WITHOUT_PATIENT:
                batches = LearnedBatches(self.limits.batch)
                for request in everything(client.base, kind, new, self.limits, "medications"):
                    yield self._part(Paging(client, self.limits, self.dialect), request, batches)

    def _part(self, paging: Paging, request: SearchRequest, batches: LearnedBatches | None = None) -> Part:
        asked = replace(changes(request, self.since), counted=True) if self.since else request
        read = partial(self._read, paging)
        # A list that is refused is asked for in halves, all of them in one part: its name is that of the whole list.
        return Part(request.label, partial(batches.read, asked, read) if batches else partial(read, asked))

    def _read(self, paging: Paging, request: SearchRequest) -> Iterator[SourceEvent]:
        kind, entries = request.resource_type, Entries(frozenset(self.types), self.limits.resource)
        try:
            try:
                yield from events_of(paging, request, entries)
            # Perhaps a page was lost on the way. What comes once more is identical.
            except IncompleteError:
                yield from events_of(paging, request, entries)
        except IncompleteError as error:
            yield Problem(f"{str(error).removesuffix(TRIES_AGAIN)}: it was asked for twice, and what came is kept")
        except RefusedError as error:
            if not lacks_type(error.status, error.outcome):
                raise
            yield NotOffered(kind, UNKNOWN)


def members(client: FhirClient, group: str, limits: SearchLimits) -> tuple[str, ...]:
    """Return the ids of the patients of a Group, without those that left it.

    Raises ServerError, also where some of its members cannot be found.
    """
    found = read_members(client, Paging(client, limits), group, limits)
    if found.problems:
        raise IncompleteError(found.problems[0])
    return found.patients


def patients_by_identifier(
    client: FhirClient, listed: PatientList, limits: SearchLimits, dialect: Dialect
) -> tuple[tuple[str, ...], list[Note]]:
    """Return the ids of the patients in a list, in order, and notes on identifiers that nobody has.

    Raises ServerError.
    """
    found, notes = ids_of(Paging(client, limits, dialect), client.base, listed, limits)
    return tuple(sorted(found)), notes


def patients_of_a_search(paging: Paging, base: str, patients: Sequence[str], limits: SearchLimits) -> int:
    """Return for how many patients a server answers in one search, found out by halving a list of them.

    US Core lets a server take only one of a list (multipleOr: MAY); some take the first one without a word.
    """
    first = next(everything(base, "Patient", patients, limits), None)
    listed = sorted(first.patients or ()) if first else []
    size = len(listed)
    with suppress(ServerError):
        while size > 1:
            if _answers_for_all(paging, base, listed[:size], limits):
                return limits.batch if size == len(listed) else size
            size //= 2
        return limits.batch if len(listed) < 2 else 1
    return 1  # nothing is known of it


def _answers_for_all(paging: Paging, base: str, patients: Sequence[str], limits: SearchLimits) -> bool:
    together = next(everything(base, "Patient", patients, limits))
    try:
        missing = sorted({*patients} - found_ids(paging, together, limits))[:2]
    except RefusedError:  # too many, perhaps
        return False
    # Who does not exist is missing in both answers; two are enough to tell.
    alone = [next(everything(base, "Patient", [each], limits)) for each in missing]
    return not any(found_ids(paging, each, limits) for each in alone)


def found_ids(paging: Paging, request: SearchRequest, limits: SearchLimits) -> set[str]:
    """Return the ids of the patients that a search for patients returns."""
    try:
        return _read_ids(paging, replace(ids(request, limits), counted=False))
    except RefusedError:  # `_elements` is optional in FHIR
        return _read_ids(paging, replace(request, counted=False))


def _read_ids(paging: Paging, request: SearchRequest) -> set[str]:
    found = set[str]()
    for page in paging.pages(request):
        bodies = [json_or_none(entry.resource) for entry in page.entries]
        found |= {body["id"] for body in bodies if isinstance(body, dict) and isinstance(body.get("id"), str)}
    return found & (request.patients or frozenset())
