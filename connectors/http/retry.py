"""How long to try: attempts, waits between them (Retry-After, backoff with jitter), and the deadline of the run.

Clocks, sleep and random numbers are arguments (`Clock`), so tests wait for nothing.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from connectors.errors import DeferredError, UnavailableError

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
A_DAY = 86_400.0
EPOCH_SECONDS = 1_000_000_000  # a Retry-After beyond this is a point in time, not a duration of 31 years
T = TypeVar("T")


class TruncatedError(ValueError):
    """The body ended before its end: worth fetching again."""


class RetryError(Exception):
    """This attempt failed in a way that may pass. `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """The clocks, the sleep and the random numbers of a client. Seconds; `random` is uniform in [0, 1)."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


@dataclass(frozen=True)
class TransferLimits:
    """Times in seconds, sizes in bytes (decompressed).

    attempts: requests for one page or file. connect, read: of the socket. request: one page in whole. run:
    all requests of one sync. response: one page. file: one downloaded file. ratio: how many times larger
    than what was sent a decompressed body may be. backoff, backoff_cap: first and longest wait of the
    exponential backoff.
    """

    attempts: int = 6
    connect: float = 10.0
    read: float = 120.0
    request: float = 900.0
    run: float = 6 * 3600.0
    response: int = 256 << 20
    file: int = 64 << 30
    ratio: int = 200
    backoff: float = 1.0
    backoff_cap: float = 60.0


class Retrying:
    """The attempts of one run against one server, which messages call `server`. Safe for use by several threads."""

    def __init__(self, server: str, limits: TransferLimits, clock: Clock) -> None:
        self._server = server
        self._limits = limits
        self._clock = clock
        self.end = clock.monotonic() + limits.run

    def run(self, what: str, attempt: Callable[[], T]) -> T:
        """What `attempt` gives, called again after each RetryError.

        Raises UnavailableError after all attempts, DeferredError where the next would come after the end of the run.
        """
        failure = RetryError("no answer")
        for number in range(self._limits.attempts):
            if number:
                self.pause(self._backoff(number - 1, failure.wait), what)
            try:
                return attempt()
            except RetryError as retry:
                failure = retry
        raise UnavailableError(
            f"{what}: {self._server} gave {failure} in {self._limits.attempts} attempts: the next run tries again"
        )

    def _backoff(self, attempt: int, wait: float | None) -> float:
        ceiling = min(self._limits.backoff_cap, self._limits.backoff * 2.0**attempt)
        return max(wait or 0.0, ceiling * (0.5 + self._clock.random() / 2))

    def pause(self, seconds: float, what: str) -> None:
        """Wait so long; DeferredError, at once, where that would be beyond the end of the run."""
        self.require_time(seconds, what)
        self._clock.sleep(seconds)

    def require_time(self, seconds: float, what: str) -> None:
        """DeferredError where a wait of so long would be beyond the end of the run."""
        if self._clock.monotonic() + seconds > self.end:
            raise DeferredError(
                f"{what}: {self._server} asks to wait {seconds:.0f} s, beyond the deadline of this run: "
                "the next run tries again"
            )


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait by the header Retry-After (RFC 9110, 10.2.3), within a day;

    None if it says nothing usable.

    A date is compared with the Date of the same answer (the server's clock), else with `now`. Some servers
    send an absolute epoch where seconds are meant.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,15}(\.\d+)?", value):
        seconds = float(value)
        wait = seconds - _epoch(headers, now) if seconds > EPOCH_SECONDS else seconds
    else:
        moment = http_date(value)
        if moment is None:
            return None
        wait = moment.timestamp() - _epoch(headers, now)
    return min(wait, A_DAY) if wait >= 0 else None


def _epoch(headers: Mapping[str, str], now: datetime) -> float:
    return (http_date(headers.get("date", "")) or now).timestamp()


def http_date(value: str) -> datetime | None:
    """An HTTP-date, None for anything else."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def server_time(headers: Mapping[str, str]) -> str | None:
    """The Date of an answer as a FHIR instant."""
    moment = http_date(headers.get("date", ""))
    return moment.astimezone(UTC).isoformat() if moment else None
