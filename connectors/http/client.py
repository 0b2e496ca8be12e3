"""HTTP requests to one FHIR server: retries, deadlines, size limits, credentials to one origin only.

No redirect is followed but that of a file to another allowed origin (Oracle Health answers 307 for its files).

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
from urllib.parse import urljoin

import httpx

from connectors.errors import ForeignOriginError, ProtocolError, SpoolError, TooLargeError, UnavailableError
from connectors.fhir.outcome import outcome_text
from connectors.http.authenticators import Authenticator
from connectors.http.connection_errors import (
    ATTEMPTS_AT_FIRST,
    closed_by_server,
    described,
    is_refused,
    permanent_connection_error,
    speaks_tls,
    tls_needed,
)
from connectors.http.origin import check_base_url, origin, redact_url
from connectors.http.origin_policy import OriginPolicy, Resolve, Target, resolve_by_system
from connectors.http.request import HttpRequest, search_request
from connectors.http.request_log import describe, log_headers, log_request
from connectors.http.response import (
    Body,
    Downloaded,
    Response,
    json_body,
    permanent_tls_error,
    refuse_web_page,
    status_error,
    storage_error,
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
from connectors.http.server_words import quoted

for _name in ("httpx", "httpcore"):  # their log lines hold URLs (ids of patients) and headers (credentials)
    logging.getLogger(_name).setLevel(logging.WARNING)

FHIR_JSON = "application/fhir+json"
MAX_OUTCOME = 1 << 16  # bytes
OUTCOME_SECONDS = 10.0  # for reading one: a busy server may send its excuse in drops
REDIRECTS = (302, 303, 307, 308)
NDJSON = "application/fhir+ndjson"
LIMITS = TransferLimits()
CLOCK = Clock()
Result = TypeVar("Result")


def connect(
    http_transport: httpx.BaseTransport | None, verify: ssl.SSLContext | bool, limits: TransferLimits
) -> httpx.Client:
    """Return an httpx client that follows no redirect, takes the proxy of `limits`, and reads no environment."""
    return httpx.Client(
        transport=http_transport,
        proxy=limits.proxy if http_transport is None else None,
        verify=verify,
        trust_env=False,  # neither a proxy nor credentials of a .netrc may come in unseen
        follow_redirects=False,  # a redirect would take the credentials, or a signed assertion, along
        timeout=httpx.Timeout(limits.read, connect=limits.connect),
    )


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
    _speaks_tls: bool | None = field(default=None, init=False)

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
        self,
        url: str,
        label: str,
        parse: Callable[[bytes], Result],
        headers: Mapping[str, str] | None = None,
        partial: Callable[[], None] | None = None,
        form: str = "",
    ) -> Result:
        """Fetch a JSON document and return what `parse` makes of its bytes.

        Where `parse` raises TruncatedError, the document is fetched again. partial: called where the server says that
        it gives only a part (206); without it that is an error. form: parameters of a search by POST (FHIR R4, 3.1.1),
        percent-encoded.
        """

        def use(response: Response) -> Result:
            if response.status == 206 and partial is not None:
                partial()
            return parse(json_body(response, label, self._server))

        statuses = (200,) if partial is None else (200, 206)
        return self._send(search_request(url, label, headers, form), statuses, use)

    def get(
        self,
        url: str,
        label: str,
        statuses: Sequence[int],
        headers: Mapping[str, str] | None = None,
        form: str = "",
    ) -> Response:
        """Return the response if it has one of these statuses, else raise RefusedError. form: as in `get_parsed`."""
        return self._send(search_request(url, label, headers, form), statuses, _unchanged)

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
        return self._send(HttpRequest("POST", url, label, sent, body), statuses, _unchanged)

    def put(
        self,
        url: str,
        label: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        statuses: Sequence[int] = (200, 201),
    ) -> Response:
        """Put a resource (FHIR R4, 3.1.0.4) as JSON under its URL."""
        sent = {"Content-Type": FHIR_JSON, **(headers or {})}
        return self._send(HttpRequest("PUT", url, label, sent, body), statuses, _unchanged)

    def delete(
        self,
        url: str,
        label: str,
        headers: Mapping[str, str] | None = None,
        statuses: Sequence[int] = (200, 202, 204, 404, 410),
    ) -> Response:
        """Delete a resource. One that is already gone (404, 410) counts as deleted."""
        return self._send(HttpRequest("DELETE", url, label, headers or {}), statuses, _unchanged)

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
        request = HttpRequest("GET", url, label, {"Accept": NDJSON, **(headers or {})}, None, credentials, True)
        return self._retrying.run(label, lambda: self._download(request, target))

    def try_file(self, url: str, label: str, *, credentials: bool = True) -> None:
        """Ask for a file as `download` does, and leave its content unread. Raises what `download` raises."""
        request = HttpRequest("GET", url, label, {"Accept": NDJSON}, None, credentials, True)

        def attempt() -> None:
            with self._sort_failures(request), self._redirected(request) as response:
                self._check_status(response, (200,), request)

        self._retrying.run(label, attempt)

    def require_time(self, seconds: float, label: str) -> None:
        """Raise DeferredError where a wait of that length would end after the deadline of the run."""
        self._retrying.require_time(seconds, label)

    def _send(self, request: HttpRequest, statuses: Sequence[int], use: Callable[[Response], Result]) -> Result:
        def attempt() -> Result:
            with self._sort_failures(request), self._authenticated(request) as response:
                # The status before the body: an error page is not worth reading, and may be large.
                self._check_status(response, statuses, request)
                # Within the attempt, because a body that does not parse may be one that was cut off.
                return use(Response(response.status_code, response.headers, self._read(response, request.label)))

        return self._retrying.run(request.label, attempt)

    def _download(self, request: HttpRequest, target: Path) -> Downloaded:
        # Not `lake.files`: this package knows nothing of the lake, and these files are thrown away after they are
        # read, so waiting for the disk (fsync) would slow down every one of thousands for nothing.
        part = target.with_name(f".{target.name}.part")
        with self._sort_failures(request), self._redirected(request) as response:
            self._check_status(response, (200,), request)
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
    def _sort_failures(self, request: HttpRequest) -> Iterator[None]:
        """Turn a failure that may pass into RetryError, and one that will not into an error that says why."""
        try:
            yield
        except TruncatedError as error:
            raise RetryError("gave a response that is cut off") from error
        except httpx.TransportError as error:
            permanent = permanent_tls_error(error, request.label, self._server) or permanent_connection_error(
                error, request.label, self._server
            )
            # At once, because no other attempt goes better, and only before an answer: it is a connection more.
            if permanent is None and self.server_time is None and closed_by_server(error) and self._needs_tls():
                permanent = tls_needed(request.label, self._server)
            # Nothing of this server was heard yet.
            few = ATTEMPTS_AT_FIRST if is_refused(error) and self.server_time is None else None
            raise permanent or RetryError(described(error), attempts=few) from error
        except httpx.InvalidURL as error:
            raise ProtocolError(f"{request.label}: {self._server} gave a link that is not a URL") from error

    @contextmanager
    def _authenticated(self, request: HttpRequest) -> Iterator[httpx.Response]:
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
    def _redirected(self, request: HttpRequest) -> Iterator[httpx.Response]:
        """Give the response of a file; of another allowed origin where the server redirects there, once."""
        with self._authenticated(request) as response:
            if response.status_code not in REDIRECTS or "location" not in response.headers:
                yield response
                return
            label = f"{request.label}: {self._server} redirects ({response.status_code})"
            try:
                location = urljoin(request.url, response.headers["location"])
            except ValueError as error:
                raise ForeignOriginError(f"{label} to what is not a URL: report it to its administrator") from error
        target = self._origin_policy.check(location, label)
        # To its own origin a server redirects for a login, or because `url` is not its final address.
        if target.own_origin:
            raise status_error(response.status_code, request.label, self._server)
        with self._stream(request, target, {}) as response:
            yield response

    @contextmanager
    def _stream(self, request: HttpRequest, target: Target, credentials: Mapping[str, str]) -> Iterator[httpx.Response]:
        headers = httpx.Headers({"Accept": FHIR_JSON, "User-Agent": "periop"})
        # One after the other, because names of headers are equal in any case.
        for each in (
            request.headers,
            target.headers,
            credentials,  # nothing may replace them
            {"Accept-Encoding": "gzip"},  # what `Body` can check to its end; httpx would also offer br and zstd
        ):
            headers.update(each)
        what, began, result, size = describe(request.asked, self.base), self.clock.monotonic(), "no answer", 0
        log_headers(f"{request.method} {what} sends", headers)
        try:
            with self._http_for(target).stream(
                request.method, target.url, headers=headers, content=request.content, extensions=dict(target.extensions)
            ) as response:
                result = str(response.status_code)
                log_headers(f"{request.method} {what} receives", response.headers)
                if target.own_origin:
                    # The first Date of the sync: what changes on the server from then on belongs to the next one.
                    self.server_time = self.server_time or server_time(response.headers)
                yield response
                size = response.num_bytes_downloaded
        except httpx.TransportError as error:
            result += f" ({type(error).__name__})"
            raise
        finally:
            log_request(request.method, what, result, self.clock.monotonic() - began, size)

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

    def _check_status(self, response: httpx.Response, statuses: Sequence[int], request: HttpRequest) -> None:
        status = response.status_code
        if status in statuses:
            return
        if status in RETRIED_STATUSES:
            # Its own words too: "one export a day" is no overload, and no number of attempts helps.
            said = quoted(self._outcome(response, request.label), request.asked)
            raise RetryError(f"gave status {status}", retry_after(response.headers, self.clock.now()), said)
        asked = response.request.url
        if origin(str(asked)) != origin(self.base):  # a file; its host is pinned to an address, and the header names it
            storage = redact_url(f"{asked.scheme}://{response.request.headers['Host']}")
            raise storage_error(status, request.label, storage)
        if status == 400 and self._needs_tls():
            raise tls_needed(request.label, self._server)
        words = self._outcome(response, request.label)
        raise status_error(status, request.label, self._server, words, request.asked)

    def _needs_tls(self) -> bool:
        """Return True if the site is given with http and its port speaks TLS. It is looked at once in a sync."""
        if self._speaks_tls is None:
            direct = self.limits.proxy is None and self.http_transport is None
            self._speaks_tls = direct and self._server.startswith("http:") and speaks_tls(self._server)
        return self._speaks_tls

    def _outcome(self, response: httpx.Response, label: str) -> str | None:
        """Return the words of an OperationOutcome that comes with a refusal; None if it cannot be read."""
        if not response.is_error or "json" not in response.headers.get("content-type", ""):
            return None
        pieces, end = [], min(self._retrying.end, self.clock.monotonic() + OUTCOME_SECONDS)
        # What goes wrong with the explanation changes nothing: the refusal itself is what is raised.
        with suppress(httpx.TransportError, TruncatedError, TooLargeError, ProtocolError):
            for piece in Body(response, label, MAX_OUTCOME, self.limits.ratio):
                pieces.append(piece)
                self._check_deadline(end)
            return outcome_text(b"".join(pieces))
        return None

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
