"""`periop sync --dry-run`: what it prints is what a sync then asks, and it stores nothing."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from schedules.cli.main import main
from schedules.cli.session import Session
from tests.fhir_stub import CHANGED, FHIR_JSON, FhirStub, Reply, Request, fhir_stub, outcome

LUNG = {"coding": [{"system": "http://snomed.info/sct", "code": "254637007"}]}
PATIENTS = 3
CONFIG = """
[[sites]]
name = "milan"
kind = "{kind}"
url = "{url}"
[limits]
patients_per_request = 2
"""


@pytest.fixture
def server() -> Iterator[FhirStub]:
    """Three patients of the cohort, each with a condition and two observations."""
    with fhir_stub() as stub:
        meta = {"lastUpdated": CHANGED, "versionId": "1"}
        for number in range(PATIENTS):
            patient = f"secret-patient-{number}"
            subject = {"reference": f"Patient/{patient}"}
            stub.put({"resourceType": "Patient", "id": patient, "meta": meta})
            stub.put({"resourceType": "Condition", "id": f"c{number}", "meta": meta, "code": LUNG, "subject": subject})
            for each in "ab":
                made = {"resourceType": "Observation", "id": f"o{number}{each}", "meta": meta, "subject": subject}
                stub.put({**made, "status": "final"})
        yield stub


class Terminal:
    """Runs `periop` in a folder and keeps what came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "periop.toml"
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        code = main(["--config", str(self.config), *arguments], Session(out, err, {}))
        self.out, self.err = out.getvalue(), err.getvalue()
        assert "secret-patient" not in self.out + self.err
        return code

    def plan(self, *arguments: str) -> dict[str, Any]:
        self("sync", "--dry-run", "--json", *arguments)
        (site,) = json.loads(self.out)["sites"]
        assert isinstance(site, dict)
        return site


@pytest.fixture
def periop(tmp_path: Path, server: FhirStub) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.config.write_text(CONFIG.format(kind="search", url=server.base))
    return terminal


Asked = tuple[str, tuple[tuple[str, str], ...]]


def planned(plan: dict[str, Any]) -> list[Asked]:
    """What is planned: path and parameters."""
    return sorted(
        (urlsplit(each["url"]).path.removeprefix("/fhir/"), tuple(parse_qsl(urlsplit(each["url"]).query)))
        for each in plan["requests"]
    )


def hidden(name: str, value: str) -> str:
    number = len(value.split(","))
    patients = "1 patient" if number == 1 else f"{number} patients"
    return {"subject": f"Patient/…({patients})", "_id": f"…({patients})"}.get(name, value)


def asked(server: FhirStub) -> list[Asked]:
    """What the server was asked, with the patients left out as a plan leaves them out."""
    return sorted(
        (request.path, tuple((name, hidden(name, value)) for name, value in request.params.items()))
        for request in server.requests
    )


def test_the_plan_is_what_a_first_sync_asks(server: FhirStub, periop: Terminal) -> None:
    plan = periop.plan()
    server.requests.clear()
    assert periop("sync") == 0
    came = {"Patient", "Condition", "Observation"}  # of the others nothing came, so nothing is asked about them
    sure = [
        each
        for each in plan["requests"]
        if "if any of it came" not in each["what"] or each["what"].split()[2].rstrip(",") in came
    ]
    assert planned({"requests": sure}) == asked(server)


@pytest.mark.parametrize("history", [True, False])
def test_the_plan_of_the_second_night_is_what_it_asks(server: FhirStub, periop: Terminal, history: bool) -> None:
    """Nothing has changed. Where the history says so, changes are not even asked for."""
    server.history = history
    periop("sync")
    plan = periop.plan()
    changes = [each for each in plan["requests"] if "_lastUpdated=ge" in each["url"]]
    assert [each["expected"] for each in changes] == [0] * 6  # 2 batches of patients, 3 types
    assert {each["what"].endswith(", unless its history is empty") for each in changes} == {history}
    asks = [e for e in plan["requests"] if not e["what"].endswith((", if any of it came", "its history is empty"))]
    server.requests.clear()
    assert periop("sync") == 0
    assert planned({"requests": asks}) == asked(server)


def test_the_plan_of_a_full_sync_asks_for_everything(periop: Terminal) -> None:
    first = periop.plan()
    periop("sync")
    assert periop.plan("--full") == first


def test_the_server_is_asked_how_much_there_is(periop: Terminal) -> None:
    found: dict[str, int] = {}
    for each in periop.plan()["requests"]:
        kind = re.match(r"(\w+) of patients", each["what"])
        if kind:
            found[kind[1]] = found.get(kind[1], 0) + each["expected"]
    assert found == {
        "Patient": PATIENTS,
        "Condition": PATIENTS,
        "Observation": 2 * PATIENTS,
        "MedicationAdministration": 0,
        "Procedure": 0,
        "AdverseEvent": 0,
        "MedicationDispense": 0,
        "MedicationStatement": 0,
        "MedicationRequest": 0,
        "DiagnosticReport": 0,
    }


def test_a_server_that_does_not_tell_is_believed_not_to(server: FhirStub, periop: Terminal) -> None:
    server.rules.append(lambda r: outcome(400, "not-supported") if "_summary" in r.params else None)
    plan = periop.plan()
    assert {each["expected"] for each in plan["requests"]} == {None}
    assert plan["error"] is None


def test_nothing_is_stored(periop: Terminal) -> None:
    assert periop("sync", "--dry-run") == 0
    assert list(periop.folder.iterdir()) == [periop.config]


def test_it_is_shown_line_by_line(server: FhirStub, periop: Terminal) -> None:
    assert periop("sync", "--dry-run") == 0
    assert f"  GET {server.base}/Patient?_id=…(2 patients)&_count=200&_total=accurate\n" in periop.out
    assert "  Observation of patients 1 to 2 · 4 expected\n" in periop.out
    assert f"  GET {server.base}/Condition?code=254637007%2C" in periop.out


def test_a_server_that_refuses_the_credentials(server: FhirStub, periop: Terminal) -> None:
    server.token = "another"
    assert periop("sync", "--dry-run", "--json") == 6
    (site,) = json.loads(periop.out)["sites"]
    assert "401" in site["error"]


def test_of_two_sites_one_may_be_silent(server: FhirStub, periop: Terminal) -> None:
    folder = periop.folder / "fhir"
    folder.mkdir()
    (folder / "secret-patient.ndjson").write_text("{}\n")
    sites = '[[sites]]\nname = "rome"\nkind = "folder"\npath = "fhir"\n'
    periop.config.write_text(sites + CONFIG.format(kind="search", url=server.base))
    server.token = "another"
    assert periop("sync", "--dry-run", "--json") == 3
    rome, milan = json.loads(periop.out)["sites"]
    (request,) = rome["requests"]
    assert (request["method"], request["what"], milan["requests"]) == ("READ", "1 file", [])
    assert request["url"].endswith("/fhir/**/*.ndjson")


def test_an_export_is_planned_and_not_started(server: FhirStub, periop: Terminal) -> None:
    periop.config.write_text(CONFIG.format(kind="bulk", url=server.base))
    plan = periop.plan()
    kick_off, *others = plan["requests"]
    assert urlsplit(kick_off["url"]).path == "/fhir/$export"
    assert kick_off["expected"] == PATIENTS + PATIENTS + 2 * PATIENTS
    assert [each["method"] for each in others] == ["GET", "GET", "DELETE"]
    assert not [request for request in server.requests if "$export" in request.path]


def test_a_folder_that_is_missing(periop: Terminal) -> None:
    periop.config.write_text('[[sites]]\nname = "rome"\nkind = "folder"\npath = "fhir"\n')
    assert periop("sync", "--dry-run") == 1
    assert "is not a folder" in periop.out


def test_it_does_not_wait_for_what_is_not_json(server: FhirStub, periop: Terminal) -> None:
    def page(request: Request) -> Reply | None:
        return Reply(body="<html></html>", kind="text/html") if request.path == "Condition" else None

    server.rules.append(page)
    assert FHIR_JSON
    assert periop("sync", "--dry-run") == 6
