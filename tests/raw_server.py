"""A server of raw bytes on the loopback: what an HTTP library would never send, it sends.

Each connection is one request. The answer is bytes as they go over the wire; with `reset` the connection ends with RST,
and without a Content-Length the body ends with the connection.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """What was asked. `headers` by lower-case name."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes = b""
    raw: bytes = b""


@dataclass(frozen=True)
class Wire:
    """Bytes for the wire; `reset`: then RST. An iterable of pieces is sent piece by piece."""

    content: bytes | Iterable[bytes]
    reset: bool = False


def http(
    body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None, *, length: bool = True
) -> bytes:
    """A response of HTTP/1.1 as bytes. length false: no Content-Length."""
    own = {"Content-Type": "application/fhir+json", **(headers or {})}
    if length and "Transfer-Encoding" not in own:
        own = {"Content-Length": str(len(body)), **own}
    head = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    return f"HTTP/1.1 {status} X\r\n{head}Connection: close\r\n\r\n".encode() + body


def chunked(body: bytes, size: int = 1000) -> bytes:
    """A body in chunks of this size, with its end."""
    cuts = range(0, len(body), size)
    return b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + size]), body[at : at + size]) for at in cuts) + b"0\r\n\r\n"


def ndjson(*resources: Mapping[str, Any]) -> bytes:
    """Lines of JSON, each ended."""
    return b"".join(json.dumps(resource).encode() + b"\n" for resource in resources)


@dataclass
class RawServer:
    """Answers every request with `answer(request)`, and remembers it. `threads`: connections side by side."""

    answer: Callable[[Request], bytes | Wire]
    requests: list[Request] = field(default_factory=list)
    threads: bool = True

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.base = f"{self.origin}/fhir"
        self._ended = False
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._ended = True
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()  # wakes accept()
        self._thread.join()
        self._listener.close()

    def asked(self, method: str = "", path: str = "") -> list[Request]:
        """The requests with this method and this piece of path."""
        return [each for each in self.requests if method in ("", each.method) and path in each.path]

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._ended:
                connection.close()
                return
            if self.threads:
                Thread(target=self._handle, args=(connection,), daemon=True).start()
            else:
                self._handle(connection)

    def _handle(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = _read(connection)
            if request is None:
                return
            self.requests.append(request)
            answer = self.answer(request)
            wire = answer if isinstance(answer, Wire) else Wire(answer)
            for piece in [wire.content] if isinstance(wire.content, bytes) else wire.content:
                connection.sendall(piece)
            if wire.reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read(connection: socket.socket) -> Request | None:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, target, _ = first.split(" ")
    parts = urlsplit(target)
    return Request(method, parts.path, parse_qs(parts.query), headers, body, received)
