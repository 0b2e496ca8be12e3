"""When a night is due: five cron fields over wall clock time, each wall clock slot exactly once a year
of its kind.

APScheduler's own cron trigger misreads two things: it numbers weekdays from Monday (crontab: Sunday),
and on a day of a clock change it fires twice, or not at all, in the hour that is repeated or left out.
Here the fields are matched on the wall clock alone and then placed in time: a slot in a left-out hour
comes when the clock has jumped, a slot in a repeated hour comes at its first occurrence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

FIELDS = "minute hour day-of-month month day-of-week"
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCK_CHANGE = timedelta(hours=26)  # longer than any jump of a zone's wall clock
LONGEST_GAP = timedelta(days=8 * 366)  # 29 February across a century year


class WallClockCron(BaseTrigger):  # type: ignore[misc] # apscheduler is untyped
    """A trigger for `expression` ("minute hour day month weekday") read as wall clock time of `zone`.

    Raises `ValueError` that names the fields when the expression is not one, or never comes due.
    """

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        self.zone = zone
        self.wall = _wall_clock_trigger(expression)
        if self.next_after(datetime(2000, 1, 1, tzinfo=UTC)) is None:
            raise ValueError(f"'{expression[:40]}' never comes due; check day-of-month and month")

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The interface of APScheduler: the slot after `previous_fire_time`, or the first one from `now`
        on."""
        after = previous_fire_time or now - timedelta(microseconds=1)
        return self.next_after(after)

    def next_after(self, instant: datetime) -> datetime | None:
        """The first slot strictly after `instant` (aware) and in UTC; none within eight years: none."""
        return next((slot for slot in self._slots(instant - CLOCK_CHANGE) if slot > instant), None)

    def last_until(self, instant: datetime) -> datetime | None:
        """The last slot at or before `instant` (aware), in UTC."""
        window = timedelta(minutes=2)
        while window < LONGEST_GAP:
            slots = takewhile(lambda slot: slot <= instant, self._slots(instant - window - CLOCK_CHANGE))
            if slot := max(slots, default=None):
                return slot
            window *= 4
        return None

    def _slots(self, start: datetime) -> Iterator[datetime]:
        """Slots in time from `start` on; aware datetimes of one zone compare by wall clock, so by way of
        UTC."""
        wall = start.astimezone(self.zone).replace(tzinfo=UTC)
        previous = None
        while wall is not None:
            wall = self.wall.get_next_fire_time(previous, wall)
            if wall is None or wall.year > start.year + 8:
                return
            previous = wall
            yield wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)


def _wall_clock_trigger(expression: str) -> CronTrigger:
    shown = expression[:40]
    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(f"'{shown}' has {len(fields)} fields; give five: {FIELDS}, like 30 1 * * *")
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError(f"'{shown}' restricts both day-of-month and day-of-week; leave one of them *")
    try:
        return CronTrigger.from_crontab(" ".join([*fields[:4], _named_weekdays(fields[4])]), timezone=UTC)
    except (ValueError, IndexError):
        raise ValueError(f"'{shown}' is not five cron fields ({FIELDS}), like 30 1 * * *") from None


def _named_weekdays(field: str) -> str:
    """Crontab weekday numbers (0 and 7 are Sunday) as a list of names, which mean the same to APScheduler.

    A range is written out, because one that begins on a Sunday runs backwards in APScheduler's week.
    """
    return ",".join(_weekdays(part) for part in field.split(","))


def _weekdays(part: str) -> str:
    numbers = re.fullmatch(r"([0-7])(?:-([0-7]))?(?:/([1-7]))?", part)
    if not numbers:
        return part
    first, last, step = (int(group) if group else None for group in numbers.groups())
    assert first is not None  # noqa: S101 - the pattern has it
    end = last if last is not None else (7 if step else first)
    if end < first:
        raise ValueError("a range of weekdays that runs backwards")
    return ",".join(WEEKDAYS[day] for day in range(first, end + 1, step or 1))
