"""Responses: complete bodies within their size limits, and the error that an unusable response stands for.

httpx accepts a gzip stream that is cut off without complaint, so bodies are read as they were sent and decompressed
here, up to the end marker of the stream (RFC 1952, 2.3.1: CRC32 and ISIZE).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import httpx

from connectors.errors import (
    AuthenticationError,
    FileStorageError,
    ForeignOriginError,
    ProtocolError,
    RefusedError,
    TlsError,
    TooLargeError,
)
from connectors.http.gunzip import gunzip
from connectors.http.server_words import quoted

SMALL = 16 << 20  # bytes; a body of at most this size is no gzip bomb, whatever its ratio
GZIP_MAGIC = b"\x1f\x8b"
CLOSED = (401, 403, 404, 409, 410)  # what a storage answers for files that it does not give; Azure has 404 and 409
HTML_STARTS = (b"<!doctype", b"<html>")


@dataclass(frozen=True)
class Response:
    """A complete response, its body decompressed."""

    status: int
    headers: httpx.Headers
    body: bytes = field(repr=False)  # holds data of patients


@dataclass(frozen=True)
class Downloaded:
    """A file that was downloaded completely, as far as the protocol tells.

    size: bytes, decompressed. length_delimited: the protocol says where the file ends (Content-Length, chunks, or the
    end marker of gzip). Otherwise it ended with the connection, and only the content can tell if that is its end.
    """

    size: int
    length_delimited: bool


class Body:
    """The decompressed pieces of one response body.

    limit: bytes, decompressed. ratio: how many times larger than what was sent the body may be. sniff: recognise gzip
    by its first bytes too. `size` and `length_delimited` are final once the pieces are read to the end.
    """

    def __init__(self, response: httpx.Response, label: str, limit: int, ratio: int, *, sniff: bool = False) -> None:
        self._response = response
        self._label = label
        self._limit = limit
        self._ratio = ratio
        self._sniff = sniff
        self._sent = 0
        self.size = 0
        headers = response.headers
        self.length_delimited = (
            "content-length" in headers
            or "chunked" in headers.get("transfer-encoding", "").lower()
            or response.http_version == "HTTP/2"  # its frames carry an end mark
        )

    def __iter__(self) -> Iterator[bytes]:
        """Read the body.

        Raises TruncatedError where it ends too early, TooLargeError over a limit, ProtocolError for another encoding.
        """
        for piece in self._decoded():
            self.size += len(piece)
            # Checked piece by piece, so that neither memory nor disk ever holds more than the limit.
            if self.size > self._limit:
                raise TooLargeError(
                    f"{self._label}: the response is over the limit of {self._limit} bytes: use a smaller page size"
                )
            if self.size > SMALL and self.size > self._sent * self._ratio:
                raise TooLargeError(
                    f"{self._label}: the response grows to more than {self._ratio} times what was sent, "
                    "like a gzip bomb: report it to the server's administrator"
                )
            yield piece

    def _decoded(self) -> Iterator[bytes]:
        encoding = self._response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", ""):
            raise ProtocolError(
                f"{self._label}: the response is compressed in a way that was not asked for ({encoding[:20]!r}): "
                "turn that off on the server"
            )
        pieces = self._raw()
        start = next(pieces, b"")
        # The first piece may be a single byte, which is too short to recognise.
        while 0 < len(start) < len(GZIP_MAGIC) and (more := next(pieces, b"")):
            start += more
        compressed = encoding in ("gzip", "x-gzip") or (self._sniff and start.startswith(GZIP_MAGIC))
        # An empty body may carry `Content-Encoding: gzip`: it is not a truncated stream.
        if compressed and start:
            self.length_delimited = True
            yield from gunzip(chain([start], pieces))
        else:
            yield from chain([start] if start else [], pieces)

    def _raw(self) -> Iterator[bytes]:
        for piece in self._response.iter_raw():
            self._sent += len(piece)
            yield piece


def json_body(response: Response, label: str, server: str) -> bytes:
    """Return the body of a JSON response. Raises AuthenticationError for a web page, ProtocolError for XML."""
    refuse_web_page(response.headers, response.body, label, server)
    # `Accept` asks for JSON, but some servers need `_format` to believe it.
    if "xml" in response.headers.get("content-type", "").lower():
        raise ProtocolError(f"{label}: {server} answered in XML: periop needs a server that speaks JSON")
    return response.body


def refuse_web_page(headers: httpx.Headers, start: bytes, label: str, server: str) -> None:
    """Raise AuthenticationError where the response is HTML: gateways show their login page with status 200."""
    if "html" in headers.get("content-type", "").lower() or start.lstrip()[:9].lower().startswith(HTML_STARTS):
        raise AuthenticationError(
            f"{label}: {server} answered with a web page, probably its login: check `url` and `auth`"
        )


def status_error(status: int, label: str, server: str, outcome: str | None = None, url: str = "") -> Exception:
    """Return the error that an unexpected status stands for.

    outcome: the words of its OperationOutcome. url: what was asked; nothing of it is shown.
    """
    words = quoted(outcome, url)
    if status == 401:
        return AuthenticationError(
            f"{label}: {server} does not accept the credentials (401): check `auth` of the site{words}"
        )
    # Not followed, not even to the same origin: behind a redirect there is mostly a login or a moved server.
    if 300 <= status < 400:
        return ForeignOriginError(
            f"{label}: {server} redirects ({status}), which is refused: set `url` to the final address"
        )
    if 200 <= status < 300:
        return ProtocolError(f"{label}: {server} answered {status} instead of 200: not a FHIR search")
    advice = "ask for permission to read it" if status == 403 else "check what the server supports"
    if status == 404:
        advice = "nothing is there: check the path of `url`, and what the server supports"
    return RefusedError(f"{label}: {server} refused the query ({status}): {advice}{words}", status, outcome)


def storage_error(status: int, label: str, storage: str) -> RefusedError:
    """Return the error for a file that another server than that of the site does not give."""
    if status not in CLOSED:
        return RefusedError(f"{label}: {storage}, where it lies, answered {status}: report it to its admin", status)
    return FileStorageError(
        f"{storage} does not give the files of the export ({status}): either their links have expired, or it wants "
        "credentials of its own, which periop never sends there: ask the administrator for links that need none "
        '(presigned) or for files on the FHIR server itself, or read the site by search (kind = "search")',
        status,
    )


def permanent_tls_error(error: BaseException, label: str, server: str) -> TlsError | None:
    """Return what to do about a TLS failure that another attempt cannot repair, None for every other error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__  # httpx wraps httpcore, which wraps ssl
    # A connection that ends in the middle is no fault of the settings: the next attempt may succeed.
    if cause is None or isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError)):
        return None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TlsError(
            f"{label}: the certificate of {server} is not trusted ({cause.verify_message}): "
            "set `ca_file` to the certificate of the authority that signed it, or correct the host name in `url`"
        )
    # OpenSSL gives reasons such as TLSV13_ALERT_CERTIFICATE_REQUIRED, which differ between its versions.
    reason = (cause.reason or "handshake failed").replace("_", " ").lower()
    if "wrong version number" in reason or "http request" in reason:
        advice = "it does not speak TLS there: correct the scheme and port of `url`"
    elif "alert" in reason or "handshake" in reason:
        advice = "it may ask for a client certificate: set `client_cert_file`"
    else:
        advice = "compare the TLS settings of the server with `ca_file` and `client_cert_file`"
    return TlsError(f"{label}: no encrypted connection to {server} ({reason}): {advice}")
