"""The run ledger: which runs there were, when, and how each ended, in SQLite.

    running ──> ok | partial | withheld | failed | interrupted

Only the holder of the run lock opens the ledger for writing, so a run that is then still `running` was killed.
Instants are UTC in ISO 8601 with microseconds. `detail` and `counts` hold counts and messages, never patient data.

A clock that was once wrong leaves runs in the future. Those that began more than a day from now are not believed: who
asks for the last run, or whether one is due, passes the present and does not get them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from schedules.errors import ExitCode, LedgerError, exit_code, is_user_facing, user_message

Clock = Callable[[], datetime]
RunStatus = Literal["running", "ok", "partial", "withheld", "failed", "interrupted"]
FUTURE = timedelta(days=1)  # a clock that is put right by hours must not run a night twice

# A suppressed release is the answer of a complete run, and not a reason for an alert.
COMPLETE = (ExitCode.OK, ExitCode.PARTIAL, ExitCode.SUPPRESSED)
# The words are on disk and in `status --json`, so "withheld" stays for what the code calls suppressed.
STATUS: dict[ExitCode, RunStatus] = {
    ExitCode.OK: "ok",
    ExitCode.PARTIAL: "partial",
    ExitCode.SUPPRESSED: "withheld",
    ExitCode.INTERRUPTED: "interrupted",
}
REACHED_A_RELEASE = "where kind in ('run', 'publish') and exit_code in (0, 3, 5)"
ACCOUNTED_FOR = ("forget", "withdraw")  # the kinds of runs that are evidence of what was done on request

SCHEMA = """
create table if not exists runs (
    id integer primary key autoincrement, kind text not null, started text not null, finished text,
    status text not null, exit_code integer, release integer, detail text not null default '{}'
) strict;
create table if not exists site_reports (
    run_id integer not null references runs (id), site text not null, counts text not null,
    primary key (run_id, site)
) strict;
create index if not exists site_reports_of_a_site on site_reports (site, run_id);
"""


@dataclass(frozen=True)
class Run:
    """One row of the ledger; `started` and `finished` are aware UTC instants."""

    id: int
    kind: str
    started: datetime
    finished: datetime | None
    status: RunStatus
    exit_code: int | None
    release: int | None
    detail: Mapping[str, Any]


@dataclass
class OpenRun:
    """A run in progress. The body of `Ledger.record` sets what its row will hold at the end."""

    id: int
    ledger: Ledger
    started: datetime
    exit_code: ExitCode = ExitCode.OK
    release: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def add_site_report(self, site: str, counts: Mapping[str, Any]) -> None:
        """Record the counts of the sync of `site` in this run."""
        self.ledger.add_site_report(self.id, site, counts)


class Ledger:
    """The ledger in `file`. Use `open_ledger` or `read_ledger` to make one."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self._db = connection

    @contextmanager
    def record(self, kind: str, now: Clock) -> Iterator[OpenRun]:
        """Record a run of `kind` around the body: as running first, then as it ended. Errors pass through."""
        started = now()
        with self._db:
            row = self._db.execute(
                "insert into runs (kind, started, status) values (?, ?, 'running')", (kind, _text(started))
            )
        assert row.lastrowid is not None  # noqa: S101 - an insert has one
        run = OpenRun(row.lastrowid, self, started)
        try:
            yield run
        except BaseException as error:
            run.exit_code = exit_code(error)
            # The message of a bug may quote a record, so only the kind of the error is kept.
            run.detail["error"] = user_message(error) if is_user_facing(error) else type(error).__name__
            raise
        finally:
            status, detail = STATUS.get(run.exit_code, "failed"), json.dumps(run.detail)
            with self._db:
                self._db.execute(
                    "update runs set finished = ?, status = ?, exit_code = ?, release = ?, detail = ? where id = ?",
                    (_text(now()), status, int(run.exit_code), run.release, detail, run.id),
                )

    def add_site_report(self, run_id: int, site: str, counts: Mapping[str, Any]) -> None:
        """Record the counts of the sync of `site` in run `run_id`."""
        with self._db:
            # "or replace": a run that syncs a site twice keeps the last report.
            self._db.execute(
                "insert or replace into site_reports (run_id, site, counts) values (?, ?, ?)",
                (run_id, site, json.dumps(counts)),
            )

    def mark_interrupted(self) -> int:
        """Set every run that a kill left open to interrupted, and return how many. Their end stays unknown."""
        with self._db:
            return self._db.execute("update runs set status = 'interrupted' where status = 'running'").rowcount

    def last(self, count: int = 10) -> tuple[Run, ...]:
        """Return the last runs, newest first."""
        return self._runs("order by id desc limit ?", (count,))

    def last_complete(self, now: datetime) -> Run | None:
        """Return the last run that reached a release, or whose release was suppressed."""
        placeholders = ", ".join("?" * len(COMPLETE))
        # Only complete runs: a manual `periop sync` makes no release.
        where = f"where kind = 'run' and exit_code in ({placeholders}) and started <= ? order by finished desc limit 1"
        return next(iter(self._runs(where, (*map(int, COMPLETE), _text(now + FUTURE)))), None)

    def last_night(self, now: datetime, *, running: bool) -> Run | None:
        """Return the last nightly run that succeeded, failed or was killed; running: one is in progress."""
        # Without one in progress a row that is still open is that of a run that was killed. One that was told to stop
        # (it has an end) says nothing: what was wrong before it may still be.
        ended = " and status != 'running'" if running else ""
        told = "not (status = 'interrupted' and finished is not null)"
        where = f"where kind = 'run' and started <= ? and {told}{ended} order by id desc limit 1"
        return next(iter(self._runs(where, (_text(now + FUTURE),))), None)

    def why_no_release(self) -> str | None:
        """Return why the last run that got as far as a release made none; None where it made one, or found it made."""
        # A run that failed before says nothing about the release.
        runs = self._runs(f"{REACHED_A_RELEASE} order by id desc limit 1", ())
        return next((run.detail.get("waiting") for run in runs), None)

    def has_started_before(self, instant: datetime, now: datetime) -> bool:
        """Return True if any run, or the service itself, was recorded before `instant`."""
        # What stands in the future was recorded before now, and nobody knows when: rather a run too many than none.
        return bool(self._runs("where started < ? or started > ? limit 1", (_text(instant), _text(now + FUTURE))))

    def nights_since(self, instant: datetime, now: datetime) -> tuple[Run, ...]:
        """Return the nightly runs that began at or after `instant`, in their order."""
        where = "where kind = 'run' and started >= ? and started <= ? order by id"
        return self._runs(where, (_text(instant), _text(now + FUTURE)))

    def from_the_future(self, now: datetime) -> int:
        """Return how many runs are not believed, because they began more than a day after `now`."""
        return len(self._runs("where started > ?", (_text(now + FUTURE),)))

    def last_sync(self, site: str, now: datetime, *statuses: str) -> tuple[Run, Mapping[str, Any]] | None:
        """Return the last run that synchronised `site`, with the counts of that sync.

        statuses: only a sync that ended so (`SyncReport.status`).
        """
        ended = f" and counts ->> '$.status' in ({', '.join('?' * len(statuses))})" if statuses else ""
        row = self._db.execute(
            "select run_id, counts from site_reports join runs on runs.id = run_id "  # noqa: S608 - only marks are joined
            f"where site = ?{ended} and started <= ? order by run_id desc limit 1",
            (site, *statuses, _text(now + FUTURE)),
        ).fetchone()
        if row is None:
            return None
        return self._runs("where id = ?", (row[0],))[0], json.loads(row[1])

    def newest_sync(self, until: datetime) -> int:
        """Return the number of the newest sync of the lake that began before `until`, 0 if none is known."""
        row = self._db.execute(
            "select max(counts ->> '$.ordinal') from site_reports join runs on runs.id = run_id where started < ?",
            (_text(until),),
        ).fetchone()
        return int(row[0] or 0)

    def first_sync(self, site: str, now: datetime) -> datetime | None:
        """Return when the first sync of `site` began."""
        row = self._db.execute(
            "select min(started) from site_reports join runs on runs.id = run_id where site = ? and started <= ?",
            (site, _text(now + FUTURE)),
        ).fetchone()
        return datetime.fromisoformat(row[0]) if row[0] else None

    def expire(self, before: datetime, now: datetime, *, dry_run: bool = False) -> int:
        """Delete the runs that began before `before`, with their site reports; return how many, with `dry_run` too.

        What `status`, a release or the next night still asks for stays, however old: the last complete run, the last
        one that got as far as a release, the last syncs of each site by how they ended, and the very last runs. So do
        erasures and withdrawals, which somebody may have to account for.
        """
        kept = {run.id for run in self.last()}
        kept |= {run.id for run in (self.last_complete(now),) if run}
        kept |= {run.id for run in self._runs(f"{REACHED_A_RELEASE} order by id desc limit 1", ())}
        sites = [row[0] for row in self._db.execute("select distinct site from site_reports").fetchall()]
        wanted: tuple[tuple[str, ...], ...] = ((), ("ok",), ("ok", "partial"))
        syncs = (self.last_sync(site, now, *statuses) for site in sites for statuses in wanted)
        kept |= {found[0].id for found in syncs if found}
        old = self._runs("where started < ? and status <> 'running'", (_text(before),))
        expired = [(run.id,) for run in old if run.id not in kept and run.kind not in ACCOUNTED_FOR]
        if expired and not dry_run:
            with self._db:
                self._db.executemany("delete from site_reports where run_id = ?", expired)
                self._db.executemany("delete from runs where id = ?", expired)
            # SQLite keeps the pages of deleted rows, and what stood in them.
            self._db.execute("vacuum")
        return len(expired)

    def _runs(self, tail: str, values: tuple[Any, ...]) -> tuple[Run, ...]:
        columns = "id, kind, started, finished, status, exit_code, release, detail"
        rows = self._db.execute(f"select {columns} from runs {tail}", values).fetchall()  # noqa: S608 - ours
        return tuple(_run(row) for row in rows)


@contextmanager
def open_ledger(file: Path) -> Iterator[Ledger]:
    """Open the ledger in `file` for writing; make it if absent. The caller holds the run lock.

    Raises `LedgerError` with the way to repair it when the file is damaged.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _explain_damage(file), closing(sqlite3.connect(file)) as connection:
        # WAL lets `periop status` read while a run writes. FULL flushes every commit: after a power cut the ledger
        # must not have forgotten a run, or the service would run it twice.
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")  # SQLite has them off by default
        _check(file, connection)
        connection.executescript(SCHEMA)
        yield Ledger(file, connection)


@contextmanager
def read_ledger(file: Path) -> Iterator[Ledger | None]:
    """Open the ledger in `file` for reading, also while a run writes it; None where there is no ledger yet.

    Raises `LedgerError` as `open_ledger` does.
    """
    if not file.exists():
        yield None
        return
    with _explain_damage(file), closing(_connect_to_read(file)) as connection:
        connection.execute("pragma query_only = on")
        _check(file, connection)
        # A kill between the making of the file and of its tables leaves a ledger without tables.
        empty = not connection.execute("select 1 from sqlite_master where name = 'site_reports'").fetchall()
        yield None if empty else Ledger(file, connection)


def _connect_to_read(file: Path) -> sqlite3.Connection:
    # Not opened with mode=ro: reading a WAL database needs its -shm file, which SQLite may have to make. In a folder
    # that can only be read nobody writes, and so it is needless (https://www.sqlite.org/wal.html#read_only_databases).
    if os.access(file.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return sqlite3.connect(file)
    return sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)


@contextmanager
def _explain_damage(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        # OperationalError is the one of the machine (disk, permissions, locks); the rest is a file that is no database.
        raise LedgerError(f"{file}: the run ledger cannot be used ({error}); check disk and permissions") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(file, str(error)) from error


def _check(file: Path, connection: sqlite3.Connection) -> None:
    # Some damage shows itself only in the rows that are read; better now than in the middle of a run.
    if connection.execute("pragma quick_check(1)").fetchone()[0] != "ok":
        raise _damaged(file, "quick_check failed")


def _damaged(file: Path, reason: str) -> LedgerError:
    return LedgerError(
        f"{file}: the run ledger is damaged ({reason}); move it and its -wal and -shm files away and run "
        "again: a new ledger is begun, and only the history of runs is lost"
    )


def _run(row: tuple[Any, ...]) -> Run:
    identity, kind, started, finished, status, code, release, detail = row
    ended = datetime.fromisoformat(finished) if finished else None
    return Run(identity, kind, datetime.fromisoformat(started), ended, status, code, release, json.loads(detail))


def _text(instant: datetime) -> str:
    # Always UTC and always with microseconds, so that texts compare as the instants do.
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
