"""Decides when a night that failed is tried again, and does so for `periop run --retry`; `periop serve` asks it too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from schedules.errors import ExitCode, exit_code, is_user_facing, user_message
from schedules.run.ledger import Clock, Run, read_ledger

RETRY_UNTIL = timedelta(hours=4)  # of `[schedule]`, so that a report is there in the morning
FIRST_PAUSE = timedelta(minutes=5)  # doubled for each further try
# What another try may mend. Wrong settings and refused credentials stay so, and accounts are locked after some tries.
RETRIED = (ExitCode.ERROR,)

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def next_try(tries: Sequence[Run], slot: datetime, retry_until: timedelta) -> datetime | None:
    """Return when a night is run, or run again, given the tries since its slot; None if it is not.

    A night that failed is tried again after pauses of 5, 10, 20 … minutes, for as long as `retry_until` after its first
    try. A run that was stopped is made up for at once, one that was killed too; after the second kill in a row there
    are the same pauses, because what kills it (memory) may do so each time.
    """
    if not tries:
        return slot
    last = tries[-1]
    if last.status == "interrupted" and last.finished is not None:
        return slot  # told to stop, and the machine is back
    killed = last.status == "interrupted"
    if not killed and last.exit_code not in RETRIED:
        return None
    same = sum(1 for _ in takewhile(lambda each: (each.status == "interrupted") == killed, reversed(tries)))
    pauses = same - 1 if killed else same
    if pauses == 0:
        return slot
    at = (last.finished or last.started) + FIRST_PAUSE * 2 ** (pauses - 1)
    return at if at <= tries[0].started + retry_until else None


def retried(
    attempt: Callable[[], Result],
    ledger_file: Path,
    retry_until: timedelta,
    now: Clock,
    sleep: Callable[[float], None],
) -> Result:
    """Return what a nightly run returns, tried again after pauses while it fails and `next_try` says so.

    Raises what the last try raised. A run that was stopped, or found another one in progress, is not tried again.
    """
    started = now()
    while True:
        try:
            return attempt()
        except Exception as error:
            with read_ledger(ledger_file) as ledger:
                tries = ledger.nights_since(started, now()) if ledger else ()
            # Without a try in the ledger it failed before it began, and nothing would count the tries.
            at = next_try(tries, started, retry_until) if tries and exit_code(error) in RETRIED else None
            if at is None:
                raise
            told = user_message(error) if is_user_facing(error) else type(error).__name__
            log.warning("the run has failed and is tried again at %s: %s", in_utc(at), told)
            sleep(max(0.0, (at - now()).total_seconds()))


def in_utc(instant: datetime) -> str:
    """Return an instant as the log has its own: in UTC, whatever the zone of the schedule."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
