"""The service: which runs are due by the ledger, and that none ends it. No test waits for a time of day."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from schedules.config.cron import CronSchedule
from schedules.errors import AuthenticationFailed, ConfigError, ExitCode, LockBusyError, NoSiteError, StopRequested
from schedules.installation import ProgramWatch
from schedules.run.ledger import open_ledger, read_ledger
from schedules.service import CronTrigger, NightlyJob, make_scheduler

SLOT = datetime(2026, 5, 2, 1, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Hospital:
    """A data directory, a clock that is set by hand, and the runs that there were."""

    def __init__(self, folder: Path) -> None:
        self.now = SLOT - HOUR
        self.file = folder / "runs.sqlite"
        self.runs: list[datetime] = []
        self.ends_with: Callable[[], ExitCode] = lambda: ExitCode.OK
        cron = CronSchedule("30 1 * * *", ZoneInfo("UTC"))
        self.job = NightlyJob(cron, self.file, lambda: self.now, self.run)

    def file_run(self, kind: str) -> None:
        with open_ledger(self.file) as ledger, ledger.record(kind, lambda: self.now):
            pass

    def run(self) -> ExitCode:
        self.runs.append(self.now)
        with open_ledger(self.file) as ledger, ledger.record("run", lambda: self.now):
            return self.ends_with()

    def killed(self) -> None:
        """Leave a run as SIGKILL does; the next start of the service marks it."""
        with open_ledger(self.file) as ledger:
            ledger._db.execute(
                "insert into runs (kind, started, status) values ('run', ?, 'running')",
                (self.now.isoformat(timespec="microseconds"),),
            )
            ledger._db.commit()
            ledger.mark_interrupted()

    def wake(self, now: datetime) -> None:
        self.now = now
        self.job.run_if_due()


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    hospital = Hospital(tmp_path)
    hospital.file_run("serve")
    return hospital


def test_nothing_is_due_before_the_first_slot(hospital: Hospital) -> None:
    hospital.wake(SLOT - timedelta(seconds=1))
    assert hospital.runs == []


def test_a_first_start_owes_no_run(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    hospital.wake(SLOT + HOUR)
    hospital.file_run("serve")
    hospital.wake(SLOT + HOUR)
    assert hospital.runs == []


def test_each_slot_has_one_run(hospital: Hospital) -> None:
    for now in (SLOT, SLOT, SLOT + HOUR, SLOT + DAY, SLOT + DAY + HOUR):
        hospital.wake(now)
    assert hospital.runs == [SLOT, SLOT + DAY]


def test_missed_slots_are_made_up_for_once(hospital: Hospital) -> None:
    for now in (SLOT + 3 * DAY + HOUR, SLOT + 3 * DAY + 2 * HOUR):
        hospital.wake(now)
    assert hospital.runs == [SLOT + 3 * DAY + HOUR]


def test_a_run_by_hand_after_the_slot_counts(hospital: Hospital) -> None:
    hospital.now = SLOT + timedelta(seconds=1)
    hospital.file_run("run")
    hospital.wake(SLOT + HOUR)
    assert hospital.runs == []


def test_a_sync_by_hand_does_not_count(hospital: Hospital) -> None:
    hospital.now = SLOT + timedelta(seconds=1)
    hospital.file_run("sync")
    hospital.wake(SLOT + HOUR)
    assert hospital.runs == [SLOT + HOUR]


def test_a_clock_that_is_put_back_runs_nothing_twice(hospital: Hospital) -> None:
    hospital.wake(SLOT)
    for now in (SLOT - HOUR, SLOT, SLOT + HOUR):
        hospital.wake(now)
    assert hospital.runs == [SLOT]


def fail_with(error: BaseException) -> Callable[[], ExitCode]:
    def end() -> ExitCode:
        raise error

    return end


def test_a_failing_run_is_logged_and_filed_and_the_next_one_runs(
    hospital: Hospital, caplog: pytest.LogCaptureFixture
) -> None:
    hospital.ends_with = fail_with(NoSiteError("milan: no answer"))
    hospital.wake(SLOT)
    hospital.ends_with = lambda: ExitCode.OK
    hospital.wake(SLOT + DAY)
    assert hospital.runs == [SLOT, SLOT + DAY]
    assert "the nightly run failed (exit code 1): milan: no answer" in caplog.text


def test_a_bug_in_a_run_does_not_end_the_service(hospital: Hospital, caplog: pytest.LogCaptureFixture) -> None:
    hospital.ends_with = fail_with(ZeroDivisionError())
    hospital.wake(SLOT)
    hospital.wake(SLOT + DAY)
    assert len(hospital.runs) == 2
    bugs = [record for record in caplog.records if record.exc_info]
    assert [record.levelno for record in bugs] == [logging.ERROR] * 2


def minutes(*after: int) -> list[datetime]:
    return [SLOT + timedelta(minutes=each) for each in after]


def test_fault_81_a_night_that_fails_is_tried_again_after_growing_pauses(
    hospital: Hospital, caplog: pytest.LogCaptureFixture
) -> None:
    hospital.ends_with = fail_with(NoSiteError("milan: no answer"))
    for minute in range(24 * 60):
        hospital.wake(SLOT + timedelta(minutes=minute))
    # Pauses of 5, 10, 20, 40 and 80 minutes; after one of 160 more than four hours would have passed.
    assert hospital.runs == minutes(0, 5, 15, 35, 75, 155)
    assert "the nightly run is tried again at 2026-05-02T01:35Z" in caplog.text
    assert "and is not tried again before the next slot (2026-05-03T01:30Z)" in caplog.text


def test_fault_81_a_night_that_is_well_again_is_not_tried_once_more(hospital: Hospital) -> None:
    hospital.ends_with = fail_with(NoSiteError("milan: no answer"))
    hospital.wake(SLOT)
    hospital.ends_with = lambda: ExitCode.OK
    for minute in range(24 * 60):
        hospital.wake(SLOT + timedelta(minutes=minute))
    assert hospital.runs == minutes(0, 5)


@pytest.mark.parametrize("error", [AuthenticationFailed("milan: 401"), ConfigError("periop.toml: wrong")])
def test_fault_81_what_no_further_try_can_mend_is_not_tried_again(hospital: Hospital, error: Exception) -> None:
    hospital.ends_with = fail_with(error)
    for minute in range(24 * 60):
        hospital.wake(SLOT + timedelta(minutes=minute))
    assert hospital.runs == [SLOT]


def test_fault_82_a_run_that_is_always_killed_gets_pauses_that_grow_and_an_end(hospital: Hospital) -> None:
    began = []
    for minute in range(24 * 60):
        hospital.now = SLOT + timedelta(minutes=minute)
        if hospital.job.due_slot():
            began.append(hospital.now)
            hospital.killed()
    assert began == minutes(0, 1, 6, 16, 36, 76, 156)


def test_fault_82_that_it_was_killed_is_told_with_what_comes_then(
    hospital: Hospital, caplog: pytest.LogCaptureFixture
) -> None:
    hospital.now = SLOT
    hospital.job.tell_if_killed()
    assert caplog.text == ""
    hospital.killed()
    hospital.killed()
    hospital.job.tell_if_killed()
    assert "was killed, perhaps for want of memory" in caplog.text
    assert "the nightly run is tried again at 2026-05-02T01:35Z" in caplog.text
    hospital.now = SLOT + 5 * HOUR
    hospital.killed()
    hospital.job.tell_if_killed()
    assert "is not tried again before the next slot (2026-05-03T01:30Z)" in caplog.text
    hospital.file_run("run")
    caplog.clear()
    hospital.job.tell_if_killed()
    assert caplog.text == ""


def test_fault_80_runs_from_the_future_do_not_stop_the_service(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    hospital.now = datetime(2036, 1, 1, tzinfo=UTC)  # the clock of the machine before it found the time
    hospital.file_run("serve")
    hospital.file_run("run")
    hospital.wake(SLOT)
    hospital.wake(SLOT + HOUR)
    assert hospital.runs == [SLOT]
    with read_ledger(hospital.file) as ledger:
        assert ledger is not None
        assert ledger.from_the_future(SLOT) == 2
        good = ledger.last_complete(SLOT + HOUR)
    assert good is not None
    assert good.started == SLOT


def test_an_interrupted_run_is_made_up_for(hospital: Hospital) -> None:
    hospital.ends_with = fail_with(StopRequested())
    hospital.wake(SLOT)
    hospital.ends_with = lambda: ExitCode.OK
    hospital.wake(SLOT + HOUR)
    assert hospital.runs == [SLOT, SLOT + HOUR]


def test_a_busy_lock_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hospital = Hospital(tmp_path)
    hospital.file_run("serve")
    tries: list[datetime] = []

    def busy() -> ExitCode:
        tries.append(hospital.now)
        raise LockBusyError("process 7 is running")

    job = NightlyJob(hospital.job.schedule, hospital.file, lambda: hospital.now, busy)
    for now in (SLOT, SLOT + timedelta(minutes=1)):
        hospital.now = now
        job.run_if_due()
    assert tries == [SLOT, SLOT + timedelta(minutes=1)]
    assert "the nightly run waits: process 7 is running" in caplog.text


def test_two_runs_never_run_at_once(hospital: Hospital) -> None:
    begun, release = threading.Event(), threading.Event()

    def long() -> ExitCode:
        begun.set()
        assert release.wait(30)
        return ExitCode.OK

    hospital.ends_with = long
    hospital.now = SLOT
    first = threading.Thread(target=hospital.job.run_if_due)
    first.start()
    assert begun.wait(30)
    hospital.job.run_if_due()
    assert not hospital.job.wait_until_idle(0.01)
    release.set()
    first.join()
    assert hospital.job.wait_until_idle(0.01)
    assert hospital.runs == [SLOT]


def test_the_scheduler_is_set_up_as_designed(hospital: Hospital) -> None:
    scheduler = make_scheduler(hospital.job)
    jobs = {job.id: job for job in scheduler.get_jobs()}
    assert set(jobs) == {"nightly", "watchdog", "update", "notices"}
    assert jobs["nightly"].trigger.schedule is hospital.job.schedule
    defaults = scheduler._job_defaults
    assert defaults == {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}


def test_the_interface_of_apscheduler() -> None:
    trigger = CronTrigger(CronSchedule("30 1 * * *", ZoneInfo("UTC")))
    assert trigger.get_next_fire_time(None, SLOT) == SLOT
    assert trigger.get_next_fire_time(SLOT, SLOT) == SLOT + DAY


class Program:
    """The installed version, set by hand."""

    def __init__(self) -> None:
        self.state = "old"
        self.watch = ProgramWatch(lambda: self.state)


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def updatable(tmp_path: Path, program: Program) -> Hospital:
    hospital = Hospital(tmp_path)
    hospital.job = NightlyJob(
        hospital.job.schedule, hospital.file, lambda: hospital.now, hospital.run, program=program.watch
    )
    hospital.file_run("serve")
    return hospital


def test_fault_105_no_run_begins_with_a_program_of_two_versions(updatable: Hospital, program: Program) -> None:
    program.state = "new"
    updatable.wake(SLOT)
    assert updatable.runs == []
    assert [updatable.job.must_restart(), updatable.job.must_restart()] == [False, True]


def test_fault_105_a_run_that_is_on_is_waited_for(updatable: Hospital, program: Program) -> None:
    asked = []

    def update() -> ExitCode:
        program.state = "new"
        asked.extend([updatable.job.must_restart(), updatable.job.must_restart()])
        return ExitCode.OK

    updatable.ends_with = update
    updatable.wake(SLOT)
    assert asked == [False, False]
    assert updatable.job.must_restart()


def test_fault_105_a_run_that_failed_under_an_update_is_no_bug(
    updatable: Hospital, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    def update() -> ExitCode:
        program.state = "new"
        raise ModuleNotFoundError("mappers.new_module")

    updatable.ends_with = update
    updatable.wake(SLOT)
    assert "because periop was updated while it ran" in caplog.text
    assert "bug" not in caplog.text


def test_fault_105_the_scheduler_asks_for_a_restart(updatable: Hospital, program: Program) -> None:
    restarts: list[bool] = []
    scheduler = make_scheduler(updatable.job, lambda: restarts.append(True))
    (job,) = [each for each in scheduler.get_jobs() if each.id == "update"]
    job.func()
    program.state = "new"
    job.func()
    assert restarts == []
    job.func()
    assert restarts == [True]


UPDATED_SERVICE = """
import logging, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo
from schedules import service
from schedules.config.cron import CronSchedule
from schedules.errors import ExitCode
from schedules.installation import ProgramWatch

logging.basicConfig(stream=sys.stdout)
service.WATCHDOG_SECONDS = 0.05
states = iter(["old", "old"])
watch = ProgramWatch(lambda: next(states, "new"))
cron = CronSchedule("30 1 * * *", ZoneInfo("UTC"))
job = service.NightlyJob(cron, Path(sys.argv[1]), lambda: datetime.now(UTC), lambda: ExitCode.OK, program=watch)
sys.exit(service.serve(job, threading.Event(), sys.exit))
"""


def test_fault_105_the_service_ends_with_the_code_that_systemd_restarts_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UPDATED_SERVICE, str(tmp_path / "runs.sqlite")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.UPDATED, done.stderr
    assert "the service ends with exit code 7, and is to be started again" in done.stdout
