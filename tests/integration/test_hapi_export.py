"""$export from the real HAPI server gives what paged search gives, and from the cohort's Group nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from analytics.results import as_json
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import Counts, Progress, SyncReport
from connectors.sources.bulk.job import KickOff, Polling
from connectors.sources.bulk.request import Level
from connectors.sources.bulk.source import BulkSource
from connectors.sync import sync_site
from schedules.config.site_settings import BulkSite, SearchSite
from schedules.run.sources import TYPES
from tests.cohorts import ALNEO, TABLES, Ran, put_alneo, run
from tests.integration.conftest import running_hapi

pytestmark = pytest.mark.hapi

GROUP, SMALL = "export-alneo", "export-small"


def patients() -> list[str]:
    """The patients whose cancer the cohort query asks for: all but DEC-03."""
    lines = (ALNEO / "Patient.ndjson").read_text().splitlines()
    return [each for line in lines if (each := json.loads(line)["id"]) != "DEC-03"]


def put(base: str, resource: dict[str, Any]) -> None:
    url = f"{base}/{resource['resourceType']}/{resource['id']}"
    httpx.put(url, json=resource, timeout=120, trust_env=False).raise_for_status()


def put_group(base: str, name: str, members: list[str]) -> None:
    entities = [{"entity": {"reference": f"Patient/{each}"}} for each in members]
    put(base, {"resourceType": "Group", "id": name, "type": "person", "actual": True, "member": entities})


@pytest.fixture(scope="module")
def loaded(hapi: str) -> str:
    put_alneo(hapi)
    put_group(hapi, GROUP, patients())
    return hapi


@pytest.fixture(scope="module")
def searched(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(tmp_path_factory.mktemp("searched"), SearchSite(name="milan", kind="search", url=loaded))


@pytest.fixture(scope="module")
def exported(loaded: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    site = BulkSite(name="milan", kind="bulk", url=loaded, level="group", group=GROUP, max_poll_seconds=1)
    return run(tmp_path_factory.mktemp("exported"), site)


def stored(ran: Ran) -> dict[tuple[str, str], str]:
    """The digest of every resource in the lake."""
    columns = ["resource_type", "id", "digest"]
    lake = Lake(ran.settings.lake_dir)
    rows = [row for batch in lake.rows("milan", columns) for row in batch.to_pylist()]
    return {(row["resource_type"], row["id"]): row["digest"] for row in rows}


def test_the_lake_is_the_same_by_export_and_by_search(exported: Ran, searched: Ran) -> None:
    assert (exported.sync.status, exported.sync.messages) == ("ok", ())
    assert stored(exported) == stored(searched)
    assert "DEC-03" not in {id_ for _, id_ in stored(exported)}


@pytest.mark.parametrize("cut", [None, "later_cut"])
@pytest.mark.parametrize("name", TABLES)
def test_cohort_tables_are_the_same(exported: Ran, searched: Ran, name: str, cut: str | None) -> None:
    pd.testing.assert_frame_equal(exported.table(name, cut), searched.table(name, cut))


def test_results_are_the_same(exported: Ran, searched: Ran) -> None:
    assert as_json(exported.released, 1) == as_json(searched.released, 1)


def sync(
    base: str, folder: Path, kick_off: KickOff = "get", level: Level = "group", **options: Any
) -> tuple[SyncReport, list[Progress]]:
    group = options.pop("group", SMALL if level == "group" else None)
    polling = Polling(at_most=1.0)  # HAPI asks for 120 s
    source = BulkSource(
        base, TYPES, "hapi", folder / "jobs", level, group, kick_off=kick_off, polling=polling, **options
    )
    told: list[Progress] = []
    report = sync_site(source, Lake(folder / "lake"), "hapi", Quarantine(folder / "quarantine"), told.append)
    assert list((folder / "jobs").iterdir()) == []
    return report, told


def patient(number: int, **members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": f"export-p{number}", **members}


def condition(number: int) -> dict[str, Any]:
    subject = {"reference": f"Patient/export-p{number}"}
    return {"resourceType": "Condition", "id": f"export-c{number}", "subject": subject}


@pytest.mark.parametrize("kick_off", ["get", "post"])
def test_nights_of_a_group(hapi: str, tmp_path: Path, kick_off: KickOff) -> None:
    """Everything; nothing new; one change; a new member whose resources are old."""
    for number in range(4):
        put(hapi, patient(number))
        put(hapi, condition(number))
    group = f"{SMALL}-{kick_off}"
    put_group(hapi, group, ["export-p0", "export-p1", "export-p2"])
    first, told = sync(hapi, tmp_path, kick_off, group=group)
    assert (first.status, first.messages) == ("ok", ())
    assert first.counts == Counts(received=6, stored=6)
    assert any("prepares the export" in progress.note for progress in told)

    again, _ = sync(hapi, tmp_path, kick_off, group=group)
    assert (again.status, again.counts.stored) == ("ok", 0)

    put(hapi, patient(1, gender="female", language=f"x-{kick_off}"))
    changed, _ = sync(hapi, tmp_path, kick_off, group=group)
    assert (changed.status, changed.counts.stored) == ("ok", 1)

    put_group(hapi, group, ["export-p0", "export-p1", "export-p2", "export-p3"])
    joined, _ = sync(hapi, tmp_path, kick_off, group=group)
    assert (joined.status, joined.counts.stored) == ("ok", 2)


@pytest.mark.parametrize("level", ["group", "system"])
def test_medications_come_with_every_level(hapi: str, tmp_path: Path, level: Level) -> None:
    """With a Group HAPI exports none, so the one that a dose refers to is searched for."""
    put(hapi, patient(20))
    for number in (1, 2):
        put(hapi, {"resourceType": "Medication", "id": f"export-m{number}", "code": {"text": "alectinib"}})
    dose = {"resourceType": "MedicationAdministration", "id": "export-d", "status": "completed"}
    reference = {"medicationReference": {"reference": "Medication/export-m1"}, "effectiveDateTime": "2024-01-01"}
    put(hapi, {**dose, **reference, "subject": {"reference": "Patient/export-p20"}})
    options = {"group": f"{SMALL}-drugs"} if level == "group" else {}
    put_group(hapi, f"{SMALL}-drugs", ["export-p20"])
    report, _ = sync(hapi, tmp_path, level=level, **options)
    assert (report.status, report.messages, report.without_patient) == ("ok", (), {})
    (told,) = report.notes  # of the types that nobody has
    assert "Medication" not in told.removeprefix("of ").partition(" the site gave nothing")[0].split(", ")
    stored = [id_ for id_, _ in Lake(tmp_path / "lake").texts("hapi", "Medication")]
    assert sorted(each for each in stored if each.startswith("export-")) == (
        ["export-m1"] if level == "group" else ["export-m1", "export-m2"]
    )


def test_levels_and_a_type_filter(loaded: str, tmp_path: Path) -> None:
    """System and patient level give the cohort and more; a filter narrows one type."""
    wanted = set(patients())
    for level in ("system", "patient"):
        report, _ = sync(loaded, tmp_path / level, level=level)
        assert (report.status, report.messages) == ("ok", ())
        rows = [row for batch in Lake(tmp_path / level / "lake").rows("hapi", ["id"]) for row in batch.to_pylist()]
        found = {row["id"] for row in rows if row["resource_type"] == "Patient"}
        assert found > wanted
    report, _ = sync(loaded, tmp_path / "filtered", level="patient", type_filter=("Patient?_id=DEC-03",))
    assert report.by_type["Patient"].received == 1


def test_a_server_that_calls_itself_by_another_name(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As behind a gateway: the poll URL and the files of the manifest name a host that cannot be reached from here."""
    options = {"HEAP": "600m", "OPTS": "-Dfhir.base=https://inner.hospital.example/app/r4"}
    with running_hapi(tmp_path_factory.mktemp("renamed"), **options) as base:
        put(base, patient(1))
        put(base, condition(1))
        report, _ = sync(base, tmp_path, level="system")
    assert (report.status, report.messages, report.counts.stored) == ("ok", (), 2)
