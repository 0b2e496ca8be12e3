"""Nights against Medplum's FHIR router: a search server that is not HAPI, without `_history` and `_elements`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.report import SyncReport
from connectors.sources.search.dialect import Dialect
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource
from connectors.sync import sync_site
from tests.search_nights import TYPES, Resource, current

pytestmark = pytest.mark.medplum

OF_A_PATIENT = (("Patient", "", ""), ("Condition", "c-", ""), ("Observation", "o-", "-1"), ("Observation", "o-", "-2"))
Start = Callable[..., str]


class Hospital:
    """Patients of one test on the server, and the lake that follows them.

    code: of their cancer, and the beginning of their ids, because the tests share a server.
    """

    def __init__(self, base: str, folder: Path, http: httpx.Client, code: str) -> None:
        self.base, self.http, self.code = base, http, code
        self.lake, self.quarantine = Lake(folder / "lake"), Quarantine(folder / "quarantine")

    def put(self, patient: str, value: int, code: str = "") -> None:
        """Create or change a patient and what is known of him."""
        name = self.code + patient
        subject = {"reference": f"Patient/{name}"}
        coded = {"coding": [{"system": "http://snomed.info/sct", "code": code or self.code}]}
        self._put("Patient", name, multipleBirthInteger=value)
        self._put("Condition", f"c-{name}", code=coded, subject=subject)
        for number in (1, 2):
            self._put("Observation", f"o-{name}-{number}", valueInteger=value, subject=subject)

    def _put(self, kind: str, name: str, **elements: Any) -> None:
        body = {"resourceType": kind, "id": name, **elements}
        self.http.put(f"{self.base}/{kind}/{name}", json=body).raise_for_status()

    def delete(self, reference: str) -> None:
        self.http.delete(f"{self.base}/{reference}").raise_for_status()

    def sync(self, reconcile_days: float = 7.0) -> SyncReport:
        source = SearchSource(
            self.base,
            CohortQuery("Condition", (("code", self.code),)),
            TYPES,
            # More than one page, and more than one list of patients
            limits=SearchLimits(page_size=4, batch=3, reconcile_days=reconcile_days),
            dialect=Dialect(post=self.code == "post"),
            learns=True,
            stored=lambda: self.lake.patients("site"),
            texts=lambda kind: self.lake.texts("site", kind),
        )
        # A server of a dozen resources loses a large share of them where one patient is gone.
        return sync_site(source, self.lake, "site", self.quarantine, max_loss=1.0)

    def there(self, patients: str) -> dict[str, Resource]:
        """Return what the server has of these patients, read one by one."""
        names = [f"{kind}/{begin}{self.code}{each}{end}" for each in patients for kind, begin, end in OF_A_PATIENT]
        found = {name: self.http.get(f"{self.base}/{name}") for name in sorted(names)}
        return {name: answer.json() for name, answer in found.items() if answer.status_code == 200}


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """Return a client by which the tests fill the server."""
    with httpx.Client(timeout=20, trust_env=False, verify=False) as client:
        yield client


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_lake_is_what_the_server_has_after_each_night(
    medplum: Start, http: httpx.Client, tmp_path: Path, method: str
) -> None:
    hospital = Hospital(medplum(), tmp_path, http, method)
    for patient in "abcde":
        hospital.put(patient, 0)
    hospital.put("x", 0, "breast")
    first = hospital.sync()
    assert (first.status, first.counts.stored) == ("ok", 4 * 5), first.messages
    assert current(hospital.lake) == hospital.there("abcde")
    quiet = hospital.sync()
    assert (quiet.status, quiet.counts.stored) == ("ok", 0), quiet.messages
    hospital.put("a", 1)
    hospital.put("f", 0)
    changed = hospital.sync()
    assert (changed.status, changed.counts.stored) == ("ok", 8), changed.messages
    assert current(hospital.lake) == hospital.there("abcdef")
    # Nothing says what was deleted (no _history), so it shows when the ids are compared, each week.
    for name in ("o-{}c-1", "o-{}e-1", "o-{}e-2"):
        hospital.delete(f"Observation/{name.format(method)}")
    deleted = hospital.sync(reconcile_days=0.0)
    assert (deleted.status, deleted.removed) == ("ok", {"Observation": 3}), deleted.messages
    assert current(hospital.lake) == hospital.there("abcdef")


def test_pages_without_a_next_link_are_a_partial_sync_that_says_so(
    medplum: Start, http: httpx.Client, tmp_path: Path
) -> None:
    hospital = Hospital(medplum(next=False), tmp_path, http, "get")
    for patient in "abcde":
        hospital.put(patient, 0)
    report = hospital.sync()
    assert report.status == "partial"
    assert any("the server announced 5 resources, its pages held 4" in said for said in report.messages), report
