"""Servers that cannot be reached: what it is and what to do, after as few tries as it takes to know."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from connectors.errors import RefusedError, TlsError, UnavailableError
from connectors.http.authenticators import BearerAuth
from connectors.http.client import FhirClient
from connectors.http.retry import TransferLimits
from connectors.sources.search.paging import parse_page
from tests.certificates import Certificates, make_certificates
from tests.export_server import FakeClock


def asked(url: str) -> tuple[str, list[float]]:
    """Return what is said of a server that cannot be reached, and the waits before that."""
    clock = FakeClock()
    with (
        FhirClient(url, BearerAuth("s3cret"), TransferLimits(read=1.0), clock.as_clock()) as client,
        pytest.raises((UnavailableError, TlsError, RefusedError)) as caught,
    ):
        client.get_parsed(f"{url}/Patient", "Patient", parse_page)
    return str(caught.value), clock.slept


def test_fault_89_a_name_that_is_unknown_is_said_at_once() -> None:
    # .invalid never exists (RFC 6761, 6.4); without any name server the answer is another one, also in words.
    said, waits = asked("https://fhir.invalid/r4")
    if "is unknown (DNS)" in said:
        assert said == (
            "Patient: the name in https://fhir.invalid:443 is unknown (DNS): correct the host of `url`, "
            "or ask who runs your network"
        )
        assert waits == []
    else:
        assert "has a name that no name server answered for (DNS: ask your network administrator)" in said


def test_fault_89_a_closed_port_is_said_after_three_tries() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    said, waits = asked(f"http://127.0.0.1:{port}/fhir")
    assert f"127.0.0.1:{port} refused the connection (nothing listens at that port: compare host and port" in said
    assert len(waits) == 2


def test_fault_89_https_where_http_is_spoken() -> None:
    with one_answer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        said, waits = asked(f"https://127.0.0.1:{port}/fhir")
    assert "it does not speak TLS there: correct the scheme and port of `url`" in said
    assert waits == []


def test_fault_161_http_where_tls_is_spoken_is_said_after_the_first_try(tmp_path: Path) -> None:
    with tls_server(make_certificates(tmp_path)) as port:
        said, waits = asked(f"http://127.0.0.1:{port}/fhir")
    assert said == f"Patient: http://127.0.0.1:{port} speaks TLS there: begin `url` with https"
    assert waits == []


@contextmanager
def tls_server(certificates: Certificates) -> Iterator[int]:
    """A port that shakes hands in TLS with two clients, and closes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):  # an attempt, and one to look
                connection, _ = server.accept()
                with connection, suppress(OSError), context.wrap_socket(connection, server_side=True):
                    pass

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


@contextmanager
def one_answer(answer: bytes) -> Iterator[int]:
    """A port that says `answer` to the first who connects, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(1)
                with suppress(OSError):
                    connection.recv(4096)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_fault_89_a_wrong_path_is_said() -> None:
    with one_answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as port:
        said, waits = asked(f"http://127.0.0.1:{port}/wrong")
    assert "(404): nothing is there: check the path of `url`" in said
    assert waits == []
