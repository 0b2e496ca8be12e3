"""One sync of one site: pull, account, and store in one commit.

Order of the writes: quarantine file (replaced as a whole), then the commit of the lake. A kill before the
commit leaves the lake as it was; the same pull afterwards gives the same content. Errors that end the sync
are raised, and then nothing was stored; a source that could be read in part gives a report with status
"partial", and what was read is stored, because the next pull finds the rest by identity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import pyarrow as pa

from connectors.errors import SourceConfigError
from connectors.fhir.events import (
    CompleteFor,
    Deleted,
    Exists,
    Expected,
    InfoEvent,
    NoData,
    Note,
    Problem,
    ProgressMessage,
    SourceEvent,
)
from connectors.fhir.resource import Rejected, Resource
from connectors.lake.quarantine import OpenQuarantine, Quarantine
from connectors.lake.reconcile import Intake, known_versions
from connectors.lake.spool import Spool
from connectors.lake.table import Cursor, Lake
from connectors.lake.tombstones import Tombstones
from connectors.lake.versions import Keys, Versions
from connectors.report import Progress, SyncReport, counts_by_type, total
from connectors.sources.base import Source

__all__ = ["SITE", "Point", "Progress", "SyncReport", "sync_site"]

SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # becomes the name of a folder and of a file
EVERY = 500  # resources between two calls of `progress`
SITE_BYTES = 64 << 30
FULL_BYTES = "{} bytes were received, the limit of a site (max_site_bytes): the rest was not asked for"
MISSED = "the server has {} {} that the questions for changes have not brought: the next sync asks for everything"
UNSEEN = "nothing of type {} came, although everything was asked for: what the lake has of it stays"
SPARED = "no {} was taken as deleted, because something of this type is in quarantine"
MODIFIED = "{} {} with a modifierExtension, which may negate what is said: kept in the lake, and not used"

Point = Literal["received", "pulled", "quarantined", "written", "committed"]
"""A moment of a sync, in this order: something was taken to its place (many times), all was, the quarantine file is
in place, the rows are in their files, rows and cursor are committed."""


def silent(_: Progress) -> None:
    """The progress of nobody looking."""


def unwatched(_: Point) -> None:
    """The points of a sync that nobody stops."""


def sync_site(
    source: Source,
    lake: Lake,
    site: str,
    quarantine: Quarantine,
    progress: Callable[[Progress], None] = silent,
    *,
    full: bool = False,
    max_bytes: int = SITE_BYTES,
    reached: Callable[[Point], None] = unwatched,
) -> SyncReport:
    """Pull from `source` and store what is new in `lake`, in one commit.

    full: ask for everything, whatever the cursor says. max_bytes: of all resources of this sync, beyond which it is
    partial. Both `progress` and `reached` may raise to stop the sync at that point; nothing is stored then, unless
    the point is "committed".

    Raises ConnectorError (see errors.py) if the site cannot be read at all or the result cannot be stored.
    """
    if not SITE.fullmatch(site):
        raise SourceConfigError(f"site name {site!r}: use up to 64 letters, digits, '.', '_' and '-'")
    cursor = lake.cursor(site)
    previous = cursor if cursor and cursor.fingerprint == source.fingerprint and not full else None
    beside = lake.path.parent
    with ExitStack() as stack:
        current, pulled = stack.enter_context(Versions(beside)), stack.enter_context(Versions(beside))
        intake = Intake(current, pulled, known_versions(lake, site), stack.enter_context(Keys(beside)))
        spool, aside = stack.enter_context(Spool(beside)), quarantine.open(site)
        stack.callback(aside.discard)  # harmless once committed, so that an error leaves no half file
        pull = _Pull(intake, spool, aside, _Meter(site, progress), max_bytes, reached)
        with closing(_generator(source.pull(previous))) as items:
            pull.take_all(items)
        pull.meter.finish()
        pull.anew = previous is None or not source.state or source.state.get("asked") == "everything"
        return _store(source, lake, site, pull, cursor)


def _generator(items: Iterator[SourceEvent]) -> Generator[SourceEvent]:
    """The items, as something that can be closed before its end."""
    yield from items


def _store(source: Source, lake: Lake, site: str, pull: _Pull, before: Cursor | None) -> SyncReport:
    intake = pull.intake
    by_type = counts_by_type(intake)
    counts = total(by_type)
    if pull.unseen:
        pull.unseen &= {file.resource_type for file in lake.files() if file.site == site}
    pull.conclude(source)
    complete = not pull.problems
    pull.reached("pulled")
    pull.aside.commit(anew=complete and pull.anew)
    pull.reached("quarantined")
    whole = source.whole and complete and "" not in pull.rejected
    graves = Tombstones(lake, site, intake, whole, frozenset(pull.rejected | pull.unseen))
    sync_number = lake.append(site, pull.rows(graves), _cursor(source, pull, before))
    pull.reached("committed")
    return SyncReport(
        site,
        "ok" if complete else "partial",
        counts,
        by_type,
        _plain(intake.reasons),
        _plain(intake.without_patient),
        tuple(dict.fromkeys(pull.problems)),
        sync_number,
        _plain(graves.deleted),
        _plain(graves.removed),
        _plain(pull.meter.expected),
        _plain(intake.modified),
        tuple(dict.fromkeys(pull.notes)),
    )


def _cursor(source: Source, pull: _Pull, before: Cursor | None) -> Cursor:
    """Where the next sync begins.

    What was not asked to its end leaves the source's state as it was; after something was missed there is no
    question that the next sync could go on with, so it asks for everything.
    """
    complete = not pull.problems
    server_time = source.server_time if complete else (before.server_time if before else None)
    state = (before.state if before else {}) if pull.stopped else source.state
    fingerprint = "" if pull.intake.missed else source.fingerprint
    return Cursor(fingerprint, complete, server_time, state=dict(state))


def _plain(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in sorted(counts.items()) if count}


@dataclass
class _Pull:
    """Takes what the source yields to its place."""

    intake: Intake
    spool: Spool
    aside: OpenQuarantine
    meter: _Meter
    max_bytes: int
    reached: Callable[[Point], None]
    bytes: int = 0
    stopped: bool = False
    anew: bool = False  # everything was asked for, so what is wrong is stated anew
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)  # types of which something cannot be read
    unseen: set[str] = field(default_factory=set)  # types of which nothing came

    def take_all(self, items: Iterator[SourceEvent]) -> None:
        """Everything, up to the limit of bytes."""
        for item in items:
            if isinstance(item, Resource):
                self._admit(item)
            else:
                self._take_other(item)
            self.reached("received")
            if self.bytes > self.max_bytes:
                self.stopped = True
                self.problems.append(FULL_BYTES.format(self.bytes))
                return

    def _admit(self, resource: Resource) -> None:
        if self.intake.admit(resource, self.spool.rows):
            self.spool.append(resource)
        self._count(resource.resource_type, len(resource.raw))

    def _take_other(self, item: Rejected | Problem | InfoEvent) -> None:
        match item:
            case Rejected():
                self.intake.reject(item)
                self.aside.add(item)
                self.rejected.add(item.resource_type)
                self._count(item.resource_type, len(item.content))
            case Problem():
                self.problems.append(item.message)
            case _:
                self._note(item)

    def _note(self, item: InfoEvent) -> None:
        match item:
            case Note():
                self.notes.append(item.message)
            case ProgressMessage():
                self.meter.notice(item)
            case Expected():
                self.meter.expect(item)
            case Deleted():
                self.intake.delete(item)
            case Exists():
                self.intake.meet(item)
            case CompleteFor():
                self.intake.cover(item)
            case NoData():
                self.unseen.add(item.resource_type)

    def _count(self, resource_type: str, size: int) -> None:
        self.bytes += size
        self.meter.count(resource_type)

    def conclude(self, source: Source) -> None:
        """Say what follows from the whole pull."""
        missed = Counter(self.intake.missed.values())
        self.notes += [MISSED.format(count, kind) for kind, count in sorted(missed.items())]
        self.notes += [MODIFIED.format(count, kind) for kind, count in _plain(self.intake.modified).items()]
        if source.whole:
            self.notes += [SPARED.format(kind or "resource") for kind in sorted(self.rejected)]
            self.notes += [UNSEEN.format(kind) for kind in sorted(self.unseen)]

    def rows(self, graves: Tombstones) -> Iterator[pa.RecordBatch]:
        """What is to be stored."""
        yield from chain(self.spool.batches(self.intake.dropped), graves.batches())
        self.reached("written")


@dataclass
class _Meter:
    """Calls `progress` now and then, and once at the end for each type."""

    site: str
    progress: Callable[[Progress], None]
    received: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)

    def count(self, resource_type: str) -> None:
        self.received[resource_type] += 1
        if self.received[resource_type] % EVERY == 0:
            self._tell(resource_type)

    def expect(self, expected: Expected) -> None:
        self.expected[expected.resource_type] += expected.count
        self._tell(expected.resource_type)

    def notice(self, notice: ProgressMessage) -> None:
        self.progress(Progress(self.site, "", 0, None, notice.message))

    def finish(self) -> None:
        for resource_type in self.received:
            self._tell(resource_type)

    def _tell(self, resource_type: str) -> None:
        expected = self.expected.get(resource_type)
        self.progress(Progress(self.site, resource_type, self.received[resource_type], expected))
