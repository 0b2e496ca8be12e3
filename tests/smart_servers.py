"""Servers on the loopback for the tests of credentials: any HTTP server, a token endpoint, a FHIR server that checks
tokens; and a clock that only sleeping and `pass_by` move."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from connectors.auth.clients import RegisteredClient
from connectors.auth.keys import SigningKey, generate_key
from connectors.auth.smart import SmartAuth
from connectors.http.retry import Clock, TransferLimits

TYPES = ("Patient", "Condition", "MedicationAdministration", "Procedure", "AdverseEvent", "Observation")
START = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)
KEY = generate_key("ES384")
FHIR_JSON = {"Content-Type": "application/fhir+json"}


@dataclass(frozen=True)
class Request:
    """What a server was asked. certificate: whether the client showed one. `form`: the fields of a form body."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    certificate: bool = False

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def bearer(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass(frozen=True)
class Reply:
    """What a server answers; a dict or list goes as JSON."""

    content: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    @property
    def body(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


Answer = Callable[[Request], Reply]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or a handshake that fails, is what some tests want."""


class Http:
    """An HTTP server; `tls` makes it one of HTTPS, on the name localhost."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self.faults: list[Exception] = []
        outer, lock = self, Lock()

        class Handler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                with lock:
                    outer.connections += 1
                super().handle()

            def _answer(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                shown = tls is not None and bool(self.connection.getpeercert())
                request = Request(self.command, parts.path, query, headers, body, shown)
                with lock:
                    outer.requests.append(request)
                    reply = outer.replied(request)
                self.send_response_only(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._http = _Quiet(("127.0.0.1", 0), Handler)
        self.port = self._http.server_port
        self.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{self.port}"
        if tls:  # the handshake is in the thread of the request, so that one that fails stops nobody else
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def replied(self, request: Request) -> Reply:
        """What `answer` gives; a fault of the test's own is kept for the end, and no server error of the play."""
        try:
            return self.answer(request)
        except Exception as error:
            self.faults.append(error)
            raise

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        assert self.faults == []


@contextmanager
def served(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Http]:
    """A server while the block runs."""
    server = Http(answer, tls)
    try:
        yield server
    finally:
        server.close()


class FakeClock:
    """Seconds that pass only by sleeping and by `pass_by`."""

    def __init__(self, skew: float = 0.0) -> None:
        self.slept: list[float] = []
        self.seconds = 0.0
        self._skew = skew

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_by(seconds)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds + self._skew)

    def as_clock(self, now: Callable[[], datetime] | None = None) -> Clock:
        return Clock(lambda: self.seconds, now or self.now, self.sleep, lambda: 0.0)


class TokenEndpoint:
    """Gives token-1, token-2, …; first what is in `script`. Remembers what it gave and when, by the test's clock."""

    def __init__(
        self, clock: FakeClock, *script: Reply, expires_in: object = 300, scope: str | None = "system/*.rs"
    ) -> None:
        self.clock = clock
        self.script = list(script)
        self.expires_in = expires_in
        self.scope = scope
        self.given: dict[str, float] = {}

    def __call__(self, request: Request) -> Reply:
        if self.script:
            return self.script.pop(0)
        token = f"token-{len(self.given) + 1}"
        self.given[token] = self.clock.seconds
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in, "scope": self.scope}
        return Reply({name: value for name, value in answer.items() if value is not None})


class FhirServer:
    """Searches over `resources`, page by page, for whom `accepts` the token; each page takes `page_seconds`."""

    def __init__(
        self,
        resources: Sequence[Mapping[str, Any]],
        accepts: Callable[[str], bool],
        token_endpoint: str | None = None,
        clock: FakeClock | None = None,
        page_seconds: float = 0.0,
    ) -> None:
        self.resources = resources
        self.accepts = accepts
        self.token_endpoint = token_endpoint
        self.clock = clock or FakeClock()
        self.page_seconds = page_seconds
        self.refused = 0

    def __call__(self, request: Request) -> Reply:
        if request.path.endswith("/.well-known/smart-configuration"):
            known = {"token_endpoint": self.token_endpoint} if self.token_endpoint else None
            return Reply(known) if known else Reply(b"", 404)
        if not self.accepts(request.bearer):
            self.refused += 1
            return Reply({"resourceType": "OperationOutcome"}, 401, FHIR_JSON)
        self.clock.pass_by(self.page_seconds)
        if request.path.rsplit("/", 1)[-1] not in TYPES:  # `_history` and the like
            return Reply({"resourceType": "OperationOutcome"}, 404, FHIR_JSON)
        return Reply(self._page(request), headers=FHIR_JSON)

    def _page(self, request: Request) -> dict[str, Any]:
        kind = request.path.rsplit("/", 1)[-1]
        found = [each for each in self.resources if each["resourceType"] == kind and _asked(each, request.query)]
        size, begin = int(request.query.get("_count", 20)), int(request.query.get("begin", "0"))
        base = f"http://{request.headers['host']}"
        query = "&".join(f"{name}={value}" for name, value in request.query.items() if name != "begin")
        links = [{"relation": "self", "url": f"{base}{request.path}?{query}"}]
        if begin + size < len(found):
            links.append({"relation": "next", "url": f"{base}{request.path}?{query}&begin={begin + size}"})
        entries = [{"resource": each, "search": {"mode": "match"}} for each in found[begin : begin + size]]
        return {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links, "entry": entries}


def _asked(resource: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    if "_id" in query:
        return resource["id"] in query["_id"].split(",")
    if "subject" in query:
        return resource["subject"]["reference"] in query["subject"].split(",")
    return True


def cohort(patients: int) -> list[dict[str, Any]]:
    """Patients with one condition and one observation each."""
    made: list[dict[str, Any]] = []
    for number in range(patients):
        subject = {"reference": f"Patient/p{number}"}
        made.append({"resourceType": "Patient", "id": f"p{number}"})
        made.append({"resourceType": "Condition", "id": f"c{number}", "subject": subject})
        made.append({"resourceType": "Observation", "id": f"o{number}", "subject": subject, "status": "final"})
    return made


def smart(base: str, fake: FakeClock, key: SigningKey = KEY, client_id: str = "periop", **options: Any) -> SmartAuth:
    """The authenticator of a site, on the test's clock."""
    options.setdefault("clock", fake.as_clock())
    options.setdefault("limits", TransferLimits())
    return SmartAuth(base, RegisteredClient(client_id, key), TYPES, **options)
