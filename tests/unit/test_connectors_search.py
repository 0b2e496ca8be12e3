"""Paged search and the HTTP client below it, against a real HTTP server on the loopback."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors.errors import (
    AuthenticationError,
    DeferredError,
    ForeignOriginError,
    PagingError,
    ProtocolError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from connectors.fhir.events import Expected, Problem
from connectors.fhir.resource import Reason, Rejected, Resource
from connectors.http.authenticators import BasicAuth, BearerAuth
from connectors.http.client import FhirClient
from connectors.http.retry import Clock, TransferLimits
from connectors.sources.search import requests
from connectors.sources.search.paging import Paging
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource

JSON = {"Content-Type": "application/fhir+json"}
ONE_STREAM = SearchLimits(streams=1)  # in order; several at a time are tested in test_connectors_incremental.py


@dataclass
class Reply:
    """What the server sends. `length` false: no Content-Length, the body ends with the connection."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    length: bool = True


@dataclass
class Request:
    """What the server was asked."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


class Server:
    """Answers every request with `answer(request)` and remembers it.

    It knows no history, no count and no `_lastUpdated`: those questions are refused, and remembered in `probes`.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.probes: list[Request] = []
        self.answer: Callable[[Request], Reply] = lambda _: Reply(bundle())
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(parts.path, parse_qs(parts.query), headers)
                probe = request.path.endswith("/_history") or not {"_summary", "_lastUpdated"}.isdisjoint(request.query)
                (outer.probes if probe else outer.requests).append(request)
                reply = Reply(status=400) if probe else outer.answer(request)
                self.send_response_only(reply.status)  # no Date and no Server unless told
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.length:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._http.server_port}/fhir"
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def as_clock(self) -> Clock:
        return Clock(lambda: sum(self.slept), lambda: datetime(2024, 1, 1, tzinfo=UTC), self.sleep, lambda: 0.0)


def bundle(*resources: dict[str, Any] | str, mode: str = "match", **members: Any) -> bytes:
    """A searchset; `next` and `self` become links."""
    links = [
        {"relation": name, "url": members.pop(key)}
        for key, name in (("next", "next"), ("own", "self"))
        if key in members
    ]
    entries = [{"resource": resource, "search": {"mode": mode}} for resource in resources]
    return json.dumps(
        {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries, **members}
    ).encode()


def condition(patient: str) -> dict[str, Any]:
    return {"resourceType": "Condition", "id": f"c-{patient}", "subject": {"reference": f"Patient/{patient}"}}


def connect(server: Server, clock: FakeClock | None = None, **limits: Any) -> FhirClient:
    return FhirClient(server.base, BearerAuth("s3cret"), TransferLimits(**limits), (clock or FakeClock()).as_clock())


def get(client: FhirClient, path: str = "/Patient") -> bytes:
    with client:
        return client.get_parsed(client.base + path, "Patient", bytes)


def source(server: Server, types: tuple[str, ...] = ("Patient", "Condition"), **options: Any) -> SearchSource:
    cohort = CohortQuery("Condition", (("code", "http://snomed.info/sct|254637007"),))
    options = {"limits": ONE_STREAM, **options}
    return SearchSource(server.base, cohort, types, clock=FakeClock().as_clock(), **options)


def pull(source: SearchSource) -> tuple[list[Resource], list[Rejected], list[Problem]]:
    items = list(source.pull())
    return (
        [item for item in items if isinstance(item, Resource)],
        [item for item in items if isinstance(item, Rejected)],
        [item for item in items if isinstance(item, Problem)],
    )


# --- client ---


def test_a_request_asks_for_fhir_json_with_credentials_and_without_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert get(connect(server)) == bundle()
    headers = server.requests[0].headers
    assert (headers["accept"], headers["accept-encoding"]) == ("application/fhir+json", "gzip")
    assert headers["authorization"] == "Bearer s3cret"


DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("Mon, 01 Jan 2024 00:01:00 GMT", 60.0),  # one minute after the Date of the same answer
        ("1704067230", 30.0),  # an absolute epoch, 30 s after that Date
        ("Sun, 31 Dec 2023 00:00:00 GMT", 0.5),  # past: own backoff, half of 1 s when chance is 0
        ("-5", 0.5),
        ("soon", 0.5),
        ("", 0.5),
        ("9" * 40, 0.5),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_fault_4_retry_after(server: Server, value: str, seconds: float, status: int) -> None:
    clock = FakeClock()
    busy = Reply(status=status, headers={"Retry-After": value, "Date": DATE})
    server.answer = lambda _: busy if len(server.requests) == 1 else Reply(bundle())
    assert get(connect(server, clock)) == bundle()
    assert clock.slept == [seconds]


@pytest.mark.parametrize("value", ["30000", "Wed, 01 Jan 2097 00:00:00 GMT", "2300000000"])
def test_fault_4_a_wait_beyond_the_deadline_defers_the_site(server: Server, value: str) -> None:
    clock = FakeClock()
    server.answer = lambda _: Reply(status=503, headers={"Retry-After": value, "Date": DATE})
    with pytest.raises(DeferredError, match="beyond the deadline"):
        get(connect(server, clock, run=21_600.0))
    assert (clock.slept, len(server.requests)) == ([], 1)


def test_fault_7_backoff_doubles_to_its_cap_and_ends(server: Server) -> None:
    clock = FakeClock()
    server.answer = lambda _: Reply(status=500)
    with pytest.raises(UnavailableError, match="status 500 in 5 attempts"):
        get(connect(server, clock, attempts=5, backoff=2.0, backoff_cap=8.0))
    assert clock.slept == [1.0, 2.0, 4.0, 4.0]  # half of 2, 4, 8 and of 16 capped to 8


def test_fault_7_nobody_listens(server: Server) -> None:
    server.close()
    clock = FakeClock()
    with pytest.raises(UnavailableError, match=r"refused the connection .*compare host and port.* in 3 attempts"):
        get(connect(server, clock))
    assert len(clock.slept) == 2


@pytest.mark.parametrize("kind", ["no length", "gzip", "length"])
def test_fault_2_a_cut_body_is_fetched_again(server: Server, kind: str) -> None:
    whole = bundle(condition("1"), condition("2"))
    cuts = {
        "no length": Reply(whole[:-20], length=False),
        "gzip": Reply(gzip.compress(whole)[:-30], headers={**JSON, "Content-Encoding": "gzip"}, length=False),
        "length": Reply(whole[:-20], headers={**JSON, "Content-Length": str(len(whole))}, length=False),
    }
    server.answer = lambda _: cuts[kind] if len(server.requests) == 1 else Reply(whole)
    found, rejected, problems = pull(source(server, ()))
    assert ([item.id for item in found], rejected, problems) == (["c-1", "c-2"], [], [])
    assert len(server.requests) == 2


@pytest.mark.parametrize("explained", [True, False])
def test_of_a_page_with_partial_content_the_rest_is_kept(server: Server, explained: bool) -> None:
    """Status 206, as of a server that has lost the content of a resource."""
    issue = {"severity": "error", "code": "exception", "diagnostics": "content lost"}
    lost = [{"resourceType": "OperationOutcome", "issue": [issue]}] if explained else []
    server.answer = lambda _: Reply(bundle(condition("1"), condition("2"), *lost), 206)
    found, rejected, problems = pull(source(server, ()))
    assert [item.id for item in found] == ["c-1", "c-2"]
    assert len(rejected) == explained
    assert any("only a part of 1 pages (206)" in problem.message for problem in problems)


def test_fault_2_a_body_that_is_always_cut_is_an_error(server: Server) -> None:
    server.answer = lambda _: Reply(bundle(condition("1"))[:-9], length=False)
    with pytest.raises(UnavailableError, match="a response that is cut off in 6 attempts"):
        pull(source(server))


def test_fault_18_the_size_limit_counts_decompressed_bytes(server: Server) -> None:
    bomb = gzip.compress(b" " * 3_000_000)
    assert len(bomb) < 5_000
    server.answer = lambda _: Reply(bomb, headers={**JSON, "Content-Encoding": "gzip"})
    with pytest.raises(TooLargeError, match="over the limit of 1000000 bytes"):
        get(connect(server, response=1_000_000))


def test_fault_9_a_redirect_is_not_followed(server: Server, elsewhere: Server) -> None:
    server.answer = lambda _: Reply(status=302, headers={"Location": elsewhere.base + "/Patient"})
    with pytest.raises(ForeignOriginError, match=r"redirects \(302\)"):
        get(connect(server))
    assert elsewhere.requests == []


def test_fault_9_no_request_goes_to_another_origin(server: Server, elsewhere: Server) -> None:
    with connect(server) as client, pytest.raises(ForeignOriginError):
        client.get_parsed(elsewhere.base + "/Patient", "Patient", bytes)
    assert (server.requests, elsewhere.requests) == ([], [])


def test_fault_5_static_credentials_are_refused_once_and_for_all(server: Server) -> None:
    server.answer = lambda _: Reply(status=401)
    with pytest.raises(AuthenticationError, match="401"):
        get(connect(server))
    assert len(server.requests) == 1


class Renewing:
    """An authenticator whose n-th renewal gives token n."""

    def __init__(self) -> None:
        self.number = 0

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.number}"}

    def renew(self) -> bool:
        self.number += 1
        return True


def test_fault_5_an_expired_token_is_renewed_once_and_the_same_page_is_read(server: Server) -> None:
    server.answer = lambda request: Reply(
        bundle(), status=200 if request.headers["authorization"] == "Bearer 1" else 401
    )
    assert get(FhirClient(server.base, Renewing(), clock=FakeClock().as_clock())) == bundle()
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer 0", "Bearer 1"]


def test_fault_5_a_second_401_stops_the_site(server: Server) -> None:
    server.answer = lambda _: Reply(status=401)
    with pytest.raises(AuthenticationError):
        get(FhirClient(server.base, Renewing(), clock=FakeClock().as_clock()))
    assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/fhir+json"])
def test_fault_21_a_login_page_is_an_authentication_error(server: Server, kind: str) -> None:
    server.answer = lambda _: Reply(b"<!DOCTYPE html><title>Sign in</title>", headers={"Content-Type": kind})
    with pytest.raises(AuthenticationError, match="web page"):
        get(connect(server))


def test_other_answers_that_are_no_search_result(server: Server) -> None:
    server.answer = lambda _: Reply(b"<Bundle/>", headers={"Content-Type": "application/fhir+xml"})
    with pytest.raises(ProtocolError, match="XML"):
        pull(source(server))
    server.answer = lambda _: Reply(b'{"resourceType":"CapabilityStatement"}')
    with pytest.raises(ProtocolError, match="something else than a Bundle"):
        pull(source(server))
    server.answer = lambda _: Reply(status=202)
    with pytest.raises(ProtocolError, match="answered 202"):
        pull(source(server))
    server.answer = lambda _: Reply(status=403)
    with pytest.raises(RefusedError, match="403"):
        pull(source(server))


def test_fault_29_secrets_and_urls_are_in_no_repr_and_no_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for auth in (BasicAuth("alice", "s3cret"), BearerAuth("s3cret")):
        assert "s3cret" not in repr(auth) + repr(source(server, auth=auth))
        server.answer = lambda _: Reply(bundle(condition("patient-77")))
        pull(source(server, auth=auth))
    assert server.requests[0].headers["authorization"] == "Basic YWxpY2U6czNjcmV0"  # base64 of alice:s3cret
    assert "s3cret" not in caplog.text
    assert "patient-77" not in caplog.text


# --- search ---


def test_the_cohort_first_and_then_its_resources_in_batches(server: Server) -> None:
    def answer(request: Request) -> Reply:
        if "code" in request.query:
            return Reply(bundle(condition("b"), condition("a"), condition("c"), condition("a"), total=3))
        ids = [
            each.removeprefix("Patient/")
            for each in (request.query.get("_id") or request.query["subject"])[0].split(",")
        ]
        if request.path.endswith("/Patient"):
            return Reply(bundle(*({"resourceType": "Patient", "id": each} for each in ids), total=len(ids)))
        return Reply(bundle(*(condition(each) for each in ids), total=len(ids)))

    server.answer = answer
    items = list(source(server, limits=SearchLimits(streams=1, batch=2, page_size=9)).pull())
    assert [item.id for item in items if isinstance(item, Resource)] == ["a", "b", "c", "c-a", "c-b", "c-c"]
    assert [item.count for item in items if isinstance(item, Expected)] == [2, 1, 2, 1]
    asked = [(request.path, request.query) for request in server.requests]
    common, ids = {"_count": ["9"], "_total": ["accurate"]}, {"_elements": ["id"], "_count": ["1000"]}
    assert asked == [
        ("/fhir/Condition", {"code": ["http://snomed.info/sct|254637007"], **common}),
        # whether a list of patients is understood
        ("/fhir/Patient", {"_id": ["a,b"], **common, **ids}),
        ("/fhir/Condition", {"subject": ["Patient/a,Patient/b"], **common, **ids}),
        ("/fhir/Patient", {"_id": ["a,b"], **common}),
        ("/fhir/Patient", {"_id": ["c"], **common}),
        ("/fhir/Condition", {"subject": ["Patient/a,Patient/b"], **common}),
        ("/fhir/Condition", {"subject": ["Patient/c"], **common}),
    ]
    first = server.requests[0].headers
    assert (first["cache-control"], first["prefer"]) == ("no-cache", "handling=strict")


def test_urls_stay_within_their_limit() -> None:
    limits = SearchLimits(batch=50, url=600)
    base, patients = "https://fhir.example/r4", [f"{n:064d}" for n in range(12)]
    found = list(requests.everything(base, "AdverseEvent", patients, limits, "patients"))
    # an id costs 77 characters ("Patient%2F" + 64 + "%2C"); 600 - 23 (base) - 240 (the rest) hold 4
    assert [sorted(request.patients or ()) for request in found] == [patients[:4], patients[4:8], patients[8:]]
    since = "2024-01-01T00:00:00.000Z"
    asked = [
        each for request in found for each in (request, requests.changes(request, since), requests.ids(request, limits))
    ]
    with FhirClient(base, BearerAuth("t")) as client:
        assert all(len(Paging(client, limits).urls(request)[0]) <= 600 for request in asked)


def test_a_cohort_resource_without_patient_is_not_lost(server: Server) -> None:
    orphan = {"resourceType": "Condition", "id": "orphan"}
    server.answer = lambda request: Reply(bundle(orphan) if "code" in request.query else bundle())
    found, _, _ = pull(source(server))
    assert [(item.id, item.patient) for item in found] == [("orphan", None)]


def paged(server: Server, *pages: bytes, status: dict[int, int] | None = None) -> Callable[[Request], Reply]:
    """Page n at ?page=n, the first one at the query itself."""

    def answer(request: Request) -> Reply:
        number = int(request.query.get("page", ["0"])[0])
        return Reply(pages[number], status=(status or {}).get(len(server.requests), 200))

    return answer


def test_fault_12_pages_are_followed_and_an_empty_last_one_is_fine(server: Server) -> None:
    server.answer = paged(
        server,
        bundle(condition("1"), next=server.base + "?page=1", total=2),
        bundle(condition("2"), next="?page=2"),  # relative to the page
        bundle(),
    )
    found, _, problems = pull(source(server, ()))
    assert ([item.id for item in found], problems) == (["c-1", "c-2"], [])
    assert "cache-control" not in server.requests[1].headers


def test_fault_9_a_next_link_on_another_origin_gets_nothing(server: Server, elsewhere: Server) -> None:
    server.answer = paged(
        server, bundle(condition("1"), own=server.base + "/Condition?x", next=elsewhere.base + "?page=1")
    )
    with pytest.raises(ForeignOriginError, match="a next link leads to"):
        pull(source(server))
    assert elsewhere.requests == []


@pytest.mark.parametrize("link", ["file:///etc/passwd", "http://[::1", "//x:y@/", "http://127.0.0.1:99999/fhir"])
def test_fault_10_next_links_that_are_none(server: Server, link: str) -> None:
    server.answer = paged(server, bundle(condition("1"), next=link))
    with pytest.raises(ForeignOriginError):
        pull(source(server))


def test_a_server_that_calls_itself_by_another_name_is_asked_by_the_configured_one(server: Server) -> None:
    inner = "https://inner.hospital.example:8443/app/r4"
    server.answer = paged(
        server,
        bundle(condition("1"), own=inner + "/Condition?code=x", next=inner + "?page=1"),
        bundle(condition("2")),
    )
    found, _, _ = pull(source(server, ()))
    assert [item.id for item in found] == ["c-1", "c-2"]
    assert server.requests[1].path == "/fhir"


def test_fault_11_next_links_in_a_loop(server: Server) -> None:
    page = bundle(condition("1"), next=server.base + "?page=0")
    server.answer = paged(server, page)
    with pytest.raises(PagingError, match="loop"):
        pull(source(server))
    assert len(server.requests) == 2


def test_fault_11_too_many_pages(server: Server) -> None:
    server.answer = lambda _: Reply(bundle(condition("1"), next=f"{server.base}?page={len(server.requests)}"))
    with pytest.raises(PagingError, match="more than 5 pages"):
        pull(source(server, limits=SearchLimits(streams=1, pages=5)))


@pytest.mark.parametrize("status", [404, 410])
def test_fault_13_an_expired_next_link_restarts_the_window(server: Server, status: int) -> None:
    server.answer = paged(
        server,
        bundle(condition("1"), next=server.base + "?page=1", total=2),
        bundle(condition("2")),
        status={2: status},
    )
    found, _, problems = pull(source(server, ()))
    assert ([item.id for item in found], problems) == (["c-1", "c-1", "c-2"], [])


def test_fault_13_a_window_that_expires_again_and_again(server: Server) -> None:
    def answer(request: Request) -> Reply:
        if "code" in request.query:
            return Reply(bundle(condition("1")))
        if request.path.endswith("Patient"):
            return Reply(bundle({"resourceType": "Patient", "id": "1"}, next=server.base + "?page=1"))
        return Reply(bundle(condition("1"))) if "subject" in request.query else Reply(status=410)

    server.answer = answer
    found, _, problems = pull(source(server, limits=SearchLimits(streams=1, restarts=2)))
    assert [item.id for item in found] == ["1", "1", "1", "c-1"]  # the other type is read all the same
    assert [problem.message.split(":")[0] for problem in problems] == ["Patient of patients 1 to 1"]


def test_fault_12_fewer_resources_than_announced_is_a_problem(server: Server) -> None:
    server.answer = lambda _: Reply(bundle(condition("1"), total=3))
    found, _, problems = pull(source(server, ()))
    assert len(found) == 1
    assert "announced 3 resources, its pages held 1" in problems[0].message


def test_a_server_without_total_is_asked_without(server: Server) -> None:
    server.answer = lambda request: Reply(bundle(condition("1")), status=400 if "_total" in request.query else 200)
    found, _, problems = pull(source(server, ()))
    assert ([item.id for item in found], problems) == (["c-1"], [])
    assert len(server.requests) == 2


def test_fault_21_includes_are_kept_but_no_matches_and_outcomes_are_set_aside(server: Server) -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "processing"}]}
    page = json.loads(bundle(condition("1"), total=1))
    page["entry"] += json.loads(bundle({"resourceType": "Patient", "id": "1"}, mode="include"))["entry"]
    page["entry"] += json.loads(bundle({"resourceType": "Device", "id": "d"}, mode="include"))["entry"]
    page["entry"] += json.loads(bundle(outcome, mode="outcome"))["entry"]
    page["entry"].append({"fullUrl": "urn:uuid:1"})
    server.answer = lambda request: Reply(
        json.dumps(page).encode() if "subject" in request.query else bundle(condition("1"))
    )
    found, rejected, problems = pull(source(server, ("Condition", "Patient")))
    assert [item.id for item in found] == ["c-1", "1"]
    assert [item.reason for item in rejected] == [
        Reason.UNREQUESTED_TYPE,
        Reason.OPERATION_OUTCOME,
        Reason.EMPTY_ENTRY,
        Reason.UNREQUESTED_TYPE,  # a Condition where Patients were asked for
    ]
    assert any("reports an error" in problem.message for problem in problems)


def test_fault_21_a_server_that_ignores_the_patients_does_not_fill_the_lake(server: Server) -> None:
    server.answer = lambda request: Reply(
        bundle(condition("1"), *([] if "code" in request.query else [condition("2")]))
    )
    found, rejected, problems = pull(source(server, ("Condition",)))
    assert [item.id for item in found] == ["c-1"]
    assert [item.reason for item in rejected] == [Reason.NOT_IN_COHORT]
    assert "subject" in problems[0].message


def test_a_refused_type_does_not_stop_the_others_but_a_dead_server_does(server: Server) -> None:
    statuses = {"/fhir/Procedure": 403, "/fhir/Observation": 500}
    server.answer = lambda request: Reply(
        bundle(condition("1")) if request.path.endswith("Condition") else bundle(),
        status=statuses.get(request.path, 200),
    )
    found, _, problems = pull(source(server, ("Procedure", "Condition", "Observation", "Patient")))
    assert [item.id for item in found] == ["c-1"]
    assert [problem.message.split(":")[0] for problem in problems] == [
        "Procedure of patients 1 to 1",
        "Observation of patients 1 to 1",
    ]
    assert "nothing after it was fetched" in problems[1].message
    assert "/fhir/Patient" not in {request.path for request in server.requests}


def test_the_clock_of_the_server(server: Server) -> None:
    server.answer = lambda _: Reply(bundle(), headers={**JSON, "Date": DATE})
    where = source(server)
    assert where.server_time is None
    pull(where)
    assert where.server_time == "2024-01-01T00:00:00+00:00"


def test_fault_79_nothing_is_asked_about_a_patient_who_was_erased(server: Server) -> None:
    server.answer = lambda request: Reply(
        bundle(*map(condition, ("p1", "p2"))) if "code" in request.query else bundle()
    )
    pull(source(server, excluded=lambda patient: patient == "p1"))
    asked = [str(request.query) for request in (*server.requests, *server.probes) if request.path.endswith("/Patient")]
    assert any("p2" in each for each in asked)
    assert not any("p1" in each for each in asked)
