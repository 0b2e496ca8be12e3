"""What a sync by search asks, decided from the cursor of the last one, and what it leaves for the next.

The state in the cursor, all by the server's clock, and without an id:

    since.<Type>    when the last sync began in which all of this type was read: changes are asked for from then
                    on, minus the overlap
    changes.<Type>  yes: the server may understand `_lastUpdated` here; no: it does not, everything is asked for
    history.<Type>  yes: the server was seen to answer `<Type>/_history`, where deletions show; no: it does not
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
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from connectors.fhir.resource import instant
from connectors.lake.table import Cursor
from connectors.sources.search.paging import SearchLimits

MICRO = 1_000_000
DAY = 86_400 * MICRO
NO_CLOCK = "the server does not tell its time (header Date), so everything is asked for every time"
POISON = "something of this site is in quarantine, so everything was asked for once more"


@dataclass(frozen=True)
class Question:
    """What one sync asks.

    since: for each type that is asked for changes, from when on. known: patients of whom changes will do. fresh:
    those of whom everything is asked for. left: those who are no longer in the cohort query. history: types whose
    deletions the server tells. ignored: types for which the server was seen not to understand `_lastUpdated`.
    reconcile: the ids of all that is asked for changes are compared. notes: why.
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

    @property
    def patients(self) -> tuple[str, ...]:
        """Everyone of the cohort, sorted."""
        return tuple(sorted({*self.known, *self.fresh}))


def ask(
    previous: Cursor | None,
    types: tuple[str, ...],
    cohort: Collection[str],
    stored: Collection[str],
    server_time: str | None,
    limits: SearchLimits,
    *,
    whole_cohort: bool = True,
) -> Question:
    """The question of this sync. stored: patients of whom anything is in the lake. whole_cohort: the cohort query
    was read to its end, so a patient who is not in it has left it.
    """
    state = previous.state if previous else {}
    now = instant(server_time)
    gone, behind = _marks(state, "left"), _marks(state, "left") | _marks(state, "stale")
    kept = {patient for patient in stored if mark(patient) not in behind}
    former = {patient for patient in stored if mark(patient) not in gone} - set(cohort)
    left = tuple(sorted(former)) if whole_cohort else ()
    ignored = frozenset(kind for kind in types if state.get(f"changes.{kind}") == "no")
    if now is None or previous is None:
        notes = (NO_CLOCK,) if now is None else ()
        return Question(types, (), tuple(sorted(cohort)), left, ignored=ignored, notes=notes)
    due = _due(state, now, limits.reconcile_days)
    if due and state.get("rejected"):
        return Question(types, (), tuple(sorted(cohort)), left, ignored=ignored, notes=(POISON,))
    since = dict(_since(state, types, limits.overlap))
    known = kept & set(cohort) if since else set()
    return Question(
        types,
        tuple(sorted(known)),
        tuple(sorted(set(cohort) - known)),
        left,
        since,
        frozenset(kind for kind in since if limits.history and state.get(f"history.{kind}") == "yes"),
        ignored,
        due,
        tuple(_notes(state, types, since, ignored)),
    )


def _since(state: Mapping[str, str], types: tuple[str, ...], overlap: float) -> Iterator[tuple[str, str]]:
    for kind in types:
        moment = instant(state.get(f"since.{kind}"))
        if moment is not None and state.get(f"changes.{kind}") == "yes":
            yield kind, instant_text(moment - int(overlap * MICRO))


def _due(state: Mapping[str, str], now: int, days: float) -> bool:
    last = instant(state.get("reconciled"))
    return last is None or now - last >= days * DAY


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
class Found:
    """What a sync has found out, from which the state of the next one is made. Filled by several threads.

    failed: types of which not all was read. unread: patients asked for in full of whom not all was read. changes,
    history: what the server does, by type, as far as it was seen. undated: types with resources that have no time.
    rejected: something cannot be read. left: why former patients left was read; else they are asked about once more.
    """

    failed: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    changes: dict[str, bool] = field(default_factory=dict)
    history: dict[str, bool] = field(default_factory=dict)
    undated: set[str] = field(default_factory=set)
    rejected: bool = False
    left: bool = True

    def state(
        self, question: Question, previous: Cursor | None, server_time: str | None, *, whole_cohort: bool
    ) -> dict[str, str]:
        """The state of the next cursor; empty without a clock of the server."""
        if server_time is None:
            return {}
        before = dict(previous.state) if previous else {}
        done = {kind for kind in question.types if kind not in self.failed} if whole_cohort else set()
        asked = not question.since and len(done) == len(question.types)
        state = {key: value for key, value in before.items() if key.startswith(("since.", "changes.", "history."))}
        state |= {f"since.{kind}": server_time for kind in sorted(done)}
        state |= {f"changes.{kind}": "yes" if works else "no" for kind, works in sorted(self.changes.items())}
        state |= {f"history.{kind}": "yes" if works else "no" for kind, works in sorted(self.history.items())}
        state |= {f"changes.{kind}": "no" for kind in sorted(self.undated)}
        compared = (asked or question.reconcile) and len(done) == len(question.types)
        state["reconciled"] = server_time if compared else before.get("reconciled", "")
        state["asked"] = "everything" if asked else ""
        state["rejected"] = "yes" if self.rejected or (before.get("rejected") and not asked) else ""
        state["left"] = ",".join(sorted(self._left(question, before)))
        state["stale"] = ",".join(sorted(self._stale(question, before)))
        return {key: value for key, value in state.items() if value}

    def _left(self, question: Question, before: Mapping[str, str]) -> set[str]:
        back = {mark(patient) for patient in question.patients}
        return (_marks(before, "left") - back) | ({mark(patient) for patient in question.left} if self.left else set())

    def _stale(self, question: Question, before: Mapping[str, str]) -> set[str]:
        asked = {mark(patient) for patient in question.fresh}
        return (_marks(before, "stale") - asked) | {mark(patient) for patient in self.unread}


def _marks(state: Mapping[str, str], name: str) -> set[str]:
    return set(filter(None, state.get(name, "").split(",")))


def mark(patient: str) -> str:
    """64 bits of a digest of a patient's id: the log of the lake holds no id."""
    return hashlib.sha256(f"patient\n{patient}".encode()).hexdigest()[:16]


def instant_text(moment: int) -> str:
    """Microseconds since 1970 as a FHIR instant in UTC with milliseconds, rounded down."""
    found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)
    return found.strftime("%Y-%m-%dT%H:%M:%S.") + f"{found.microsecond // 1000:03d}Z"


def earliest(*instants: str | None) -> str | None:
    """The first of these FHIR instants in time; None where there is none."""
    known = [text for text in instants if instant(text) is not None]
    return min(known, key=lambda text: instant(text) or 0) if known else None


def updated_at(text: str | None) -> int:
    """Microseconds since 1970 of a FHIR instant; before all times where there is none."""
    moment = instant(text)
    return -1 if moment is None else moment
