"""The run ledger: what ran, when and how it ended, in SQLite (WAL, `synchronous=FULL`).

A run moves through these states; only the holder of the run lock opens the ledger to write, so a run
that is still `running` when it does was killed:

    running ──> ok | partial | withheld | failed | interrupted

Instants are UTC, ISO 8601 with microseconds. `detail` and `counts` hold counts and messages, never
patient data. Raises `LedgerError` with the way to repair it when the file is damaged.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from schedules.errors import Exit, LedgerError, exit_code, is_for_people, sentence

Clock = Callable[[], datetime]
RunStatus = Literal["running", "ok", "partial", "withheld", "failed", "interrupted"]
COMPLETE = (Exit.OK, Exit.PARTIAL, Exit.WITHHELD)

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
    """What a run in progress will be filed with; the body of `Ledger.record` fills it in."""

    id: int
    exit_code: Exit = Exit.OK
    release: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """The ledger in `file`. Use `open_ledger` or `read_ledger` to make one."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self.file = file
        self._db = connection

    @contextmanager
    def record(self, kind: str, now: Clock) -> Iterator[OpenRun]:
        """A run of `kind` around the body: filed as running, then with how it ended; errors pass through."""
        with self._db:
            row = self._db.execute(
                "insert into runs (kind, started, status) values (?, ?, 'running')", (kind, _text(now()))
            )
        run = OpenRun(id=_rowid(row))
        try:
            yield run
        except BaseException as error:
            run.exit_code = exit_code(error)
            run.detail["error"] = sentence(error) if is_for_people(error) else type(error).__name__
            raise
        finally:
            self._finish(run, now())

    def _finish(self, run: OpenRun, finished: datetime) -> None:
        with self._db:
            self._db.execute(
                "update runs set finished = ?, status = ?, exit_code = ?, release = ?, detail = ? where id = ?",
                (
                    _text(finished),
                    _status(run.exit_code),
                    int(run.exit_code),
                    run.release,
                    json.dumps(run.detail),
                    run.id,
                ),
            )

    def add_site_report(self, run_id: int, site: str, counts: Mapping[str, Any]) -> None:
        """File what the synchronisation of `site` in run `run_id` found."""
        with self._db:
            self._db.execute(
                "insert or replace into site_reports (run_id, site, counts) values (?, ?, ?)",
                (run_id, site, json.dumps(counts)),
            )

    def mark_interrupted(self) -> int:
        """File every run that a kill left open as interrupted; its end stays unknown. Returns how many."""
        with self._db:
            return self._db.execute("update runs set status = 'interrupted' where status = 'running'").rowcount

    def last(self, count: int = 10) -> tuple[Run, ...]:
        """The last runs, newest first."""
        return self._runs("order by id desc limit ?", (count,))

    def last_complete(self) -> Run | None:
        """The last run that went all the way to a release, or to withholding it."""
        marks = ", ".join("?" * len(COMPLETE))
        where = f"where kind = 'run' and exit_code in ({marks}) order by finished desc limit 1"
        return next(iter(self._runs(where, tuple(map(int, COMPLETE)))), None)

    def has_started_before(self, instant: datetime) -> bool:
        """Whether anything, the service included, was filed before `instant`."""
        return bool(self._runs("where started < ? limit 1", (_text(instant),)))

    def has_run_since(self, instant: datetime) -> bool:
        """Whether a whole run began at or after `instant` and was not interrupted."""
        where = "where kind = 'run' and started >= ? and status <> 'interrupted' limit 1"
        return bool(self._runs(where, (_text(instant),)))

    def last_sync(self, site: str) -> tuple[Run, Mapping[str, Any]] | None:
        """The last run that reported on `site`, with its counts."""
        row = self._db.execute(
            "select run_id, counts from site_reports where site = ? order by run_id desc limit 1", (site,)
        ).fetchone()
        if row is None:
            return None
        return self._runs("where id = ?", (row[0],))[0], json.loads(row[1])

    def _runs(self, tail: str, values: tuple[Any, ...]) -> tuple[Run, ...]:
        columns = "id, kind, started, finished, status, exit_code, release, detail"
        rows = self._db.execute(f"select {columns} from runs {tail}", values).fetchall()  # noqa: S608 - ours
        return tuple(_run(row) for row in rows)


@contextmanager
def open_ledger(file: Path) -> Iterator[Ledger]:
    """The ledger in `file` to write to, made if absent. The caller holds the run lock."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _damage_explained(file), closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")
        _check(file, connection)
        connection.executescript(SCHEMA)
        yield Ledger(file, connection)


@contextmanager
def read_ledger(file: Path) -> Iterator[Ledger | None]:
    """The ledger in `file` to read from, while a run may be writing it; none where there is no ledger yet."""
    if not file.exists():
        yield None
        return
    with _damage_explained(file), closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma query_only = on")
        _check(file, connection)
        empty = not connection.execute("select 1 from sqlite_master where name = 'site_reports'").fetchall()
        yield None if empty else Ledger(file, connection)


@contextmanager
def _damage_explained(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise LedgerError(f"{file}: the run ledger cannot be used ({error}); check disk and permissions") from error
    except sqlite3.DatabaseError as error:
        raise LedgerError(_damaged(file, str(error))) from error


def _check(file: Path, connection: sqlite3.Connection) -> None:
    found = connection.execute("pragma quick_check(1)").fetchone()[0]
    if found != "ok":
        raise LedgerError(_damaged(file, "quick_check failed"))


def _damaged(file: Path, reason: str) -> str:
    return (
        f"{file}: the run ledger is damaged ({reason}); move it and its -wal and -shm files away and run "
        "again: a new one is begun, and only the history of runs is lost"
    )


def _status(code: Exit) -> RunStatus:
    match code:
        case Exit.OK:
            return "ok"
        case Exit.PARTIAL:
            return "partial"
        case Exit.WITHHELD:
            return "withheld"
        case Exit.INTERRUPTED:
            return "interrupted"
        case _:
            return "failed"


def _run(row: tuple[Any, ...]) -> Run:
    identity, kind, started, finished, status, code, release, detail = row
    ended = datetime.fromisoformat(finished) if finished else None
    return Run(identity, kind, datetime.fromisoformat(started), ended, status, code, release, json.loads(detail))


def _rowid(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None  # noqa: S101 - an insert has one
    return cursor.lastrowid


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
