"""One sync of one site: read the source, reconcile with the lake, and store the result in one commit.

The quarantine file is replaced first, as a whole, then the lake is committed. A kill before the commit leaves the lake
as it was, and the same sync afterwards gives the same content. Errors that end the sync are raised, and nothing is
stored then. Where a source could be read in part, the report has the status "partial", and what was read is stored:
the next sync finds the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Set
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Literal

import pyarrow as pa

from connectors.errors import SourceConfigError
from connectors.fhir.events import (
    CompleteFor,
    Deleted,
    Exists,
    Expected,
    NoData,
    Note,
    NotOffered,
    Problem,
    ProgressMessage,
    SourceEvent,
)
from connectors.fhir.resource import ID_LENGTH, Reason, Rejected, Resource
from connectors.lake.forgotten import ForgottenAtSite
from connectors.lake.loss import MAX_LOSS, disbelief
from connectors.lake.quarantine import OpenQuarantine, Quarantine
from connectors.lake.reconcile import Reconciler
from connectors.lake.table import Cursor, Lake
from connectors.report import Progress, SyncReport, counts_by_type, total
from connectors.sources.base import Source

__all__ = ["SITE", "Point", "Progress", "SyncReport", "sync_site"]

SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # becomes the name of a folder and of a file
PROGRESS_INTERVAL = 500  # resources between two calls of `progress`
SITE_BYTES = 64 << 30
FULL_BYTES = "{} bytes were received, the limit of a site (max_site_bytes): the rest was not asked for"
CONTENT_MISSING = "the server has {} {} that the searches for changes did not return: the next sync asks for everything"
NO_DATA = "nothing of type {} came, although everything was asked for: what the lake has of it stays"
NOT_OFFERED = "not at this site, so not asked for: {} ({})"
GONE = (
    "{}: the site no longer has this type ({}), and what the lake has of it is not kept up to date: ask the server's "
    "administrator, or leave the type out of the `types` of the site"
)
REQUIRED = (
    "{}: the settings of the site ask for it, and the site does not have it ({}): ask the server's administrator for "
    "access to it"
)
NO_FILE = "of {} the site gave nothing, although everything was asked for: it has none, or may not give it"
SPARED = "no {} was taken as deleted, because something of this type is in quarantine"
LONG_IDS = (
    "{}: {} resources have an id of more than 64 characters, against FHIR (R4, datatypes.html#id), and were set aside: "
    "set lenient_ids = true for the site, or ask the server's administrator for shorter ids"
)
MODIFIED = "{} {} with a modifierExtension, which may negate what is said: kept in the lake, and not used"

Point = Literal["received", "pulled", "quarantined", "written", "committed"]
"""A moment of a sync, in this order: an event was taken in (many times), all were, the quarantine file is in place, the
rows are in their files, rows and cursor are committed."""


def no_progress(_: Progress) -> None:
    """Show no progress."""


def no_checkpoint(_: Point) -> None:
    """Never stop the sync."""


def sync_site(
    source: Source,
    lake: Lake,
    site: str,
    quarantine: Quarantine,
    progress: Callable[[Progress], None] = no_progress,
    *,
    full: bool = False,
    max_bytes: int = SITE_BYTES,
    max_loss: float = MAX_LOSS,
    lenient_ids: bool = False,
    forgotten: ForgottenAtSite | None = None,
    required: Collection[str] = (),
    reached: Callable[[Point], None] = no_checkpoint,
) -> SyncReport:
    """Read `source` and store what is new in `lake`, in one commit. Return the account of it.

    Args:
        source: where the resources come from.
        lake: where they are stored.
        site: name of the site.
        quarantine: where goes what cannot be read.
        progress: called now and then. It may raise to stop the sync; nothing is stored then.
        full: ask for everything, whatever the cursor says.
        max_bytes: of all resources of this sync. Beyond it the sync is partial.
        max_loss: share of the lake's resources that may be missing; beyond it nothing is taken as deleted, and the sync
            is partial (`connectors.lake.loss`).
        lenient_ids: store resources whose id is longer than FHIR allows.
        forgotten: patients who were erased on request; nothing of them is stored.
        required: types without which the sync is partial, where the site does not have them.
        reached: called at each `Point`. It may raise as `progress` may; after "committed" everything is stored.

    Raises:
        ConnectorError: the site cannot be read at all, or the result cannot be stored (see errors.py).
    """
    if not SITE.fullmatch(site):
        raise SourceConfigError(f"site name {site!r}: use up to 64 letters, digits, '.', '_' and '-'")
    cursor = lake.cursor(site)
    previous = cursor if cursor and cursor.fingerprint == source.fingerprint and not full else None
    with ExitStack() as stack:
        reconciler, aside = stack.enter_context(Reconciler(lake, site)), quarantine.open(site)
        stack.callback(aside.discard)  # harmless once committed, so that an error leaves no half file
        pull = _Pull(reconciler, aside, _Meter(site, progress), max_bytes, lenient_ids, forgotten, reached)
        with closing(_generator(source.pull(previous))) as events:  # stops downloads if the sync stops early
            pull.take_all(events)
        pull.meter.finish()
        return _store(source, lake, site, pull, previous, cursor, max_loss, required)


def _generator(events: Iterator[SourceEvent]) -> Generator[SourceEvent]:
    """Yield the events; unlike an iterator this can be closed before its end."""
    yield from events


def _store(
    source: Source,
    lake: Lake,
    site: str,
    pull: _Pull,
    previous: Cursor | None,
    cursor: Cursor | None,
    max_loss: float,
    required: Collection[str],
) -> SyncReport:
    account = pull.reconciler.decide(full=source.whole or source.state.get("asked") == "everything")
    by_type = counts_by_type(account.received, account.outcomes)
    needed = source.whole or pull.not_offered
    in_lake = {file.resource_type for file in lake.files() if file.site == site} if needed else set()
    never = sorted(pull.without_data - in_lake) if source.whole else []
    pull.without_data &= in_lake  # of the others there is nothing that could be taken as deleted
    gone = [GONE.format(kind, how) for kind, how in pull.not_offered.items() if kind in in_lake]
    gone += [REQUIRED.format(kind, how) for kind, how in pull.not_offered.items() if kind in set(required) - in_lake]
    pull.disbelieved = _disbelieved(source, pull, in_lake, max_loss)
    complete = not pull.problems
    notes = [*pull.notes, *_notes(source, pull, in_lake), *([NO_FILE.format(", ".join(never))] if never else [])]
    pull.reached("pulled")
    # A complete pull of everything states from scratch what is wrong; any other one adds to what is known.
    everything = previous is None or not source.state or source.state.get("asked") == "everything"
    pull.aside.commit(replace=complete and everything)
    pull.reached("quarantined")
    sync_number = lake.append(site, _rows(pull), _next_cursor(source, pull, previous, cursor))
    pull.reached("committed")
    return SyncReport(
        site,
        "ok" if complete and not gone else "partial",
        total(by_type),
        by_type,
        _sorted(account.reasons),
        _sorted(account.without_patient),
        tuple(dict.fromkeys([*pull.problems, *gone])),
        sync_number,
        _sorted(account.deleted),
        _sorted(account.removed),
        _sorted(pull.meter.expected),
        _sorted(account.modified),
        tuple(dict.fromkeys(notes)),
    )


def _notes(source: Source, pull: _Pull, in_lake: Set[str]) -> Iterator[str]:
    """Yield what follows from the whole pull, as sentences for the report."""
    account = pull.reconciler.account
    never = {kind: how for kind, how in pull.not_offered.items() if kind not in in_lake}
    for how in dict.fromkeys(never.values()):  # one sentence for all types of which the same is said
        yield NOT_OFFERED.format(", ".join(kind for kind, each in never.items() if each == how), how)
    yield from (CONTENT_MISSING.format(count, kind) for kind, count in _sorted(account.content_missing).items())
    yield from (MODIFIED.format(count, kind) for kind, count in _sorted(account.modified).items())
    if source.whole:
        yield from (SPARED.format(kind or "resource") for kind in sorted(pull.rejected))
        yield from (NO_DATA.format(kind) for kind in sorted(pull.without_data))


def _disbelieved(source: Source, pull: _Pull, in_lake: Set[str], max_loss: float) -> bool:
    """Find what is missing. Return True where that is too much to be believed, which is a problem of the pull.

    in_lake: the types that the lake has of this site.
    """
    # What cannot be read may be any resource of its type ('': of any type), so none of them is taken as deleted.
    whole = source.whole and not pull.problems and "" not in pull.rejected
    unasked = in_lake - source.asked if source.asked is not None else set()
    missing = pull.reconciler.find_missing(whole, sorted(pull.rejected | pull.without_data | unasked))
    why = disbelief(missing, pull.reconciler.held(), max_loss) if missing else None
    pull.problems.extend([why] if why else [])
    return why is not None


def _rows(pull: _Pull) -> Iterator[pa.RecordBatch]:
    """Yield what is to be stored."""
    yield from pull.reconciler.batches(remove_missing=not pull.disbelieved)
    pull.reached("written")


def _next_cursor(source: Source, pull: _Pull, previous: Cursor | None, before: Cursor | None) -> Cursor:
    """Return where the next sync begins.

    A pull that was stopped, or whose losses are not believed, leaves the cursor as it was, so that the next sync asks
    for the same; where everything was asked for, without a fingerprint: then it asks for everything again. So it does
    where content is missing, which no search for changes would ever return.
    """
    if pull.stopped or pull.disbelieved:
        fingerprint = before.fingerprint if before and previous else ""
        return Cursor(fingerprint, False, before.server_time if before else None, state=before.state if before else {})
    complete = not pull.problems
    server_time = source.server_time if complete else (before.server_time if before else None)
    fingerprint = "" if pull.reconciler.account.content_missing.total() else source.fingerprint
    return Cursor(fingerprint, complete, server_time, state=dict(source.state))


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in sorted(counts.items()) if count}


@dataclass
class _Pull:
    """Hands each event of the source to the part of the sync that it concerns.

    rejected: types of which something cannot be read. without_data: types of which nothing came. not_offered: types
    that the site does not have, and what says so. stopped: at the limit of bytes. disbelieved: too much is missing to
    be taken as deleted.
    """

    reconciler: Reconciler
    aside: OpenQuarantine
    meter: _Meter
    max_bytes: int
    lenient_ids: bool
    forgotten: ForgottenAtSite | None
    reached: Callable[[Point], None]
    bytes: int = 0
    stopped: bool = False
    disbelieved: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)
    without_data: set[str] = field(default_factory=set)
    not_offered: dict[str, str] = field(default_factory=dict)
    long_ids: Counter[str] = field(default_factory=Counter)

    def take_all(self, events: Iterator[SourceEvent]) -> None:
        """Take in all events, up to the limit of bytes."""
        for event in events:
            self._take(self._checked(event))
            self.reached("received")
            if self.bytes > self.max_bytes:
                self.stopped = True
                self.problems.append(FULL_BYTES.format(self.bytes))
                break
        self.problems += [LONG_IDS.format(kind, count) for kind, count in _sorted(self.long_ids).items()]

    def _checked(self, event: SourceEvent) -> SourceEvent:
        """Return the event, or its rejection where its patient was erased, or its id is longer than accepted."""
        if self.forgotten and isinstance(event, Rejected):
            mentioned = self.forgotten.text_concerns(event.content.decode("utf-8", "replace"))
            return replace(event, content=b"") if mentioned else event
        if not isinstance(event, Resource):
            return event
        if self.forgotten and self.forgotten.refuses(event):
            # Without content: not even a digest of it is kept.
            return Rejected(Reason.FORGOTTEN, "", b"", event.resource_type)
        if self.lenient_ids or len(event.id) <= ID_LENGTH:
            return event
        self.long_ids[event.resource_type] += 1
        return Rejected(Reason.INVALID_ID, "its id is too long", event.raw.encode(), event.resource_type)

    def _take(self, event: SourceEvent) -> None:
        match event:
            # What is known to exist and is not in the lake would be asked for again every night.
            case Deleted() | Exists() if self.forgotten and self.forgotten.is_resource(event.resource_type, event.id):
                pass
            case Rejected(reason=Reason.FORGOTTEN):
                self.reconciler.reject(event)
                self._count(event.resource_type, 0)
            case Resource():
                self.reconciler.upsert(event)
                self._count(event.resource_type, len(event.raw))
            case Rejected():
                self.reconciler.reject(event)
                self.aside.add(event)
                self.rejected.add(event.resource_type)
                self._count(event.resource_type, len(event.content))
            case Deleted():
                self.reconciler.delete(event)
            case Exists():
                self.reconciler.mark_seen(event)
            case CompleteFor():
                self.reconciler.mark_complete(event)
            case NoData():
                self.without_data.add(event.resource_type)
            case NotOffered():
                self.not_offered[event.resource_type] = event.how
            case Expected():
                self.meter.expect(event)
            case ProgressMessage():
                self.meter.show(event)
            case Problem():
                self.problems.append(event.message)
            case Note():
                self.notes.append(event.message)

    def _count(self, resource_type: str, size: int) -> None:
        self.bytes += size
        self.meter.count(resource_type)


@dataclass
class _Meter:
    """Counts what was received, and calls `progress` now and then and at the end of each type."""

    site: str
    progress: Callable[[Progress], None]
    received: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)

    def count(self, resource_type: str) -> None:
        self.received[resource_type] += 1
        if self.received[resource_type] % PROGRESS_INTERVAL == 0:
            self._report(resource_type)

    def expect(self, expected: Expected) -> None:
        self.expected[expected.resource_type] += expected.count
        self._report(expected.resource_type)

    def show(self, message: ProgressMessage) -> None:
        self.progress(Progress(self.site, "", 0, None, message.message))

    def finish(self) -> None:
        for resource_type in self.received:
            self._report(resource_type)

    def _report(self, resource_type: str) -> None:
        expected = self.expected.get(resource_type)
        self.progress(Progress(self.site, resource_type, self.received[resource_type], expected))
