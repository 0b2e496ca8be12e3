"""Erasure on request: nothing of a patient stays in the data folder, and nothing comes back. The patients are invented.

What stays is looked for by canaries in all bytes of the folder; Parquet files are read, because they are compressed.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analytics.disclosure.model import Count
from analytics.disclosure.past import CountedPatients
from connectors.errors import LakeError
from connectors.lake.table import Lake
from schedules.cli.main import main
from schedules.cli.session import Session
from schedules.config.settings import load_settings
from schedules.release.patients import ReleasePatients
from schedules.run.forget import Request, finish_erasure
from schedules.run.forget import forget as erase
from tests.cohorts import KEY, pseudonym

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MRN = "urn:oid:1.2.3"
CANARIES = ("zz-canary", "ZZMRN77", "zz-old-record", "Zzname")
CONFIG = """
[[sites]]
name = "milan"
kind = "folder"
path = "milan"
[[sites]]
name = "rome"
kind = "folder"
path = "rome"
"""


def patient(id_: str, mrn: str, name: str, **more: Any) -> dict[str, Any]:
    identifiers = [{"system": MRN, "value": mrn}, {"system": "urn:family", "value": "shared-7"}]
    return {"resourceType": "Patient", "id": id_, "identifier": identifiers, "name": [{"family": name}], **more}


def condition(id_: str, subject: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "Condition", "id": id_, "subject": subject, **more}


ERASED = patient("zz-canary", "ZZMRN77", "Zzname")
OLD = patient(
    "zz-old-record", "ZZMRN00", "Zzname", link=[{"other": {"reference": "Patient/zz-canary"}, "type": "seealso"}]
)
KEPT = patient("kept", "1", "Anybody")
RESOURCES = [
    ERASED,
    OLD,
    KEPT,
    condition("c-own", {"reference": "Patient/zz-canary"}),
    condition("c-old", {"reference": "https://fhir.example.org/Patient/zz-old-record/_history/3"}),
    condition("c-identifier", {"identifier": {"system": MRN, "value": "ZZMRN77"}}),
    condition("c-mentions", {"reference": "Patient/kept"}, asserter={"reference": "Patient/zz-canary"}),
    condition("c-kept", {"reference": "Patient/kept"}),
]
BROKEN = '{"resourceType": "Condition", "id": "c-broken", "subject": {"reference": "Patient/zz-canary"}, oops}'


@dataclass
class Hospital:
    """A data folder with two folder sites, and the command line."""

    folder: Path
    out: str = ""

    @property
    def data(self) -> Path:
        return self.folder / "periop-data"

    def put(self, site: str, *resources: dict[str, Any], text: str = "") -> None:
        (self.folder / site).mkdir(exist_ok=True)
        lines = "".join(json.dumps(each) + "\n" for each in resources)
        (self.folder / site / "all.ndjson").write_text(lines + text)

    def __call__(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        session = Session(out, err, {"PERIOP_PSEUDONYM_KEY": KEY}, lambda: NOON, lambda: 0.0, user=lambda: "dpo")
        code = main(["--config", str(self.folder / "periop.toml"), *arguments], session)
        self.out = out.getvalue() + err.getvalue()
        return code

    def forget(self, *values: str, options: tuple[str, ...] = ("--site", "milan")) -> dict[str, Any]:
        file = self.folder / "who.txt"
        file.write_text("\n".join(values) + "\n")
        assert self("forget", str(file), *options, "--json") == 0, self.out
        found: dict[str, Any] = json.loads(self.out)
        return found

    def held(self, site: str = "milan") -> set[str]:
        """The ids of all resources of which any version is in the lake."""
        return {row["id"] for batch in Lake(self.data / "lake").rows(site, ["id"]) for row in batch.to_pylist()}


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    hospital = Hospital(tmp_path)
    (tmp_path / "periop.toml").write_text(CONFIG)
    hospital.put("milan", *RESOURCES, text=BROKEN + "\n")
    hospital.put("rome", {**KEPT, "id": "zz-rome"}, condition("c-rome", {"reference": "Patient/zz-rome"}))
    assert hospital("sync") == 0, hospital.out
    hospital.put("milan", {**ERASED, "gender": "female"}, *RESOURCES[1:], text=BROKEN + "\n")  # a second version
    assert hospital("sync") == 0, hospital.out
    # As a map, an explanation, a crash and a killed run leave them.
    for derived in (
        "views/patient/1234/part.bin",
        "cohort/adsl.parquet",
        "spill/x.tmp",
        "internal/report.html",
        ".sync-milan.duckdb",
        "crash.txt",
    ):
        (hospital.data / derived).parent.mkdir(parents=True, exist_ok=True)
        (hospital.data / derived).write_text("Zzname zz-canary")
    entry = {"when": "x", "user": "u", "patient": f"alneo-milan-{pseudonym('zz-canary')}", "variable": None}
    (hospital.data / "explain.log").write_text(json.dumps(entry) + "\n")
    behind = CountedPatients((f"milan-{pseudonym('zz-canary')}", f"milan-{pseudonym('kept')}"), (Count("x", 0b11),))
    ReleasePatients(hospital.data / "release-patients").write(1, behind)
    orphan = hospital.data / "lake" / "site=milan" / "resource_type=Patient" / "part-killed.parquet"
    orphan.write_text("zz-canary")
    return hospital


def leftovers(data: Path, canaries: tuple[str, ...] = CANARIES) -> list[str]:
    """The files below `data` in whose name, bytes or (for Parquet) rows a canary is."""
    found = []
    for path in sorted(data.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet" and content[:4] == b"PAR1":
            content += json.dumps(pq.ParquetFile(path).read().to_pylist(), default=str).encode()
        if any(canary.encode() in content or canary in str(path) for canary in canaries):
            found.append(path.relative_to(data).as_posix())
    return found


def test_the_canaries_are_found_before(hospital: Hospital) -> None:
    found = leftovers(hospital.data)
    assert {"explain.log"}.isdisjoint(found)  # it holds a pseudonym
    for part in (
        "lake/site=milan",
        "quarantine/milan",
        "views/",
        "cohort/",
        "spill/",
        "internal/",
        ".sync-milan",
        "crash.txt",
    ):
        assert any(each.startswith(part) for each in found), part


def test_fault_79_a_patient_who_must_be_erased_is_nowhere(hospital: Hospital) -> None:
    found = hospital.forget("zz-canary")
    assert leftovers(hospital.data) == []
    assert hospital.held() == {"kept", "c-kept"}
    assert hospital.held("rome") == {"zz-rome", "c-rome"}
    assert (found["asked"], found["found"], found["records"]) == (1, 1, 2)
    # Two versions of the one record, one of the linked one.
    assert found["versions"] == {"Patient": 3, "Condition": 4}
    assert (found["quarantined"], found["audited"]) == (1, 1)
    assert json.loads((hospital.data / "explain.log").read_text())["patient"] == "erased"
    assert found["behind_releases"] == 1
    left = ReleasePatients(hospital.data / "release-patients").read(1, ())
    assert (left.subjects, left.counts[0].patients) == ((f"milan-{pseudonym('kept')}",), 0b1)


def test_fault_79_the_next_sync_does_not_bring_the_patient_back(hospital: Hospital) -> None:
    hospital.forget("zz-canary")
    hospital.put("milan", *RESOURCES, condition("c-new", {"reference": "Patient/zz-canary"}), text=BROKEN + "\n")
    assert hospital("sync", "--full", "--json") == 0, hospital.out
    milan = next(site for site in json.loads(hospital.out)["sites"] if site["site"] == "milan")
    assert milan["reasons"]["erased-on-request"] == 7
    assert leftovers(hospital.data) == []
    assert hospital.held() == {"kept", "c-kept"}


def test_fault_79_a_patient_is_named_by_an_identifier_at_all_sites(hospital: Hospital) -> None:
    found = hospital.forget("ZZMRN77", "nobody", options=("--system", MRN))
    assert (found["asked"], found["found"], found["records"]) == (2, 1, 2)
    assert leftovers(hospital.data) == []
    hospital.put("rome", patient("zz-canary-in-rome", "ZZMRN77", "Zzname"))
    hospital("sync")
    assert leftovers(hospital.data) == []


def test_fault_79_an_identifier_that_others_share_erases_nobody_else(hospital: Hospital) -> None:
    hospital.forget("zz-canary")
    assert {"kept", "c-kept"} <= hospital.held()


def test_fault_79_ids_of_several_sites_need_the_site(hospital: Hospital) -> None:
    file = hospital.folder / "who.txt"
    file.write_text("zz-canary\n")
    assert hospital("forget", str(file)) == 2
    assert "name it with --site (milan, rome)" in hospital.out
    assert "zz-canary" not in hospital.out
    before = hospital.held()
    assert hospital("forget", str(file), "--site", "milan", "--dry-run") == 0
    assert "1 of 1 in the file are in the lake, with 2 records of Patient." in hospital.out
    assert hospital.held() == before


def test_fault_79_the_ledger_tells_when_and_how_much_but_not_who(hospital: Hospital) -> None:
    hospital.forget("zz-canary")
    hospital("status", "--json")
    (run,) = [each for each in json.loads(hospital.out)["runs"] if each["kind"] == "forget"]
    assert run["status"] == "ok"
    assert b'"user": "dpo"' in (hospital.data / "runs.sqlite").read_bytes()


class KilledError(Exception):
    """Stands in for SIGKILL: nothing after it is done."""


def killed_after(step: str) -> Callable[[str], None]:
    def reached(done: str) -> None:
        if done == step:
            raise KilledError

    return reached


@pytest.mark.parametrize("step", ["remembered", "quarantine", "audit log", "lake", "files", "derived"])
def test_fault_79_an_erasure_that_is_killed_is_finished_without_the_ids(hospital: Hospital, step: str) -> None:
    settings = load_settings(hospital.folder / "periop.toml")
    environ = {"PERIOP_PSEUDONYM_KEY": KEY}
    with pytest.raises(KilledError):
        erase(settings, environ, Request(("ZZMRN77",), MRN, None), killed_after(step))
    finish_erasure(settings, environ)  # as the next map does
    assert leftovers(hospital.data) == []
    assert hospital.held() == {"kept", "c-kept"}


KILLED = """
import os, signal, sys
from pathlib import Path
from schedules.config.settings import load_settings
from schedules.run.forget import Request, forget
def reached(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
environ = {"PERIOP_PSEUDONYM_KEY": sys.argv[3]}
forget(load_settings(Path(sys.argv[1])), environ, Request(("zz-canary",), None, "milan"), reached)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize("step", ["quarantine", "lake"])
def test_fault_79_after_sigkill_the_same_command_erases_the_rest(hospital: Hospital, step: str) -> None:
    command = [sys.executable, "-c", KILLED, str(hospital.folder / "periop.toml"), step, KEY]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert leftovers(hospital.data)
    hospital.forget("zz-canary")
    assert leftovers(hospital.data) == []
    assert hospital.held() == {"kept", "c-kept"}


def test_fault_79_without_the_key_the_list_of_the_erased_is_refused(hospital: Hospital) -> None:
    hospital.forget("zz-canary")
    settings = load_settings(hospital.folder / "periop.toml")
    with pytest.raises(LakeError, match="made with another pseudonym key: restore that key"):
        finish_erasure(settings, {"PERIOP_PSEUDONYM_KEY": "f" * 64})
    (hospital.data / "forgotten.json").write_text("{")
    with pytest.raises(LakeError, match="cannot be read"):
        finish_erasure(settings, {"PERIOP_PSEUDONYM_KEY": KEY})


def test_fault_79_the_lake_goes_on_after_an_erasure(hospital: Hospital) -> None:
    hospital.forget("zz-canary")
    lake = Lake(hospital.data / "lake")
    before = lake.cursor("milan")
    hospital.put("milan", KEPT, condition("c-later", {"reference": "Patient/kept"}))
    assert hospital("sync", "milan") == 0, hospital.out
    assert "c-later" in hospital.held()
    assert before is not None
    assert lake.cursor("milan") != before
