"""The faults of a Bulk Data export, by their numbers in the table of faults, against a server that lies on purpose."""

from __future__ import annotations

import gzip
import json
import os
import select
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from connectors.errors import (
    AuthenticationError,
    DeferredError,
    ExpiredError,
    ForeignOriginError,
    ProtocolError,
    RefusedError,
    UnavailableError,
)
from connectors.fhir.events import Expected, Problem, ProgressMessage
from connectors.fhir.resource import Reason, Resource
from connectors.http.authenticators import BearerAuth
from connectors.http.client import FhirClient
from connectors.http.retry import TransferLimits
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Cursor, Lake
from connectors.sources.bulk.files import DownloadedFile, download_all, download_whole, resources
from connectors.sources.bulk.job import Polling
from connectors.sources.bulk.manifest import ExportFile
from connectors.sources.bulk.source import BulkLimits, _Folder
from connectors.sync import sync_site
from tests.export_server import ASKED, CONDITIONS, DONE, PATIENTS, ExportServer, FakeClock, cursor, pull, source
from tests.raw_server import RawServer, Request, Wire, chunked, http, ndjson

AGAIN = 0.5  # seconds until the manifest is read again
ALL = ["p0", "p1", "p2", "c0", "c1", "c2"]
NDJSON = {"Content-Type": "application/fhir+ndjson"}
MIDNIGHT = "2024-01-01T00:00:00+00:00"  # ASKED as a FHIR instant, and earlier than DONE


@pytest.fixture
def server() -> Iterator[ExportServer]:
    server = ExportServer()
    yield server
    server.close()


def first(*answers: bytes | Wire) -> Callable[[Request], bytes | Wire | None]:
    """A fault that passes: these answers, then those of the server."""
    left = iter(answers)
    return lambda _: next(left, None)


def always(answer: bytes | Wire) -> Callable[[Request], bytes | Wire | None]:
    return lambda _: answer


# --- the way it should go ---


@pytest.mark.parametrize("kick_off", ["get", "post"])
def test_an_export_from_kick_off_to_the_deleted_job(server: ExportServer, tmp_path: Path, kick_off: str) -> None:
    asked = source(server, tmp_path, kick_off=kick_off, type_filter=("Condition?code=x",))
    found = pull(asked)
    assert (found.ids, found.problems, asked.whole) == (ALL, [], True)
    start, poll, *files, again, end = [(each.method, each.path.removeprefix("/fhir/")) for each in server.http.requests]
    assert (start, poll, again) == ((kick_off.upper(), "$export"), ("GET", "job/1"), ("GET", "job/1"))
    assert end == ("DELETE", "job/1")
    assert sorted(files) == [("GET", "file/Condition"), ("GET", "file/Patient")]
    request = server.http.requests[0]
    assert (request.headers["prefer"], request.headers["cache-control"]) == ("respond-async", "no-cache")
    told = {"_outputFormat": "application/fhir+ndjson", "_type": "Patient,Condition", "_typeFilter": "Condition?code=x"}
    if kick_off == "get":
        assert {name: values[0] for name, values in request.query.items()} == told
    else:
        parameters = json.loads(request.body)["parameter"]
        assert {each["name"]: each["valueString"] for each in parameters} == told
    assert {each.headers["accept"] for each in server.http.asked(path="/file/")} == {"application/fhir+ndjson"}
    assert list((tmp_path / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    ("level", "group", "path"),
    [("system", None, "$export"), ("patient", None, "Patient/$export"), ("group", "g.1", "Group/g.1/$export")],
)
def test_the_levels(server: ExportServer, tmp_path: Path, level: str, group: str | None, path: str) -> None:
    asked = source(server, tmp_path, level=level, group=group)
    pull(asked)
    assert {each.path for each in server.http.asked(path="$export")} == {f"/fhir/{path}"}
    kick_offs = [request for request in asked.plan(None) if request.what.startswith("kick-off")]
    planned = {request.url_shown.partition("?")[0] for request in kick_offs}
    assert planned == {f"{server.base}/{path}"}


def test_progress_is_shown_in_what_may_be_shown(server: ExportServer, tmp_path: Path) -> None:
    server.pending, server.pending_headers = 2, {"X-Progress": "45% \x1b[31m<done>"}
    notices = [item.message for item in pull(source(server, tmp_path)).items if isinstance(item, ProgressMessage)]
    assert notices == ["the server prepares the export: 45% 31m done"] * 2 + ["reading the manifest again"]


def test_the_next_night_asks_for_changes_with_an_overlap(server: ExportServer, tmp_path: Path) -> None:
    first_night = source(server, tmp_path)
    pull(first_night)
    second = source(server, tmp_path, limits=BulkLimits(overlap=60.0))
    pull(second, cursor(first_night))
    assert [each.query.get("_since") for each in server.http.asked(path="$export")] == [
        None,
        ["2023-12-31T23:59:00.000Z"],  # a minute before the kick-off of the first night
    ]
    assert (first_night.whole, second.whole) == (True, False)


def test_after_a_week_everything_is_asked_for_again(server: ExportServer, tmp_path: Path) -> None:
    clock = FakeClock()
    first_night = source(server, tmp_path, clock)
    pull(first_night)
    for day, since in ((6.9, True), (7.1, False)):
        clock.day = day
        night = source(server, tmp_path, clock)
        pull(night, cursor(first_night))
        assert ("_since" in server.http.asked(path="$export")[-1].query) == since
        assert night.whole != since


def test_a_new_member_of_the_group_brings_what_is_old(server: ExportServer, tmp_path: Path) -> None:
    def night(previous: Cursor | None) -> tuple[Cursor, list[tuple[str, bool]]]:
        before = len(server.http.asked(path="$export"))
        asked = source(server, tmp_path, level="group", group="g")
        pull(asked, previous)
        kick_offs = server.http.asked(path="$export")[before:]
        return cursor(asked), [(each.query["_type"][0], "_since" in each.query) for each in kick_offs]

    known, asked = night(None)
    assert asked == [("Patient,Condition", False)]
    known, asked = night(known)
    assert asked == [("Patient", False), ("Condition", True)]
    server.files["Patient"] += ndjson({"resourceType": "Patient", "id": "p9"})
    known, asked = night(known)
    assert asked == [("Patient", False), ("Condition", False)]
    known, asked = night(known)
    assert asked == [("Patient", False), ("Condition", True)]
    assert "p9" not in "".join(known.state.values())


# --- 2, 3: files that are cut, manifests that lie ---


def test_fault_2_a_file_cut_in_the_middle_of_its_gzip_stream(server: ExportServer, tmp_path: Path) -> None:
    zipped = gzip.compress(server.files["Condition"])
    headers = {"Content-Encoding": "gzip", **NDJSON}
    server.faults["/file/Condition"] = first(
        http(zipped[: len(zipped) // 2], headers=headers, length=False),
        Wire(http(zipped, headers=headers)[:-20], reset=True),
        http(zipped, headers=headers),
    )
    found = pull(source(server, tmp_path))
    assert (found.ids, found.problems) == (ALL, [])


def test_fault_2_a_last_line_that_is_cut_is_fetched_again_once(server: ExportServer, tmp_path: Path) -> None:
    whole = server.files["Condition"]
    server.faults["/file/Condition"] = first(http(whole[:-30], headers=NDJSON))
    found = pull(source(server, tmp_path))
    assert (found.ids, found.problems, len(server.http.asked(path="/file/Condition"))) == (ALL, [], 2)


def test_fault_2_a_last_line_that_is_cut_for_ever_makes_the_site_partial(server: ExportServer, tmp_path: Path) -> None:
    server.faults["/file/Condition"] = always(http(server.files["Condition"][:-30], headers=NDJSON))
    asked = source(server, tmp_path)
    found = pull(asked)
    assert found.ids == ["p0", "p1", "p2", "c0", "c1"]
    assert [each.reason for each in found.rejected] == [Reason.TRUNCATED]
    (problem,) = found.problems
    assert problem.startswith("Condition file 2 of the export ends in the middle of a line: what arrived was read")
    assert (asked.whole, sorted(asked.state)) == (False, ["full", "since.Patient"])


@pytest.mark.parametrize("count", [2, 4])
def test_fault_2_a_count_of_the_manifest_that_is_wrong(server: ExportServer, tmp_path: Path, count: int) -> None:
    server.manifest["output"] = [server.item("Patient", count=3), server.item("Condition", count=count)]
    asked = source(server, tmp_path)
    found = pull(asked)
    assert found.ids == ALL
    assert f"holds 3 lines where the manifest says {count}" in found.problems[0]
    assert (len(server.http.asked(path="/file/Condition")), "since.Condition" in asked.state) == (2, False)


@pytest.mark.parametrize(("count", "whole"), [(3, True), (None, False)])
def test_fault_2_without_content_length_only_the_count_tells_the_end(
    server: ExportServer, tmp_path: Path, count: int | None, whole: bool
) -> None:
    server.manifest["output"] = [server.item("Condition", count=count)]
    server.faults["/file/"] = always(http(server.files["Condition"], headers=NDJSON, length=False))
    asked = source(server, tmp_path)
    found = pull(asked)
    assert (found.ids, found.problems == [], asked.whole) == (["c0", "c1", "c2"], whole, whole)


LINES = ndjson(
    *({"resourceType": "Patient", "id": f"p{n}", "name": [{"text": f"{n * 7919:064x}"}]} for n in range(126))
)
GZIP = {"Content-Encoding": "gzip", **NDJSON}
OPEN = http(LINES, headers=NDJSON, length=False)
AT_ENDS = [at + shift for at in range(len(OPEN)) if OPEN[at : at + 1] == b"\n" for shift in (0, 1, 2)][::2]
ZIPPED_CHUNKS = http(chunked(gzip.compress(LINES)), headers={"Transfer-Encoding": "chunked", **GZIP})
WIRES = {  # the whole answer, and where it is cut
    "length": (whole := http(LINES, headers=NDJSON), range(0, len(whole), 11)),
    "no length": (OPEN, sorted({*range(0, len(OPEN) - 1, 97), *AT_ENDS} - set(range(len(OPEN) - 1, len(OPEN) + 3)))),
    "chunked": (
        whole := http(chunked(LINES), headers={"Transfer-Encoding": "chunked", **NDJSON}),
        range(0, len(whole), 13),
    ),
    "gzip": (whole := http(gzip.compress(LINES), headers=GZIP), range(len(whole))),
    "gzip without length": (whole := http(gzip.compress(LINES), headers=GZIP, length=False), range(len(whole))),
    "gzip chunked": (ZIPPED_CHUNKS, range(0, len(ZIPPED_CHUNKS), 3)),
}


@pytest.mark.parametrize(("kind", "counted"), [*((kind, False) for kind in WIRES), ("no length", True)])
def test_fault_2_a_file_that_is_cut_at_any_byte_is_never_taken_for_whole(
    tmp_path: Path, kind: str, counted: bool
) -> None:
    """Every cut is an error or a problem, also those between two lines; the whole file is neither.

    Where only the end of the last line is missing, nothing is: that cut is left out.
    """
    assert 16_000 < len(LINES) < 16_500
    whole, cuts = WIRES[kind]
    file = ExportFile("", "Patient", 126 if counted else None)
    cut = len(whole)

    def taken() -> bool:
        try:
            arrived = download_whole(file, tmp_path / "f", download, 1 << 20)
        except UnavailableError:
            return False
        items = list(resources(arrived, "file", frozenset({"Patient"}), 1 << 20))
        return not any(isinstance(item, Problem) for item in items)

    with (
        RawServer(lambda _: whole[:cut], threads=False) as raw,
        FhirClient(raw.base, BearerAuth("s3cret"), TransferLimits(attempts=1), FakeClock().as_clock()) as wire,
    ):

        def download() -> Any:
            return wire.download(f"{raw.base}/file", "file", tmp_path / "f")

        assert taken() == (counted or kind != "no length")
        for cut in cuts:
            assert not taken(), f"cut at byte {cut}"


def test_fault_3_a_download_that_is_reset_half_way(server: ExportServer, tmp_path: Path) -> None:
    file = http(server.files["Patient"], headers=NDJSON)
    server.faults["/file/Patient"] = first(Wire(file[:-10], reset=True), Wire(file[:-40], reset=True))
    found = pull(source(server, tmp_path))
    assert (found.ids, found.problems) == (ALL, [])


def test_a_binary_in_place_of_ndjson_is_no_empty_file(server: ExportServer, tmp_path: Path) -> None:
    """What HAPI answers to another Accept."""
    server.files["Patient"] = ndjson({"resourceType": "Binary", "id": "1", "data": "e30="})
    asked = source(server, tmp_path)
    found = pull(asked)
    assert "resources of other types" in found.problems[0]
    assert "since.Patient" not in asked.state


# --- 4: Retry-After while polling ---


@pytest.mark.parametrize("value", ["-5", "soon", "Sun, 31 Dec 2023 23:59:00 GMT", "1704067000", "1704067000000", ""])
def test_fault_4_a_retry_after_of_no_use_leaves_the_own_pauses(
    server: ExportServer, tmp_path: Path, value: str
) -> None:
    clock = FakeClock()
    server.pending, server.pending_headers = 3, {"Retry-After": value, "Date": ASKED}
    assert pull(source(server, tmp_path, clock)).ids == ALL
    assert clock.slept == [0.5, 0.5, 0.5, AGAIN]


def test_fault_4_polls_grow_rarer_up_to_one_a_minute() -> None:
    polling = Polling(first=0.5, share=0.05, longest=60.0)
    assert [polling.wait(waited, None) for waited in (0.0, 8.0, 100.0, 600.0, 4000.0)] == [0.5, 0.5, 5.0, 30.0, 60.0]
    assert polling.wait(4000.0, 10.0) == 10.0  # the server allows more
    assert polling.wait(4000.0, 0.0) == 0.5


def test_fault_4_too_many_requests_is_obeyed(server: ExportServer, tmp_path: Path) -> None:
    clock = FakeClock()
    busy = http(status=429, headers={"Retry-After": "12", "Date": ASKED})
    server.faults["/job/"] = first(*[busy] * 8)  # more often than a page would be tried
    assert pull(source(server, tmp_path, clock)).ids == ALL
    assert clock.slept == [5.0, 5.0, 2.0] * 8 + [AGAIN]  # in slices, between which a stop is heard


@pytest.mark.parametrize("value", ["30000", "Wed, 01 Jan 2097 00:00:00 GMT", "2300000000"])
def test_fault_4_a_429_beyond_the_deadline_defers_and_keeps_the_job(
    server: ExportServer, tmp_path: Path, value: str
) -> None:
    clock = FakeClock()
    server.faults["/job/"] = first(http(status=429, headers={"Retry-After": value, "Date": ASKED}))
    transfer = TransferLimits(run=21_600.0)
    with pytest.raises(DeferredError):
        pull(source(server, tmp_path, clock, transfer=transfer))
    assert (clock.slept, server.deleted_jobs) == ([], [])
    clock.day = 1.0
    assert pull(source(server, tmp_path, clock, transfer=transfer)).ids == ALL  # the next run
    assert (server.jobs, server.deleted_jobs) == (1, ["1"])


def test_fault_7_transient_errors_while_polling(server: ExportServer, tmp_path: Path) -> None:
    server.faults["/job/"] = first(http(status=500), http(status=502), Wire(b"", reset=True))
    found = pull(source(server, tmp_path))
    assert (found.ids, found.problems, server.jobs) == (ALL, [], 1)


# --- 9, 10: manifests that lead elsewhere ---


@pytest.fixture
def elsewhere() -> Iterator[RawServer]:
    with RawServer(lambda _: http(ndjson(*PATIENTS), headers=NDJSON)) as server:
        yield server


def test_fault_9_files_on_another_origin_are_refused(
    server: ExportServer, elsewhere: RawServer, tmp_path: Path
) -> None:
    server.manifest["output"] = [{"type": "Patient", "url": f"{elsewhere.origin}/p"}, server.item("Condition")]
    asked = source(server, tmp_path, auth=BearerAuth("s3cret"))
    found = pull(asked)
    assert (found.ids, elsewhere.requests) == (["c0", "c1", "c2"], [])
    assert "allowed_origins" in found.problems[0]
    assert "since.Patient" not in asked.state


@pytest.mark.parametrize("token", [True, False])
def test_fault_9_an_allowed_origin_gets_no_credentials_whatever_the_manifest_says(
    server: ExportServer, elsewhere: RawServer, tmp_path: Path, token: bool
) -> None:
    server.manifest["requiresAccessToken"] = token
    server.manifest["output"] = [
        {"type": "Patient", "url": f"{elsewhere.origin}/p?X-Signature=1"},
        server.item("Condition"),
    ]
    found = pull(source(server, tmp_path, auth=BearerAuth("s3cret"), allowed_origins=(elsewhere.origin,)))
    assert (found.ids, found.problems) == (ALL, [])
    assert b"s3cret" not in b"".join(request.raw for request in elsewhere.requests)
    (own,) = server.http.asked(path="/file/")
    assert ("authorization" in own.headers) == token


@pytest.mark.parametrize("where", ["http://127.0.0.1:{port}/job/1", "http://169.254.169.254/job", "file:///etc/passwd"])
def test_fault_9_a_poll_url_on_another_origin(
    server: ExportServer, elsewhere: RawServer, tmp_path: Path, where: str
) -> None:
    link = where.format(port=elsewhere.port)
    server.faults["$export"] = always(http(status=202, headers={"Content-Location": link}))
    server.faults["/metadata"] = always(http(b'{"resourceType":"CapabilityStatement"}'))
    with pytest.raises(ForeignOriginError):
        pull(source(server, tmp_path, auth=BearerAuth("s3cret"), allowed_origins=(elsewhere.origin,)))
    assert elsewhere.requests == []


@pytest.mark.parametrize("request_names", ["inner", "configured", None])  # HAPI: the URL that was called
def test_fault_9_a_server_that_calls_itself_by_another_name(
    server: ExportServer, tmp_path: Path, request_names: str | None
) -> None:
    inner = "https://inner.hospital.example/app/r4"
    server.faults["$export"] = always(http(status=202, headers={"Content-Location": f"{inner}/job/1", "Date": ASKED}))
    server.faults["/metadata"] = always(http(json.dumps({"implementation": {"url": inner}}).encode()))
    server.manifest = {
        "request": request_names and f"{inner if request_names == 'inner' else server.base}/$export?_type=Patient",
        "output": [{"type": "Patient", "url": f"{inner}/file/Patient", "count": 3}],
    }
    server.pending = 100_000
    with pytest.raises(DeferredError):
        pull(source(server, tmp_path, auth=BearerAuth("s3cret"), transfer=TransferLimits(run=60.0)))
    server.pending = 0
    for _ in ("a job that is taken up", "a new one"):
        found = pull(source(server, tmp_path, auth=BearerAuth("s3cret")))
        assert (found.ids, found.problems) == (["p0", "p1", "p2"], [])


def test_fault_9_a_redirected_poll_is_refused(server: ExportServer, elsewhere: RawServer, tmp_path: Path) -> None:
    server.faults["/job/"] = always(http(status=303, headers={"Location": f"{elsewhere.origin}/x"}))
    with pytest.raises(ForeignOriginError, match="redirects"):
        pull(source(server, tmp_path))
    assert elsewhere.requests == []


# --- 11: manifests without end ---


def paged(server: ExportServer, *links: str) -> None:
    """Pages of a manifest: Patient on the first, Condition on the second; page n links to links[n]."""

    def answer(request: Request) -> bytes:
        number = int(request.query.get("page", ["0"])[0])
        page = server.whole_manifest() | {"output": [server.item(("Patient", "Condition")[min(number, 1)], count=3)]}
        if number < len(links):
            page["link"] = [{"relation": "next", "url": links[number]}]
        return http(json.dumps(page).encode())

    server.faults["/job/"] = lambda request: answer(request) if request.method == "GET" else None


def test_pages_of_a_manifest_are_followed(server: ExportServer, tmp_path: Path) -> None:
    paged(server, "?page=1")
    asked = source(server, tmp_path)
    found = pull(asked)
    assert (found.ids, found.problems, asked.whole) == (ALL, [], True)


@pytest.mark.parametrize("links", [("?page=1", "?page=1"), ("?page=1", "?page=2", "?page=1"), ("?",)])
def test_fault_11_next_links_of_a_manifest_in_a_loop(
    server: ExportServer, tmp_path: Path, links: tuple[str, ...]
) -> None:
    paged(server, *(f"{server.base}/job/1{link.rstrip('?')}" for link in links))
    asked = source(server, tmp_path)
    found = pull(asked)
    assert set(found.ids) <= set(ALL)
    assert "loop" in found.problems[0]
    assert (asked.whole, [key for key in asked.state if key.startswith("since")]) == (False, [])
    assert server.deleted_jobs == ["1"]


def test_fault_11_a_manifest_of_too_many_pages(server: ExportServer, tmp_path: Path) -> None:
    paged(server, *(f"?page={n}" for n in range(1, 20)))
    found = pull(source(server, tmp_path, limits=BulkLimits(manifests=5)))
    assert "more than 5 pages" in found.problems[0]
    assert len(server.http.asked("GET", "/job/")) == 6


# --- 14: the cursor ---


@pytest.mark.parametrize(
    ("date", "done", "time"),
    [
        (ASKED, "2024-01-01T00:00:30Z", MIDNIGHT),  # transactionTime is the end of the job
        (ASKED, "2023-12-31T23:00:00Z", "2023-12-31T23:00:00Z"),  # a replica that lags behind
        (ASKED, "2024-01-01T00:30:00+01:00", "2024-01-01T00:30:00+01:00"),  # earlier, though its text is later
        (ASKED, "yesterday", MIDNIGHT),
        (None, "2024-01-01T00:00:30Z", "2024-01-01T00:00:30Z"),
    ],
)
def test_fault_14_the_earlier_of_the_servers_two_clocks(
    server: ExportServer, tmp_path: Path, date: str | None, done: str, time: str
) -> None:
    headers = {"Content-Location": f"{server.base}/job/1", **({"Date": date} if date else {})}
    server.faults["$export"] = always(http(status=202, headers=headers))
    server.manifest["transactionTime"] = done
    asked = source(server, tmp_path)
    pull(asked)
    assert (asked.server_time, asked.state["since.Patient"]) == (time, time)


def test_fault_14_without_any_time_the_cursor_stays(server: ExportServer, tmp_path: Path) -> None:
    server.faults["$export"] = always(http(status=202, headers={"Content-Location": f"{server.base}/job/1"}))
    server.manifest["transactionTime"] = None
    asked = source(server, tmp_path)
    assert pull(asked).ids == ALL
    assert (asked.server_time, dict(asked.state)) == (None, {})


# --- 16: deletions ---


def deletion(*urls: str, **members: Any) -> dict[str, Any]:
    entries = [{"request": {"method": "DELETE", "url": url}} for url in urls]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries, **members}


def test_fault_16_deleted_resources_of_a_manifest(server: ExportServer, tmp_path: Path) -> None:
    server.files["deleted"] = ndjson(
        deletion("Patient/p7", f"{server.base}/Condition/c7", "Device/d1"),
        deletion("Patient/p8", meta={"lastUpdated": "2023-12-31T12:00:00Z"}),
    )
    server.manifest["output"] = []
    server.manifest["deleted"] = [server.item("deleted", type="Bundle", count=2)]
    found = pull(source(server, tmp_path))
    assert found.problems == []
    assert [(each.resource_type, each.id, each.last_updated) for each in found.deleted] == [
        ("Patient", "p7", DONE),
        ("Condition", "c7", DONE),
        ("Patient", "p8", "2023-12-31T12:00:00Z"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        ndjson(PATIENTS[0]),
        ndjson(deletion("Patient/../../etc")),
        ndjson({"resourceType": "Bundle", "entry": [{"request": {"method": "PUT", "url": "Patient/p1"}}]}),
    ],
)
def test_fault_16_what_is_no_deletion_is_said(server: ExportServer, tmp_path: Path, line: bytes) -> None:
    server.files["deleted"] = line
    server.manifest["output"] = []
    server.manifest["deleted"] = [server.item("deleted")]
    asked = source(server, tmp_path)
    found = pull(asked)
    assert (found.deleted, [each.reason for each in found.rejected]) == ([], [Reason.MALFORMED_BUNDLE])
    assert found.problems
    assert "since.Patient" not in asked.state


def night(server: ExportServer, folder: Path, **options: Any) -> Any:
    """One whole sync."""
    asked = source(server, folder, **options)
    return sync_site(asked, Lake(folder / "lake"), "site", Quarantine(folder / "quarantine"))


def current(folder: Path) -> set[str]:
    """The ids that are in the lake and not deleted."""
    columns = ["id", "sync", "deleted"]
    rows = [row for batch in Lake(folder / "lake").rows("site", columns) for row in batch.to_pylist()]
    newest = {row["id"]: row["deleted"] for row in sorted(rows, key=lambda row: row["sync"])}
    return {id_ for id_, deleted in newest.items() if not deleted}


def test_fault_16_the_lake_follows_deletions_told_and_missing(server: ExportServer, tmp_path: Path) -> None:
    assert night(server, tmp_path).status == "ok"
    assert current(tmp_path) == set(ALL)
    server.files = {"Patient": b"", "Condition": b"", "deleted": ndjson(deletion("Condition/c2"))}
    items = [server.item("Patient", count=0), server.item("Condition", count=0)]
    server.manifest = {"output": items, "deleted": [server.item("deleted", count=1)]}
    report = night(server, tmp_path)
    assert (report.status, report.deleted) == ("ok", {"Condition": 1})
    assert current(tmp_path) == set(ALL) - {"c2"}

    server.manifest = {}
    server.files = {"Patient": ndjson(*PATIENTS[:2]), "Condition": ndjson(*CONDITIONS[:2])}
    clock = FakeClock()
    clock.day = 8.0  # the full export of the week
    report = sync_site(
        source(server, tmp_path, clock), Lake(tmp_path / "lake"), "site", Quarantine(tmp_path / "quarantine")
    )
    assert (report.status, report.removed) == ("ok", {"Patient": 1})
    assert current(tmp_path) == {"p0", "p1", "c0", "c1"}


# --- 18: very large lines ---


def test_fault_18_a_resource_of_64_mb_is_quarantined_in_bounded_memory(server: ExportServer, tmp_path: Path) -> None:
    huge = b'{"resourceType":"Patient","id":"huge","text":"' + b"x" * (64 << 20) + b'"}\n'
    server.files["Patient"] = b""
    pieces = [
        ndjson(PATIENTS[0]),
        *(huge[at : at + (1 << 20)] for at in range(0, len(huge), 1 << 20)),
        ndjson(PATIENTS[1]),
    ]
    head = http(b"", headers={"Content-Length": str(sum(map(len, pieces))), **NDJSON})
    server.faults["/file/Patient"] = lambda _: Wire(iter([head, *pieces]))
    server.manifest["output"] = [server.item("Patient", count=3)]
    asked = source(server, tmp_path)
    tracemalloc.start()
    found = pull(asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.ids == ["p0", "p1"]
    assert [(each.reason, each.resource_type) for each in found.rejected] == [(Reason.TOO_LARGE, "Patient")]
    assert found.problems == []
    assert peak < 60 << 20  # 16 MiB of a line, copied as it grows


def test_fault_18_a_file_that_is_a_gzip_bomb(server: ExportServer, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(100 << 20), 9)
    server.faults["/file/Condition"] = always(http(bomb, headers=GZIP))
    asked = source(server, tmp_path)
    found = pull(asked)
    assert found.ids == ["p0", "p1", "p2"]
    assert "gzip bomb" in found.problems[0]
    assert "since.Condition" not in asked.state


def test_fault_19_the_rest_of_a_file_goes_on(server: ExportServer, tmp_path: Path) -> None:
    good = [json.dumps(each).encode() for each in PATIENTS]
    lines = [b"\xef\xbb\xbf" + good[0], b"\xff", b'{"a":NaN}', b"[" * 2000, b"", good[1], b"null", good[2]]
    server.files["Patient"] = b"\r\n".join(lines)  # without an end of the last line
    server.manifest["output"] = [server.item("Patient", count=7)]
    found = pull(source(server, tmp_path))
    assert (found.ids, found.problems) == (["p0", "p1", "p2"], [])
    assert [each.reason for each in found.rejected] == [
        Reason.INVALID_UTF8,
        Reason.NOT_A_NUMBER,
        Reason.TOO_DEEP,
        Reason.NOT_AN_OBJECT,
    ]


# --- 22: errors in the manifest, files that expire, polling for ever ---


def outcome(severity: str, text: str) -> dict[str, Any]:
    issue = {"severity": severity, "code": "processing", "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


@pytest.mark.parametrize("member", ["error", "outcome"])  # of the published and of the coming version
def test_fault_22_errors_load_the_rest_and_hold_the_cursor_of_their_types(
    server: ExportServer, tmp_path: Path, member: str
) -> None:
    server.files["errors"] = ndjson(
        outcome("information", "all Patient exported"), outcome("error", "Condition/17 could not be exported")
    )
    output = [server.item("Patient", count=3), server.item("Condition", count=3)]
    server.manifest = {"output": output, member: [server.item("errors", type="OperationOutcome")]}
    asked = source(server, tmp_path)
    found = pull(asked)
    assert (found.ids, asked.whole) == (ALL, False)
    assert [each.reason for each in found.rejected] == [Reason.OPERATION_OUTCOME]
    assert found.problems == ["the server could not export all of Condition: see the quarantine of the site"]
    assert dict(asked.state) == {"since.Patient": MIDNIGHT, "full": MIDNIGHT}

    server.manifest = {}
    del server.files["errors"]
    again = source(server, tmp_path)
    assert pull(again, cursor(asked)).problems == []
    kick_offs = server.http.asked(path="$export")[1:]
    assert [(each.query["_type"], "_since" in each.query) for each in kick_offs] == [
        (["Patient"], True),
        (["Condition"], False),
    ]
    assert sorted(again.state) == ["full", "since.Condition", "since.Patient"]


def test_fault_22_an_error_that_names_no_type_holds_all(server: ExportServer, tmp_path: Path) -> None:
    server.files["errors"] = ndjson(outcome("fatal", "out of memory"))
    server.manifest = {"output": [server.item("Patient")], "error": [server.item("errors")]}
    asked = source(server, tmp_path)
    assert pull(asked).ids == ["p0", "p1", "p2"]
    assert dict(asked.state) == {"full": MIDNIGHT}


def test_fault_22_warnings_are_no_loss(server: ExportServer, tmp_path: Path) -> None:
    server.files["errors"] = ndjson(outcome("warning", "_elements was ignored"))
    server.manifest = {"output": [server.item("Patient")], "error": [server.item("errors")]}
    asked = source(server, tmp_path)
    found = pull(asked)
    assert (found.problems, found.rejected, asked.whole) == ([], [], True)


@pytest.mark.parametrize("status", [404, 410])
def test_fault_22_expired_files_are_exported_once_more(server: ExportServer, tmp_path: Path, status: int) -> None:
    server.faults["/file/Condition"] = first(http(status=status))
    asked = source(server, tmp_path)
    found = pull(asked)
    assert (set(found.ids), found.problems, asked.whole) == (set(ALL), [], True)
    assert (server.jobs, server.deleted_jobs) == (2, ["1", "2"])


def test_fault_22_files_that_expire_again_make_the_site_partial(server: ExportServer, tmp_path: Path) -> None:
    server.faults["/file/Condition"] = always(http(status=410))
    asked = source(server, tmp_path)
    found = pull(asked)
    assert set(found.ids) == {"p0", "p1", "p2"}
    assert "Condition file 2 of the export was not read" in found.problems[0]
    assert (server.jobs, server.deleted_jobs, "since.Condition" in asked.state) == (2, ["1", "2"], False)


def test_fault_22_a_job_that_the_server_forgets(server: ExportServer, tmp_path: Path) -> None:
    server.faults["/job/"] = first(http(status=404))
    assert pull(source(server, tmp_path)).ids == ALL
    assert server.jobs == 2
    server.faults["/job/"] = lambda request: http(status=404) if request.method == "GET" else None
    with pytest.raises(ExpiredError, match="forgot the export"):
        pull(source(server, tmp_path))


def test_fault_22_polling_for_ever_ends_with_the_run_and_goes_on_in_the_next(
    server: ExportServer, tmp_path: Path
) -> None:
    clock = FakeClock()
    server.pending = 100_000
    transfer = TransferLimits(run=3600.0)
    with pytest.raises(DeferredError, match="the next run tries again"):
        pull(source(server, tmp_path, clock, transfer=transfer))
    assert 3500 < sum(clock.slept) <= 3600
    assert len(server.http.asked("GET", "/job/")) < 200
    assert server.deleted_jobs == []
    server.pending = 0
    assert pull(source(server, tmp_path, clock, transfer=transfer)).ids == ALL
    assert (server.jobs, server.deleted_jobs) == (1, ["1"])


def test_fault_22_a_job_of_another_question_is_deleted(server: ExportServer, tmp_path: Path) -> None:
    server.pending = 100_000
    with pytest.raises(DeferredError):
        pull(source(server, tmp_path, transfer=TransferLimits(run=60.0)))
    server.pending = 0
    assert pull(source(server, tmp_path, types=("Patient",))).ids == ["p0", "p1", "p2"]
    assert sorted(server.deleted_jobs) == ["1", "2"]
    assert list((tmp_path / "jobs").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"poll":7,"asked":null,"saved":"2024-01-01T00:00:00+00:00"}'])
def test_fault_22_a_damaged_job_file_is_no_obstacle(server: ExportServer, tmp_path: Path, content: bytes) -> None:
    server.pending = 100_000
    with pytest.raises(DeferredError):
        pull(source(server, tmp_path, transfer=TransferLimits(run=60.0)))
    (file,) = (tmp_path / "jobs").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(content)
    server.pending = 0
    assert pull(source(server, tmp_path)).ids == ALL


def test_fault_22_a_remembered_job_that_only_fails_is_left(server: ExportServer, tmp_path: Path) -> None:
    server.pending = 100_000
    with pytest.raises(DeferredError):
        pull(source(server, tmp_path, transfer=TransferLimits(run=60.0)))
    server.pending = 0
    server.faults["/job/1"] = lambda request: http(status=500) if request.method == "GET" else None
    assert pull(source(server, tmp_path)).ids == ALL
    assert server.jobs == 2


def test_fault_22_the_job_is_deleted_also_after_a_failure(server: ExportServer, tmp_path: Path) -> None:
    server.manifest["output"] = [{"type": "Patient"}]  # no url
    with pytest.raises(ProtocolError, match="without a url"):
        pull(source(server, tmp_path))
    assert (server.deleted_jobs, list((tmp_path / "jobs").iterdir())) == (["1"], [])


def test_a_dead_file_server_is_left_after_three_files(server: ExportServer, tmp_path: Path) -> None:
    server.files = {f"Patient.{n}": ndjson(PATIENTS[0]) for n in range(40)}
    server.faults["/file/"] = always(http(status=503))
    asked = source(server, tmp_path, transfer=TransferLimits(attempts=2))
    found = pull(asked)
    assert (found.ids, found.problems[-1].endswith("the rest was left")) == ([], True)
    assert len(server.http.asked(path="/file/")) < 2 * 10
    assert dict(asked.state) == {"full": MIDNIGHT}


def test_kick_offs_that_are_refused(server: ExportServer, tmp_path: Path) -> None:
    server.faults["$export"] = always(http(status=403))
    with pytest.raises(RefusedError, match="403"):
        pull(source(server, tmp_path))
    server.faults["$export"] = always(http(status=401))
    with pytest.raises(AuthenticationError):
        pull(source(server, tmp_path))
    server.faults["$export"] = always(http(b"{}", status=200))
    with pytest.raises(ProtocolError, match="without saying where to poll"):
        pull(source(server, tmp_path))
    server.faults["$export"] = lambda request: http(status=400) if "lenient" not in request.headers["prefer"] else None
    assert pull(source(server, tmp_path)).ids == ALL  # perhaps a type that it does not have


def test_the_coming_version_may_mix_types_in_a_file(server: ExportServer, tmp_path: Path) -> None:
    server.files = {"mixed": ndjson(PATIENTS[0], CONDITIONS[0], {"resourceType": "Device", "id": "d"})}
    server.manifest = {"output": [{"url": f"{server.base}/file/mixed"}], "outputOrganizedBy": "Patient"}
    asked = source(server, tmp_path)
    found = pull(asked)
    assert (found.ids, [each.reason for each in found.rejected]) == (["p0", "c0"], [Reason.UNREQUESTED_TYPE])
    assert (found.problems, asked.whole) == ([], True)


def test_a_type_of_which_nothing_came_is_not_taken_as_deleted(server: ExportServer, tmp_path: Path) -> None:
    """A server that may no longer give a type leaves it out of the manifest without a word."""
    assert night(server, tmp_path).notes == ()
    del server.files["Condition"]
    clock = FakeClock()
    clock.day = 8.0
    lake, quarantine = Lake(tmp_path / "lake"), Quarantine(tmp_path / "quarantine")
    report = sync_site(source(server, tmp_path, clock), lake, "site", quarantine)
    assert (report.status, report.removed, current(tmp_path)) == ("ok", {}, set(ALL))
    assert "nothing of type Condition came" in report.notes[0]
    server.files["Condition"] = b""
    clock.day = 16.0
    report = sync_site(source(server, tmp_path, clock), lake, "site", quarantine)
    assert (report.removed, current(tmp_path)) == ({"Condition": 3}, {"p0", "p1", "p2"})


def test_what_is_announced_is_what_was_listed(server: ExportServer, tmp_path: Path) -> None:
    server.faults["/file/Condition"] = always(http(status=403))
    expected = [item for item in pull(source(server, tmp_path)).items if isinstance(item, Expected)]
    assert expected == [Expected("Patient", 3), Expected("Condition", 3)]


def test_a_long_download_gives_signs_of_life() -> None:
    """So that a stop is heard while one file is fetched."""
    go_on = Event()
    file = ExportFile("u", "Patient")

    def fetch(_: ExportFile) -> DownloadedFile:
        assert go_on.wait(30)
        raise UnavailableError("no")

    results = download_all([file], fetch, 2, interval=0.001)
    assert next(results) is None
    assert next(results) is None
    go_on.set()
    found = list(results)[-1]
    assert found is not None
    assert isinstance(found[1], UnavailableError)


def test_a_file_is_read_while_the_next_ones_come() -> None:
    files = [ExportFile(str(number), "Patient") for number in range(3)]
    read = Event()

    def fetch(file: ExportFile) -> DownloadedFile:
        assert file is files[0] or read.wait(30)
        return DownloadedFile(file, Path(file.url), length_delimited=True, complete=True, lines=1)

    results = (found for found in download_all(files, fetch, 3, interval=30) if found)
    assert next(results)[0] == files[0]
    read.set()
    assert [file for file, _ in results] == files[1:]


def test_files_of_types_nobody_asked_for_are_not_fetched(server: ExportServer, tmp_path: Path) -> None:
    server.files["Device"] = ndjson({"resourceType": "Device", "id": "d"})
    assert pull(source(server, tmp_path)).ids == ALL
    assert server.http.asked(path="Device") == []


# --- 23: a client that is killed between kick-off and manifest ---

PROGRAM = """
import sys, time
from pathlib import Path
from connectors.sources.bulk.source import BulkSource
from connectors.lake.table import Lake
from connectors.lake.quarantine import Quarantine
from connectors.sync import sync_site

base, folder = sys.argv[1], Path(sys.argv[2])
source = BulkSource(base, ("Patient", "Condition"), "site", folder / "jobs")
report = sync_site(source, Lake(folder / "lake"), "site", Quarantine(folder / "quarantine"),
                   lambda progress: print(progress.note or "-", flush=True))
print(report.status, report.counts.stored)
"""


def client(server: ExportServer, folder: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM, server.base, str(folder)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


def test_fault_22_a_killed_client_polls_the_same_job(server: ExportServer, tmp_path: Path) -> None:
    server.pending = 1_000_000
    killed = client(server, tmp_path)
    assert killed.stdout is not None
    assert select.select([killed.stdout], [], [], 60)[0], "the client never polled"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    assert (server.jobs, server.deleted_jobs) == (1, [])
    (file,) = (path for path in (tmp_path / "jobs").iterdir() if path.suffix == ".json")
    assert file.stat().st_mode & 0o777 == 0o600

    server.pending = 0
    resumed = client(server, tmp_path)
    assert resumed.communicate(timeout=120)[0].splitlines()[-1] == "ok 6"
    assert (server.jobs, server.deleted_jobs) == (1, ["1"])
    assert list((tmp_path / "jobs").iterdir()) == []
    assert current(tmp_path) == set(ALL)


def test_fault_23_a_pull_that_is_given_up_leaves_no_file_and_keeps_its_job(
    server: ExportServer, tmp_path: Path
) -> None:
    items = source(server, tmp_path).pull()
    found = [next(item for item in items if isinstance(item, Resource)).id]
    items.close()  # type: ignore[attr-defined]
    assert found == ["p0"]
    assert [path.suffix for path in (tmp_path / "jobs").iterdir()] == [".json"]
    assert (tmp_path / "jobs").stat().st_mode & 0o777 == 0o700
    assert pull(source(server, tmp_path)).ids == ALL
    assert (server.jobs, server.deleted_jobs) == (1, ["1"])


def test_downloads_that_still_run_leave_no_file(tmp_path: Path) -> None:
    for number in range(50):
        begun, end = Event(), Event()
        with ThreadPoolExecutor(2) as pool:
            with _Folder(tmp_path / f"{number}.files") as folder:
                for thread in range(2):
                    pool.submit(write_on, folder.path, thread, begun, end)
                assert begun.wait(30)
            end.set()
        assert list(tmp_path.iterdir()) == []


def write_on(folder: Path, thread: int, begun: Event, end: Event) -> None:
    for number in range(10_000):  # or until it is told, or the folder is gone
        (folder / f"{thread}-{number}").write_bytes(b"patient data")
        begun.set()
        if end.is_set():
            return


def test_fault_29_no_secret_is_kept_or_said(
    server: ExportServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.pending = 100_000
    asked = source(server, tmp_path, auth=BearerAuth("s3cret"), transfer=TransferLimits(run=60.0))
    with pytest.raises(DeferredError) as caught:
        pull(asked)
    (file,) = (tmp_path / "jobs").iterdir()
    assert "s3cret" not in file.read_text() + file.name + str(caught.value) + repr(asked) + caplog.text
