"""HTTP requests to one FHIR server: retries, deadlines, size limits, no redirects, credentials to one origin only.

Clocks and random numbers (`Clock`), the httpx transport and the resolver of host names are arguments, so that tests
need no patching and never sleep. One `FhirClient` may be used by several threads at once.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import IO, Self, TypeVar

import httpx

from connectors.errors import ForeignOriginError, ProtocolError, SpoolError, UnavailableError
from connectors.http.authenticators import Authenticator
from connectors.http.origin import check_base_url, redact_url
from connectors.http.origin_policy import OriginPolicy, Resolve, Target, resolve_by_system
from connectors.http.response import (
    Body,
    Downloaded,
    Response,
    json_body,
    permanent_tls_error,
    refuse_web_page,
    status_error,
)
from connectors.http.retry import (
    RETRIED_STATUSES,
    Clock,
    RetryError,
    Retrying,
    TransferLimits,
    TruncatedError,
    retry_after,
    server_time,
)

for _name in ("httpx", "httpcore"):  # their log lines hold URLs (ids of patients) and headers (credentials)
    logging.getLogger(_name).setLevel(logging.WARNING)

FHIR_JSON = "application/fhir+json"
NDJSON = "application/fhir+ndjson"
LIMITS = TransferLimits()
CLOCK = Clock()
Result = TypeVar("Result")


def connect(
    http_transport: httpx.BaseTransport | None, verify: ssl.SSLContext | bool, limits: TransferLimits
) -> httpx.Client:
    """Return an httpx client that follows no redirect and reads no setting of the environment."""
    return httpx.Client(
        transport=http_transport,
        verify=verify,
        trust_env=False,  # neither a proxy nor credentials of a .netrc may come in unseen
        follow_redirects=False,  # a redirect would take the credentials, or a signed assertion, along
        timeout=httpx.Timeout(limits.read, connect=limits.connect),
    )


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    label: str
    headers: Mapping[str, str]
    content: bytes | None = None
    credentials: bool = True
    allow_other_origins: bool = False


@dataclass(eq=False, repr=False)
class FhirClient:
    """A client of one server for one sync. Use it as a context manager.

    Every method takes a `label`, which stands for the request in messages: the URL may hold ids of patients. All raise
    AuthenticationError, ForeignOriginError, RefusedError, TooLargeError, ProtocolError or TlsError, and
    UnavailableError after the last attempt.

    allowed_origins: further origins that files may be downloaded from, without credentials. resolve: looks up their
    addresses. verify_other_origins: the TLS settings for them, without the client certificate of the site, which is a
    credential too.
    """

    base: str
    authenticator: Authenticator
    limits: TransferLimits = LIMITS
    clock: Clock = CLOCK
    http_transport: httpx.BaseTransport | None = None
    verify: ssl.SSLContext | bool = True
    allowed_origins: Sequence[str] = ()
    resolve: Resolve = resolve_by_system
    verify_other_origins: ssl.SSLContext | bool = True
    server_time: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.base = check_base_url(self.base)
        self._server = redact_url(self.base)
        self._origin_policy = OriginPolicy(self.base, self.allowed_origins, self.resolve)
        self._retrying = Retrying(self._server, self.limits, self.clock)
        self._lock = Lock()
        self._closed = Event()
        if self.verify is True and self.base.startswith("http://"):
            # Loading all certificate authorities takes longer than many requests, and this httpx client never uses
            # TLS. An empty context trusts nobody, should that ever change.
            self.verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._own_http = connect(self.http_transport, self.verify, self.limits)
        self._other_http: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()  # first, so that other threads stop at their next piece instead of failing oddly
        self._own_http.close()
        if self._other_http is not None:
            self._other_http.close()

    def get_parsed(
        self, url: str, label: str, parse: Callable[[bytes], Result], headers: Mapping[str, str] | None = None
    ) -> Result:
        """Fetch a JSON document and return what `parse` makes of its bytes.

        Where `parse` raises TruncatedError, the document is fetched again.
        """
        request = _Request("GET", url, label, headers or {})
        return self._send(request, (200,), lambda response: parse(json_body(response, label, self._server)))

    def get(self, url: str, label: str, statuses: Sequence[int], headers: Mapping[str, str] | None = None) -> Response:
        """Return the response if it has one of these statuses, else raise RefusedError."""
        return self._send(_Request("GET", url, label, headers or {}), statuses, _unchanged)

    def post(
        self,
        url: str,
        label: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        statuses: Sequence[int] = (200, 201, 202),
    ) -> Response:
        """Send a JSON body. It is sent again after a failure, so it must be safe to repeat."""
        sent = {"Content-Type": FHIR_JSON, **(headers or {})}
        return self._send(_Request("POST", url, label, sent, body), statuses, _unchanged)

    def delete(
        self,
        url: str,
        label: str,
        headers: Mapping[str, str] | None = None,
        statuses: Sequence[int] = (200, 202, 204, 404, 410),
    ) -> Response:
        """Delete a resource. One that is already gone (404, 410) counts as deleted."""
        return self._send(_Request("DELETE", url, label, headers or {}), statuses, _unchanged)

    def download(
        self,
        url: str,
        label: str,
        target: Path,
        headers: Mapping[str, str] | None = None,
        *,
        credentials: bool = True,
    ) -> Downloaded:
        """Stream one file to `target`, decompressed, readable by its owner only.

        `target` is complete or does not exist. A failed download starts again from the first byte. Credentials go to
        the configured origin only, and not even there unless `credentials`.
        Raises RefusedError (404 or 410) for a file that has expired, SpoolError where the disk is full.
        """
        request = _Request("GET", url, label, {"Accept": NDJSON, **(headers or {})}, None, credentials, True)
        return self._retrying.run(label, lambda: self._download(request, target))

    def require_time(self, seconds: float, label: str) -> None:
        """Raise DeferredError where a wait of that length would end after the deadline of the run."""
        self._retrying.require_time(seconds, label)

    def _send(self, request: _Request, statuses: Sequence[int], use: Callable[[Response], Result]) -> Result:
        def attempt() -> Result:
            with self._sort_failures(request), self._authenticated(request) as response:
                # The status before the body: an error page is not worth reading, and may be large.
                self._check_status(response, statuses, request.label)
                # Within the attempt, because a body that does not parse may be one that was cut off.
                return use(Response(response.status_code, response.headers, self._read(response, request.label)))

        return self._retrying.run(request.label, attempt)

    def _download(self, request: _Request, target: Path) -> Downloaded:
        # Not `lake.files`: this package knows nothing of the lake, and these files are thrown away after they are
        # read, so waiting for the disk (fsync) would slow down every one of thousands for nothing.
        part = target.with_name(f".{target.name}.part")
        with self._sort_failures(request), self._authenticated(request) as response:
            self._check_status(response, (200,), request.label)
            try:
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                    downloaded = self._save(response, request.label, stream)
                part.replace(target)
            except OSError as error:
                raise SpoolError(
                    f"{request.label}: a file does not fit into {target.parent} ({error.strerror}): free disk space"
                ) from error
            finally:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
        return downloaded

    def _save(self, response: httpx.Response, label: str, stream: IO[bytes]) -> Downloaded:
        # Some servers send gzip files as application/gzip without Content-Encoding, hence `sniff`.
        body = Body(response, label, self.limits.file, self.limits.ratio, sniff=True)
        for number, piece in enumerate(body):
            if number == 0:  # before anything is written: an expired session gives a login page with status 200
                refuse_web_page(response.headers, piece, label, self._server)
            stream.write(piece)
            self._check_deadline(self._retrying.end)
        stream.flush()  # here, where a full disk is still an OSError of the download
        return Downloaded(body.size, body.length_delimited)

    @contextmanager
    def _sort_failures(self, request: _Request) -> Iterator[None]:
        """Turn a failure that may pass into RetryError, and one that will not into an error that says why."""
        try:
            yield
        except TruncatedError as error:
            raise RetryError("a response that is cut off") from error
        except httpx.TransportError as error:
            permanent = permanent_tls_error(error, request.label, self._server)
            raise permanent or RetryError(type(error).__name__) from error
        except httpx.InvalidURL as error:
            raise ProtocolError(f"{request.label}: {self._server} gave a link that is not a URL") from error

    @contextmanager
    def _authenticated(self, request: _Request) -> Iterator[httpx.Response]:
        """Give the response, its body not yet read. After a 401, renew the credentials and try once more."""
        target = self._origin_policy.check(request.url, request.label)
        # Other origins are for files alone. A search that leaves the server would be a link set by an attacker.
        if not (target.own_origin or request.allow_other_origins):
            raise ForeignOriginError(
                f"{request.label}: a request to {redact_url(request.url)} was refused, the site is {self._server}"
            )
        credentials = self._credentials() if target.own_origin and request.credentials else {}
        with self._stream(request, target, credentials) as response:
            if response.status_code != 401 or not credentials or not self._renew(credentials):
                yield response
                return
        # Once only: a server that refuses new credentials would refuse others too.
        with self._stream(request, target, self._credentials()) as response:
            yield response

    @contextmanager
    def _stream(self, request: _Request, target: Target, credentials: Mapping[str, str]) -> Iterator[httpx.Response]:
        headers = {
            "Accept": FHIR_JSON,
            "Accept-Encoding": "gzip",  # what `Body` can check to its end; httpx would also offer br and zstd
            "User-Agent": "periop",
            **request.headers,
            **target.headers,
            **credentials,  # last: nothing may replace them
        }
        with self._http_for(target).stream(
            request.method, target.url, headers=headers, content=request.content, extensions=dict(target.extensions)
        ) as response:
            if target.own_origin:
                # The first Date of the sync: what changes on the server from then on belongs to the next one.
                self.server_time = self.server_time or server_time(response.headers)
            yield response

    def _http_for(self, target: Target) -> httpx.Client:
        if target.own_origin:
            return self._own_http
        with self._lock:
            self._other_http = self._other_http or connect(self.http_transport, self.verify_other_origins, self.limits)
            return self._other_http

    def _credentials(self) -> Mapping[str, str]:
        with self._lock:
            return dict(self.authenticator.headers())

    def _renew(self, refused: Mapping[str, str]) -> bool:
        """Return whether there are credentials other than those refused. Of several threads, only one renews them."""
        with self._lock:
            # Other headers than those refused mean that another thread renewed them in the meantime.
            return dict(self.authenticator.headers()) != refused or self.authenticator.renew()

    def _check_status(self, response: httpx.Response, statuses: Sequence[int], label: str) -> None:
        status = response.status_code
        if status in statuses:
            return
        if status in RETRIED_STATUSES:
            raise RetryError(f"status {status}", retry_after(response.headers, self.clock.now()))
        raise status_error(status, label, self._server)

    def _read(self, response: httpx.Response, label: str) -> bytes:
        end = min(self._retrying.end, self.clock.monotonic() + self.limits.request)
        pieces = []
        for piece in Body(response, label, self.limits.response, self.limits.ratio):
            pieces.append(piece)
            self._check_deadline(end)  # httpx times out between two pieces only: a slow drip would last for ever
        return b"".join(pieces)

    def _check_deadline(self, end: float) -> None:
        if self._closed.is_set():  # another thread ended this run
            raise UnavailableError(f"{self._server}: the run was stopped")
        if self.clock.monotonic() > end:
            raise httpx.ReadTimeout("the response takes too long")


def _unchanged(response: Response) -> Response:
    return response
