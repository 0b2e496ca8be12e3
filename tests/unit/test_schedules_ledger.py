"""The run ledger: what is filed, what a kill leaves, what damage looks like."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schedules.errors import AuthenticationFailed, ExitCode, LedgerError
from schedules.run.ledger import Clock, open_ledger, read_ledger

START = datetime(2026, 5, 1, 1, 30, tzinfo=UTC)
NOW = START + timedelta(hours=12)


def ticking(start: datetime = START, step: timedelta = timedelta(minutes=1)) -> Clock:
    """A clock that moves one step each time it is read."""
    reads = iter(range(1_000_000))
    return lambda: start + step * next(reads)


def test_a_run_is_filed_with_its_end(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "runs.sqlite") as ledger, ledger.record("run", ticking()) as run:
        run.release = 3
        run.exit_code = ExitCode.PARTIAL
        run.detail["map"] = {"enrolled": 33}
    with read_ledger(tmp_path / "runs.sqlite") as reader:
        assert reader is not None
        (filed,) = reader.last()
    assert (filed.kind, filed.status, filed.exit_code, filed.release) == ("run", "partial", 3, 3)
    assert (filed.started, filed.finished) == (START, START + timedelta(minutes=1))
    assert filed.detail == {"map": {"enrolled": 33}}


@pytest.mark.parametrize(
    ("error", "status", "code", "told"),
    [
        (AuthenticationFailed("milan: refused"), "failed", 6, "milan: refused"),
        (ValueError("canary of a patient"), "failed", 1, "ValueError"),
        (KeyboardInterrupt(), "interrupted", 130, "KeyboardInterrupt"),
    ],
)
def test_a_run_that_ends_badly_is_filed_without_what_a_bug_may_quote(
    tmp_path: Path, error: BaseException, status: str, code: int, told: str
) -> None:
    with open_ledger(tmp_path / "runs.sqlite") as ledger:
        with pytest.raises(type(error)), ledger.record("sync", ticking()):
            raise error
        (filed,) = ledger.last()
    assert (filed.status, filed.exit_code, filed.detail["error"]) == (status, code, told)


def test_a_run_that_a_kill_left_open_is_marked(tmp_path: Path) -> None:
    file = tmp_path / "runs.sqlite"
    child = os.fork()
    if child == 0:
        with open_ledger(file) as ledger, ledger.record("run", ticking()):
            os._exit(0)  # as SIGKILL leaves it: no cleaning up
    os.waitpid(child, 0)
    with open_ledger(file) as ledger:
        assert [run.status for run in ledger.last()] == ["running"]
        assert ledger.mark_interrupted() == 1
        (filed,) = ledger.last()
    assert (filed.status, filed.finished) == ("interrupted", None)


def test_site_reports_are_found_by_site(tmp_path: Path) -> None:
    clock = ticking()
    with open_ledger(tmp_path / "runs.sqlite") as ledger:
        for received in (1, 2):
            with ledger.record("sync", clock) as run:
                ledger.add_site_report(run.id, "milan", {"received": received})
        assert ledger.last_sync("rome", NOW) is None
        found = ledger.last_sync("milan", NOW)
    assert found is not None
    assert found[0].id == 2
    assert found[1] == {"received": 2}


def test_the_last_good_run_is_a_whole_one_that_reached_its_end(tmp_path: Path) -> None:
    clock = ticking()
    with open_ledger(tmp_path / "runs.sqlite") as ledger:
        assert ledger.last_complete(NOW) is None
        for kind, code in (
            ("run", ExitCode.OK),
            ("run", ExitCode.PARTIAL),
            ("run", ExitCode.ERROR),
            ("sync", ExitCode.OK),
        ):
            with ledger.record(kind, clock) as run:
                run.exit_code = code
        good = ledger.last_complete(NOW)
    assert good is not None
    assert good.id == 2


def test_the_last_night_is_none_that_was_stopped_and_none_in_progress(tmp_path: Path) -> None:
    clock = ticking()
    with open_ledger(tmp_path / "runs.sqlite") as ledger:
        assert ledger.last_night(NOW, running=False) is None
        with pytest.raises(LedgerError), ledger.record("run", clock):
            raise LedgerError("no space")
        with pytest.raises(KeyboardInterrupt), ledger.record("run", clock):
            raise KeyboardInterrupt
        with ledger.record("sync", clock):
            pass
        failed = ledger.last_night(NOW, running=False)
        assert failed is not None
        assert (failed.status, failed.detail["error"]) == ("failed", "no space")
        with ledger.record("run", clock) as run:
            assert ledger.last_night(NOW, running=True) == failed
            killed = ledger.last_night(NOW, running=False)  # nobody holds the lock: a kill left it open
            assert killed is not None
            assert (killed.id, killed.finished) == (run.id, None)
        good = ledger.last_night(NOW, running=False)
        assert good is not None
        assert (good.id, good.status) == (run.id, "ok")


def test_what_ran_since_a_slot(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "runs.sqlite") as ledger:
        with ledger.record("run", ticking()):
            pass
        second = timedelta(seconds=1)
        assert [run.id for run in ledger.nights_since(START, NOW)] == [1]
        assert ledger.nights_since(START + second, NOW) == ()
        assert ledger.has_started_before(START + second, NOW)
        assert not ledger.has_started_before(START, NOW)


def test_the_ledger_is_durable(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "runs.sqlite") as ledger:
        connection = ledger._db
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
        assert connection.execute("pragma synchronous").fetchone() == (2,)


def test_no_ledger_reads_as_none_and_is_not_made(tmp_path: Path) -> None:
    with read_ledger(tmp_path / "runs.sqlite") as ledger:
        assert ledger is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["header", "middle"])
def test_damage_is_refused_with_the_way_to_repair_it(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "runs.sqlite"
    with open_ledger(file) as ledger:
        for _ in range(200):
            with ledger.record("run", ticking()) as run:
                run.detail["text"] = "x" * 100
    raw = bytearray(file.read_bytes())
    where = 0 if damage == "header" else 4096
    raw[where : where + 64] = b"\xff" * 64
    file.write_bytes(raw)
    with pytest.raises(LedgerError, match=r"runs\.sqlite.*damaged.*move it"), open_ledger(file):
        pass
    assert file.read_bytes() == bytes(raw)


def test_a_full_disk_or_a_locked_file_is_not_called_damage(tmp_path: Path) -> None:
    file = tmp_path / "runs.sqlite"
    with pytest.raises(LedgerError, match="cannot be used"), open_ledger(file):
        raise sqlite3.OperationalError("database or disk is full")
