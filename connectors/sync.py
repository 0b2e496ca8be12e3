"""One sync of one site: pull, account, and store in one commit.

Order of the writes: quarantine file (replaced as a whole), then the commit of the lake. A kill before the
commit leaves the lake as it was; the same pull afterwards gives the same content. Errors that end the sync
are raised, and then nothing was stored; a source that could be read in part gives a report with status
"partial", and what was read is stored, because the next pull finds the rest by identity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from connectors.errors import SourceConfigError
from connectors.intake import Intake, current_versions
from connectors.lake import Cursor, Lake
from connectors.quarantine import OpenQuarantine, Quarantine
from connectors.received import Expected, Problem, Received, Source
from connectors.report import Progress, SyncReport, counts_by_type, total
from connectors.resource import Rejected, Resource
from connectors.spool import Spool

__all__ = ["SITE", "Progress", "SyncReport", "sync_site"]

SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # becomes the name of a folder and of a file
EVERY = 500  # resources between two calls of `progress`


def silent(_: Progress) -> None:
    """The progress of nobody looking."""


def sync_site(
    source: Source,
    lake: Lake,
    site: str,
    quarantine: Quarantine,
    progress: Callable[[Progress], None] = silent,
) -> SyncReport:
    """Pull everything from `source` and store what is new in `lake`, in one commit.

    Raises ConnectorError (see errors.py) if the site cannot be read at all or the result cannot be stored.
    """
    if not SITE.fullmatch(site):
        raise SourceConfigError(f"site name {site!r}: use up to 64 letters, digits, '.', '_' and '-'")
    cursor = lake.cursor(site)
    intake = Intake(current_versions(lake, site))
    with Spool(lake.path.parent) as spool, closing(_Discarding(quarantine.open(site))) as aside:
        pull = _Pull(intake, spool, aside.quarantine, _Meter(site, progress))
        for item in source.pull():
            pull.take(item)
        pull.meter.finish()
        return _store(source, lake, site, pull, cursor)


def _store(source: Source, lake: Lake, site: str, pull: _Pull, before: Cursor | None) -> SyncReport:
    by_type = counts_by_type(pull.intake)
    counts = total(by_type)
    complete = not pull.problems
    pull.aside.commit(complete)
    server_time = source.server_time if complete else (before.server_time if before else None)
    cursor = Cursor(source.fingerprint, complete, server_time)
    ordinal = lake.append(site, pull.spool.batches(pull.intake.dropped), cursor)
    return SyncReport(
        site,
        "ok" if complete else "partial",
        counts,
        by_type,
        dict(sorted(pull.intake.reasons.items())),
        dict(sorted(pull.intake.without_patient.items())),
        tuple(dict.fromkeys(pull.problems)),
        ordinal,
    )


@dataclass
class _Pull:
    """Takes what the source yields to its place."""

    intake: Intake
    spool: Spool
    aside: OpenQuarantine
    meter: _Meter
    problems: list[str] = field(default_factory=list)

    def take(self, item: Received) -> None:
        match item:
            case Resource():
                if self.intake.admit(item, self.spool.rows):
                    self.spool.append(item)
                self.meter.count(item.resource_type)
            case Rejected():
                self.intake.reject(item)
                self.aside.add(item)
                self.meter.count(item.resource_type)
            case Problem():
                self.problems.append(item.message)
            case Expected():
                self.meter.expect(item)


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

    def finish(self) -> None:
        for resource_type in self.received:
            self._tell(resource_type)

    def _tell(self, resource_type: str) -> None:
        expected = self.expected.get(resource_type)
        self.progress(Progress(self.site, resource_type, self.received[resource_type], expected))


@dataclass
class _Discarding:
    """Closes a quarantine that was not committed, so that an error leaves no half file."""

    quarantine: OpenQuarantine

    def close(self) -> None:
        self.quarantine.discard()
