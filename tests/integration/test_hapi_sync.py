"""Search against a real HAPI FHIR server: paging, versions, accounting, what stays outside the cohort."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.http.authenticators import NoAuth
from connectors.http.client import FhirClient
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import Counts, SyncReport
from connectors.sources.folder import FolderSource
from connectors.sources.search.dialect import Dialect, by_patient
from connectors.sources.search.group import read_members
from connectors.sources.search.listed import PatientGroup
from connectors.sources.search.paging import Paging
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource
from connectors.sync import sync_site
from schedules.cli.main import main
from schedules.cli.session import Session

pytestmark = pytest.mark.hapi

SYSTEM = "http://example.org/cancers"  # a code system of this test, because other tests load this server too
COHORT, OTHER = "lung", "breast"
PATIENTS = 23
TYPES = ("Patient", "Condition", "Observation", "AdverseEvent", "Procedure")


def resources(patient: str, code: str) -> list[dict[str, Any]]:
    """A patient with a condition, three observations (a decimal that ends in 0) and an adverse event."""
    subject = {"reference": f"Patient/{patient}"}
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "size"},
        "subject": subject,
        "valueQuantity": {"value": 0},
    }
    return [
        {"resourceType": "Patient", "id": patient, "gender": "female"},
        {
            "resourceType": "Condition",
            "id": f"{patient}-c",
            "code": {"coding": [{"system": SYSTEM, "code": code}]},
            "subject": subject,
        },
        *({**observation, "id": f"{patient}-o{n}"} for n in range(3)),
        {"resourceType": "AdverseEvent", "id": f"{patient}-ae", "actuality": "actual", "subject": subject},
    ]


def put(base: str, *items: dict[str, Any]) -> None:
    """Transaction of PUTs; the decimal is written as text, because 1.10 must arrive as 1.10."""
    entries = [
        {"resource": item, "request": {"method": "PUT", "url": f"{item['resourceType']}/{item['id']}"}}
        for item in items
    ]
    bundle = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    body = bundle.replace('"valueQuantity": {"value": 0}', '"valueQuantity": {"value": 1.10}')
    headers = {"Content-Type": "application/fhir+json"}
    httpx.post(base, content=body, headers=headers, timeout=120, trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def loaded(hapi: str) -> str:
    """23 patients of the cohort and 2 with another cancer."""
    cohort = [item for n in range(PATIENTS) for item in resources(f"sync-p{n}", COHORT)]
    others = [item for n in range(2) for item in resources(f"sync-x{n}", OTHER)]
    put(hapi, *cohort, *others)
    return hapi


def sync(base: str, data: Path, limits: SearchLimits) -> SyncReport:
    cohort = CohortQuery("Condition", (("code", f"{SYSTEM}|{COHORT}"),))
    source = SearchSource(base, cohort, TYPES, limits=limits)
    return sync_site(source, Lake(data / "lake"), "hapi", Quarantine(data / "quarantine"))


def rows(data: Path) -> list[dict[str, Any]]:
    columns = ["id", "version_id", "last_updated", "patient", "sync", "resource"]
    return [row for batch in Lake(data / "lake").rows("hapi", columns) for row in batch.to_pylist()]


def test_a_cohort_from_first_sync_to_a_changed_resource(loaded: str, tmp_path: Path) -> None:
    limits = SearchLimits(page_size=7, batch=10)  # 3 batches, and up to 5 pages for the observations of one
    report = sync(loaded, tmp_path, limits)
    assert (report.status, report.messages, report.without_patient) == ("ok", (), {})
    assert report.by_type == {
        "AdverseEvent": Counts(received=PATIENTS, stored=PATIENTS),
        "Condition": Counts(received=PATIENTS, stored=PATIENTS),
        "Observation": Counts(received=3 * PATIENTS, stored=3 * PATIENTS),
        "Patient": Counts(received=PATIENTS, stored=PATIENTS),
    }
    stored = rows(tmp_path)
    assert {row["patient"] for row in stored} == {f"sync-p{n}" for n in range(PATIENTS)}
    assert {row["version_id"] for row in stored} == {"1"}
    assert all(row["last_updated"] for row in stored)
    sizes = [row["resource"] for row in stored if "-o" in row["id"]]
    assert all(re.search(r'"value": ?1\.10\b', text) for text in sizes)
    cursor = Lake(tmp_path / "lake").cursor("hapi")
    assert cursor is not None
    assert (cursor.sync_number, cursor.complete, cursor.server_time is not None) == (1, True, True)

    again = sync(loaded, tmp_path, SearchLimits())  # other pages, other batches: the same resources
    assert again.counts == Counts(received=6 * PATIENTS, identical=6 * PATIENTS)
    assert Lake(tmp_path / "lake").sync_number() == 1

    put(loaded, {**resources("sync-p3", COHORT)[0], "gender": "male"})
    changed = sync(loaded, tmp_path, limits)
    assert changed.counts == Counts(received=6 * PATIENTS, stored=1, identical=6 * PATIENTS - 1)
    newest = [(row["id"], row["version_id"]) for row in rows(tmp_path) if row["sync"] == 2]
    assert newest == [("sync-p3", "2")]


def test_the_members_of_a_group_by_post_give_the_lake_of_a_cohort_query(loaded: str, tmp_path: Path) -> None:
    members = [{"entity": {"reference": f"Patient/sync-p{number}"}} for number in range(PATIENTS)]
    left = {"entity": {"reference": "Patient/sync-x0"}, "inactive": True}
    put(loaded, {"resourceType": "Group", "id": "sync-g", "type": "person", "actual": True, "member": [*members, left]})
    sync(loaded, tmp_path / "query", SearchLimits())
    cohort = CohortQuery("Condition", (("code", "unused"),))
    dialect = Dialect(by_patient=by_patient(TYPES), post=True)
    limits = SearchLimits(page_size=7, batch=10)
    source = SearchSource(loaded, cohort, TYPES, limits=limits, dialect=dialect, named=PatientGroup("sync-g"))
    report = sync_site(source, Lake(tmp_path / "group" / "lake"), "hapi", Quarantine(tmp_path / "group" / "quarantine"))
    assert (report.status, report.messages, report.notes) == ("ok", (), ())
    found, wanted = ({(row["id"], row["version_id"]) for row in rows(tmp_path / name)} for name in ("group", "query"))
    assert found == wanted


def test_a_group_that_describes_its_members_is_searched_for_them(loaded: str) -> None:
    members = [{"entity": {"reference": f"Patient/sync-p{number}"}} for number in range(3)]
    put(loaded, {"resourceType": "Group", "id": "sync-d", "type": "person", "actual": False, "member": members})
    limits = SearchLimits(ids=1)
    with FhirClient(loaded, NoAuth()) as client:
        found = read_members(client, Paging(client, limits), "sync-d", limits)
    assert (sorted(found.patients), found.problems) == (["sync-p0", "sync-p1", "sync-p2"], ())


def test_a_pull_into_a_folder_gives_the_lake_of_a_search(loaded: str, tmp_path: Path) -> None:
    sync(loaded, tmp_path / "search", SearchLimits())
    searched = {(row["id"], row["version_id"], row["patient"]) for row in rows(tmp_path / "search")}
    (tmp_path / "ids").write_text("\n".join({row["patient"] for row in rows(tmp_path / "search")}))
    out, err = io.StringIO(), io.StringIO()
    options = ["--type", ",".join(TYPES), "--out", str(tmp_path / "out"), "--ids", str(tmp_path / "ids")]
    assert main(["pull", loaded, *options], Session(out, err, {})) == 0
    lake, aside = Lake(tmp_path / "folder" / "lake"), Quarantine(tmp_path / "folder" / "quarantine")
    report = sync_site(FolderSource(tmp_path / "out"), lake, "hapi", aside)
    assert (report.status, report.counts.quarantined, err.getvalue()) == ("ok", 0, "")
    assert {(row["id"], row["version_id"], row["patient"]) for row in rows(tmp_path / "folder")} == searched
