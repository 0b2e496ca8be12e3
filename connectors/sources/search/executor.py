"""The windows of one sync by search, read side by side, each as far as it is worth it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from connectors.errors import ProtocolError, RefusedError, ServerError, UnavailableError
from connectors.fhir.events import CompleteFor, Exists, Note, Problem, SourceEvent
from connectors.fhir.resource import Reason, Rejected, Resource
from connectors.sources.concurrency import growing, side_by_side
from connectors.sources.search import requests as windows
from connectors.sources.search.cohort import Cohort
from connectors.sources.search.entries import Entries, deletion, found_in, named, stated
from connectors.sources.search.paging import Paging, SearchLimits, Window
from connectors.sources.search.sync_plan import Found, Question, updated_at

Task = Callable[[], Iterator[SourceEvent]]
SECOND = 1_000_000  # microseconds: the precision of some servers' search index
IGNORED = "{}: the server ignores _lastUpdated, so everything was asked for"
LONG_HISTORY = "{}: the history has more than {} entries, so ids were compared in place of it"
NO_HISTORY = "{}: the server did not tell its history, so ids were compared in place of it"
NOT_OFFERED = (400, 404, 405, 501)


@dataclass
class Reading:
    """Reads what a Question asks, and fills Found with what came of it.

    gone: the server does not answer any more. leaving: former patients are being read. quiet: types to which nothing
    was done since the last sync. compared: types whose ids are compared although it is not their day. brought: types
    of which something came. ahead: patients of whom everything was asked for before the question was known.
    """

    paging: Paging
    limits: SearchLimits
    question: Question
    found: Found
    entries: Entries
    base: str
    gone: bool = False
    leaving: bool = False
    quiet: set[str] = field(default_factory=set)
    compared: set[str] = field(default_factory=set)
    brought: set[str] = field(default_factory=set)
    ahead: set[str] = field(default_factory=set)

    def with_cohort(self, cohort: Cohort) -> Iterator[SourceEvent]:
        """Everything of the patients, while the cohort query still brings further ones. Raises what that raises."""
        yield from growing(partial(self._cohort, cohort), self.limits.streams)

    def _cohort(self, cohort: Cohort, add: Callable[[Task], None]) -> Iterator[SourceEvent]:
        """The cohort query; adds the searches for its patients, in whole batches, as soon as they are known."""
        waiting: list[str] = []
        for patients, told in cohort.pages():
            waiting += patients
            whole = len(waiting) // self.limits.batch * self.limits.batch
            self._add(waiting[:whole], add)
            waiting = waiting[whole:]
            yield from told
        self._add(waiting, add)
        for task in self._histories(self.question.types):
            add(partial(self._guarded, task, None))

    def _add(self, patients: Sequence[str], add: Callable[[Task], None]) -> None:
        done = len(self.ahead)
        self.ahead.update(patients)
        for kind in self.question.types:
            for window in windows.everything(self.base, kind, patients, self.limits, done=done):
                add(partial(self._guarded, partial(self._all, window), window))

    def _histories(self, kinds: Iterable[str]) -> list[Task]:
        return [partial(self._learn_history, kind) for kind in kinds if self.limits.history]

    def everything(self, cohort_type: str, *, asked: bool = False) -> Iterator[SourceEvent]:
        """Histories first, because what they tell may be undone by what is read later; then ids, then content: what
        comes into being meanwhile is in the content. Beside it what the next sync must know of the server.

        asked: everything of everybody was asked for `with_cohort`.
        """
        question = self.question
        yield from self._together([partial(self._history, kind) for kind in sorted(question.history)], ())
        compared = [kind for kind in question.since if question.reconcile or kind in self.compared]
        yield from self._windows(compared, question.known, self._ids)
        trusted = [kind for kind in question.since if kind not in self.quiet]
        yield from self._windows(trusted, question.known, self._changes)
        yield from self._windows([*question.since], question.fresh, self._all)
        full = [kind for kind in question.types if kind not in question.since]
        if not asked:
            yield from self._windows(full, question.patients, self._all, beside=self._histories(full))
        if cohort_type in question.types:
            yield from self._left(cohort_type)
        untold = [kind for kind in question.since if kind not in question.history and kind in self.brought]
        changes = [partial(self._learn_changes, kind) for kind in full if kind in self.brought]
        yield from self._together([*self._histories(untold), *changes], ())

    def _left(self, kind: str) -> Iterator[SourceEvent]:
        """Why they left the cohort: their resources of the type that makes it, once more in full."""
        self.leaving = True
        yield from self._windows([kind], self.question.left, self._all, "former patients")
        self.leaving = False

    def _windows(
        self,
        kinds: Sequence[str],
        patients: Sequence[str],
        read: Callable[[Window], Iterator[SourceEvent]],
        of: str = "patients",
        beside: Sequence[Task] = (),
    ) -> Iterator[SourceEvent]:
        made = [w for kind in kinds for w in windows.everything(self.base, kind, patients, self.limits, of)]
        yield from self._together(
            [*(partial(read, window) for window in made), *beside], [*made, *(None for _ in beside)]
        )

    def _together(self, tasks: Sequence[Task], made: Sequence[Window | None]) -> Iterator[SourceEvent]:
        of = made or [None] * len(tasks)
        guarded = [partial(self._guarded, task, window) for task, window in zip(tasks, of, strict=True)]
        yield from side_by_side(guarded, self.limits.streams)

    def _guarded(self, task: Task, window: Window | None) -> Iterator[SourceEvent]:
        """A window that cannot be read is a problem of its own. After UnavailableError nothing more is tried."""
        if self.gone:
            self._fail(window)
            return
        try:
            for item in task():
                if isinstance(item, Problem):
                    self._fail(window)
                yield item
        except UnavailableError as error:
            first, self.gone = not self.gone, True
            self._fail(window)
            if first:
                yield Problem(f"{error}; nothing after it was fetched")
        except ServerError as error:
            self._fail(window)
            yield Problem(str(error))

    def _fail(self, window: Window | None) -> None:
        self.found.left = self.found.left and not self.leaving
        if window is None or self.leaving:  # without a time that moves, former patients are asked about once more
            self.found.failed.update(self.question.types)
        else:
            self.found.failed.add(window.resource_type)
            self.found.unread.update((window.patients or frozenset()) & {*self.question.fresh, *self.ahead})

    def _all(self, window: Window) -> Iterator[SourceEvent]:
        """Everything of a window; what the lake has beyond it is gone, if all that came could be told apart."""
        clear = True
        pending = False  # what was set aside has not been told apart yet
        for item in found_in(self.paging, window, self.entries):
            if isinstance(item, Problem) or (pending and not isinstance(item, Exists)):
                clear = False
            pending = isinstance(item, Rejected) and item.reason is not Reason.OPERATION_OUTCOME
            self._look(item)
            yield item
        if clear and not pending and window.patients:
            yield CompleteFor(window.resource_type, window.patients)

    def _look(self, item: SourceEvent) -> None:
        if isinstance(item, Rejected):
            self.found.rejected = True
        elif isinstance(item, Resource):
            self.brought.add(item.resource_type)
            if item.last_updated is None:
                self.found.undated.add(item.resource_type)

    def _changes(self, window: Window) -> Iterator[SourceEvent]:
        """What has changed, if the server does as it is asked, else everything."""
        kind, since = window.resource_type, self.question.since[window.resource_type]
        if kind not in self.found.undated and self.found.changes.get(kind, True):
            asked = windows.changes(window, since)
            try:
                yield from self._changed(asked, since)
            except RefusedError as error:
                if error.status != 400:
                    raise
                self.found.changes[kind] = False
            if kind not in self.found.undated and self.found.changes.get(kind, True):
                return
            yield Note(IGNORED.format(kind))
        yield from self._all(window)

    def _changed(self, window: Window, since: str) -> Iterator[SourceEvent]:
        begin = updated_at(since)
        for number, page in enumerate(self.paging.pages(window), 1):
            own = page.links.get("self", "") if number == 1 else ""  # that of a later page may be opaque (HAPI)
            if "?" in own and "_lastUpdated" not in own:
                self.found.changes[window.resource_type] = False
            if self.found.changes.get(window.resource_type) is False:
                return
            for place, entry in enumerate(page.entries):
                include = entry.mode == "include"
                for item in self.entries.items(entry, window, f"{window.label}, page {number}, entry {place}"):
                    self._look(item)
                    if isinstance(item, Resource) and updated_at(item.last_updated) < begin - SECOND and not include:
                        self.found.changes[window.resource_type] = False
                    yield item

    def _ids(self, window: Window) -> Iterator[SourceEvent]:
        """Which resources there are; those of the lake that are not among them are gone."""
        kind, asked = window.resource_type, windows.ids(window, self.limits)
        try:
            for page in self.paging.pages(asked):
                for entry in page.entries:
                    if entry.mode in ("", "match"):
                        id_ = stated(entry, kind)
                        if id_ is None:
                            yield Problem(f"{asked.label}: the server gave entries that do not say what they are")
                            return
                        yield Exists(kind, id_)
        except RefusedError as error:
            if error.status != 400:
                raise
            yield from self._all(window)
            return
        assert window.patients is not None  # noqa: S101 - made by windows.everything
        yield CompleteFor(kind, window.patients)

    def _history(self, kind: str) -> Iterator[SourceEvent]:
        """Deletions since the last sync. The newest entry of a resource says what has become of it."""
        window, met, entries = windows.history(kind, self.question.since[kind]), set[str](), 0
        try:
            for number, page in enumerate(self.paging.pages(window), 1):
                for place, entry in enumerate(page.entries):
                    entries += 1
                    id_ = named(entry, kind)
                    if id_ is not None and id_ not in met:
                        met.add(id_)
                        if entry.method == "DELETE":
                            yield deletion(entry, kind, id_, f"{window.label}, page {number}, entry {place}")
                if entries > self.limits.history:
                    self.compared.add(kind)
                    yield Note(LONG_HISTORY.format(kind, self.limits.history))
                    return
        except (RefusedError, ProtocolError) as error:
            if not isinstance(error, RefusedError) or error.status in NOT_OFFERED:
                self.found.history[kind] = False  # else it is asked again next time
            self.compared.add(kind)
            yield Note(NO_HISTORY.format(kind))
            return
        if not entries:
            self.quiet.add(kind)

    def _learn_changes(self, kind: str) -> Iterator[SourceEvent]:
        """Whether the server may be asked for changes of a type that it has: unless it was seen not to understand,
        which may have been mended. That it ignores the question shows when it is asked (`_changed`).
        """
        self.found.changes[kind] = kind not in self.question.ignored or self._understands_changes(kind)
        yield from ()

    def _learn_history(self, kind: str) -> Iterator[SourceEvent]:
        """Whether the server tells what was done to a type that it has. One that does not is no problem."""
        told = self._tells_history(kind)
        if told or kind in self.brought:
            self.found.history[kind] = told
        yield from ()

    def _understands_changes(self, kind: str) -> bool:
        """Yes, if nothing was changed after the year 2999."""
        probe = windows.changes_probe(kind)
        try:
            count = self.paging.count(probe)
            if count is None:
                page = self.paging.first(windows.ids(probe, self.limits, count=1))
                return not page.matches and not page.total
        except ServerError:
            return False
        return count == 0

    def _tells_history(self, kind: str) -> bool:
        """Yes, if it names at least one request: then a history without entries says that nothing was done."""
        try:
            page = self.paging.first(windows.history_probe(kind))
        except ServerError:
            return False
        return any(entry.method and named(entry, kind) for entry in page.entries)
