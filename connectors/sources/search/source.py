"""A cohort from a FHIR server by search:

The cohort query first, in full, then every type for those patients, in batches and several at a time. Patients who are
new are asked for in full, of the others only what has changed (`sync_plan` says how that is decided).
Where everybody is new, those whom the cohort query has brought are asked for while it brings the next.

One window is one search (a type and a batch of patients) with all its pages. A window that cannot be read whole makes
the sync partial and holds the time of its type, and the others go on.
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
from connectors.fhir.resource import Resource
from connectors.http.authenticators import Authenticator, NoAuth
from connectors.http.client import FhirClient
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.table import Cursor
from connectors.sources.base import PlannedRequest
from connectors.sources.search.cohort import Cohort
from connectors.sources.search.entries import Entries, found_in
from connectors.sources.search.executor import Reading
from connectors.sources.search.paging import Paging, SearchLimits, Window
from connectors.sources.search.plan import planned
from connectors.sources.search.sync_plan import Found, Question, ask, earliest

__all__ = ["CohortQuery", "SearchLimits", "SearchSource"]

LEFT = (
    "{} patients are in the lake and no longer in the cohort query: their {} was read once more, and nothing of "
    "them was taken as deleted for that reason"
)


@dataclass(frozen=True)
class CohortQuery:
    """Which patients: those whom the resources found by `resource_type?params` are about."""

    resource_type: str
    params: tuple[tuple[str, str], ...]


def nobody() -> Collection[str]:
    """The patients of an empty lake."""
    return ()


@dataclass
class SearchSource:
    """The cohort's resources of `types` on the server at `url`.

    stored: the patients of whom anything of this site is in the lake; without them everything is asked for every
    time. `http_transport` replaces the network, `clock` the clocks.
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
    whole: bool = field(default=False, init=False)  # of the cohort alone: what is whole is told by window (CompleteFor)
    state: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def fingerprint(self) -> str:
        asked = (self.url, self.cohort.resource_type, urlencode(self.cohort.params), *self.types)
        return hashlib.sha256("\n".join(("search", *asked)).encode()).hexdigest()

    def pull(self, previous: Cursor | None = None) -> Iterator[SourceEvent]:
        """The cohort, or what changed in it since `previous`. Raises ConnectorError where not even the cohort query
        is answered.
        """
        found = Found()
        with FhirClient(self.url, self.auth, self.transfer, self.clock, self.http_transport, self.verify) as client:
            paging = Paging(client, self.limits)
            yield from scope_problems(self.auth, self.cohort.resource_type)
            cohort = Cohort(paging, self.cohort_window(), self.entries)
            reading = Reading(paging, self.limits, Question(self.types), found, self.entries, client.base)
            everything = previous is None  # of everybody, whoever they are
            yield from reading.with_cohort(cohort) if everything else cohort.alone()
            self.server_time = earliest(client.server_time, paging.began)
            question = self.question(previous, cohort.patients, whole_cohort=cohort.whole)
            yield from map(Note, question.notes)
            if question.left:
                yield Note(LEFT.format(len(question.left), self.cohort.resource_type))
            reading.question = question
            yield from reading.everything(self.cohort.resource_type, asked=everything)
        self.state = found.state(question, previous, self.server_time, whole_cohort=cohort.whole)

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:
        """Yield the requests that `pull` would send. Reads the cohort query, asks for numbers, and stores nothing.

        Raises:
            ConnectorError: the cohort query is not answered.
        """
        with FhirClient(self.url, self.auth, self.transfer, self.clock, self.http_transport, self.verify) as client:
            paging, cohort = Paging(client, self.limits), self.cohort_window()
            yield PlannedRequest("GET", paging.url(cohort), cohort.label, paging.count(cohort))
            found = [item for item in found_in(paging, cohort, self.entries) if isinstance(item, Resource)]
            self.server_time = paging.began or client.server_time
            question = self.question(previous, {item.patient for item in found if item.patient})
            yield from planned(question, paging, client.base, self.limits, self.cohort.resource_type)

    @property
    def entries(self) -> Entries:
        return Entries(frozenset(self.types), self.limits.resource)

    def question(self, previous: Cursor | None, patients: Collection[str], *, whole_cohort: bool = True) -> Question:
        """What a sync asks of these patients once the server's time is known."""
        return ask(
            previous, self.types, patients, self.stored(), self.server_time, self.limits, whole_cohort=whole_cohort
        )

    def cohort_window(self) -> Window:
        """The search that gives the patients."""
        kind = self.cohort.resource_type
        return Window(kind, self.cohort.params, None, f"cohort query of {kind}", counted=True)
