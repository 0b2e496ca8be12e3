"""An export from a server that does not have every type: asked again without it, told, and tried again in a week."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.errors import RefusedError, UnavailableError
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import SyncReport
from connectors.sources.bulk.job_file import Job, JobFile
from connectors.sync import sync_site
from tests.export_server import CONDITIONS, PATIENTS, ExportServer, FakeClock, cursor, pull, source
from tests.raw_server import Request, Wire, http, ndjson

TYPES = ("Patient", "Condition", "AdverseEvent", "DiagnosticReport")
OTHERS = ("Patient", "Condition", "DiagnosticReport")
HAD = {"Patient", "Condition"}
TOLD = "not at this site, so not asked for: {} (the server refuses to export them)"


@pytest.fixture
def server() -> Iterator[ExportServer]:
    server = ExportServer()
    yield server
    server.close()


def asked(request: Request) -> list[str]:
    return request.query["_type"][0].split(",")


def refusing(words: Callable[[list[str]], str]) -> Callable[[Request], bytes | Wire | None]:
    """Refuse a kick-off that asks for what is not there, in these words about the types that were asked for."""

    def fault(request: Request) -> bytes | None:
        if HAD.issuperset(asked(request)):
            return None
        issue = {"severity": "error", "code": "not-supported", "diagnostics": words(asked(request))}
        body = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()
        return http(body, 400, {"Content-Type": "application/fhir+json"})

    return fault


def kick_offs(server: ExportServer) -> list[list[str]]:
    return [asked(request) for request in server.http.requests if request.path.endswith("$export")]


def night(server: ExportServer, folder: Path, day: float = 0.0, types: tuple[str, ...] = TYPES) -> SyncReport:
    clock = FakeClock()
    clock.day = day
    lake, quarantine = Lake(folder / "lake"), Quarantine(folder / "quarantine")
    server.http.requests.clear()
    texts = lambda kind: lake.texts("site", kind)  # noqa: E731
    return sync_site(source(server, folder, clock, types=types, texts=texts), lake, "site", quarantine)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (lambda types: f"{', '.join(sorted({*types} - HAD))}: not supported", [TYPES, ("Patient", "Condition")]),
        (lambda _: "_type must be one of Patient, Condition", [TYPES, ("Patient", "Condition")]),
        # One at a time, in the order of the server.
        (
            lambda types: f"{max({*types} - HAD)} is not available for this export",
            [TYPES, ("Patient", "Condition", "AdverseEvent"), ("Patient", "Condition")],
        ),
        # It does not say which, so that each is asked for alone: strictly and leniently all together first.
        (lambda _: "a type is not supported", [TYPES, TYPES, *[(kind,) for kind in TYPES]]),
        # It always names the same one, and means two (Cerner's list of valid values is not even in the answer).
        (
            lambda _: "AdverseEvent is not available for this export",
            [TYPES, *[OTHERS] * 2, *[(kind,) for kind in OTHERS]],
        ),
    ],
)
def test_fault_34_an_export_is_asked_again_without_the_types_that_are_refused(
    server: ExportServer, tmp_path: Path, words: Callable[[list[str]], str], expected: list[tuple[str, ...]]
) -> None:
    server.faults["$export"] = refusing(words)
    report = night(server, tmp_path)
    assert [tuple(each) for each in kick_offs(server)] == expected
    assert (report.status, report.counts.stored, report.messages) == ("ok", 6, ())
    assert report.notes == (TOLD.format("AdverseEvent, DiagnosticReport"),)
    report = night(server, tmp_path, 1.0)
    assert (kick_offs(server), report.notes) == (
        [["Patient", "Condition"]],
        (TOLD.format("AdverseEvent, DiagnosticReport"),),
    )


def test_a_refused_type_is_tried_again_with_the_next_full_export(server: ExportServer, tmp_path: Path) -> None:
    server.faults["$export"] = refusing(lambda types: f"{types[-1]} is not supported")
    night(server, tmp_path)
    del server.faults["$export"]
    server.files["AdverseEvent"] = ndjson({"resourceType": "AdverseEvent", "id": "e"})
    assert night(server, tmp_path, 6.0).counts.stored == 0
    report = night(server, tmp_path, 7.5)
    assert (kick_offs(server), report.counts.stored) == ([list(TYPES)], 1)
    assert report.notes == (
        "of DiagnosticReport the site gave nothing, although everything was asked for: it has none, or may not give it",
    )


def test_fault_34_a_type_that_is_gone_makes_the_site_partial_and_is_not_taken_as_deleted(
    server: ExportServer, tmp_path: Path
) -> None:
    server.files["AdverseEvent"] = ndjson({"resourceType": "AdverseEvent", "id": "e"})
    night(server, tmp_path, types=(*HAD, "AdverseEvent"))
    del server.files["AdverseEvent"]
    server.files["Condition"] = ndjson(*CONDITIONS[:2])
    server.faults["$export"] = refusing(lambda _: "AdverseEvent is not supported")
    report = night(server, tmp_path, 8.0, types=("Patient", "Condition", "AdverseEvent"))
    assert (report.status, report.removed) == ("partial", {"Condition": 1})
    assert report.messages[0].startswith("AdverseEvent: the site no longer has this type")
    # Left out by the settings it is no problem, and still not deleted.
    report = night(server, tmp_path, 16.0, types=("Patient", "Condition"))
    assert (report.status, report.removed) == ("ok", {})


def test_a_lake_of_an_older_version_exports_the_new_types_alone_in_full(server: ExportServer, tmp_path: Path) -> None:
    night(server, tmp_path, types=("Patient", "Condition"))
    server.files["Medication"] = ndjson({"resourceType": "Medication", "id": "m"})
    report = night(server, tmp_path, 1.0, types=("Patient", "Condition", "Medication"))
    exports = [request for request in server.http.requests if request.path.endswith("$export")]
    assert [(asked(each), "_since" in each.query) for each in exports] == [
        (["Patient", "Condition"], True),
        (["Medication"], False),
    ]
    assert (report.status, report.by_type["Medication"].stored, report.without_patient) == ("ok", 1, {})


def test_medications_that_are_not_exported_are_read_by_search(server: ExportServer, tmp_path: Path) -> None:
    """As with HAPI, which exports none of a Group: they are about no patient."""
    types = ("Patient", "Condition", "MedicationAdministration", "Medication")
    versions = {"m1": "a", "m2": "a"}

    def dose(number: int) -> dict[str, object]:
        reference = {"reference": f"Medication/m{number}"}
        return {"resourceType": "MedicationAdministration", "id": f"d{number}", "medicationReference": reference}

    def search(request: Request) -> bytes | None:
        if not request.path.endswith("/Medication"):
            return None
        searched.append(request.query["_id"][0])
        ids = searched[-1].split(",")
        found = [
            {"resourceType": "Medication", "id": id_, "code": {"text": versions[id_]}} for id_ in ids if id_ in versions
        ]
        bundle: dict[str, object] = {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
        bundle |= {"entry": [{"resource": each} for each in found]}
        return http(json.dumps(bundle).encode(), headers={"Content-Type": "application/fhir+json"})

    def refuse(request: Request) -> bytes | Wire | None:
        if "Medication" not in asked(request):
            return None
        text = '"Resource type Medication is not a supported resource type!"'
        outcome = f'{{"resourceType": "OperationOutcome", "issue": [{{"diagnostics": {text}}}]}}'
        return http(outcome.encode(), 400, {"Content-Type": "application/fhir+json"})

    searched: list[str] = []
    server.faults["$export"] = refuse
    server.faults["/Medication"] = search
    server.files["MedicationAdministration"] = ndjson(dose(1))
    report = night(server, tmp_path, types=types)
    assert (report.status, report.notes, searched) == ("ok", (), ["m1"])
    server.files["MedicationAdministration"] = ndjson(dose(1), dose(2))
    report = night(server, tmp_path, 1.0, types)
    assert (report.by_type["Medication"].stored, searched) == (1, ["m1", "m2"])
    versions["m1"] = "b"
    server.files["MedicationAdministration"] = ndjson(dose(2))
    report = night(server, tmp_path, 8.0, types)  # in full: also those that only the lake refers to
    assert (report.by_type["Medication"].stored, searched) == (1, ["m1", "m2", "m1,m2"])
    assert (report.status, report.removed) == ("ok", {"MedicationAdministration": 1})


def test_medications_that_may_not_be_searched_are_told(server: ExportServer, tmp_path: Path) -> None:
    server.faults["$export"] = lambda request: http(b"{}", 400) if "Medication" in asked(request) else None
    server.faults["/Medication"] = lambda request: http(b"{}", 403) if request.path.endswith("/Medication") else None
    reference = {"reference": "Medication/m1"}
    dose = {"resourceType": "MedicationAdministration", "id": "d1", "medicationReference": reference}
    server.files["MedicationAdministration"] = ndjson(dose)
    report = night(server, tmp_path, types=("Patient", "Condition", "MedicationAdministration", "Medication"))
    assert (report.status, len(report.notes)) == ("ok", 2)
    assert report.notes[0].startswith("1 Medications that drugs refer to are not exported, and a search failed")
    assert report.notes[1] == TOLD.format("Medication")


def test_a_job_in_progress_remembers_what_was_left_out(server: ExportServer, tmp_path: Path) -> None:
    server.faults["$export"] = refusing(lambda types: f"{types[-1]} is not supported")
    polled = server.faults.setdefault("/job/", lambda _: http(status=500))
    with pytest.raises(UnavailableError):
        night(server, tmp_path)
    (file,) = (tmp_path / "jobs").glob("site-*.json")
    job = JobFile(file).load()
    assert isinstance(job, Job)
    assert job.left_out == ("AdverseEvent", "DiagnosticReport")
    assert server.faults.pop("/job/") is polled
    report = night(server, tmp_path)
    assert (kick_offs(server), report.counts.stored) == ([], 6)
    assert report.notes == (TOLD.format("AdverseEvent, DiagnosticReport"),)


def test_an_outcome_of_a_lenient_export_that_names_an_unknown_type(server: ExportServer, tmp_path: Path) -> None:
    issue = {"severity": "error", "code": "not-supported", "diagnostics": "Unknown resource type AdverseEvent"}
    server.files["outcome"] = ndjson({"resourceType": "OperationOutcome", "issue": [issue]})
    server.manifest = {
        "output": [server.item(kind) for kind in ("Patient", "Condition")],
        "error": [server.item("outcome", type="OperationOutcome")],
    }
    report = night(server, tmp_path, types=("Patient", "Condition", "AdverseEvent"))
    assert (report.status, report.notes) == ("ok", (TOLD.format("AdverseEvent"),))


def test_where_not_even_patients_are_exported_the_site_fails(server: ExportServer, tmp_path: Path) -> None:
    server.faults["$export"] = lambda _: http(b"{}", 400)
    with pytest.raises(RefusedError, match="400"):
        night(server, tmp_path)


def test_a_filter_is_sent_with_the_export_of_its_type(server: ExportServer, tmp_path: Path) -> None:
    before = source(server, tmp_path, types=("Patient",))
    pull(before)
    later = source(server, tmp_path, types=("Patient", "Condition"), type_filter=("Condition?code=x",))
    pull(later, cursor(before))
    *_, patients, conditions = [each.query for each in server.http.requests if each.path.endswith("$export")]
    assert ("_typeFilter" in patients, conditions.get("_typeFilter")) == (False, ["Condition?code=x"])
    assert len(PATIENTS) == 3
