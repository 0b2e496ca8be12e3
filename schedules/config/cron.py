"""Times of the nightly run: five cron fields, read as wall clock time of a time zone.

The rules are those of Debian's cron, by way of `cronsim`:

    skipped hour     a slot in it comes once, right after the jump: 02:30 on 2026-03-29 in Rome at 03:00 local time
    repeated hour    a slot in it comes once, the first time: 02:30 on 2026-10-25 in Rome at 00:30 UTC
    * in minute or hour    such a schedule follows the clock as it is shown: nothing is made up for, and the
                           repeated hour has its slots twice
    day-of-month and day-of-week    a day that matches either is due; if one begins with *, both have to match
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

FIELDS = "minute hour day-of-month month day-of-week"
MARGIN = timedelta(hours=26)  # longer than any jump of a zone's wall clock


@dataclass(frozen=True)
class CronSchedule:
    """The slots of `expression` on the wall clock of `zone`, as instants in UTC.

    Raises `ValueError` that names the fields when `expression` is not a cron expression, or never comes due.

    >>> rome = CronSchedule("30 2 * * *", ZoneInfo("Europe/Rome"))
    >>> rome.next_after(datetime(2026, 3, 29, 0, 0, tzinfo=UTC)).isoformat()  # 02:30 is skipped: 03:00 local time
    '2026-03-29T01:00:00+00:00'
    """

    expression: str
    zone: ZoneInfo

    def __post_init__(self) -> None:
        shown = self.expression[:40]
        fields = self.expression.split()
        if len(fields) != 5:  # cronsim would take a sixth field for seconds
            raise ValueError(f"'{shown}' has {len(fields)} fields; give five: {FIELDS}, like 30 1 * * *")
        try:
            CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            reason = str(error)[:1].lower() + str(error)[1:]  # like "bad hour"
            if reason.endswith("day-of-month"):
                reason += ", or one that none of these months has"
            raise ValueError(f"'{shown}' is not five cron fields ({FIELDS}), like 30 1 * * *: {reason}") from None

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot strictly after `instant` (aware), or None within 50 years."""
        return next((slot for slot in self._slots(instant - MARGIN) if slot > instant), None)

    def last_until(self, instant: datetime) -> datetime | None:
        """Return the last slot at or before `instant` (aware), or None within 50 years."""
        return next((slot for slot in self._slots(instant + MARGIN, reverse=True) if slot <= instant), None)

    def _slots(self, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        # cronsim walks the wall clock without its UTC offset and may begin in the wrong one of two equal hours. So
        # the walk begins a day too early, and the callers compare instants in UTC, where no hour comes twice.
        for slot in CronSim(self.expression, start.astimezone(self.zone), reverse=reverse):
            yield slot.astimezone(UTC)
