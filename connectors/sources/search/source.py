"""A cohort from a FHIR server by search.

The cohort query is read first, in full, then every type for those patients, in batches and several at a time. Patients
who are new are asked for in full, of the others only what has changed (`sync_plan` decides that). A search that cannot
be read whole makes the sync partial and holds the time of its type back; the others go on.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx

from connectors.auth.scopes import scope_problems
from connectors.fhir.events import Note, SourceEvent
from connectors.fhir.instants import earliest
from connectors.fhir.resource import Resource
from connectors.http.authenticators import Authenticator, NoAuth
from connectors.http.client import FhirClient
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.table import Cursor
from connectors.sources.base import PlannedRequest
from connectors.sources.search.cohort import Cohort
from connectors.sources.search.dry_run import planned
from connectors.sources.search.entries import Entries, events_of
from connectors.sources.search.executor import SearchExecutor
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest
from connectors.sources.search.sync_plan import ServerObservations, SyncPlan, plan_sync

__all__ = ["CohortQuery", "SearchLimits", "SearchSource"]

LEFT = (
    "{} patients are in the lake and no longer in the cohort query: their {} was read once more, and nothing of "
    "them was taken as deleted for that reason"
)


@dataclass(frozen=True)
class CohortQuery:
    """The query that finds the patients: the subjects of the resources found by `resource_type?params`."""

    resource_type: str
    params: tuple[tuple[str, str], ...]


def nobody() -> Collection[str]:
    """Return the patients of an empty lake."""
    return ()


@dataclass
class SearchSource:
    """The cohort's resources of `types` on the server at `url`.

    stored: returns the patients of whom anything of this site is in the lake; without it, everything is always asked
        for.
    http_transport: replaces the network. clock: replaces the clocks.
    """

    url: str
    cohort: CohortQuery
    types: tuple[str, ...]
    auth: Authenticator = field(default_factory=NoAuth)
    limits: SearchLimits = field(default_factory=SearchLimits)
    transfer: TransferLimits = field(default_factory=TransferLimits)
    clock: Clock = field(default_factory=Clock)
    http_transport: httpx.BaseTransport | None = None
    verify: ssl.SSLContext | bool = True
    stored: Callable[[], Collection[str]] = nobody
    server_time: str | None = field(default=None, init=False)
    whole: bool = field(default=False, init=False)  # it reads a cohort, and yields CompleteFor instead
    state: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def fingerprint(self) -> str:
        asked = (self.url, self.cohort.resource_type, urlencode(self.cohort.params), *self.types)
        return hashlib.sha256("\n".join(("search", *asked)).encode()).hexdigest()

    def pull(self, previous: Cursor | None = None) -> Iterator[SourceEvent]:
        """Yield the cohort, or what changed in it since `previous`.

        Raises:
            ConnectorError: not even the cohort query is answered.
        """
        observed = ServerObservations()
        with self._client() as client:
            paging = Paging(client, self.limits)
            yield from scope_problems(self.auth, self.cohort.resource_type)
            cohort = Cohort(paging, self._cohort_request(), self._entries)
            # In full before anything else: whether a patient is new or has left depends on all of it.
            yield from cohort.read()
            # Whichever is earlier: behind a cache the Date may be later than the data.
            self.server_time = earliest(client.server_time, paging.began)
            plan = self._sync_plan(previous, cohort.patients, complete_cohort=cohort.complete)
            yield from map(Note, plan.notes)
            if plan.left:
                yield Note(LEFT.format(len(plan.left), self.cohort.resource_type))
            executor = SearchExecutor(paging, self.limits, plan, observed, self._entries, client.base)
            yield from executor.run(self.cohort.resource_type)
        self.state = observed.state(plan, previous, self.server_time, complete_cohort=cohort.complete)

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:
        """Yield the requests that `pull` would send. Reads the cohort query, asks for numbers, and stores nothing.

        Raises:
            ConnectorError: the cohort query is not answered.
        """
        with self._client() as client:
            paging, request = Paging(client, self.limits), self._cohort_request()
            yield PlannedRequest("GET", paging.url(request), request.label, paging.count(request))
            found = [event for event in events_of(paging, request, self._entries) if isinstance(event, Resource)]
            self.server_time = paging.began or client.server_time
            plan = self._sync_plan(previous, {resource.patient for resource in found if resource.patient})
            yield from planned(plan, paging, client.base, self.limits, self.cohort.resource_type)

    def _client(self) -> FhirClient:
        return FhirClient(self.url, self.auth, self.transfer, self.clock, self.http_transport, self.verify)

    @property
    def _entries(self) -> Entries:
        return Entries(frozenset(self.types), self.limits.resource)

    def _cohort_request(self) -> SearchRequest:
        kind = self.cohort.resource_type
        return SearchRequest(kind, self.cohort.params, None, f"cohort query of {kind}", counted=True)

    def _sync_plan(
        self, previous: Cursor | None, patients: Collection[str], *, complete_cohort: bool = True
    ) -> SyncPlan:
        stored, now = self.stored(), self.server_time
        return plan_sync(previous, self.types, patients, stored, now, self.limits, complete_cohort=complete_cohort)
