"""The service: APScheduler says "now", the ledger says whether a run is due, the lock says whether it may begin.

A run is due when a slot of the schedule has passed since something was first recorded in the ledger (the service
records its own start) and no nightly run has begun since that slot, or those that have begun call for another one
(`next_try`). Two jobs check: the cron job at the slot, and a watchdog every minute. The watchdog makes up for a service
that was down, a clock that jumped, a busy lock, a night that failed, and a run that was still in progress at the next
slot. So no slot is lost, and none runs twice.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from apscheduler.events import EVENT_SCHEDULER_STARTED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from schedules.config.cron import CronSchedule
from schedules.errors import ExitCode, LockBusyError, StopRequested, exit_code, is_user_facing, user_message
from schedules.installation import ProgramWatch, installed_version
from schedules.run.ledger import Clock, read_ledger
from schedules.run.retry import RETRY_UNTIL, in_utc, next_try

WATCHDOG_SECONDS = 60
NOTICE_SECONDS = 900  # between two looks at whether somebody must be told that no good run has come
GRACE_SECONDS = 8.0  # for a run to reach a safe point; systemd and docker send SIGKILL after 10 s or more

log = logging.getLogger(__name__)


class CronTrigger(BaseTrigger):  # type: ignore[misc] # apscheduler is untyped
    """The slots of a `CronSchedule` for APScheduler.

    Its own cron trigger counts weekdays from Monday (crontab: from Sunday), and in the hour that a clock change
    repeats or skips it fires twice or not at all.
    """

    def __init__(self, schedule: CronSchedule) -> None:
        self.schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the slot after `previous_fire_time`, or the first one from `now` on."""
        return self.schedule.next_after(previous_fire_time or now - timedelta(microseconds=1))


class NightlyJob:
    """Runs `run`, a complete nightly run, whenever one is due according to the ledger.

    Two runs never overlap, and one that fails does not end the service.
    """

    def __init__(
        self,
        schedule: CronSchedule,
        ledger_file: Path,
        now: Clock,
        run: Callable[[], ExitCode],
        retry_until: timedelta = RETRY_UNTIL,
        program: ProgramWatch | None = None,
    ) -> None:
        self.schedule = schedule
        self.retry_until = retry_until
        self._ledger_file = ledger_file
        self._now = now
        self._run = run
        self._program = program or ProgramWatch(lambda: None)
        self._running = threading.Lock()

    def due_slot(self) -> datetime | None:
        """Return the slot that a run is due for, or None."""
        # Only the last slot counts: after a week of downtime one run is due, and not seven.
        now = self._now()
        slot = self.schedule.last_until(now)
        with read_ledger(self._ledger_file) as ledger:
            if slot is None or ledger is None or not ledger.has_started_before(slot, now):
                return None
            at = next_try(ledger.nights_since(slot, now), slot, self.retry_until)
        return slot if at is not None and at <= now else None

    def next_slot(self) -> datetime | None:
        """Return the next slot."""
        return self.schedule.next_after(self._now())

    def run_if_due(self) -> None:
        """Run if a run is due and none is in progress. Never raises: how it ended is logged, and is in the ledger."""
        if not self._running.acquire(blocking=False):  # the cron job and the watchdog come at the same second
            return
        try:
            slot = self.due_slot()
            # Not with a program of two versions: it imports modules while it runs. The new one makes up for the slot.
            if slot is None or self._program.is_updated():
                return
            log.info("the nightly run due at %s begins", in_utc(slot))
            code = self._run()
            level = logging.INFO if code == ExitCode.OK else logging.WARNING
            log.log(level, "the nightly run ended: %s", code.name.lower())
        except StopRequested:
            log.warning("the nightly run stopped at a safe point; the next start of the service makes up for it")
        except LockBusyError as error:
            log.warning("the nightly run waits: %s", error)
        except Exception as error:
            if is_user_facing(error):
                log.error("the nightly run failed (exit code %d): %s", exit_code(error), user_message(error))
            elif self._program.is_updated():  # which is what a module that does not fit the others looks like
                log.error("the nightly run failed, because periop was updated while it ran; it is made up for")
            else:
                log.exception("the nightly run failed because of a bug in periop; please report this traceback")
            self._log_next_try()
        finally:
            self._running.release()

    def must_restart(self) -> bool:
        """Return True if the program was updated, the update is over, and no run is in progress. Call it now and then.

        A run that is in progress is not cut off: what it has imported goes on to work.
        """
        return self._program.is_settled() and not self._running.locked()

    def tell_if_killed(self) -> None:
        """Log that the last run of this night was killed, and what becomes of it. The service itself died with it."""
        now = self._now()
        slot = self.schedule.last_until(now)
        with read_ledger(self._ledger_file) as ledger:
            tries = ledger.nights_since(slot, now) if ledger and slot else ()
        if tries and tries[-1].status == "interrupted" and tries[-1].finished is None:
            log.error("the last nightly run was killed, perhaps for want of memory (journalctl -k tells)")
            self._log_next_try()

    def _log_next_try(self) -> None:
        now = self._now()
        slot = self.schedule.last_until(now)
        with read_ledger(self._ledger_file) as ledger:
            tries = ledger.nights_since(slot, now) if ledger and slot else ()
        at = next_try(tries, slot, self.retry_until) if slot else None
        if at is not None:
            log.warning("the nightly run is tried again at %s", in_utc(at))
        else:
            due = self.next_slot()
            log.error(
                "the nightly run of %s has failed, and is not tried again before the next slot (%s)",
                in_utc(slot) if slot else "this night",
                in_utc(due) if due else "there is none",
            )

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait for a run in progress to end; return False if it has not within `seconds`."""
        idle = self._running.acquire(timeout=seconds)
        if idle:
            self._running.release()
        return idle


def make_scheduler(
    job: NightlyJob, restart: Callable[[], None] = lambda: None, tell: Callable[[], None] = lambda: None
) -> BlockingScheduler:
    """Return a scheduler with the cron job and the watchdog, which also calls `restart` after an update of periop, and
    now and then `tell`, for what no run can tell: that none has come.

    In memory, because the ledger already remembers what ran. `misfire_grace_time=None`: however late APScheduler
    wakes up, it calls the job, since only the ledger decides whether a run is due.
    """
    scheduler = BlockingScheduler(
        timezone=UTC,
        jobstores={"default": MemoryJobStore()},
        executors={"default": ThreadPoolExecutor(2)},  # the watchdog still answers while a run is in progress
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    scheduler.add_job(job.run_if_due, CronTrigger(job.schedule), id="nightly")
    watchdog = IntervalTrigger(seconds=WATCHDOG_SECONDS, timezone=UTC)
    scheduler.add_job(job.run_if_due, watchdog, id="watchdog", next_run_time=datetime.now(UTC))

    def restart_if_updated() -> None:
        if job.must_restart():
            restart()

    scheduler.add_job(restart_if_updated, IntervalTrigger(seconds=WATCHDOG_SECONDS, timezone=UTC), id="update")
    notices = IntervalTrigger(seconds=NOTICE_SECONDS, timezone=UTC)
    scheduler.add_job(tell, notices, id="notices", next_run_time=datetime.now(UTC))
    return scheduler


def serve(
    job: NightlyJob,
    stop: threading.Event,
    exit_now: Callable[[int], Any],
    tell: Callable[[], None] = lambda: None,
) -> ExitCode:
    """Serve until SIGTERM (returns OK), SIGINT (INTERRUPTED) or an update of periop (UPDATED). Call it from the main
    thread.

    A signal sets `stop`, at which the run in progress ends at its next safe point. If it has not within
    `GRACE_SECONDS`, `exit_now` ends the process, which loses nothing: every stage survives a kill. `tell`: as in
    `make_scheduler`.
    """
    received: list[int] = []
    updated = threading.Event()

    def restart() -> None:
        log.warning(
            "periop was updated (version %s is installed now): the service ends with exit code %d, and is to be "
            "started again",
            installed_version(),
            ExitCode.UPDATED,
        )
        updated.set()
        shut_down()

    scheduler = make_scheduler(job, restart, tell)
    started = threading.Event()
    scheduler.add_listener(lambda _event: started.set(), EVENT_SCHEDULER_STARTED)

    def shut_down() -> None:
        started.wait()  # a signal may come before the scheduler runs, and then `shutdown` would raise
        if scheduler.running:
            scheduler.shutdown(wait=False)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()
        # In a thread of its own: the handler may have interrupted the scheduler while it holds its locks.
        threading.Thread(target=shut_down, daemon=True).start()

    # SIGTERM comes from systemd or docker, SIGINT from a person at the terminal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    due = job.next_slot()
    log.info("serving; the next nightly run is due at %s", in_utc(due) if due else "no time")
    scheduler.start()
    code = ExitCode.INTERRUPTED if received and received[0] == signal.SIGINT else ExitCode.OK
    if updated.is_set() and not received:
        code = ExitCode.UPDATED
    # `shutdown` does not wait for the thread of a run; here it gets its time.
    if not job.wait_until_idle(GRACE_SECONDS):
        log.warning("the nightly run reached no safe point in time and is cut off; the next start makes up for it")
        exit_now(code)
    return code
