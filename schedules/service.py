"""The service: APScheduler says "now", the ledger says whether a night is due, the lock says whether it
may run.

A night is due when a slot of the schedule has passed since something was first filed in the ledger (the
service files its own start) and no whole run has begun since that slot. Two jobs ask: the cron job at
the slot, and a watch every minute, which makes up for a service that was down, a clock that jumped, a
lock that was busy and a night that was still running at the next slot. So no slot is lost, and none runs
twice.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from apscheduler.events import EVENT_SCHEDULER_STARTED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.interval import IntervalTrigger

from schedules.config.cron import WallClockCron
from schedules.errors import Exit, LockBusyError, StopRequested, exit_code, is_for_people, sentence
from schedules.run.ledger import Clock, read_ledger

WATCH_SECONDS = 60
GRACE_SECONDS = 8.0

log = logging.getLogger(__name__)

Night = Callable[[], Exit]


class Nightly:
    """Runs `night` when the ledger says that one is due; never two at once; a failing one does not end
    the service."""

    def __init__(self, cron: WallClockCron, ledger_file: Path, now: Clock, night: Night) -> None:
        self.cron = cron
        self._ledger_file = ledger_file
        self._now = now
        self._night = night
        self._running = threading.Lock()

    def due_slot(self) -> datetime | None:
        """The slot that a night is due for, if one is."""
        slot = self.cron.last_until(self._now())
        with read_ledger(self._ledger_file) as ledger:
            if slot is None or ledger is None or not ledger.has_started_before(slot):
                return None
            return None if ledger.has_run_since(slot) else slot

    def next_slot(self) -> datetime | None:
        """The slot to come."""
        return self.cron.next_after(self._now())

    def run_if_due(self) -> None:
        """Run a night if one is due and none is running. Never raises: the end is logged, and filed by
        the night."""
        if not self._running.acquire(blocking=False):
            return
        try:
            self._run_logged()
        finally:
            self._running.release()

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait for a running night to end; false if it has not within `seconds`."""
        idle = self._running.acquire(timeout=seconds)
        if idle:
            self._running.release()
        return idle

    def _run_logged(self) -> None:
        try:
            slot = self.due_slot()
            if slot is None:
                return
            log.info("the night due at %s begins", slot.isoformat())
            code = self._night()
            log.log(logging.INFO if code == Exit.OK else logging.WARNING, "the night ended: %s", code.name.lower())
        except StopRequested:
            log.warning("the night stopped at a safe point; it is made up for at the next start")
        except LockBusyError as error:
            log.warning("the night waits: %s", error)
        except Exception as error:
            if not is_for_people(error):
                log.exception("the night failed by a fault of periop's; please report this traceback")
            else:
                log.error("the night failed (exit code %d): %s", exit_code(error), sentence(error))


def make_scheduler(nightly: Nightly) -> BlockingScheduler:
    """A scheduler with the cron job and the watch, in memory: what is due is not its to remember."""
    scheduler = BlockingScheduler(
        timezone=UTC,
        jobstores={"default": MemoryJobStore()},
        executors={"default": ThreadPoolExecutor(2)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    scheduler.add_job(nightly.run_if_due, nightly.cron, id="nightly")
    scheduler.add_job(
        nightly.run_if_due,
        IntervalTrigger(seconds=WATCH_SECONDS, timezone=UTC),
        id="watch",
        next_run_time=datetime.now(UTC),
    )
    return scheduler


def serve(nightly: Nightly, stop: threading.Event, exit_now: Callable[[int], Any]) -> Exit:
    """Serve until SIGTERM (ends with 0) or SIGINT (130). Call from the main thread.

    `stop` is set at once, for the night to end at its next safe point; one that has not ended after
    `GRACE_SECONDS` is cut off by `exit_now`, which every stage survives: the next run ends in the same
    state.
    """
    scheduler = make_scheduler(nightly)
    started = threading.Event()
    scheduler.add_listener(lambda _event: started.set(), EVENT_SCHEDULER_STARTED)
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop.set()
        # From a thread of its own: the handler may have interrupted the scheduler inside its locks.
        threading.Thread(target=_shut_down, args=(scheduler, started), daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    log.info("serving; the next night is due at %s", nightly.next_slot())
    scheduler.start()
    code = Exit.INTERRUPTED if received and received[0] == signal.SIGINT else Exit.OK
    if not nightly.wait_until_idle(GRACE_SECONDS):
        log.warning("the night did not reach a safe point in time and is cut off; the next start makes up for it")
        exit_now(code)
    return code


def _shut_down(scheduler: BlockingScheduler, started: threading.Event) -> None:
    started.wait()
    if scheduler.running:
        scheduler.shutdown(wait=False)
