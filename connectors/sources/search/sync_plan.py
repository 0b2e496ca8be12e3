"""Decides what a sync by search asks for, from the cursor of the last one, and what it leaves for the next.

The state in the cursor, with all times by the server's clock, and without any id:

    since.<Type>    when the last sync began in which all of this type was read: changes are asked for from then
                    on, minus the overlap
    changes.<Type>  yes: the server may understand `_lastUpdated` here; no: it does not, everything is asked for
    history.<Type>  yes: the server was seen to answer `<Type>/_history`, where deletions show; no: it does not
    absent.<Type>   yes: the server said that it does not have this type; asked for again when all ids are compared
    lists           yes: the server was seen to answer for all patients of a list
    batch           how many patients the server was found to take in one search, if fewer than the settings say
    reconciled      when all ids were last compared
    asked           everything, if the last sync asked for all of every type
    rejected        yes, while something of the site is in quarantine
    stale           digests of the patients in the lake of whom not all could be read, by commas
    left            digests of those who left the cohort query, once it was read why
                    Both are asked for in full when they are in the cohort (again): they are not up to these times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from connectors.fhir.instants import earlier, instant
from connectors.fhir.resource_types import WITHOUT_PATIENT
from connectors.lake.table import Cursor
from connectors.sources.search.requests import SearchLimits

DAY = 86_400_000_000  # microseconds
NO_CLOCK = "the server does not tell its time (header Date), so everything is asked for every time"
REJECTED = "something of this site is in quarantine, so everything was asked for once more"


@dataclass(frozen=True)
class SyncPlan:
    """The requests of one sync: types, patients and times.

    since: the time from which changes are asked for, by type.
    known: patients for whom changes suffice. fresh: patients of whom everything is asked for.
    left: patients who are no longer in the cohort query.
    history: types whose deletions the server reports.
    ignored: types for which the server was seen not to understand `_lastUpdated`.
    reconcile: the ids of everything that is asked for changes are compared. notes: why.
    absent: types that are not asked for, because the server said before that it does not have them.
    unread_types: types that no sync has read to their end yet.
    """

    types: tuple[str, ...]
    known: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    since: Mapping[str, str] = field(default_factory=dict)
    history: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    reconcile: bool = False
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unread_types: frozenset[str] = frozenset()

    @property
    def patients(self) -> tuple[str, ...]:
        """Return all patients of the cohort, sorted."""
        return tuple(sorted({*self.known, *self.fresh}))


def plan_sync(
    previous: Cursor | None,
    types: tuple[str, ...],
    cohort: Collection[str],
    stored: Collection[str],
    server_time: str | None,
    limits: SearchLimits,
    *,
    complete_cohort: bool = True,
) -> SyncPlan:
    """Return the plan of this sync.

    Args:
        previous: the cursor of the last sync, None to ask for everything.
        types: resource types that are wanted.
        cohort: patients whom the cohort query returned.
        stored: patients of whom anything is in the lake.
        server_time: the server's clock, None if it does not tell.
        limits: limits of the searches.
        complete_cohort: the cohort query was read to its end, so a patient who is not in it has left it.
    """
    state = previous.state if previous else {}
    now = instant(server_time)
    gone, behind = _fingerprints(state, "left"), _fingerprints(state, "left") | _fingerprints(state, "stale")
    # Patients up to date in the lake: for them a search for changes suffices.
    kept = {patient for patient in stored if fingerprint(patient) not in behind}
    # Those whose leaving was recorded once are not read again in every run.
    former = {patient for patient in stored if fingerprint(patient) not in gone} - set(cohort)
    left = tuple(sorted(former)) if complete_cohort else ()
    ignored = frozenset(kind for kind in types if state.get(f"changes.{kind}") == "no")
    everything = SyncPlan(types, (), tuple(sorted(cohort)), left, ignored=ignored, unread_types=frozenset(types))
    if now is None or previous is None:
        return replace(everything, notes=(NO_CLOCK,) if now is None else ())
    # Both by the server's clock; ours may be wrong.
    last = instant(state.get("reconciled"))
    due = last is None or now - last >= limits.reconcile_days * DAY
    # What is in quarantine may have been mended without a new lastUpdated: no search for changes returns it.
    if due and state.get("rejected"):
        return replace(everything, notes=(REJECTED,))
    # A server may have learned a type meanwhile, so it is asked for once in a while.
    absent = tuple(kind for kind in types if state.get(f"absent.{kind}") and not due)
    types = tuple(kind for kind in types if kind not in absent)
    # The overlap covers what was being written when the last sync read, and a search index that lags behind.
    times = {kind: earlier(state.get(f"since.{kind}"), limits.overlap) for kind in types}
    since = {kind: time for kind, time in times.items() if time and state.get(f"changes.{kind}") == "yes"}
    # A patient who is new in the cohort has resources older than the last sync.
    known = kept & set(cohort) if since else set()
    return SyncPlan(
        types,
        tuple(sorted(known)),
        tuple(sorted(set(cohort) - known)),
        left,
        since,
        frozenset(kind for kind in since if limits.history and state.get(f"history.{kind}") == "yes"),
        ignored,
        due,
        tuple(_notes(state, types, since, ignored)),
        absent,
        frozenset(kind for kind, time in times.items() if not time),
    )


def _notes(
    state: Mapping[str, str], types: tuple[str, ...], since: Mapping[str, str], ignored: Collection[str]
) -> Iterator[str]:
    if ignored:
        told = ", ".join(kind for kind in types if kind in ignored)
        yield f"the server does not search by _lastUpdated, so everything was asked for: {told}"
    silent = [kind for kind in since if state.get(f"history.{kind}") == "no"]
    if silent:
        yield f"the server tells no deletions (_history), they show when all ids are compared: {', '.join(silent)}"


@dataclass
class ServerObservations:
    """Observations of one sync about the server, for the state of the next one. Filled by several threads.

    failed: types of which not all was read. unread: patients asked for in full of whom not all was read. changes,
    history: what the server does, by type, as far as it was seen. undated: types with resources that have no time.
    unlisted: types of which any refusal says that the server does not have them. absent: types of which that was seen,
    or that the server says it does not have. rejected: something cannot be read. left: why former patients
    left was read; else they are asked about once more. batch: patients in one search, None where any number will do.
    lists: all patients of a list are answered for; None where none was tried.
    """

    failed: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    changes: dict[str, bool] = field(default_factory=dict)
    history: dict[str, bool] = field(default_factory=dict)
    undated: set[str] = field(default_factory=set)
    unlisted: frozenset[str] = frozenset()
    absent: set[str] = field(default_factory=set)
    rejected: bool = False
    left: bool = True
    batch: int | None = None
    lists: bool | None = None

    def state(
        self, plan: SyncPlan, previous: Cursor | None, server_time: str | None, *, complete_cohort: bool
    ) -> dict[str, str]:
        """Return the state of the next cursor; empty without a clock of the server."""
        if server_time is None:
            return {}
        before = dict(previous.state) if previous else {}
        types = {kind for kind in plan.types if kind not in self.absent}
        done = types - self.failed if complete_cohort else set()
        asked = not plan.since and done == types
        state = {key: value for key, value in before.items() if key.startswith(("changes.", "history."))}
        # A type that is not asked for has no time: meanwhile patients may join whose resources of it are older.
        # So has one that failed where what is asked for follows from resources that will not come again (Medication).
        kept = sorted(types - (self.failed & WITHOUT_PATIENT))
        state |= {f"since.{kind}": before[f"since.{kind}"] for kind in kept if f"since.{kind}" in before}
        state |= {f"absent.{kind}": "yes" for kind in sorted({*plan.absent, *self.absent})}
        # A type that failed keeps its time, so that the next sync asks for everything since then.
        state |= {f"since.{kind}": server_time for kind in sorted(done)}
        state |= {f"changes.{kind}": "yes" if works else "no" for kind, works in sorted(self.changes.items())}
        state |= {f"history.{kind}": "yes" if works else "no" for kind, works in sorted(self.history.items())}
        # After what was observed: one resource without a time is enough.
        state |= {f"changes.{kind}": "no" for kind in sorted(self.undated)}
        compared = (asked or plan.reconcile) and done == types
        state["reconciled"] = server_time if compared else before.get("reconciled", "")
        state["asked"] = "everything" if asked else ""
        # Stays until everything was asked for without anything being rejected.
        state["rejected"] = "yes" if self.rejected or (before.get("rejected") and not asked) else ""
        back = {fingerprint(patient) for patient in plan.patients}
        fresh = {fingerprint(patient) for patient in plan.fresh}
        left = {fingerprint(patient) for patient in plan.left} if self.left else set()
        unread = {fingerprint(patient) for patient in self.unread}
        state["left"] = ",".join(sorted((_fingerprints(before, "left") - back) | left))
        state["batch"] = str(self.batch or "")
        state["lists"] = before.get("lists", "") if self.lists is None else "yes" if self.lists else ""
        state["stale"] = ",".join(sorted((_fingerprints(before, "stale") - fresh) | unread))
        return {key: value for key, value in state.items() if value}


def learned_batch(previous: Cursor | None, limits: SearchLimits) -> SearchLimits:
    """Return the limits with the number of patients in one search that the last sync found out, if it is smaller."""
    known = (previous.state if previous else {}).get("batch", "")
    return replace(limits, batch=min(limits.batch, int(known))) if known.isdecimal() and int(known) else limits


def _fingerprints(state: Mapping[str, str], name: str) -> set[str]:
    return set(filter(None, state.get(name, "").split(",")))


def fingerprint(patient: str) -> str:
    """Return 64 bits of a digest of a patient's id: the log of the lake, where cursors are, holds no id."""
    return hashlib.sha256(f"patient\n{patient}".encode()).hexdigest()[:16]
