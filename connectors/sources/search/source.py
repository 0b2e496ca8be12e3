"""A cohort from a FHIR server by search.

The cohort query is read first, in full, then every type for those patients, in batches and several at a time. Patients
who are new are asked for in full, of the others only what has changed (`sync_plan` decides that). A search that cannot
be read whole makes the sync partial and holds the time of its type back; the others go on.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

import httpx

from connectors.auth.scopes import scope_problems
from connectors.errors import AuthenticationError, ConnectorError, RefusedError
from connectors.fhir.capability import CapabilityStatement, read_capability_statement
from connectors.fhir.events import Note, NotOffered, SourceEvent
from connectors.fhir.instants import earliest
from connectors.fhir.resource import Resource
from connectors.http.authenticators import Authenticator, NoAuth, ScopedAuthenticator
from connectors.http.client import FhirClient
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.table import Cursor
from connectors.sources.base import TYPES_0_1, PlannedRequest
from connectors.sources.patient_list import PatientList
from connectors.sources.search.cohort import Cohort
from connectors.sources.search.dialect import Dialect
from connectors.sources.search.dry_run import planned, planned_search
from connectors.sources.search.entries import Entries
from connectors.sources.search.executor import SearchExecutor
from connectors.sources.search.links import linked
from connectors.sources.search.listed import ListedCohort, PatientGroup, types_of
from connectors.sources.search.lists import ListCanary
from connectors.sources.search.medications import MEDICATION, Medications, Texts, no_texts
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest
from connectors.sources.search.sync_plan import ServerObservations, SyncPlan, learned_batch, plan_sync

__all__ = ["CohortQuery", "SearchLimits", "SearchSource"]

UNLISTED = "its CapabilityStatement lists no search of them, and it refuses one"
UNKNOWN = "the server says that it does not have them"
TRIED = ", to see whether a list of patients is understood"
HIDDEN = "{}: the server announced more than it gave, which the site expects (expect), so a lost page would not show"
ENDLESS = (
    "{}: all that the server announced came, and after it pages without entries that have no end: "
    "report it to the server's administrator"
)
TOO_MANY = (
    "the server refused the searches for more patients, so it was asked for {} at a time: that is remembered, and "
    "patients_per_request can be set to it"
)
LEFT = (
    "{} patients are in the lake and no longer in {}: their {} was read once more, and nothing of "
    "them was taken as deleted for that reason"
)


@dataclass(frozen=True)
class CohortQuery:
    """The query that finds the patients: the subjects of the resources found by `resource_type?params`.

    others: parameters of queries that say the same in other words, for a server where the first one finds nobody.
    """

    resource_type: str
    params: tuple[tuple[str, str], ...]
    others: tuple[tuple[tuple[str, str], ...], ...] = ()


def nobody() -> Collection[str]:
    """Return the patients of an empty lake."""
    return ()


@dataclass
class SearchSource:
    """The cohort's resources of `types` on the server at `url`.

    tolerant: a type that the CapabilityStatement does not list and the lake does not have is asked for by way of trial,
        and without a scope: whatever the refusal, the server does not have it.
    dialect: how the server wants to be asked. learns: the types that are searched by `patient` are learned from the
        CapabilityStatement.
    named: the patients, in place of the cohort query, which then says only of which type their leaving is read.
    stored: returns the patients of whom anything of this site is in the lake; without it, everything is always asked
        for.
    texts: yields what the lake has of a type.
    excluded: True for the id of a patient who must not be asked about.
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
    tolerant: bool = False
    dialect: Dialect = field(default_factory=Dialect)
    learns: bool = False
    named: PatientGroup | PatientList | None = None
    stored: Callable[[], Collection[str]] = nobody
    texts: Texts = no_texts
    excluded: Callable[[str], bool] = lambda _patient: False
    server_time: str | None = field(default=None, init=False)
    asked: frozenset[str] | None = field(default=None, init=False)
    whole: bool = field(default=False, init=False)  # it reads a cohort, and yields CompleteFor instead
    state: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def fingerprint(self) -> str:
        asked = (self.url, self.cohort.resource_type, urlencode(self.cohort.params), *TYPES_0_1, *self.dialect.identity)
        # Who is in a list or a Group changes from night to night, as who a query finds.
        if self.named is not None:
            asked = (*asked, "named", self.named.id if isinstance(self.named, PatientGroup) else "list")
        return hashlib.sha256("\n".join(("search", *asked)).encode()).hexdigest()

    def pull(self, previous: Cursor | None = None) -> Iterator[SourceEvent]:
        """Yield the cohort, or what changed in it since `previous`.

        Raises:
            ConnectorError: not even the cohort query is answered.
        """
        observed = ServerObservations()
        dialect, observed.unlisted = self._prepare()
        with self._client() as client:
            paging = Paging(client, self.limits, dialect)
            yield from scope_problems(self.auth, self.cohort.resource_type)
            cohort = self._cohort(paging, client)
            # In full before anything else: whether a patient is new or has left depends on all of it.
            yield from cohort.read()
            cohort.patients |= linked(self.texts, cohort.patients)
            # Whichever is earlier: behind a cache the Date may be later than the data.
            self.server_time = earliest(client.server_time, paging.began)
            plan = self._sync_plan(previous, cohort.patients, complete_cohort=cohort.complete)
            yield from map(Note, plan.notes)
            if plan.left:
                yield Note(LEFT.format(len(plan.left), self._whence, self.cohort.resource_type))
            # A server may be mended, so what it refused before is tried again when all ids are compared.
            limits = dialect.within(self.limits if plan.reconcile else learned_batch(previous, self.limits))
            canary = self._canary(paging, client, cohort, limits, previous if not plan.reconcile else None)
            medications = self._medications(plan)
            executor = SearchExecutor(paging, limits, plan, observed, self._entries, client.base, canary, medications)
            known = set(plan.known)
            for event in executor.run(self.cohort.resource_type):
                if isinstance(event, Resource) and event.resource_type == "Patient":
                    known.add(event.id)
                yield event
            if "Patient" not in observed.failed:
                yield from cohort.unknown(known | {each for each in cohort.patients if self.excluded(each)})
            batch = executor.batches
            if batch.shrunk:
                yield Note(TOO_MANY.format(batch.size))
            observed.batch = batch.size if batch.size < self.limits.batch else None
            yield from (Note(HIDDEN.format(kind)) for kind in sorted(paging.hidden))
            yield from (Note(ENDLESS.format(kind)) for kind in sorted(paging.endless))
        self.asked = frozenset(plan.types) - observed.absent
        for kind in self.types:
            if kind in observed.absent or kind in plan.absent:
                yield NotOffered(kind, UNLISTED if kind in observed.unlisted else UNKNOWN)
        self.state = observed.state(plan, previous, self.server_time, complete_cohort=cohort.complete)

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:
        """Yield the requests that `pull` would send. Reads the cohort query, asks for numbers, and stores nothing.

        Raises:
            ConnectorError: the cohort query is not answered.
        """
        dialect, _ = self._prepare()
        with self._client() as client:
            paging = Paging(client, self.limits, dialect)
            yield from self._planned_cohort(paging, client.base)
            if self.tolerant:
                yield PlannedRequest("GET", f"{client.base}/metadata", "which types the server has")
            elif self.learns:
                yield PlannedRequest("GET", f"{client.base}/metadata", "by which parameter it finds a patient")
            cohort = self._cohort(paging, client)
            for _ in cohort.read():
                pass
            self.server_time = paging.began or client.server_time
            limits = dialect.within(learned_batch(previous, self.limits))
            patients = cohort.patients | linked(self.texts, cohort.patients)
            plan = self._sync_plan(previous, patients)
            canary = self._canary(paging, client, cohort, limits, previous if not plan.reconcile else None)
            for request in canary.searches(self.types):
                yield from planned_search(paging, request, f"{request.label}{TRIED}")
            yield from planned(plan, paging, client.base, limits, self.cohort.resource_type)

    def _cohort(self, paging: Paging, client: FhirClient) -> Cohort | ListedCohort:
        if self.named is not None:
            return ListedCohort(paging, client, self.named, self.limits)
        query, *others = self._cohort_requests()
        return Cohort(paging, query, self._entries, tuple(others))

    def _planned_cohort(self, paging: Paging, base: str) -> Iterator[PlannedRequest]:
        if isinstance(self.named, PatientGroup):
            yield PlannedRequest("GET", f"{base}/Group/{self.named.id}", "the Group, whose patients are asked for")
        elif self.named is None:
            query = self._cohort_requests()[0]
            yield from planned_search(paging, query, query.label, paging.counts(query))
        elif self.named.identifiers:
            count = len(self.named.identifiers)
            yield PlannedRequest("GET", f"{base}/Patient?identifier=…({count} identifiers)", "the patients of the list")

    @property
    def _whence(self) -> str:
        if self.named is None:
            return "the cohort query"
        return "the Group of the site" if isinstance(self.named, PatientGroup) else "the list of patients"

    def _canary(
        self,
        paging: Paging,
        client: FhirClient,
        cohort: Cohort | ListedCohort,
        limits: SearchLimits,
        previous: Cursor | None,
    ) -> ListCanary:
        """Return what tries lists of patients. previous: where they may have been learned, None to learn them anew."""
        known = previous is not None and previous.state.get("lists") == "yes"
        witnesses = {patient: id_ for patient, id_ in cohort.witnesses.items() if not self.excluded(patient)}
        return ListCanary(paging, client.base, self.cohort.resource_type, witnesses, limits, known)

    def _client(self) -> FhirClient:
        return FhirClient(self.url, self.auth, self.transfer, self.clock, self.http_transport, self.verify)

    def _prepare(self) -> tuple[Dialect, frozenset[str]]:
        """Return how the server wants to be asked, and the types that it probably does not have.

        Lets the credentials be for the other types.
        """
        statement = self._statement() if self.tolerant or self.learns else None
        if isinstance(self.auth, ScopedAuthenticator) and types_of(self.named):
            self.auth.narrow((*self.types, *types_of(self.named)))
        if statement is None:
            return self.dialect, frozenset()
        dialect = self.dialect.learned(statement, self.types) if self.learns else self.dialect
        listed = {kind for kind in self.types if statement.offers(kind, "search-type")}
        # A statement that lists neither is not about this API.
        if not self.tolerant or not {"Patient", self.cohort.resource_type} <= listed:
            return dialect, frozenset()
        unlisted = frozenset(kind for kind in self.types if kind not in listed and not self._in_lake(kind))
        if isinstance(self.auth, ScopedAuthenticator):
            self.auth.narrow((*(kind for kind in self.types if kind not in unlisted), *types_of(self.named)))
        return dialect, unlisted

    def _statement(self) -> CapabilityStatement | None:
        """Return the CapabilityStatement, None where there is none to be had."""
        # Without credentials, which FHIR does not need here (R4, 3.1.0.13): a token is asked for when the types are
        # known. Some gateways want them all the same. And without patience: a server that is away is waited for when
        # it is asked for the cohort.
        transfer = replace(self.transfer, attempts=1)
        for auth in (NoAuth(), self.auth) if self.auth != NoAuth() else (NoAuth(),):
            client = FhirClient(self.url, auth, transfer, self.clock, self.http_transport, self.verify)
            try:
                with client:
                    url = f"{client.base}/metadata"
                    return client.get_parsed(url, "CapabilityStatement", read_capability_statement)
            except AuthenticationError:
                continue
            except ConnectorError as error:
                if not isinstance(error, RefusedError) or error.status != 403:
                    return None  # then all is found out by asking for it
        return None

    def _in_lake(self, kind: str) -> bool:
        return next(self.texts(kind), None) is not None

    def _medications(self, plan: SyncPlan) -> Medications:
        """Return what the lake has of Medications; its references too where not all of them were read before."""
        if MEDICATION not in plan.types:
            return Medications()
        return Medications.of_lake(self.texts, with_references=plan.reconcile or MEDICATION in plan.unread_types)

    @property
    def _entries(self) -> Entries:
        return Entries(frozenset(self.types), self.limits.resource)

    def _cohort_requests(self) -> list[SearchRequest]:
        kind, queries = self.cohort.resource_type, (self.cohort.params, *self.cohort.others)
        return [SearchRequest(kind, params, None, f"cohort query of {kind}", counted=True) for params in queries]

    def _sync_plan(
        self,
        previous: Cursor | None,
        patients: Collection[str],
        *,
        complete_cohort: bool = True,
    ) -> SyncPlan:
        stored, now = self.stored(), self.server_time
        asked_about = [patient for patient in patients if not self.excluded(patient)]
        return plan_sync(previous, self.types, asked_about, stored, now, self.limits, complete_cohort=complete_cohort)
