"""Incremental nights against a real HAPI FHIR server: quiet ones, deletions, updates, forgotten searches."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import SyncReport
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource
from connectors.sync import sync_site

pytestmark = pytest.mark.hapi

SYSTEM = "http://example.org/incremental"  # a code system of this test, because other tests load this server too
TYPES = ("Patient", "Condition", "Observation", "AdverseEvent")
PATIENTS = 12
FHIR = {"Content-Type": "application/fhir+json"}


class Wire(httpx.HTTPTransport):
    """The network, with the requests that went over it, and something that may happen before one of them."""

    def __init__(self, before: Callable[[int, httpx.Request], httpx.Request] = lambda _, request: request) -> None:
        super().__init__(trust_env=False)
        self.urls: list[str] = []
        self.before = before

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(str(request.url))
        return super().handle_request(self.before(len(self.urls), request))


class Hospital:
    """Patients of one test on the server, and the lake that follows them."""

    def __init__(self, base: str, folder: Path, name: str) -> None:
        self.base, self.name = base, name
        self.lake, self.quarantine = Lake(folder / "lake"), Quarantine(folder / "quarantine")

    def put(self, resource: dict[str, Any]) -> None:
        url = f"{self.base}/{resource['resourceType']}/{resource['id']}"
        httpx.put(url, json=resource, headers=FHIR, timeout=60, trust_env=False).raise_for_status()

    def delete(self, reference: str) -> None:
        httpx.delete(f"{self.base}/{reference}", timeout=60, trust_env=False).raise_for_status()

    def patient(self, n: int) -> None:
        name = f"{self.name}-{n}"
        subject = {"reference": f"Patient/{name}"}
        coding = [{"system": SYSTEM, "code": self.name}]
        self.put({"resourceType": "Patient", "id": name})
        self.put({"resourceType": "Condition", "id": f"{name}-c", "code": {"coding": coding}, "subject": subject})
        self.observe(n, 0)

    def observe(self, n: int, value: int) -> None:
        name = f"{self.name}-{n}"
        subject = {"reference": f"Patient/{name}"}
        code = {"text": "size"}
        observation = {"resourceType": "Observation", "status": "final", "code": code, "subject": subject}
        self.put({**observation, "id": f"{name}-o", "valueInteger": value})

    def sync(self, wire: Wire | None = None, **limits: Any) -> SyncReport:
        self.wire = wire or Wire()
        source = SearchSource(
            self.base,
            CohortQuery("Condition", (("code", f"{SYSTEM}|{self.name}"),)),
            TYPES,
            limits=SearchLimits(**{"overlap": 0.0, **limits}),
            http_transport=self.wire,
            stored=lambda: self.lake.patients("hapi"),
        )
        return sync_site(source, self.lake, "hapi", self.quarantine)

    def values(self) -> dict[str, str]:
        """The current observations: the id without the name of the test -> value."""
        newest: dict[str, tuple[tuple[str, int], str | None]] = {}
        for batch in self.lake.rows("hapi", ["id", "last_updated", "sync", "deleted", "resource"]):
            for row in batch.to_pylist():
                if row["resource_type"] == "Observation":
                    order = (row["last_updated"], row["sync"])
                    if row["id"] not in newest or order > newest[row["id"]][0]:
                        newest[row["id"]] = (order, None if row["deleted"] else row["resource"])
        found = {id_: text for id_, (_, text) in newest.items() if text is not None}
        number = re.compile(r'"valueInteger": ?(\d+)')
        return {id_.removeprefix(f"{self.name}-"): number.findall(text)[0] for id_, text in sorted(found.items())}


@pytest.fixture
def hospital(hapi: str, tmp_path: Path) -> Hospital:
    hospital = Hospital(hapi, tmp_path, f"inc{uuid.uuid4().hex[:8]}")
    for n in range(PATIENTS):
        hospital.patient(n)
    return hospital


def test_a_quiet_night_is_one_request_a_type_and_the_cohort_query(hospital: Hospital) -> None:
    first = hospital.sync(batch=5)
    assert (first.status, first.counts.stored, first.announced["Patient"]) == ("ok", 3 * PATIENTS, PATIENTS)
    for _ in range(50):  # until the second in which everything was loaded is over
        report = hospital.sync(batch=5)
        if len(hospital.wire.urls) <= 1 + len(TYPES):
            break
    asked = sorted(url.partition("?")[0].removeprefix(hospital.base) for url in hospital.wire.urls)
    # there is no AdverseEvent, so nothing is known of its history: three batches of patients are asked for instead
    assert asked[:3] == ["/AdverseEvent"] * 3 or asked[0] == "/AdverseEvent/_history"
    assert {"/Patient/_history", "/Observation/_history", "/Condition/_history", "/Condition"} <= set(asked)
    assert report.counts.stored == 0
    assert hospital.lake.sync_number() == 1


def test_fault_16_a_deletion_shows_in_the_history(hospital: Hospital) -> None:
    hospital.sync()
    hospital.delete(f"Observation/{hospital.name}-3-o")
    hospital.observe(4, 7)
    report = hospital.sync()
    assert (report.status, report.deleted, report.removed) == ("ok", {"Observation": 1}, {})
    assert "3-o" not in hospital.values()
    assert hospital.values()["4-o"] == "7"
    hospital.observe(3, 8)
    hospital.sync()
    assert hospital.values()["3-o"] == "8"


def test_fault_16_a_full_sync_finds_what_is_gone(hospital: Hospital) -> None:
    hospital.sync()
    hospital.delete(f"Observation/{hospital.name}-3-o")
    report = hospital.sync(history=0, reconcile_days=0.0)  # as from a server that tells no deletions
    assert (report.status, report.removed) == ("ok", {"Observation": 1})
    assert "_elements=id" in " ".join(hospital.wire.urls)
    assert "3-o" not in hospital.values()


def test_fault_17_an_update_during_paging_is_there_after_the_next_sync(hospital: Hospital) -> None:
    def update(number: int, request: httpx.Request) -> httpx.Request:
        if number in (5, 8):
            hospital.observe(number, 1)
        return request

    first = hospital.sync(Wire(update), page_size=4, streams=1)
    assert first.counts.received == first.counts.stored + first.counts.identical + first.counts.superseded
    hospital.sync()
    expected = {f"{n}-o": "1" if n in (5, 8) else "0" for n in range(PATIENTS)}
    assert hospital.values() == dict(sorted(expected.items(), key=lambda item: f"{hospital.name}-{item[0]}"))


def test_fault_13_a_search_that_the_server_forgot_begins_again(hospital: Hospital) -> None:
    forgotten: list[int] = []

    def forget(number: int, request: httpx.Request) -> httpx.Request:
        pages = request.url.params.get("_getpages")
        if pages is None or forgotten:
            return request
        forgotten.append(number)
        url = request.url.copy_set_param("_getpages", str(uuid.uuid4()))  # HAPI does not know it: 410
        return httpx.Request("GET", url, headers=request.headers)

    report = hospital.sync(Wire(forget), page_size=5, streams=1)
    assert (report.status, report.counts.stored, len(forgotten)) == ("ok", 3 * PATIENTS, 1)


def test_a_search_that_the_server_still_remembers_is_asked_anew(hospital: Hospital) -> None:
    """HAPI gives the old answer to the same search for a minute, unless it is told not to."""
    hospital.sync()
    hospital.patient(PATIENTS)
    assert hospital.sync().by_type["Patient"].stored == 1
