"""What a server answered: the body in whole and within its limits, and what an answer that is none means.

httpx reads a gzip stream that is cut without a word, so bodies are read as they were sent and inflated here, to the end
marker of the stream (RFC 1952, 2.3.1: CRC32 and ISIZE).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx

from connectors.errors import (
    AuthenticationError,
    ForeignOriginError,
    ProtocolError,
    RefusedError,
    TlsError,
    TooLargeError,
)
from connectors.gzip_stream import DamagedGzipError, gunzip
from connectors.http.retry import TruncatedError

SMALL = 16 << 20  # what fits is no bomb, whatever its ratio
GZIP = b"\x1f\x8b"
LOGIN = (b"<!doctype", b"<html>")


@dataclass(frozen=True)
class Response:
    """A whole answer, decompressed."""

    status: int
    headers: httpx.Headers
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Downloaded:
    """A file that was downloaded whole as far as the protocol tells.

    size: bytes, decompressed. length_delimited: the protocol says where it ends (Content-Length, chunks, or the end
    marker of gzip); otherwise it ended with the connection, and whether that is its end only the content can tell.
    """

    size: int
    length_delimited: bool


class Body:
    """The decompressed pieces of one answer. `length_delimited` is known when they are read to the end."""

    def __init__(self, response: httpx.Response, what: str, limit: int, ratio: int, *, sniff: bool = False) -> None:
        self._response = response
        self._what = what
        self._limit = limit
        self._ratio = ratio
        self._sniff = sniff
        self._sent = 0
        self.size = 0
        headers = response.headers
        self.length_delimited = (
            "content-length" in headers
            or "chunked" in headers.get("transfer-encoding", "").lower()
            or response.http_version == "HTTP/2"
        )

    def __iter__(self) -> Iterator[bytes]:
        """TruncatedError where it ends too early, TooLargeError over a limit, ProtocolError for an unknown encoding."""
        for piece in self._decoded(self._raw()):
            self.size += len(piece)
            self._check()
            yield piece

    def _raw(self) -> Iterator[bytes]:
        for piece in self._response.iter_raw():
            self._sent += len(piece)
            yield piece

    def _decoded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        encoding = self._response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", ""):
            raise ProtocolError(f"{self._what}: the answer is compressed in a way nobody asked for: turn it off there")
        first = next(pieces, b"")
        while 0 < len(first) < len(GZIP) and (more := next(pieces, b"")):
            first += more
        zipped = encoding in ("gzip", "x-gzip") or (self._sniff and first.startswith(GZIP))
        if not zipped or not first:
            yield from _chain(first, pieces)
            return
        self.length_delimited = True
        try:
            yield from gunzip(_chain(first, pieces))
        except DamagedGzipError as error:
            raise TruncatedError from error

    def _check(self) -> None:
        if self.size > self._limit:
            raise TooLargeError(
                f"{self._what}: an answer is over the limit of {self._limit} bytes: use a smaller page size"
            )
        if self.size > SMALL and self.size > self._sent * self._ratio:
            raise TooLargeError(
                f"{self._what}: an answer swells to more than {self._ratio} times what was sent, like a gzip bomb: "
                "report it to the server's administrator"
            )


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def fhir_body(answer: Response, what: str, server: str) -> bytes:
    """The body of an answer in JSON. AuthenticationError for a web page, ProtocolError for XML."""
    refuse_web_page(answer.headers, answer.body, what, server)
    if "xml" in answer.headers.get("content-type", "").lower():
        raise ProtocolError(f"{what}: {server} answered in XML: periop needs a server that speaks JSON")
    return answer.body


def refuse_web_page(headers: httpx.Headers, beginning: bytes, what: str, server: str) -> None:
    """AuthenticationError where the answer is HTML: a login page with status 200."""
    if "html" in headers.get("content-type", "").lower() or beginning.lstrip()[:9].lower().startswith(LOGIN):
        raise AuthenticationError(
            f"{what}: {server} answered with a web page, probably its login: check `url` and `auth`"
        )


def refused(status: int, what: str, server: str) -> Exception:
    """The error that a status other than the expected ones stands for."""
    if status == 401:
        return AuthenticationError(f"{what}: {server} does not accept the credentials (401): check `auth` of the site")
    if 300 <= status < 400:
        return ForeignOriginError(
            f"{what}: {server} redirects ({status}), which is refused: set `url` to the final address"
        )
    if 200 <= status < 300:
        return ProtocolError(f"{what}: {server} answered {status} instead of 200: not a FHIR search")
    advice = "ask for the right to read it" if status == 403 else "see what the server supports"
    return RefusedError(f"{what}: {server} refused the query ({status}): {advice}", status)


def tls_error(error: BaseException, what: str, server: str) -> TlsError | None:
    """What to do about a failure of TLS that will not pass, None for every other error.

    An end of the stream in mid-air is none of them: the next attempt may be luckier.
    """
    cause = _tls_cause(error)
    if cause is None or isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError)):
        return None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TlsError(
            f"{what}: the certificate of {server} is not trusted ({cause.verify_message}): "
            "give the authority that signed it as `ca_file`, or correct the host name in `url`"
        )
    reason = (cause.reason or "handshake failed").replace("_", " ").lower()
    if "wrong version number" in reason or "http request" in reason:
        advice = "it does not speak TLS there: correct scheme and port of `url`"
    elif "alert" in reason or "handshake" in reason:
        advice = "it may ask for a client certificate: set `client_cert_file`"
    else:
        advice = "compare the TLS settings of the server with `ca_file`, `client_cert_file`"
    return TlsError(f"{what}: no encrypted connection to {server} ({reason}): {advice}")


def _tls_cause(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None
