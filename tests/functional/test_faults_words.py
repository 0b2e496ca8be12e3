"""Faults 59 and 63: what a server says when it refuses or is busy is shown, without what it quotes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from connectors.errors import AuthenticationError, UnavailableError
from connectors.http.authenticators import NoAuth
from connectors.http.client import FhirClient
from connectors.http.retry import TransferLimits
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.raw_server import RawServer, http
from tests.smart_servers import FHIR_JSON, Answer, FakeClock, Http, Reply, Request, served, smart

Serve = Callable[[Answer], Http]
STATEMENT = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"mode": "server"}]}


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(served(answer))


def outcome(words: str) -> bytes:
    issue = {"severity": "error", "code": "throttled", "diagnostics": words}
    return json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()


def refusing(status: int, issue: dict[str, object]) -> Answer:
    """A server that answers each search so."""

    def answer(request: Request) -> Reply:
        if request.path.endswith("/metadata"):
            return Reply(STATEMENT, headers=FHIR_JSON)
        return Reply({"resourceType": "OperationOutcome", "issue": [issue]}, status, FHIR_JSON)

    return answer


def periop(folder: Path, url: str, *arguments: str) -> tuple[int, str, str]:
    """Run a command for a site at `url`; return its exit code, and what it prints on stdout and on stderr."""
    (folder / "periop.toml").write_text(
        f'data_dir = "data"\n[[sites]]\nname = "milan"\nkind = "search"\nurl = "{url}"\n'
    )
    out, err = io.StringIO(), io.StringIO()
    code = main(["--config", str(folder / "periop.toml"), *arguments], Session(out, err, {}))
    return code, " ".join(out.getvalue().split()), err.getvalue()


@pytest.mark.parametrize(
    ("status", "issue", "said"),
    [
        (
            400,
            {"diagnostics": "A 'category' is needed for Patient/4711 (Jane Smith)"},
            'refused the query (400): check what the server supports; it says "A category is needed for …"',
        ),
        (
            403,
            {"details": {"text": "Client e3b0c442-98fc is not allowed to search"}},
            'refused the query (403): ask for permission to read it; it says "Client … is not allowed to search"',
        ),
        (
            401,
            {"diagnostics": "Registration token eyJhbGciOiJFUzM4NCJ9.e30.c2ln expired"},
            'does not accept the credentials (401): check `auth` of the site; it says "Registration token … expired"',
        ),
    ],
)
def test_fault_63_a_sync_says_what_the_server_says(
    serve: Serve, tmp_path: Path, status: int, issue: dict[str, object], said: str
) -> None:
    server = serve(refusing(status, issue))
    _, _, err = periop(tmp_path, server.url, "sync")
    assert f"cohort query of Condition: {server.url} {said}" in err
    assert not any(secret in err for secret in ("4711", "Smith", "e3b0c442", "eyJ"))


def test_fault_63_a_check_says_what_the_server_says(serve: Serve, tmp_path: Path) -> None:
    server = serve(refusing(400, {"diagnostics": "A 'category' is required for Patient/4711"}))
    _, out, _ = periop(tmp_path, server.url, "check", "--json")
    assert 'the parameter code is refused (400); it says \\"A category is required for …\\"' in out


BUSY = "Only one export per day is allowed, try again tomorrow; asked by Client Zx81-periop"


@pytest.mark.parametrize("wait", [None, "7200"])
def test_fault_59_the_words_of_a_server_that_is_busy(wait: str | None) -> None:
    clock = FakeClock()
    with RawServer(lambda _: http(outcome(BUSY), 429, {"Retry-After": wait} if wait else {})) as server:
        client = FhirClient(server.base, NoAuth(), TransferLimits(attempts=2, run=3600), clock.as_clock())
        with client, pytest.raises(UnavailableError) as caught:
            client.get(f"{server.base}/$export", "kick-off", (202,))
    asked = "gave status 429 in 2 attempts" if wait is None else "asks to wait 7200 s"
    assert asked in str(caught.value)
    assert str(caught.value).endswith(
        'the next run tries again; it says "Only one export per day is allowed, try again tomorrow; asked by Client …"'
    )


class Drops(httpx.BaseTransport, httpx.SyncByteStream):
    """A server on which time passes while it sends."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(503, headers=FHIR_JSON, stream=self, request=request)

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(100):
            self.clock.pass_by(5)
            yield b" "
        yield outcome(BUSY)


def test_fault_59_words_that_come_in_drops_are_not_waited_for() -> None:
    clock = FakeClock()
    limits = TransferLimits(attempts=1)
    client = FhirClient("https://fhir.example.org", NoAuth(), limits, clock.as_clock(), Drops(clock))
    with client, pytest.raises(UnavailableError, match=r"gave status 503 in 1 attempts: the next run tries again$"):
        client.get("https://fhir.example.org/Patient", "Patient", (200,))
    assert clock.seconds < 20


def test_fault_59_the_words_of_a_token_endpoint_that_is_busy(serve: Serve) -> None:
    endpoint = serve(lambda _: Reply({"error": "slow_down", "error_description": "Too many requests of Zx81"}, 503))
    auth = smart("https://fhir.example.org", FakeClock(), token_url=f"{endpoint.url}/token")
    with pytest.raises(UnavailableError, match='it says "Too many requests of …"'):
        auth.headers()


@pytest.mark.parametrize(
    ("description", "said"),
    [
        (
            "Registration token expired",
            'does not accept the client or its key: .*; it says "Registration token expired"',
        ),
        ("Client 'Zx81-periop' is locked", 'it says "Client … is locked"'),
        ("JWT expired", r"compare the clocks of both machines \(NTP\); it says \"JWT expired\""),
    ],
)
def test_fault_63_the_words_of_a_token_endpoint(serve: Serve, description: str, said: str) -> None:
    endpoint = serve(lambda _: Reply({"error": "invalid_client", "error_description": description}, 401))
    auth = smart("https://fhir.example.org", FakeClock(), token_url=f"{endpoint.url}/token")
    with pytest.raises(AuthenticationError, match=said) as caught:
        auth.headers()
    assert ("clock" in str(caught.value)) is (description == "JWT expired")
