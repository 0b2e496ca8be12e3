"""Faults of Bulk Data exports as servers of vendors show them: incomplete, empty, or refused in part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import DeferredError, RefusedError, ServerError
from connectors.http.authenticators import BearerAuth
from connectors.http.retry import TransferLimits
from connectors.lake.loss import MAX_LOSS
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import SyncReport
from connectors.sources.bulk.job import Polling
from connectors.sources.patient_list import PatientList
from connectors.sync import sync_site
from tests.export_server import ASKED, CONDITIONS, PATIENTS, ExportServer, FakeClock, cursor, pull, source
from tests.raw_server import RawServer, Request, http, ndjson

ALL = {"p0", "p1", "p2", "c0", "c1", "c2"}


@pytest.fixture
def server() -> Iterator[ExportServer]:
    server = ExportServer()
    yield server
    server.close()


def night(server: ExportServer, folder: Path, day: float = 0.0, **options: Any) -> SyncReport:
    clock = FakeClock()
    clock.day = day
    server.http.requests.clear()
    lake, quarantine = Lake(folder / "lake"), Quarantine(folder / "quarantine")
    max_loss = options.pop("max_loss", MAX_LOSS)
    return sync_site(source(server, folder, clock, **options), lake, "site", quarantine, max_loss=max_loss)


def current(folder: Path) -> set[str]:
    """The ids that are in the lake and not deleted."""
    columns = ["id", "sync", "deleted"]
    rows = [row for batch in Lake(folder / "lake").rows("site", columns) for row in batch.to_pylist()]
    newest = {row["id"]: row["deleted"] for row in sorted(rows, key=lambda row: row["sync"])}
    return {id_ for id_, deleted in newest.items() if not deleted}


def kick_offs(server: ExportServer) -> list[tuple[str, bool]]:
    """The types of each kick-off, and whether it asked for changes alone."""
    requests = server.http.asked(path="$export")
    return [(each.query["_type"][0], "_since" in each.query) for each in requests]


def outcome(text: str, status: int = 400) -> bytes:
    issue = {"severity": "error", "code": "not-supported", "diagnostics": text}
    return http(json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode(), status)


# --- 45: the manifest says less than the server has ---


@pytest.mark.parametrize("signed", [False, True])
def test_fault_45_a_manifest_that_still_grows_is_read_until_it_does_not(
    server: ExportServer, tmp_path: Path, signed: bool
) -> None:
    server.files = {f"Patient.{n}": ndjson(patient) for n, patient in enumerate(PATIENTS)}
    server.files |= {f"Condition.{n}": ndjson(condition) for n, condition in enumerate(CONDITIONS)}
    polls = 0

    def growing(request: Request) -> bytes | None:
        nonlocal polls
        if request.method == "DELETE":
            return None
        polls += 1
        items = [server.item(name) for name in list(server.files)[: 2 * polls]]
        for item in items:
            item["url"] += f"?X-Amz-Signature={polls}" if signed else ""
        return http(json.dumps({**server.whole_manifest(), "output": items}).encode())

    server.faults["/job/"] = growing
    report = night(server, tmp_path)
    assert (report.status, report.messages, current(tmp_path)) == ("ok", (), ALL)
    assert (polls, server.deleted_jobs) == (4, ["1"])
    assert server.http.requests[-1].method == "DELETE"


def test_fault_45_a_file_that_has_grown_is_read_again(server: ExportServer, tmp_path: Path) -> None:
    whole = server.files["Condition"]
    server.files["Condition"] = ndjson(CONDITIONS[0])
    polls = 0

    def growing(request: Request) -> None:
        nonlocal polls
        polls += 1
        if polls == 2:
            server.files["Condition"] = whole

    server.faults["/job/"] = growing
    assert (night(server, tmp_path).status, current(tmp_path)) == ("ok", ALL)


def test_fault_45_a_manifest_that_grows_for_ever_makes_the_site_partial(server: ExportServer, tmp_path: Path) -> None:
    def growing(request: Request) -> None:
        server.files[f"Patient.{len(server.files)}"] = ndjson(PATIENTS[0])

    server.faults["/job/"] = growing
    report = night(server, tmp_path)
    assert (report.status, report.messages) == (
        "partial",
        (
            (
                "export of Patient, Condition: the manifest lists more files each time it is read: "
                "the next run asks for them again"
            ),
        ),
    )
    del server.faults["/job/"]
    night(server, tmp_path, 1.0)
    assert kick_offs(server) == [("Patient,Condition", False)]


def test_fault_45_a_manifest_that_is_given_once_is_enough(server: ExportServer, tmp_path: Path) -> None:
    polls = iter([None, http(status=404)])
    server.faults["/job/"] = lambda request: next(polls, None)
    assert (night(server, tmp_path).status, current(tmp_path)) == ("ok", ALL)


def test_fault_45_a_manifest_that_cannot_be_read_again_is_said(server: ExportServer, tmp_path: Path) -> None:
    polls = iter([None, *[http(status=503)] * 6])
    server.faults["/job/"] = lambda request: next(polls, None)
    report = night(server, tmp_path)
    assert (report.status, current(tmp_path)) == ("partial", ALL)
    assert report.messages[0].endswith("so nobody knows whether the export is complete")


def test_fault_45_a_type_without_a_file_that_the_server_counts_is_asked_for_again(
    server: ExportServer, tmp_path: Path
) -> None:
    del server.files["Condition"]
    server.searched = {"Condition": 3}
    report = night(server, tmp_path)
    assert (report.status, report.messages) == (
        "partial",
        (
            (
                "export of Patient, Condition: no file of Condition came, although the server has 3: "
                "the next run asks for it again"
            ),
        ),
    )
    server.files["Condition"] = ndjson(*CONDITIONS)
    assert (night(server, tmp_path, 1.0).status, current(tmp_path)) == ("ok", ALL)
    assert kick_offs(server) == [("Patient", True), ("Condition", False)]


def test_fault_45_a_type_without_a_file_that_nobody_counts_is_told(server: ExportServer, tmp_path: Path) -> None:
    del server.files["Condition"]
    report = night(server, tmp_path)
    told = "of Condition the site gave nothing, although everything was asked for: it has none, or may not give it"
    assert (report.status, report.notes) == ("ok", (told,))


@pytest.mark.parametrize(
    ("ignored", "status"),
    [(False, "partial"), (True, "ok")],  # of a server that ignores `_lastUpdated` the number says nothing
)
def test_fault_45_changes_without_a_file_are_compared_by_their_time(
    server: ExportServer, tmp_path: Path, ignored: bool, status: str
) -> None:
    assert night(server, tmp_path).status == "ok"
    del server.files["Condition"]
    server.searched, server.ignores_last_updated = {"Condition": 1}, ignored
    headers = {"Content-Location": f"{server.base}/job/9", "Date": "Tue, 02 Jan 2024 00:00:00 GMT"}
    server.faults["$export"] = lambda _: http(b"", 202, headers)
    server.manifest["transactionTime"] = "2024-01-02T00:00:30Z"
    report = night(server, tmp_path, 1.0)
    assert (report.status, current(tmp_path)) == (status, ALL)
    assert server.counted[0].query["_lastUpdated"] == ["ge2023-12-31T23:55:00.000Z", "lt2024-01-02T00:00:30Z"]
    server.faults.clear()
    night(server, tmp_path, 2.0)
    asked = [("Patient", True), ("Condition", True)] if status == "partial" else [("Patient,Condition", True)]
    assert kick_offs(server) == asked


@pytest.mark.parametrize(
    "options",
    [{"level": "group", "group": "g"}, {"type_filter": ("Condition?code=x",)}],
)
def test_fault_45_what_a_search_does_not_count_alike_is_not_compared(
    server: ExportServer, tmp_path: Path, options: dict[str, Any]
) -> None:
    del server.files["Condition"]
    server.searched = {"Condition": 3}
    assert (night(server, tmp_path, **options).status, server.counted) == ("ok", [])


# --- 46: nothing came ---

GROUP = {"level": "group", "group": "lung"}
EMPTY_GROUP = "the export is empty; does Group/lung exist? Correct `group` of the site, or ask who keeps that Group"


def test_fault_46_an_empty_export_is_said(server: ExportServer, tmp_path: Path) -> None:
    server.files = {}
    report = night(server, tmp_path)
    assert (report.status, report.messages) == (
        "partial",
        (
            (
                "export of Patient, Condition: the export is empty: "
                "ask the server's administrator whether the client may read patients"
            ),
        ),
    )


@pytest.mark.parametrize("groups", [{}, {"lung": ["p0"]}])  # mistyped; or it has patients, and none came
def test_fault_46_an_export_of_a_group_without_patients(
    server: ExportServer, tmp_path: Path, groups: dict[str, list[str]]
) -> None:
    server.files, server.groups = {}, groups
    report = night(server, tmp_path, **GROUP)
    assert (report.status, report.messages) == ("partial", (f"export of Patient, Condition: {EMPTY_GROUP}",))


def test_fault_46_a_kick_off_of_a_group_that_is_not_found(server: ExportServer, tmp_path: Path) -> None:
    server.faults["$export"] = lambda _: http(b"{}", 404)
    with pytest.raises(RefusedError, match="does Group/lung exist\\? Correct `group` of the site"):
        night(server, tmp_path, **GROUP)


def test_fault_46_a_group_that_seems_to_be_emptied_loses_nobody(server: ExportServer, tmp_path: Path) -> None:
    night(server, tmp_path, **GROUP)
    files, server.files = server.files, {}
    report = night(server, tmp_path, 1.0, **GROUP)
    assert (report.status, report.messages) == ("partial", (f"export of Patient: {EMPTY_GROUP}",))
    assert kick_offs(server) == [("Patient", False)]  # an empty export of changes would move the time of Condition on
    # The changes since then are not lost: the time of Condition stayed where it was.
    server.files = {**files, "Condition": ndjson(*CONDITIONS)}
    assert night(server, tmp_path, 2.0, **GROUP).status == "ok"
    assert kick_offs(server) == [("Patient", False), ("Condition", True)]
    server.files = {}
    report = night(server, tmp_path, 8.0, **GROUP)  # everything is asked for
    assert (report.status, report.removed, current(tmp_path)) == ("partial", {}, ALL)


def test_fault_46_the_patients_of_a_group_that_was_emptied_have_left(server: ExportServer, tmp_path: Path) -> None:
    night(server, tmp_path, **GROUP)
    server.files, server.groups = {}, {"lung": []}
    report = night(server, tmp_path, 1.0, **GROUP)
    assert report.notes == ("Group/lung has no patient: those whom the lake has of it are taken as having left",)
    assert (report.status, report.removed, current(tmp_path)) == ("partial", {}, ALL)  # too many to be believed (36)
    report = night(server, tmp_path, 1.0, max_loss=1.0, **GROUP)  # a person says so
    assert (report.status, report.removed) == ("ok", {"Patient": 3, "Condition": 3})
    assert current(tmp_path) == set()


# --- 47: what the kick-off refuses ---


def test_fault_47_types_that_the_server_does_not_list_are_left_out(server: ExportServer, tmp_path: Path) -> None:
    """The refusal names no type, also where it was asked to be lenient."""
    server.listed = ("Patient", "Condition", "Group")
    types = ("Patient", "Condition", "AdverseEvent", "MedicationAdministration")
    refuse = lambda request: outcome("invalid request") if "AdverseEvent" in request.query["_type"][0] else None  # noqa: E731
    server.faults["$export"] = refuse
    report = night(server, tmp_path, types=types)
    left_out = "AdverseEvent, MedicationAdministration"
    told = (f"not at this site, so not asked for: {left_out} (the server refuses to export them)",)
    assert (report.status, report.notes, current(tmp_path)) == ("ok", told, ALL)
    assert [asked for asked, _ in kick_offs(server)] == [",".join(types)] * 2 + ["Patient,Condition"]
    report = night(server, tmp_path, 1.0, types=types)
    assert (report.notes, kick_offs(server)) == (told, [("Patient,Condition", True)])


def test_fault_47_a_type_that_is_not_listed_is_exported_where_it_is_not_to_blame(
    server: ExportServer, tmp_path: Path
) -> None:
    server.listed = ("Patient", "AdverseEvent")
    refuse = lambda request: outcome("invalid request") if "AdverseEvent" in request.query["_type"][0] else None  # noqa: E731
    server.faults["$export"] = refuse
    report = night(server, tmp_path, types=("Patient", "Condition", "AdverseEvent"))
    told = "not at this site, so not asked for: AdverseEvent (the server refuses to export them)"
    assert (report.status, report.notes, current(tmp_path)) == ("ok", (told,), ALL)


# --- 48: `_since` is refused ---


@pytest.mark.parametrize("words", ["_since is not supported", "invalid request"])
def test_fault_48_an_export_without_since_where_it_is_refused(server: ExportServer, tmp_path: Path, words: str) -> None:
    server.faults["$export"] = lambda request: outcome(words) if "_since" in request.query else None
    assert (night(server, tmp_path).status, current(tmp_path)) == ("ok", ALL)
    server.files["Condition"] = ndjson(*CONDITIONS[:2], {**CONDITIONS[2], "id": "c3"})
    told = ("the server refuses exports of what has changed (`_since`), so everything is exported each time",)
    report = night(server, tmp_path, 1.0)
    assert (report.status, report.notes, report.removed) == ("ok", told, {"Condition": 1})
    assert current(tmp_path) == ALL - {"c2"} | {"c3"}
    assert kick_offs(server)[-1] == ("Patient,Condition", False)
    # It is learned.
    report = night(server, tmp_path, 2.0)
    assert (report.notes, kick_offs(server)) == (told, [("Patient,Condition", False)])


# --- 49: Retry-After is the least wait ---

IN_TWO_MINUTES = ["120", "Mon, 01 Jan 2024 00:02:00 GMT", "1704067320", "1704067320000"]  # after ASKED


@pytest.mark.parametrize("value", IN_TWO_MINUTES)
def test_fault_49_a_running_job_is_polled_no_earlier_than_the_server_says(
    server: ExportServer, tmp_path: Path, value: str
) -> None:
    clock = FakeClock()
    server.pending, server.pending_headers = 2, {"Retry-After": value, "Date": ASKED}
    assert set(pull(source(server, tmp_path, clock)).ids) == ALL
    assert sum(clock.slept) == 2 * 120.0 + 0.5  # the last before the manifest is read again


@pytest.mark.parametrize("value", IN_TWO_MINUTES)
def test_fault_49_a_busy_server_is_asked_no_earlier_than_it_says(
    server: ExportServer, tmp_path: Path, value: str
) -> None:
    clock = FakeClock()
    busy = iter([http(b"", 503, {"Retry-After": value, "Date": ASKED})])
    server.faults["/file/Condition"] = lambda _: next(busy, None)
    assert set(pull(source(server, tmp_path, clock)).ids) == ALL
    assert max(clock.slept) == 120.0


def test_fault_49_a_site_may_bound_what_its_server_asks_for(server: ExportServer, tmp_path: Path) -> None:
    clock = FakeClock()
    server.pending, server.pending_headers = 2, {"Retry-After": "120"}
    pull(source(server, tmp_path, clock, polling=Polling(at_most=2.0)))
    assert clock.slept == [2.0, 2.0, 0.5]


# --- 50: files elsewhere ---


@pytest.fixture
def storage() -> Iterator[RawServer]:
    headers = {"Content-Type": "application/fhir+ndjson"}
    with RawServer(lambda _: http(ndjson(*CONDITIONS), headers=headers)) as server:
        yield server


@pytest.mark.parametrize("status", [302, 303, 307, 308])
def test_fault_50_a_file_is_read_where_the_server_redirects_to(
    server: ExportServer, storage: RawServer, tmp_path: Path, status: int
) -> None:
    there = {"Location": f"{storage.origin}/c?signature=x"}
    server.faults["/file/Condition"] = lambda _: http(b"", status, there)
    report = night(server, tmp_path, auth=BearerAuth("s3cret"), allowed_origins=(storage.origin,))
    assert (report.status, current(tmp_path)) == ("ok", ALL)
    assert "authorization" in server.http.asked(path="/file/Condition")[0].headers
    (request,) = storage.requests
    assert (request.query, b"s3cret" in request.raw) == ({"signature": ["x"]}, False)


def test_fault_50_a_redirect_to_any_other_origin_is_refused(
    server: ExportServer, storage: RawServer, tmp_path: Path
) -> None:
    server.faults["/file/Condition"] = lambda _: http(b"", 307, {"Location": f"{storage.origin}/c?signature=x"})
    report = night(server, tmp_path, auth=BearerAuth("s3cret"), allowed_origins=("https://files.example",))
    assert (report.status, current(tmp_path), storage.requests) == ("partial", {"p0", "p1", "p2"}, [])
    assert report.messages == (
        (
            f"Condition file 2 of the export was not read: Condition file: {server.http.origin} redirects (307): "
            f"a request to {storage.origin} was refused, the site is {server.http.origin}: "
            "if its files lie there, add it to `allowed_origins`"
        ),
    )


@pytest.mark.parametrize("location", ["/fhir/login", "http://[", "file:///etc/passwd", "http://169.254.169.254/x"])
def test_fault_50_a_redirect_to_the_server_itself_or_to_nowhere_is_refused(
    server: ExportServer, tmp_path: Path, location: str
) -> None:
    server.faults["/file/Condition"] = lambda _: http(b"", 307, {"Location": location})
    report = night(server, tmp_path, allowed_origins=("https://files.example",))
    assert (report.status, current(tmp_path)) == ("partial", {"p0", "p1", "p2"})
    assert "(307)" in report.messages[0] or "is not an http(s) URL: refused" in report.messages[0]
    assert server.http.asked(path="login") == []


def test_fault_50_a_second_redirect_is_not_followed(server: ExportServer, tmp_path: Path) -> None:
    with RawServer(lambda request: http(b"", 307, {"Location": request.path})) as storage:
        server.faults["/file/Condition"] = lambda _: http(b"", 307, {"Location": f"{storage.origin}/c"})
        report = night(server, tmp_path, allowed_origins=(storage.origin,))
        assert (report.status, len(storage.requests)) == ("partial", 1)


def test_fault_44_an_origin_that_is_not_allowed_is_said_once(
    server: ExportServer, storage: RawServer, tmp_path: Path
) -> None:
    server.faults["/file/"] = lambda request: http(b"", 307, {"Location": f"{storage.origin}{request.path}"})
    report = night(server, tmp_path)
    (message,) = report.messages
    assert message.startswith("Patient file 1 of the export was not read")
    assert message.endswith("add it to `allowed_origins`")
    assert (report.status, storage.requests) == ("partial", [])


@pytest.mark.parametrize("status", [401, 403, 404, 409])
def test_fault_44_a_storage_that_wants_credentials_of_its_own_is_said_once(
    server: ExportServer, tmp_path: Path, status: int
) -> None:
    with RawServer(lambda _: http(b"<Error/>", status, {"Content-Type": "application/xml"})) as storage:
        links = [{"type": kind, "url": f"{storage.origin}/{kind}.ndjson"} for kind in ("Patient", "Condition")]
        server.manifest["output"] = links
        report = night(server, tmp_path, auth=BearerAuth("s3cret"), allowed_origins=(storage.origin,))
        assert not [request for request in storage.requests if b"s3cret" in request.raw]
    assert (report.status, server.jobs, server.deleted_jobs) == ("partial", 1, ["1"])
    (message,) = report.messages
    assert message.startswith(f"{storage.origin} does not give the files of the export ({status})")
    assert "kind = " in message


@pytest.mark.parametrize(("stated", "sent"), [({"requiresAccessToken": False}, False), ({}, True)])
def test_fault_50_the_token_goes_to_files_where_the_manifest_requires_it(
    server: ExportServer, tmp_path: Path, stated: dict[str, Any], sent: bool
) -> None:
    server.manifest = {"requiresAccessToken": True, **stated}
    assert night(server, tmp_path, auth=BearerAuth("s3cret")).status == "ok"
    files = server.http.asked(path="/file/")
    assert [("authorization" in request.headers) for request in files] == [sent, sent]


# --- 51: exports that take days, one kick-off, some patients ---

DAYS = {"transfer": TransferLimits(run=3600.0)}


def test_fault_51_an_export_of_days_is_asked_for_once(server: ExportServer, tmp_path: Path) -> None:
    server.pending = 100_000
    for day in range(6):
        with pytest.raises(DeferredError):
            night(server, tmp_path, float(day), **DAYS)
    server.pending = 0
    assert (night(server, tmp_path, 6.0, **DAYS).status, current(tmp_path)) == ("ok", ALL)
    assert (server.jobs, server.deleted_jobs) == (1, ["1"])


def test_fault_51_an_export_beyond_its_deadline_is_cancelled_and_said(server: ExportServer, tmp_path: Path) -> None:
    polling = Polling(deadline=36 * 3600.0)
    server.pending = 100_000
    for day in (0.0, 1.0):
        with pytest.raises(DeferredError):
            night(server, tmp_path, day, polling=polling, **DAYS)
    said = (
        "worked on it for more than 36 hours, so it was cancelled, and the next run asks anew: .*export_deadline_hours"
    )
    with pytest.raises(ServerError, match=said):
        night(server, tmp_path, 2.0, polling=polling, **DAYS)
    assert (server.jobs, server.deleted_jobs) == (1, ["1"])
    server.pending = 0
    assert night(server, tmp_path, 3.0, polling=polling, **DAYS).status == "ok"
    assert (server.jobs, server.deleted_jobs) == (2, ["1", "2"])


def test_fault_51_an_export_that_is_done_is_read_however_old(server: ExportServer, tmp_path: Path) -> None:
    server.pending = 100_000
    with pytest.raises(DeferredError):
        night(server, tmp_path, **DAYS)
    server.pending = 0
    assert (night(server, tmp_path, 30.0).status, server.jobs) == ("ok", 1)


def test_fault_51_changes_that_take_days_go_on_when_everything_is_due(server: ExportServer, tmp_path: Path) -> None:
    night(server, tmp_path)
    server.pending = 100_000
    with pytest.raises(DeferredError):
        night(server, tmp_path, 6.5, **DAYS)
    server.pending = 0
    report = night(server, tmp_path, 7.5)  # a week after the last export of everything
    assert (report.status, kick_offs(server), server.jobs) == ("ok", [], 2)
    night(server, tmp_path, 8.5)
    assert kick_offs(server) == [("Patient,Condition", False)]


def test_fault_51_the_resources_of_a_new_member_that_take_days_are_asked_for_once(
    server: ExportServer, tmp_path: Path
) -> None:
    night(server, tmp_path, **GROUP)
    server.files["Patient"] = ndjson(*PATIENTS, {"resourceType": "Patient", "id": "p9"})
    server.files["Condition"] = ndjson(*CONDITIONS, {"resourceType": "Condition", "id": "old"})
    waiting = lambda request: http(b"", 202) if request.path.endswith("/3") else None  # noqa: E731
    server.faults["/job/3"] = waiting
    report = night(server, tmp_path, 1.0, **GROUP, **DAYS)
    assert (report.status, kick_offs(server)) == ("partial", [("Patient", False), ("Condition", False)])
    del server.faults["/job/3"]
    report = night(server, tmp_path, 2.0, **GROUP)
    assert (report.status, kick_offs(server)) == ("ok", [("Patient", False)])
    assert current(tmp_path) == ALL | {"p9", "old"}


def test_fault_51_the_resources_of_a_new_member_that_fail_are_asked_for_in_full_again(
    server: ExportServer, tmp_path: Path
) -> None:
    night(server, tmp_path, **GROUP)
    server.files["Patient"] = ndjson(*PATIENTS, {"resourceType": "Patient", "id": "p9"})
    server.files["Condition"] = ndjson(*CONDITIONS, {"resourceType": "Condition", "id": "old"})
    server.faults["$export"] = lambda request: http(b"{}", 403) if "Condition" in request.query["_type"][0] else None
    assert night(server, tmp_path, 1.0, **GROUP).status == "partial"
    del server.faults["$export"]
    report = night(server, tmp_path, 2.0, **GROUP)
    assert (report.status, kick_offs(server)) == ("ok", [("Patient,Condition", False)])
    assert current(tmp_path) == ALL | {"p9", "old"}


def test_fault_51_a_full_sync_does_not_take_up_an_export_of_changes(server: ExportServer, tmp_path: Path) -> None:
    first = source(server, tmp_path)
    pull(first)
    server.pending = 100_000
    with pytest.raises(DeferredError):
        pull(source(server, tmp_path, **DAYS), cursor(first))
    server.pending = 0
    server.http.requests.clear()
    assert set(pull(source(server, tmp_path)).ids) == ALL
    assert (kick_offs(server), sorted(server.deleted_jobs)) == ([("Patient,Condition", False)], ["1", "2", "3"])


def test_fault_51_the_next_run_polls_no_earlier_than_the_server_asked(server: ExportServer, tmp_path: Path) -> None:
    server.pending, server.pending_headers = 1, {"Retry-After": "36000", "Date": ASKED}
    with pytest.raises(DeferredError):
        night(server, tmp_path, **DAYS)
    with pytest.raises(DeferredError):
        night(server, tmp_path, 0.1, **DAYS)
    assert server.http.requests == []
    assert (night(server, tmp_path, 0.5, **DAYS).status, server.jobs) == ("ok", 1)


def test_fault_51_one_kick_off_a_sync_of_a_group(server: ExportServer, tmp_path: Path) -> None:
    night(server, tmp_path, single_export=True, **GROUP)
    server.files["Condition"] = ndjson(*CONDITIONS, {"resourceType": "Condition", "id": "old"})
    report = night(server, tmp_path, 1.0, single_export=True, **GROUP)
    assert (report.status, kick_offs(server)) == ("ok", [("Patient,Condition", False)])
    assert current(tmp_path) == ALL | {"old"}


def test_fault_51_one_kick_off_a_sync_from_the_earliest_time_on(server: ExportServer, tmp_path: Path) -> None:
    night(server, tmp_path, types=("Patient",))
    night(server, tmp_path, 1.0, single_export=True)
    assert kick_offs(server) == [("Patient,Condition", False)]
    night(server, tmp_path, 2.0, single_export=True)
    assert kick_offs(server) == [("Patient,Condition", True)]


@pytest.mark.parametrize("fault", [("/file/Condition", 410), ("$export", 400)])
def test_fault_51_a_single_export_is_not_asked_for_twice(
    server: ExportServer, tmp_path: Path, fault: tuple[str, int]
) -> None:
    piece, status = fault
    server.faults[piece] = lambda request: http(b"{}", status)
    if status == 400:
        with pytest.raises(RefusedError, match="400"):
            night(server, tmp_path, single_export=True)
        assert {types for types, _ in kick_offs(server)} == {"Patient,Condition"}
    else:
        assert night(server, tmp_path, single_export=True).status == "partial"
        assert server.jobs == 1


def test_fault_51_the_patients_of_a_list_are_asked_for(server: ExportServer, tmp_path: Path) -> None:
    listed = {"level": "patient", "kick_off": "post", "patients": PatientList({"p0": 1, "p1": 2})}
    asked = source(server, tmp_path, **listed)
    pull(asked)
    (request,) = server.http.asked(path="$export")
    sent = [each for each in json.loads(request.body)["parameter"] if each["name"] == "patient"]
    assert (request.method, request.path) == ("POST", "/fhir/Patient/$export")
    assert [each["valueReference"] for each in sent] == [{"reference": "Patient/p0"}, {"reference": "Patient/p1"}]
    # Another list is another question: its patients are read from the beginning.
    assert asked.fingerprint != source(server, tmp_path, **{**listed, "patients": PatientList({"p0": 1})}).fingerprint
    shown = " ".join(each.url_shown for each in asked.plan(None))
    assert "p0" not in shown


# --- 52: many small files ---


def test_fault_52_many_files_of_one_line_from_a_busy_server(server: ExportServer, tmp_path: Path) -> None:
    """Every third request is too many, every twentieth fails at a gateway: each file is read once and whole."""
    patients = [{"resourceType": "Patient", "id": f"p{number}"} for number in range(200)]
    server.files = {f"Patient.{number}": ndjson(patient) for number, patient in enumerate(patients)}
    server.manifest["output"] = [{"type": "Patient", "url": f"{server.base}/file/{name}"} for name in server.files]
    refused: set[str] = set()

    def busy(request: Request) -> bytes | None:
        number = len(server.http.asked(path="/file/"))
        if request.path in refused or (number % 3 and number % 20):
            return None
        refused.add(request.path)
        return http(b"", 502 if number % 20 == 0 else 429)

    server.faults["/file/"] = busy
    report = night(server, tmp_path, types=("Patient",))
    assert (report.status, report.counts.received, report.counts.stored) == ("ok", 200, 200)
    assert len(refused) > 50
    assert len(server.http.asked(path="/file/")) == 200 + len(refused)
