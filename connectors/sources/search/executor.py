"""Sends the searches of one sync, several at a time, and notes what it learns of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from connectors.errors import EmptyPagesError, ProtocolError, RefusedError, ServerError, UnavailableError
from connectors.fhir.events import CompleteFor, Exists, Note, Problem, SourceEvent
from connectors.fhir.instants import comparable
from connectors.fhir.outcome import lacks_type
from connectors.fhir.resource import Reason, Rejected, Resource
from connectors.fhir.resource_types import WITHOUT_PATIENT
from connectors.sources.concurrency import run_concurrently
from connectors.sources.search import requests
from connectors.sources.search.batches import LearnedBatches, Read
from connectors.sources.search.entries import Entries, deletion, events_of, id_in_url, is_remark_of_page, version_of
from connectors.sources.search.lists import ListCanary
from connectors.sources.search.medications import MEDICATION, Medications
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest
from connectors.sources.search.sync_plan import ServerObservations, SyncPlan

Task = Callable[[], Iterator[SourceEvent]]
SECOND = 1_000_000  # microseconds: the precision of some servers' search index
IGNORED = "{}: the server ignores _lastUpdated, so everything was asked for"
LONG_HISTORY = "{}: the history has more than {} entries, so ids were compared in place of it"
DANGLING = "{} Medications that drugs refer to are not on the server"
ELSEWHERE = "{} references of drugs lead to a Medication on another server, which is not asked"
ENDLESS_HISTORY = "{}: the pages of the history are empty and have no end, so ids were compared in place of it"
NO_HISTORY = "{}: the server did not tell its history, so ids were compared in place of it"
# What servers answer to a history that they do not have; 403 or 500 may be over next time.
NOT_OFFERED = (400, 404, 405, 501)


@dataclass
class SearchExecutor:
    """Carries out a SyncPlan, and fills `observed` with what the next plan must know.

    server_unavailable: the server does not answer any more.
    reading_former_patients: the searches are about patients who left the cohort.
    unchanged_types: types to which nothing was done since the last sync.
    compared_types: types whose ids are compared although no comparison was due.
    medications: the Medications in the lake, and the references to others as they are found.
    returned_types: types of which something came.
    canary: tries whether lists of patients are understood, before the first one is used.
    batches: how many patients the server takes in one search.
    """

    paging: Paging
    limits: SearchLimits
    plan: SyncPlan
    observed: ServerObservations
    entries: Entries
    base: str
    canary: ListCanary | None = None
    medications: Medications = field(default_factory=Medications)
    batches: LearnedBatches = field(init=False)
    server_unavailable: bool = False
    reading_former_patients: bool = False
    unchanged_types: set[str] = field(default_factory=set)
    compared_types: set[str] = field(default_factory=set)
    returned_types: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.batches = LearnedBatches(self.limits.batch)

    def run(self, cohort_type: str) -> Iterator[SourceEvent]:
        """Yield everything that the plan asks for.

        Histories come first, because what they report may be undone by what is read later; then ids, then content:
        what is created meanwhile is in the content. What the next sync must know of the server is found out last.
        """
        plan = self.plan
        yield from self._concurrently([(partial(self._history, kind), None) for kind in sorted(plan.history)])
        since = [kind for kind in plan.since if kind not in WITHOUT_PATIENT]
        # Without deletions in a history the ids of all are compared now and then, to find what is missing.
        compared = [kind for kind in since if plan.reconcile or kind in self.compared_types]
        yield from self._search(compared, plan.known, self._ids)
        changed = [kind for kind in since if kind not in self.unchanged_types]
        yield from self._search(changed, plan.known, self._changes)
        yield from self._search(since, plan.fresh, self._all)
        # Types that no sync has read to their end yet, or that the server cannot search by time.
        full = [kind for kind in plan.types if kind not in plan.since]
        yield from self._search([kind for kind in full if kind not in WITHOUT_PATIENT], plan.patients, self._all)
        yield from self._medications()
        if cohort_type in plan.types:
            # Their resources of the type that makes the cohort, once more: they say why the patients left it.
            self.reading_former_patients = True
            yield from self._search([cohort_type], plan.left, self._all, "former patients")
            self.reading_former_patients = False
        untold = [kind for kind in plan.since if kind not in plan.history and kind in self.returned_types]
        full = [kind for kind in full if kind not in self.observed.absent]
        histories = [partial(self._learn_history, kind) for kind in (*full, *untold) if self.limits.history]
        changes = [partial(self._learn_changes, kind) for kind in full if kind in self.returned_types]
        yield from self._concurrently([(task, None) for task in (*histories, *changes)])

    def _medications(self) -> Iterator[SourceEvent]:
        """Read the Medications that drugs refer to, last: only now are all references known."""
        plan, medications = self.plan, self.medications
        if MEDICATION not in plan.types:
            return
        known = medications.stored if MEDICATION in plan.since else set()
        if MEDICATION not in self.unchanged_types:
            yield from self._search([MEDICATION] if known else [], sorted(known), self._changes, "medications")
        bases = {self.base, *filter(None, [self.paging.own_base])}
        new = (medications.referenced(bases) | medications.stored) - known
        yield from self._search([MEDICATION], sorted(new), self._all, "medications")
        if MEDICATION in self.observed.failed | self.observed.absent:
            return
        if gone := len(new - medications.received):
            yield Note(DANGLING.format(gone))
        if elsewhere := medications.elsewhere(bases):
            yield Note(ELSEWHERE.format(elsewhere))

    def _search(
        self,
        kinds: Iterable[str],
        patients: Sequence[str],
        read: Read,
        of: str = "patients",
    ) -> Iterator[SourceEvent]:
        """Read these types of these patients, each search by `read`."""
        kinds = tuple(kinds)
        if kinds and patients:
            yield from self._try_lists()
        made = [each for kind in kinds for each in requests.everything(self.base, kind, patients, self.limits, of)]
        tasks = [(partial(self.batches.read, request, self._unless_absent(read)), request) for request in made]
        yield from self._concurrently(tasks)

    def _try_lists(self) -> Iterator[SourceEvent]:
        """Try a list of patients, once in a sync and only in one that uses any."""
        if (canary := self.canary) is None:
            return
        self.canary = None
        yield from canary.run(self.plan.types)
        self.limits = replace(self.limits, batch=canary.batch)
        self.batches = LearnedBatches(canary.batch)
        self.observed.lists = canary.learned
        if canary.blank:
            self.observed.failed.update(self.plan.types)  # so that the next sync asks for the changes since then again

    def _unless_absent(self, read: Read) -> Read:
        """Return `read` with a refusal that says that the server does not have the type noted, and not raised."""

        def reader(request: SearchRequest) -> Iterator[SourceEvent]:
            kind = request.resource_type
            try:
                yield from read(request)
            except RefusedError as error:
                # Every server has Patients, so there something else is wrong.
                if kind == "Patient" or not self._lacks(kind, error):
                    raise
                self.observed.absent.add(kind)

        return reader

    def _concurrently(self, tasks: Sequence[tuple[Task, SearchRequest | None]]) -> Iterator[SourceEvent]:
        guarded = [partial(self._guarded, task, request) for task, request in tasks]
        size = lambda event: len(event.raw) if isinstance(event, Resource) else 0  # noqa: E731
        yield from run_concurrently(guarded, self.limits.streams, size=size)

    def _guarded(self, task: Task, request: SearchRequest | None) -> Iterator[SourceEvent]:
        """Run a task. A search that cannot be read is a Problem; after UnavailableError nothing more is tried."""
        # Other searches may be running still; they end with errors of their own.
        if self.server_unavailable:
            self._fail(request)
            return
        if request is not None and request.resource_type in self.observed.absent:
            return  # another batch has found that out
        try:
            for item in task():
                if isinstance(item, Problem):
                    self._fail(request)
                yield item
        except UnavailableError as error:
            # Several threads find out at about the same time: one sentence is enough.
            first, self.server_unavailable = not self.server_unavailable, True
            self._fail(request)
            if first:
                yield Problem(f"{error}; nothing after it was fetched")
        except ServerError as error:
            self._fail(request)
            yield Problem(str(error))

    def _lacks(self, kind: str, error: RefusedError) -> bool:
        return kind in self.observed.unlisted or lacks_type(error.status, error.outcome)

    def _fail(self, request: SearchRequest | None) -> None:
        self.observed.left = self.observed.left and not self.reading_former_patients
        # Of a history or of former patients nothing says which types are behind, so none moves on: the next sync asks
        # for the same again.
        if request is None or self.reading_former_patients:
            self.observed.failed.update(self.plan.types)
        else:
            self.observed.failed.add(request.resource_type)
            self.observed.unread.update((request.patients or frozenset()) & {*self.plan.fresh})

    def _all(self, request: SearchRequest) -> Iterator[SourceEvent]:
        """Read all of a search. What the lake has beyond it was deleted, if everything that came was clear."""
        clear = True
        pending = False  # what was set aside has not been told apart yet
        for item in events_of(self.paging, request, self.entries):
            # What was set aside is followed by Exists where its id is known. Without that it may be any resource of the
            # lake, so none is taken as deleted.
            if isinstance(item, Problem) or (pending and not isinstance(item, Exists)):
                clear = False
            pending = isinstance(item, Rejected) and item.reason is not Reason.OPERATION_OUTCOME
            self._note(item)
            yield item
        if clear and not pending and request.patients and request.resource_type not in WITHOUT_PATIENT:
            yield CompleteFor(request.resource_type, request.patients)

    def _note(self, item: SourceEvent) -> None:
        if isinstance(item, Rejected):
            self.observed.rejected = True
        elif isinstance(item, Resource):
            self.returned_types.add(item.resource_type)
            self.medications.note(item)
            if item.last_updated is None:
                self.observed.undated.add(item.resource_type)

    def _changes(self, request: SearchRequest) -> Iterator[SourceEvent]:
        """Read what has changed, if the server does as it is asked, else everything."""
        kind, since = request.resource_type, self.plan.since[request.resource_type]
        # Resources without lastUpdated never show up in a search for changes.
        if kind not in self.observed.undated and self.observed.changes.get(kind, True):
            asked = requests.changes(request, since)
            try:
                yield from self._changed(asked, since)
            except RefusedError as error:
                if error.status != 400:
                    raise
                self.observed.changes[kind] = False
            if kind not in self.observed.undated and self.observed.changes.get(kind, True):
                return
            yield Note(IGNORED.format(kind))
        yield from self._all(request)

    def _changed(self, request: SearchRequest, since: str) -> Iterator[SourceEvent]:
        begin = comparable(since)
        for number, page in enumerate(self.paging.pages(request), 1):
            # The self link holds the parameters that the server has used: one that it ignored is missing.
            own = page.links.get("self", "") if number == 1 else ""  # that of a later page may be opaque (HAPI)
            if "?" in own and "_lastUpdated" not in own:
                self.observed.changes[request.resource_type] = False
            # Found out by this or another batch: the rest would be everything, and is asked for as such.
            if self.observed.changes.get(request.resource_type) is False:
                return
            for place, entry in enumerate(page.entries):
                include = entry.mode == "include"
                for item in self.entries.events(entry, request, f"{request.label}, page {number}, entry {place}"):
                    self._note(item)
                    # Older than asked for, by more than the index is imprecise: the server ignores the parameter.
                    if isinstance(item, Resource) and comparable(item.last_updated) < begin - SECOND and not include:
                        self.observed.changes[request.resource_type] = False
                    yield item

    def _ids(self, request: SearchRequest) -> Iterator[SourceEvent]:
        """Read which resources exist, in which version; those of the lake that are not among them were deleted."""
        kind, asked = request.resource_type, requests.versions(request, self.limits)
        try:
            for page in self.paging.pages(asked):
                for entry in page.entries:
                    if entry.mode in ("", "match") and not is_remark_of_page(entry, kind):
                        exists = version_of(entry, kind)
                        if exists is None:
                            yield Problem(f"{asked.label}: the server gave entries that do not say what they are")
                            return
                        yield exists
        # No `_elements` on this server (it is optional): the content says the ids too.
        except RefusedError as error:
            if error.status != 400:
                raise
            yield from self._all(request)
            return
        assert request.patients is not None  # noqa: S101 - made by requests.everything
        yield CompleteFor(kind, request.patients)

    def _history(self, kind: str) -> Iterator[SourceEvent]:
        """Read the deletions since the last sync. The first entry of a resource is its newest one."""
        request, met, entries = requests.history(kind, self.plan.since[kind]), set[str](), 0
        try:
            for number, page in enumerate(self.paging.pages(request), 1):
                for place, entry in enumerate(page.entries):
                    entries += not is_remark_of_page(entry, kind)
                    id_ = id_in_url(entry, kind)
                    if id_ is not None and id_ not in met:
                        met.add(id_)
                        if entry.method == "DELETE":
                            yield deletion(entry, kind, id_, f"{request.label}, page {number}, entry {place}")
                # The history is of all patients of the server: for a small cohort on a large one ids are cheaper.
                if entries > self.limits.history:
                    yield from self._compare_instead(kind, LONG_HISTORY.format(kind, self.limits.history))
                    return
        except (RefusedError, ProtocolError, EmptyPagesError) as error:
            if not isinstance(error, RefusedError) or error.status in NOT_OFFERED:
                self.observed.history[kind] = False  # else it is asked again next time
            endless = isinstance(error, EmptyPagesError)
            yield from self._compare_instead(kind, ENDLESS_HISTORY.format(kind) if endless else NO_HISTORY.format(kind))
            return
        # Nobody touched any resource of this type, of any patient: its searches for changes can be left out.
        if not entries:
            self.unchanged_types.add(kind)

    def _compare_instead(self, kind: str, why: str) -> Iterator[SourceEvent]:
        if kind not in WITHOUT_PATIENT:  # those are asked for by id, and nothing of them counts as deleted for that
            self.compared_types.add(kind)
            yield Note(why)

    def _learn_changes(self, kind: str) -> Iterator[SourceEvent]:
        """Note whether the server may be asked for changes of a type.

        It may unless it was seen not to understand `_lastUpdated`; then it is asked again, since servers get mended.
        That it ignores the parameter shows when it is used (`_changed`).
        """
        works = kind not in self.plan.ignored
        if not works:
            with suppress(ServerError):
                works = self._understands_changes(kind)
        self.observed.changes[kind] = works
        yield from ()

    def _learn_history(self, kind: str) -> Iterator[SourceEvent]:
        """Note whether the server has a history of a type. One that has none is no problem."""
        told = False
        with suppress(ServerError):
            page = self.paging.first(requests.history_probe(kind))
            # If it names at least one request, a history without entries means that nothing was done.
            told = any(entry.method and id_in_url(entry, kind) for entry in page.entries)
        # Of a type that the server has nothing of, an empty history proves nothing.
        if told or kind in self.returned_types:
            self.observed.history[kind] = told
        yield from ()

    def _understands_changes(self, kind: str) -> bool:
        """Return True if the server says that nothing was changed after the year 2999."""
        probe = requests.changes_probe(kind)
        count = self.paging.count(probe)
        # Servers that cannot count may still search.
        if count is None:
            page = self.paging.first(requests.ids(probe, self.limits, count=1))
            return not page.matches and not page.total
        return count == 0
