"""Faults 71 and 72: ids that are longer than FHIR allows, and a server of R4B."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from connectors.lake.table import Lake
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.fhir_stub import FhirStub, Reply, Request, fhir_stub

LUNG = {"coding": [{"system": "http://snomed.info/sct", "code": "254637007"}]}
LONG = "eXy9-.".ljust(88, "Q")
PATIENT = "p".ljust(80, "1")
ADVICE = "set lenient_ids = true for the site"
SET_ASIDE = (
    "Condition: 1 resources have an id of more than 64 characters, against FHIR (R4, datatypes.html#id), and were set "
    f"aside: {ADVICE}, or ask the server's administrator for shorter ids"
)


def resources(patient: str = "p1") -> list[dict[str, Any]]:
    """A patient with a condition whose id is too long."""
    subject = {"reference": f"Patient/{patient}"}
    return [
        {"resourceType": "Patient", "id": patient},
        {"resourceType": "Condition", "id": LONG, "code": LUNG, "subject": subject},
        {"resourceType": "Observation", "id": "o1", "status": "final", "subject": subject},
    ]


def periop(folder: Path, site: str, *arguments: str) -> tuple[int, Any]:
    """Run a command for the site; return its exit code and what it printed as JSON."""
    (folder / "periop.toml").write_text(f'data_dir = "data"\n[[sites]]\nname = "milan"\n{site}\n')
    out, err = io.StringIO(), io.StringIO()
    code = main(["--config", str(folder / "periop.toml"), *arguments, "--json"], Session(out, err, {}))
    assert LONG not in out.getvalue() + err.getvalue()
    return code, json.loads(out.getvalue())


def stored(folder: Path) -> dict[str, set[str]]:
    """The ids in the lake, by resource type."""
    found: dict[str, set[str]] = {}
    for batch in Lake(folder / "data" / "lake").rows("milan", ["resource_type", "id"]):
        for row in batch.to_pylist():
            found.setdefault(row["resource_type"], set()).add(row["id"])
    return found


def search(stub: FhirStub, more: str = "") -> str:
    return f'kind = "search"\nurl = "{stub.base}"\n{more}'


def folder_of(folder: Path, more: str = "") -> str:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / "a.ndjson").write_text("".join(json.dumps(each) + "\n" for each in resources()))
    return f'kind = "folder"\npath = "in"\n{more}'


def test_fault_71_long_ids_are_set_aside_and_said_and_accepted_on_request(tmp_path: Path) -> None:
    with fhir_stub() as stub:
        stub.put(*resources())
        code, done = periop(tmp_path, search(stub), "sync")
        assert (code, done["sites"][0]["messages"]) == (3, [SET_ASIDE])
        assert stored(tmp_path) == {"Patient": {"p1"}, "Observation": {"o1"}}
        code, done = periop(tmp_path, search(stub, "lenient_ids = true"), "sync")
        assert (code, done["sites"][0]["messages"]) == (0, [])
        assert stored(tmp_path) == {"Patient": {"p1"}, "Observation": {"o1"}, "Condition": {LONG}}


def test_fault_71_long_ids_of_patients_are_found_by_reference(tmp_path: Path) -> None:
    with fhir_stub() as stub:
        stub.put(*resources(PATIENT))
        assert periop(tmp_path, search(stub, "lenient_ids = true"), "sync")[0] == 0
    assert stored(tmp_path) == {"Patient": {PATIENT}, "Observation": {"o1"}, "Condition": {LONG}}
    assert Lake(tmp_path / "data" / "lake").patients("milan") == {PATIENT}


def test_fault_71_long_ids_of_a_folder(tmp_path: Path) -> None:
    code, done = periop(tmp_path, folder_of(tmp_path), "sync")
    assert (code, done["sites"][0]["messages"]) == (3, [SET_ASIDE])
    assert periop(tmp_path, folder_of(tmp_path, "lenient_ids = true"), "sync")[0] == 0
    assert stored(tmp_path)["Condition"] == {LONG}


@pytest.mark.parametrize("lenient", [False, True])
def test_fault_71_a_check_says_so(tmp_path: Path, lenient: bool) -> None:
    more = "lenient_ids = true" if lenient else ""
    with fhir_stub() as stub:
        stub.put(*resources())
        found = periop(tmp_path, search(stub, more), "check")[1]["sites"][0]
    of_folder = periop(tmp_path, folder_of(tmp_path, more), "check")[1]["sites"][0]
    said = [each["said"] for each in (*found["findings"], *of_folder["findings"]) if "lenient_ids" in each["said"]]
    of_server = (
        "Condition: ids have more than 64 characters, against FHIR (R4, datatypes.html#id), so a sync sets these"
    )
    of_files = "1 of the first 100 resources of each file would be set aside: invalid-id, of more than 64 characters"
    expected = [f"{of_server} resources aside: {ADVICE}", f"{of_files}: {ADVICE}"]
    assert said == ([] if lenient else expected)
    assert any("Some ids of Condition" in request for request in found["requests"]) is not lenient


def test_fault_72_a_server_of_r4b_is_read_as_r4(tmp_path: Path) -> None:
    def statement(request: Request) -> Reply | None:
        if request.path != "metadata":
            return None
        body = stub.statement() | {"fhirVersion": "4.3.0", "vendorThing": {"x": [None]}}
        for each in body["rest"][0]["resource"]:
            each.update(supportedProfile=["x"], searchRevInclude=[None], odd={"a": 1})
        return Reply(body=body)

    with fhir_stub() as stub:
        stub.put(*resources())
        stub.rules.append(statement)
        assert periop(tmp_path, search(stub, "lenient_ids = true"), "sync")[0] == 0
        found = periop(tmp_path, search(stub), "check")[1]["sites"][0]["findings"]
    (said,) = [each["said"] for each in found if each["check"] == "fhir"]
    assert said.startswith("FHIR 4.3.0 (R4B), read as R4: the types that a sync asks for have the same elements")
    assert stored(tmp_path)["Condition"] == {LONG}
