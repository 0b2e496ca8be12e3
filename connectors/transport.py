"""GET from one FHIR server:

Retries, Retry-After, deadlines, size limit, no redirects, credentials to one origin only.

Time and chance are arguments (`Timing`), and so is the wire (an httpx transport), so tests wait for
nothing.
"""

from __future__ import annotations

import logging
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self, TypeVar

import httpx

from connectors.auth import Authenticator
from connectors.errors import (
    AuthenticationError,
    DeferredError,
    ForeignOriginError,
    ProtocolError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from connectors.origin import checked_base, origin, shown

for _name in ("httpx", "httpcore"):  # their lines hold URLs (ids of patients) and headers (credentials)
    logging.getLogger(_name).setLevel(logging.WARNING)

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
A_DAY = 86_400.0
EPOCH_SECONDS = 1_000_000_000  # a Retry-After beyond this is a point in time, not a duration of 31 years
Parsed = TypeVar("Parsed")


class CutError(ValueError):
    """The body ended before its end: worth fetching again."""


class _RetryError(Exception):
    """This attempt failed in a way that may pass. `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Timing:
    """The clocks, the sleep and the chance of a transport. Seconds; `chance` is uniform in [0, 1)."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


@dataclass(frozen=True)
class TransferLimits:
    """Times in seconds, sizes in bytes (decompressed).

    attempts: requests for one page. connect, read: of the socket. request: one answer in whole. run: all
    requests of one sync. response: one answer. backoff, backoff_cap: first and longest wait of the
    exponential backoff.
    """

    attempts: int = 6
    connect: float = 10.0
    read: float = 120.0
    request: float = 900.0
    run: float = 6 * 3600.0
    response: int = 256 << 20
    backoff: float = 1.0
    backoff_cap: float = 60.0


@dataclass(frozen=True)
class Answer:
    """A whole answer, decompressed."""

    status: int
    headers: httpx.Headers
    body: bytes = field(repr=False)


class Transport:
    """One server during one sync. Use as a context manager."""

    def __init__(
        self,
        base: str,
        authenticator: Authenticator,
        limits: TransferLimits = TransferLimits(),
        timing: Timing = Timing(),
        wire: httpx.BaseTransport | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self.base = checked_base(base)
        self.server_time: str | None = None
        self._authenticator = authenticator
        self._limits = limits
        self._timing = timing
        self._end = timing.monotonic() + limits.run
        self._client = httpx.Client(
            transport=wire,
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(limits.read, connect=limits.connect),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(
        self, url: str, what: str, parse: Callable[[bytes], Parsed], headers: Mapping[str, str] | None = None
    ) -> Parsed:
        """Fetch one page and parse it;

        `parse` raises CutError for a body that is not whole, which is fetched again.

        `what` names the page in messages (the URL may hold ids). Raises AuthenticationError,
        ForeignOriginError, RefusedError, TooLargeError, ProtocolError, or UnavailableError after all
        attempts.
        """
        failure = _RetryError("no answer")
        for attempt in range(self._limits.attempts):
            if attempt:
                self._pause(attempt - 1, failure.wait, what)
            try:
                return self._attempt(url, what, parse, headers or {})
            except _RetryError as retry:
                failure = retry
        raise UnavailableError(
            f"{what}: {shown(self.base)} gave {failure} in {self._limits.attempts} attempts: the next run tries again"
        )

    def _attempt(self, url: str, what: str, parse: Callable[[bytes], Parsed], headers: Mapping[str, str]) -> Parsed:
        try:
            answer = self._send(url, what, headers)
            if answer.status == 401 and self._authenticator.renew():
                answer = self._send(url, what, headers)
            if answer.status in RETRIED:
                raise _RetryError(f"status {answer.status}", retry_after(answer.headers, self._timing.now()))
            if answer.status != 200:
                raise self._refused(answer, what)
            return parse(self._fhir_body(answer, what))
        except CutError as error:
            raise _RetryError("a body that is cut off") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _RetryError(type(error).__name__) from error
        except httpx.InvalidURL as error:
            raise ProtocolError(f"{what}: {shown(self.base)} gave a link that is not a URL") from error

    def _send(self, url: str, what: str, headers: Mapping[str, str]) -> Answer:
        if origin(url) != origin(self.base):
            raise ForeignOriginError(f"{what}: a request to {shown(url)} was refused, the site is {shown(self.base)}")
        own = {
            "Accept": "application/fhir+json",
            "Accept-Encoding": "gzip",
            "User-Agent": "periop",
            **headers,
            **self._authenticator.headers(),
        }
        with self._client.stream("GET", url, headers=own) as response:
            body = self._read(response, what)
        self.server_time = self.server_time or server_time(response.headers)
        return Answer(response.status_code, response.headers, body)

    def _read(self, response: httpx.Response, what: str) -> bytes:
        pieces, size, end = [], 0, min(self._end, self._timing.monotonic() + self._limits.request)
        for piece in response.iter_bytes(1 << 18):
            pieces.append(piece)
            size += len(piece)
            if size > self._limits.response:
                raise TooLargeError(
                    f"{what}: an answer is over the limit of {self._limits.response} bytes: use a smaller page size"
                )
            if self._timing.monotonic() > end:
                raise httpx.ReadTimeout("the answer takes too long")
        return b"".join(pieces)

    def _fhir_body(self, answer: Answer, what: str) -> bytes:
        kind = answer.headers.get("content-type", "").lower()
        if "html" in kind or answer.body.lstrip()[:9].lower() in (b"<!doctype", b"<html>"):
            raise AuthenticationError(
                f"{what}: {shown(self.base)} answered with a web page, probably its login: check `url` and `auth`"
            )
        if "xml" in kind:
            raise ProtocolError(f"{what}: {shown(self.base)} answered in XML: periop needs a server that speaks JSON")
        return answer.body

    def _refused(self, answer: Answer, what: str) -> Exception:
        status = answer.status
        if status == 401:
            return AuthenticationError(
                f"{what}: {shown(self.base)} does not accept the credentials (401): check `auth` of the site"
            )
        if 300 <= status < 400:
            return ForeignOriginError(
                f"{what}: {shown(self.base)} redirects ({status}), which is refused: set `url` to the final address"
            )
        if 200 <= status < 300:
            return ProtocolError(f"{what}: {shown(self.base)} answered {status} instead of 200: not a FHIR search")
        advice = "ask for the right to read it" if status == 403 else "see what the server supports"
        return RefusedError(f"{what}: {shown(self.base)} refused the query ({status}): {advice}", status)

    def _pause(self, attempt: int, wait: float | None, what: str) -> None:
        ceiling = min(self._limits.backoff_cap, self._limits.backoff * 2.0**attempt)
        pause = max(wait or 0.0, ceiling * (0.5 + self._timing.chance() / 2))
        if self._timing.monotonic() + pause > self._end:
            raise DeferredError(
                f"{what}: {shown(self.base)} asks to wait {pause:.0f} s, beyond the deadline of this run: "
                "the next run tries again"
            )
        self._timing.sleep(pause)


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
