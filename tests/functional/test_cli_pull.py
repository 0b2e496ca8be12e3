"""`periop pull`: the folder that it writes, read as a site, gives the lake of a sync of the same server."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.export_folder import ExportFolder
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.sources.base import Source
from connectors.sources.folder import FolderSource
from connectors.sources.parts import read_parts
from connectors.sources.search.by_type import TypeSearch
from connectors.sources.search.requests import SearchLimits
from connectors.sources.search.source import CohortQuery, SearchSource
from connectors.sync import sync_site
from schedules.cli.main import main
from schedules.cli.session import Session
from schedules.clock import utc_now
from schedules.config.resource_types import TYPES
from tests.cohorts import ALNEO
from tests.export_server import ExportServer
from tests.fhir_stub import FhirStub, Reply, Request, fhir_stub, outcome, searchset
from tests.raw_server import ndjson

ALL = ("--type", "Patient,Condition,MedicationAdministration,Procedure,AdverseEvent,Observation")
NSCLC = "254637007"
TOKEN = "s3cret-Canary-token"


@pytest.fixture
def server() -> Iterator[FhirStub]:
    """A server with the built-in cohort."""
    with fhir_stub() as stub:
        for file in sorted(ALNEO.glob("*.ndjson")):
            stub.put(*map(json.loads, file.read_text().splitlines()))
        yield stub


def periop(*arguments: str) -> tuple[int, str, str]:
    session = Session(io.StringIO(), io.StringIO(), {})
    code = main(arguments, session)
    return code, session.stdout.getvalue(), session.stderr.getvalue()  # type: ignore[attr-defined]


def pull(server: FhirStub, out: Path, *options: str) -> tuple[int, str, str]:
    return periop("pull", server.base, "--out", str(out), *options)


def resources(folder: Path) -> Counter[str]:
    """Return how often each resource is in the files of a folder."""
    lines = [json.loads(line) for file in folder.glob("[A-Z]*.ndjson") for line in file.read_text().splitlines()]
    return Counter(f"{each['resourceType']}/{each['id']}" for each in lines)


def once(server: FhirStub) -> Counter[str]:
    """Return each resource of a server, once."""
    return Counter(dict.fromkeys(server.store, 1))


def lake(source: Source, base: Path) -> dict[str, str]:
    """Sync into a new lake, and return the digest of each current resource."""
    lake = Lake(base / "lake")
    report = sync_site(source, lake, "site", Quarantine(base / "quarantine"))
    assert (report.status, report.counts.quarantined) == ("ok", 0)
    rows = [row for each in lake.rows("site", ["resource_type", "id", "digest"]) for row in each.to_pylist()]
    return {f"{row['resource_type']}/{row['id']}": row["digest"] for row in rows}


def test_a_folder_of_a_pull_gives_the_lake_of_a_search(server: FhirStub, tmp_path: Path) -> None:
    searched = lake(SearchSource(server.base, CohortQuery("Condition", (("code", NSCLC),)), TYPES), tmp_path / "search")
    patients = sorted(name.removeprefix("Patient/") for name in searched if name.startswith("Patient/"))
    assert 10 < len(patients) < len(server.of_type("Patient"))
    (tmp_path / "ids.txt").write_text("\n".join(patients))
    code, out, _ = pull(server, tmp_path / "out", "--ids", str(tmp_path / "ids.txt"), *ALL)
    assert (code, out.splitlines()[-2]) == (0, f"{len(patients)} Patient")
    assert lake(FolderSource(tmp_path / "out", frozenset(TYPES)), tmp_path / "folder") == searched
    # And so does the source itself, from Python.
    assert lake(TypeSearch(server.base, TYPES, patients), tmp_path / "types") == searched


def test_everything_is_pulled_and_the_log_has_no_id(server: FhirStub, tmp_path: Path) -> None:
    code, out, err = pull(server, tmp_path / "out", *ALL)
    assert (code, err) == (0, "")
    assert resources(tmp_path / "out") == once(server)
    names = sorted(file.name for file in (tmp_path / "out").iterdir() if not file.name.startswith("."))
    assert names == sorted([*(f"{kind}.000.ndjson" for kind in ALL[1].split(",")), "log.ndjson"])
    assert all((tmp_path / "out" / name).stat().st_mode & 0o077 == 0 for name in names)
    log = (tmp_path / "out" / "log.ndjson").read_text()
    events = [json.loads(line)["eventId"] for line in log.splitlines()]
    assert events == ["kickoff", *["part_complete"] * 6, "export_complete"]
    assert not [name for name in server.store if name.partition("/")[2] in log]
    # Once more: nothing is asked for.
    asked = len(server.requests)
    again = pull(server, tmp_path / "out", *ALL)
    assert (again, len(server.requests)) == ((0, out, ""), asked)


@pytest.mark.parametrize("killed_at", [3, 5, 8, 14])
def test_fault_57_a_pull_that_was_killed_is_taken_up(server: FhirStub, tmp_path: Path, killed_at: int) -> None:
    (tmp_path / "ids").write_text("\n".join(each["id"] for each in server.of_type("Patient")))
    command = [sys.executable, "-m", "schedules.cli", "pull", server.base, "--out", str(tmp_path / "out"), *ALL]
    command += ["--ids", str(tmp_path / "ids")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def kill(_: Request) -> None:
        if len(server.requests) == killed_at:
            os.kill(process.pid, signal.SIGKILL)

    server.rules.append(kill)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    server.rules.clear()
    # What a kill leaves: a line of a resource and a line of the log that were not written to their end.
    for file in (tmp_path / "out").glob("*.ndjson"):
        with file.open("a") as stream:
            stream.write('{"resourceType": "Patient", "id": "cu')
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert resources(tmp_path / "out") == once(server)


def test_fault_57_a_part_that_fails_is_cut_off_and_asked_for_again(server: FhirStub, tmp_path: Path) -> None:
    def refuse(request: Request) -> Reply | None:
        return outcome(403, "forbidden") if request.path == "Observation" and "_offset" in request.params else None

    server.rules.append(refuse)
    code, out, err = pull(server, tmp_path / "out", *ALL)
    assert code == 3
    assert "Observation" not in out
    assert "run the same command again" in err
    assert "Canary" not in err
    kept = resources(tmp_path / "out")
    assert kept == Counter({name: 1 for name in server.store if not name.startswith("Observation/")})
    server.rules.clear()
    asked = len(server.requests)
    code, out, _ = pull(server, tmp_path / "out", *ALL)
    assert (code, resources(tmp_path / "out")) == (0, once(server))
    assert {request.path for request in server.requests[asked:]} == {"Observation"}


def test_fault_57_a_server_that_takes_the_first_of_a_list_is_asked_one_by_one(server: FhirStub, tmp_path: Path) -> None:
    def first_only(request: Request) -> None:
        for name in ("_id", "subject"):
            if name in request.params:
                request.params[name] = request.params[name].partition(",")[0]

    server.rules.append(first_only)
    (tmp_path / "ids").write_text("\n".join(each["id"] for each in server.of_type("Patient")))
    code, _, _ = pull(server, tmp_path / "out", *ALL, "--ids", str(tmp_path / "ids"))
    assert (code, resources(tmp_path / "out")) == (0, once(server))


@pytest.mark.parametrize("status", [400, 414])
def test_fault_157_a_list_that_is_refused_is_asked_for_in_halves(server: FhirStub, tmp_path: Path, status: int) -> None:
    def refuse(request: Request) -> Reply | None:
        # Of the type Observation fewer than of others: each type may have a limit of its own.
        most = 3 if request.path == "Observation" else 7
        asked = request.params.get("_id", request.params.get("subject", ""))
        return outcome(status, "too-long") if asked.count(",") >= most else None

    server.rules.append(refuse)
    (tmp_path / "ids").write_text("\n".join(each["id"] for each in server.of_type("Patient")))
    code, _, err = pull(server, tmp_path / "out", *ALL, "--ids", str(tmp_path / "ids"))
    assert (code, err, resources(tmp_path / "out")) == (0, "", once(server))
    # 48 patients: 16 searches of 3 of Observation in all, and a few that were refused, but not one by one.
    lists = [each.params["subject"].count(",") + 1 for each in server.requests if each.path == "Observation"]
    assert max(lists) <= 6
    assert min(lists) >= 1
    assert len(lists) < 2 * 48 // 3


def test_fault_157_the_patients_may_be_named_by_identifiers(server: FhirStub, tmp_path: Path) -> None:
    first, second, third = (each["id"] for each in server.of_type("Patient")[:3])
    for name, number in ((first, "7"), (second, "8"), (third, "9")):
        server.store[f"Patient/{name}"]["identifier"] = [{"system": "urn:mrn", "value": number}]
    server.parameters.add("identifier")
    file = tmp_path / "list.csv"
    file.write_text("system,value,name\nurn:mrn,7,Smith\nurn:mrn,8,Jones\nurn:mrn,404,Nobody\n")
    code, _, err = pull(server, tmp_path / "out", "--type", "Patient,Condition", "--ids", str(file))
    named = {name.partition("/")[2] for name in resources(tmp_path / "out") if name.startswith("Patient/")}
    assert (code, named) == (0, {first, second})
    assert "no Patient on the server has the identifier in line 4 of the list of patients" in err
    # Taken up or asked for again, it is the same pull; with another list it is not.
    assert pull(server, tmp_path / "out", "--type", "Patient,Condition", "--ids", str(file))[0] == 0
    file.write_text("system,value\nurn:mrn,9\n")
    code, _, err = pull(server, tmp_path / "out", "--type", "Patient,Condition", "--ids", str(file))
    assert (code, "holds another pull" in err) == (1, True)


@pytest.mark.parametrize(("lost", "code"), [(1, 0), (2, 3)])
def test_fault_57_a_page_that_was_lost_is_asked_for_again(
    server: FhirStub, tmp_path: Path, lost: int, code: int
) -> None:
    left = lost

    def lose(request: Request) -> Reply | None:
        nonlocal left
        if request.path != "Procedure" or not left:
            return None
        left -= 1
        found = server.of_type("Procedure")
        return Reply(body=searchset(found[:5], total=len(found)))

    server.rules.append(lose)
    ended, _, err = pull(server, tmp_path / "out", "--type", "Procedure")
    count = len(server.of_type("Procedure"))
    said = f"Procedure: the server announced {count} resources, its pages held 5: "
    said += "it was asked for twice, and what came is kept\n"
    assert (ended, err) == (code, said if code else "")
    assert resources(tmp_path / "out").total() == (5 if code else count)
    assert set(resources(tmp_path / "out").values()) == {1}


def test_the_patients_of_a_group_and_what_changed(server: FhirStub, tmp_path: Path) -> None:
    first, second, third = (each["id"] for each in server.of_type("Patient")[:3])
    server.store["Group/g"] = {
        "resourceType": "Group",
        "id": "g",
        "member": [
            {"entity": {"reference": f"Patient/{first}"}},
            {"entity": {"reference": f"Patient/{second}"}, "inactive": True},
            {"entity": {"reference": f"{server.base}/Patient/{third}"}},
        ],
    }
    code, out, _ = pull(server, tmp_path / "out", "--type", "Patient", "--type", "Condition", "--group", "g")
    assert (code, out.splitlines()[-1]) == (0, "2 Patient")
    assert {name for name in resources(tmp_path / "out") if name.startswith("Patient/")} == {
        f"Patient/{first}",
        f"Patient/{third}",
    }
    code, out, _ = pull(server, tmp_path / "since", "--type", "Patient", "--since", "2026-05-01T00:00:00Z")
    assert (code, out) == (0, "")


def test_medications_are_those_that_the_drugs_of_the_patients_refer_to(server: FhirStub, tmp_path: Path) -> None:
    patient = server.of_type("Patient")[0]["id"]
    server.put(
        {"resourceType": "Medication", "id": "m1"},
        {"resourceType": "Medication", "id": "m2"},
        {
            "resourceType": "MedicationRequest",
            "id": "r",
            "subject": {"reference": f"Patient/{patient}"},
            "medicationReference": {"reference": "Medication/m1"},
        },
    )
    (tmp_path / "ids").write_text(patient)
    options = ("--type", "Medication,MedicationRequest", "--ids", str(tmp_path / "ids"))
    assert pull(server, tmp_path / "out", *options)[0] == 0
    assert list(resources(tmp_path / "out")) == ["MedicationRequest/r", "Medication/m1"]


def test_a_type_that_the_server_lacks_is_a_note(server: FhirStub, tmp_path: Path) -> None:
    server.rules.append(lambda request: outcome(404, "not-supported") if request.path == "AdverseEvent" else None)
    code, _, err = pull(server, tmp_path / "out", *ALL)
    assert (code, err) == (0, "AdverseEvent: not there (the server says that it does not have them)\n")


def test_a_pretty_printed_resource_is_one_line_with_its_numbers_as_received(server: FhirStub, tmp_path: Path) -> None:
    page = """{"resourceType": "Bundle", "type": "searchset", "total": 1, "entry": [{"resource": {
      "resourceType": "Observation",
      "id": "o", "valueQuantity": {"value": 1.10}
    }}]}"""
    server.rules.append(lambda request: Reply(body=page) if request.path == "Observation" else None)
    assert pull(server, tmp_path / "out", "--type", "Observation")[0] == 0
    (line,) = (tmp_path / "out" / "Observation.000.ndjson").read_text().splitlines()
    assert '"value": 1.10' in line


def test_a_pull_by_export(tmp_path: Path) -> None:
    server = ExportServer()
    try:
        code, out, err = periop(
            "pull", server.base, "--out", str(tmp_path / "out"), "--export", "--type", "Patient,Condition"
        )
        assert (code, out, err) == (0, "3 Condition\n3 Patient\n", "")
        assert resources(tmp_path / "out").total() == 6
        server.files = {"Patient": ndjson({"resourceType": "Patient", "id": "p0"})}
        deleted = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"request": {"method": "DELETE", "url": "Patient/p2"}}],
        }
        server.files["deleted"] = ndjson(deleted)
        server.manifest = {"deleted": [{"type": "Bundle", "url": f"{server.base}/file/deleted"}]}
        later = ("--export", "--type", "Patient,Condition", "--since", "2024-01-01T00:00:00Z")
        assert periop("pull", server.base, "--out", str(tmp_path / "out/2024-02"), *later)[0] == 0
    finally:
        server.close()
    found = FolderSource(tmp_path / "out", frozenset(TYPES))
    sync_site(found, store := Lake(tmp_path / "lake"), "site", Quarantine(tmp_path / "quarantine"))
    stored = [row for each in store.rows("site", ["id", "resource_type"]) for row in each.to_pylist()]
    # p2 came with the first export, and the second one says that it was deleted.
    assert sorted(row["id"] for row in stored if row["resource_type"] == "Patient") == ["p0", "p1"]


def test_the_token_is_sent_and_the_credentials_of_a_site_are_used(server: FhirStub, tmp_path: Path) -> None:
    server.token = TOKEN
    code, _, err = pull(server, tmp_path / "none", "--type", "Patient")
    assert (code, TOKEN in err) == (6, False)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    assert pull(server, tmp_path / "token-out", "--type", "Patient", "--token-file", str(token))[0] == 0
    config = tmp_path / "periop.toml"
    auth = f'{{ kind = "bearer", token_file = "{token}" }}'
    config.write_text(f'[[sites]]\nname = "milan"\nkind = "search"\nurl = "{server.base}"\nauth = {auth}\n')
    options = ("--site", "milan", "--out", str(tmp_path / "site-out"), "--type", "Patient", "--json")
    code, out, _ = periop("--config", str(config), "pull", *options)
    assert json.loads(out) == {
        "resources": {"Patient": len(server.of_type("Patient"))},
        "finished": True,
        "messages": [],
        "notes": [],
        "exit_code": 0,
    }
    assert not [file for file in (tmp_path / "site-out").rglob("*") if file.is_file() and TOKEN in file.read_text()]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--type", "Patients"), "periop: --type: Patients is no resource type of FHIR R4\n"),
        (("--type", ","), "periop: --type: nothing is no resource type of FHIR R4\n"),
        (
            ("--type", "Patient", "--group", "../x"),
            "periop: --group: give the id of a Group alone (up to 64 letters, digits, - and .)\n",
        ),
        (
            ("--type", "Patient", "--since", "yesterday"),
            "periop: --since: give an instant with its time zone, like 2026-01-31T00:00:00Z\n",
        ),
        (
            ("--type", "Patient", "--site", "milan"),
            "periop: give the URL of a server, or --site with the name of one in periop.toml\n",
        ),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    code, _, err = periop("pull", "http://127.0.0.1:1/fhir", "--out", str(tmp_path / "out"), *options)
    assert (code, err) == (2, sentence)
    assert not (tmp_path / "out").exists()


def test_a_line_that_is_no_id_is_named_without_it(server: FhirStub, tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text("a1\nAda Lovelace\n")
    code, _, err = pull(server, tmp_path / "out", *ALL, "--ids", str(file))
    said = "write the id of one Patient on each line, or a CSV with the column id, or with the columns system and value"
    assert (code, err) == (2, f"periop: {file}: line 2 cannot be read; {said}\n")


def test_a_folder_that_holds_something_else_is_refused(server: FhirStub, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "Patient.000.ndjson").write_text("{}")
    code, _, err = pull(server, tmp_path / "other", *ALL)
    assert (code, err) == (1, f"periop: {tmp_path / 'other'} is not empty and holds no pull: give an empty folder\n")
    assert pull(server, tmp_path / "out", "--type", "Patient")[0] == 0
    code, _, err = pull(server, tmp_path / "out", "--type", "Condition")
    assert (code, "holds another pull" in err) == (1, True)
    assert (tmp_path / "other" / "Patient.000.ndjson").read_text() == "{}"


def test_what_is_gone_from_the_server_is_gone_from_the_lake(server: FhirStub, tmp_path: Path) -> None:
    store, aside = Lake(tmp_path / "lake"), Quarantine(tmp_path / "quarantine")
    sync_site(TypeSearch(server.base, ("Patient", "AdverseEvent")), store, "site", aside)
    gone = server.of_type("AdverseEvent")[0]["id"]
    del server.store[f"AdverseEvent/{gone}"]
    server.rules.append(lambda request: outcome(404, "not-supported") if request.path == "Patient" else None)
    source = TypeSearch(server.base, ("Patient", "AdverseEvent"))
    report = sync_site(source, store, "site", aside)
    # Of a type that the server has no more, nothing is known.
    assert report.removed == {"AdverseEvent": 1}
    # Of some patients, or of what changed, nothing else is known either.
    for narrow in (
        TypeSearch(server.base, ("AdverseEvent",), ["a"]),
        TypeSearch(server.base, ("AdverseEvent",), since="2026-05-01T00:00:00Z"),
    ):
        assert sync_site(narrow, store, "site", aside).removed == {}


def test_a_file_of_a_type_has_a_limit(server: FhirStub, tmp_path: Path) -> None:
    def folder() -> ExportFolder:
        opened = ExportFolder(tmp_path / "out", {"id": "x"}, utc_now, file_bytes=2000)
        opened.open()
        return opened

    source, first = TypeSearch(server.base, ("Patient", "Condition")), folder()
    with source.client() as client:
        parts = list(source.parts(client))
        for event in read_parts(parts, 1):
            first.take(event)
        first.close()
    assert len(list((tmp_path / "out").glob("Patient.*.ndjson"))) > 3
    wanted = Counter({name: 1 for name in server.store if name.startswith(("Patient/", "Condition/"))})
    assert resources(tmp_path / "out") == wanted
    # All parts are known, and all files stay as they are.
    assert folder().done == {part.name for part in parts}
    assert resources(tmp_path / "out") == wanted


def test_the_lines_of_python_in_the_documentation_work(
    server: FhirStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "developer.md").read_text()
    code = page.partition("## Use the connectors alone")[2].partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code.replace("https://fhir.example.org/r4", server.base), {})
    rows = [row for each in Lake(tmp_path / "lake").rows("milan", ["id"]) for row in each.to_pylist()]
    assert len(rows) == len(server.of_type("Patient")) + len(server.of_type("Condition"))


def test_a_type_search_goes_into_a_lake_by_itself(server: FhirStub, tmp_path: Path) -> None:
    source = TypeSearch(server.base, ("Patient", "Encounter"), limits=SearchLimits(page_size=5))
    server.types.add("Encounter")
    encounter: dict[str, Any] = {"resourceType": "Encounter", "id": "e"}
    server.put(encounter)
    found = lake(source, tmp_path)
    assert set(found) == {name for name in server.store if name.startswith(("Patient/", "Encounter/"))}
