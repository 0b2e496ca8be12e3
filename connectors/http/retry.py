"""Retries: attempts, the waits between them (Retry-After, or backoff with jitter), and the deadline of the run."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx

from connectors.errors import DeferredError, UnavailableError

# What may pass: timeouts, too many requests, and failures of the server or of a gateway before it. 500 too, because
# servers answer it when a database connection is lost; 501 and 505 will be the same next time.
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
DAY = 86_400.0  # seconds
EPOCH_SECONDS = 1_000_000_000  # a Retry-After above this is a point in time, not a duration of 31 years
EPOCH_MILLISECONDS = 1_000_000_000_000  # above this one in milliseconds, not one in 31,000 years
T = TypeVar("T")


class TruncatedError(ValueError):
    """A response or a file that ends before its end: worth fetching again."""


class RetryError(Exception):
    """An attempt that failed in a way that may pass; the reason goes on from the name of the server.

    wait: seconds that the server asks for. words: the end of a message with what it says (`server_words.quoted`).
    attempts: after how many it is left, if earlier than others.
    """

    def __init__(self, reason: str, wait: float | None = None, words: str = "", *, attempts: int | None = None) -> None:
        super().__init__(reason)
        self.wait = wait
        self.words = words
        self.attempts = attempts


def utc_now() -> datetime:
    """Return the time of the wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """The clocks, the sleep and the random numbers of a client. Times in seconds; `random` is uniform in [0, 1)."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


@dataclass(frozen=True)
class TransferLimits:
    """Limits of one sync, and the way to its server. Times in seconds, sizes in bytes (decompressed).

    attempts: requests for one page or file. connect, read: of the socket. request: one complete page. run: all
    requests of one sync. response: one page. file: one downloaded file. ratio: how many times larger than what was
    sent a decompressed body may be. backoff, backoff_cap: first and longest wait of the exponential backoff.
    proxy: the proxy that all connections go through, None for none.
    """

    attempts: int = 6
    connect: float = 10.0
    read: float = 120.0  # between two pieces; a server may search for a while before the first one
    request: float = 900.0
    run: float = 6 * 3600.0
    response: int = 256 << 20
    file: int = 64 << 30
    ratio: int = 200  # FHIR in NDJSON compresses 15 to 50 times, a gzip bomb about 1,000 times
    backoff: float = 1.0
    backoff_cap: float = 60.0
    proxy: httpx.Proxy | None = field(default=None, repr=False)  # may hold a password


class Retrying:
    """The attempts of one run against one server, which messages call `server`. May be used by several threads."""

    def __init__(self, server: str, limits: TransferLimits, clock: Clock) -> None:
        self._server = server
        self._limits = limits
        self._clock = clock
        # By the monotonic clock: the wall clock may be set while a run lasts for hours.
        self.end = clock.monotonic() + limits.run

    def run(self, label: str, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns, calling it again after each RetryError.

        Raises UnavailableError after the last attempt, DeferredError where the next would come after the deadline.
        """
        failure, number = RetryError("gave no answer"), 0
        for number in range(1, self._limits.attempts + 1):
            if number > 1:
                # Half of the wait is random, so that the threads of one run do not all come back at once.
                ceiling = min(self._limits.backoff_cap, self._limits.backoff * 2.0 ** (number - 2))
                wait = max(failure.wait or 0.0, ceiling * (0.5 + self._clock.random() / 2))
                # Rather than sleep into a deadline that makes the wait useless.
                self.require_time(wait, label, failure.words)
                self._clock.sleep(wait)
            try:
                return attempt()
            except RetryError as retry:
                failure = retry
                if number >= (retry.attempts or self._limits.attempts):
                    break
        raise UnavailableError(
            f"{label}: {self._server} {failure} in {number} attempts: the next run tries again{failure.words}"
        )

    def require_time(self, seconds: float, label: str, words: str = "") -> None:
        """Raise DeferredError where a wait of that length would end after the deadline of the run."""
        if self._clock.monotonic() + seconds > self.end:
            raise DeferredError(
                f"{label}: {self._server} asks to wait {seconds:.0f} s, beyond the deadline of this run: "
                f"the next run tries again{words}"
            )


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that the header Retry-After asks to wait (RFC 9110, 10.2.3), at most a day.

    Returns None if the header is missing, unusable or in the past. A date is compared with the Date of the same
    response (the server's clock), else with `now`.

    >>> retry_after({"retry-after": "120"}, utc_now())
    120.0
    """
    value = headers.get("retry-after", "").strip()
    # The server's clock, because a date that it computes is wrong by as much as its clock is.
    server_now = (http_date(headers.get("date", "")) or now).timestamp()
    if re.fullmatch(r"\d{1,15}(\.\d+)?", value):
        wait = float(value)
        if wait > EPOCH_SECONDS:  # some servers send an absolute epoch where seconds are meant
            wait = wait / (1000 if wait > EPOCH_MILLISECONDS else 1) - server_now
    else:
        moment = http_date(value)
        if moment is None:
            return None
        wait = moment.timestamp() - server_now
    return min(wait, DAY) if wait >= 0 else None  # a point in the past: the usual backoff is better than no wait


def http_date(value: str) -> datetime | None:
    """Parse an HTTP-date (RFC 9110, 5.6.7). Returns None for anything else."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):  # each is raised by some malformed date
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000" gives no time zone


def server_time(headers: Mapping[str, str]) -> str | None:
    """Return the Date of a response as a FHIR instant, None without one."""
    moment = http_date(headers.get("date", ""))
    return moment.astimezone(UTC).isoformat() if moment else None
