"""Requests to one FHIR server: retries, deadlines, size limits, no redirects, credentials to one origin only.

Time and randomness are arguments (`Clock`), and so are the httpx transport and the resolver of names, so tests wait
for nothing. One `FhirClient` serves several threads at once.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import IO, Self, TypeVar

import httpx

from connectors.errors import ForeignOriginError, ProtocolError, SpoolError, UnavailableError
from connectors.http.authenticators import Authenticator
from connectors.http.origin import check_base_url, redact_url
from connectors.http.origin_policy import OriginPolicy, Resolve, Target, resolve_by_system
from connectors.http.response import Body, Downloaded, Response, fhir_body, refuse_web_page, refused, tls_error
from connectors.http.retry import (
    RETRIED,
    Clock,
    RetryError,
    Retrying,
    TransferLimits,
    TruncatedError,
    http_date,
    retry_after,
    server_time,
    utc_now,
)

__all__ = [
    "Clock",
    "Downloaded",
    "FhirClient",
    "Response",
    "TransferLimits",
    "TruncatedError",
    "http_date",
    "retry_after",
    "server_time",
    "utc_now",
]

for _name in ("httpx", "httpcore"):  # their lines hold URLs (ids of patients) and headers (credentials)
    logging.getLogger(_name).setLevel(logging.WARNING)

FHIR_JSON = "application/fhir+json"
NDJSON = "application/fhir+ndjson"
LIMITS = TransferLimits()
CLOCK = Clock()
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    what: str
    headers: Mapping[str, str]
    content: bytes | None = None
    credentials: bool = True
    elsewhere: bool = False  # an allowlisted origin will do


class FhirClient:
    """One server during one sync. Use as a context manager.

    allowed: further origins that files may be downloaded from, without credentials. resolve: looks their names up.
    verify_elsewhere: whom to trust there, a context without a client certificate, which is a credential too.
    """

    def __init__(
        self,
        base: str,
        authenticator: Authenticator,
        limits: TransferLimits = LIMITS,
        clock: Clock = CLOCK,
        http_transport: httpx.BaseTransport | None = None,
        verify: ssl.SSLContext | bool = True,
        allowed: Sequence[str] = (),
        resolve: Resolve = resolve_by_system,
        verify_elsewhere: ssl.SSLContext | bool = True,
    ) -> None:
        self.base = check_base_url(base)
        self.server_time: str | None = None
        self._server = redact_url(self.base)
        self._authenticator = authenticator
        self._limits = limits
        self._clock = clock
        self._targets = OriginPolicy(self.base, allowed, resolve)
        self._retrying = Retrying(self._server, limits, clock)
        self._lock = Lock()
        self._closed = Event()
        self._http_transport = http_transport
        self._verify_elsewhere = verify_elsewhere
        self._client = self._connect(_trusted(verify, self.base))
        self._client_elsewhere: httpx.Client | None = None

    def _connect(self, verify: ssl.SSLContext | bool) -> httpx.Client:
        return httpx.Client(
            transport=self._http_transport,
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self._limits.read, connect=self._limits.connect),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._client.close()
        if self._client_elsewhere is not None:
            self._client_elsewhere.close()

    def get_parsed(
        self, url: str, what: str, parse: Callable[[bytes], Parsed], headers: Mapping[str, str] | None = None
    ) -> Parsed:
        """Fetch one page and parse it;

        `parse` raises TruncatedError for a body that is not whole, which is fetched again.

        `what` names the page in messages (the URL may hold ids). Raises AuthenticationError,
        ForeignOriginError, RefusedError, TooLargeError, ProtocolError, TlsError, or UnavailableError after all
        attempts.
        """

        def attempt(answer: Response) -> Parsed:
            return parse(fhir_body(answer, what, self._server))

        return self._ask(_Request("GET", url, what, headers or {}), (200,), attempt)

    def get(self, url: str, what: str, statuses: Sequence[int], headers: Mapping[str, str] | None = None) -> Response:
        """GET a response of one of these statuses. Raises as `get_parsed` does, RefusedError for other statuses."""
        return self._ask(_Request("GET", url, what, headers or {}), statuses, _itself)

    def post(
        self,
        url: str,
        what: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        statuses: Sequence[int] = (200, 201, 202),
    ) -> Response:
        """POST a body of JSON. Sent again after a failure, as `get_parsed` is, so it must be safe to repeat."""
        sent = {"Content-Type": FHIR_JSON, **(headers or {})}
        return self._ask(_Request("POST", url, what, sent, body), statuses, _itself)

    def delete(
        self,
        url: str,
        what: str,
        headers: Mapping[str, str] | None = None,
        statuses: Sequence[int] = (200, 202, 204, 404, 410),
    ) -> Response:
        """DELETE. What is already gone (404, 410) is an answer too, no error."""
        return self._ask(_Request("DELETE", url, what, headers or {}), statuses, _itself)

    def download(
        self,
        url: str,
        what: str,
        target: Path,
        headers: Mapping[str, str] | None = None,
        *,
        credentials: bool = True,
    ) -> Downloaded:
        """Stream one file to `target`, decompressed, readable by its owner only.

        First to `.<name>.part` beside it, then renamed: `target` is whole or not there. Not durable: what a power cut
        leaves of it nobody may read, so nothing waits for the disk. A failed download starts again from the first byte.
        Only the configured origin gets credentials, and only where `credentials`.
        Raises as `get_parsed` does, RefusedError(404 or 410) for an expired file, SpoolError where the disk is full.
        """
        request = _Request("GET", url, what, {"Accept": NDJSON, **(headers or {})}, None, credentials, True)
        return self._retrying.run(what, lambda: self._download(request, target))

    def require_time(self, seconds: float, what: str) -> None:
        """DeferredError where a wait of so long would be beyond the end of the run. Waits for nothing."""
        self._retrying.require_time(seconds, what)

    def _ask(self, request: _Request, statuses: Sequence[int], use: Callable[[Response], Parsed]) -> Parsed:
        def attempt() -> Parsed:
            with self._failures(request), self._opened(request) as response:
                self._check_status(response, request, statuses)
                return use(Response(response.status_code, response.headers, self._read(response, request)))

        return self._retrying.run(request.what, attempt)

    def _download(self, request: _Request, target: Path) -> Downloaded:
        part = target.with_name(f".{target.name}.part")
        with self._failures(request), self._opened(request) as response:
            self._check_status(response, request, (200,))
            try:
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                    downloaded = self._save(response, request, stream)
                part.replace(target)
            except OSError as error:
                raise SpoolError(
                    f"{request.what}: a file does not fit into {target.parent} ({error.strerror}): free disk space"
                ) from error
            finally:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
        return downloaded

    def _save(self, response: httpx.Response, request: _Request, stream: IO[bytes]) -> Downloaded:
        body = Body(response, request.what, self._limits.file, self._limits.ratio, sniff=True)
        for number, piece in enumerate(body):
            if not number:
                refuse_web_page(response.headers, piece, request.what, self._server)
            stream.write(piece)
            self._within(self._retrying.end)
        stream.flush()
        return Downloaded(body.size, body.length_delimited)

    @contextmanager
    def _failures(self, request: _Request) -> Iterator[None]:
        """What failed on the http_transport as RetryError if it may pass, else as what it means."""
        try:
            yield
        except TruncatedError as error:
            raise RetryError("a body that is cut off") from error
        except httpx.TransportError as error:
            permanent = tls_error(error, request.what, self._server)
            raise permanent or RetryError(type(error).__name__) from error
        except httpx.InvalidURL as error:
            raise ProtocolError(f"{request.what}: {self._server} gave a link that is not a URL") from error

    @contextmanager
    def _opened(self, request: _Request) -> Iterator[httpx.Response]:
        """The response, its body not yet read; after a 401, the one that new credentials get."""
        target = self._targets.check(request.url, request.what)
        if not (target.own or request.elsewhere):
            raise ForeignOriginError(
                f"{request.what}: a request to {redact_url(request.url)} was refused, the site is {self._server}"
            )
        credentials = self._credentials() if target.own and request.credentials else {}
        with self._stream(request, target, credentials) as response:
            if response.status_code != 401 or not credentials or not self._renewed(credentials):
                yield response
                return
        with self._stream(request, target, self._credentials()) as response:
            yield response

    @contextmanager
    def _stream(self, request: _Request, target: Target, credentials: Mapping[str, str]) -> Iterator[httpx.Response]:
        headers = {
            "Accept": FHIR_JSON,
            "Accept-Encoding": "gzip",
            "User-Agent": "periop",
            **request.headers,
            **target.headers,
            **credentials,
        }
        with self._client_for(target).stream(
            request.method, target.url, headers=headers, content=request.content, extensions=dict(target.extensions)
        ) as response:
            if target.own:
                self.server_time = self.server_time or server_time(response.headers)
            yield response

    def _client_for(self, target: Target) -> httpx.Client:
        if target.own:
            return self._client
        with self._lock:
            self._client_elsewhere = self._client_elsewhere or self._connect(self._verify_elsewhere)
            return self._client_elsewhere

    def _credentials(self) -> Mapping[str, str]:
        with self._lock:
            return dict(self._authenticator.headers())

    def _renewed(self, used: Mapping[str, str]) -> bool:
        """Whether there are other credentials than those that got a 401: of several threads, one renews them."""
        with self._lock:
            return dict(self._authenticator.headers()) != used or self._authenticator.renew()

    def _check_status(self, response: httpx.Response, request: _Request, statuses: Sequence[int]) -> None:
        status = response.status_code
        if status in statuses:
            return
        if status in RETRIED:
            raise RetryError(f"status {status}", retry_after(response.headers, self._clock.now()))
        raise refused(status, request.what, self._server)

    def _read(self, response: httpx.Response, request: _Request) -> bytes:
        end = min(self._retrying.end, self._clock.monotonic() + self._limits.request)
        pieces = []
        for piece in Body(response, request.what, self._limits.response, self._limits.ratio):
            pieces.append(piece)
            self._within(end)
        return b"".join(pieces)

    def _within(self, end: float) -> None:
        if self._closed.is_set():  # another thread ended this run
            raise UnavailableError(f"{self._server}: the run was stopped")
        if self._clock.monotonic() > end:
            raise httpx.ReadTimeout("the answer takes too long")


def _trusted(verify: ssl.SSLContext | bool, base: str) -> ssl.SSLContext | bool:
    """Whom to trust at `base`: nobody where it is reached without TLS, since reading all authorities takes longer than
    many a request. The client goes to this origin only, and would refuse a certificate."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if verify is True and base.startswith("http://") else verify


def _itself(answer: Response) -> Response:
    return answer
