"""`periop check` and `periop sync --dry-run` on a real HAPI FHIR server."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from schedules.cli.main import main
from schedules.cli.session import Session
from tests.cohorts import ALNEO, put_alneo

pytestmark = pytest.mark.hapi

BUILT_IN = {file.stem: len(file.read_text().splitlines()) for file in ALNEO.glob("*.ndjson")}
CONFIG = """
[[sites]]
name = "hapi"
kind = "search"
url = "{url}"
vendor = "hapi"

[[sites]]
name = "bulk"
kind = "bulk"
url = "{url}"
level = "patient"
vendor = "hapi"
"""


@pytest.fixture(scope="module")
def config(hapi: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    put_alneo(hapi)
    file = tmp_path_factory.mktemp("check") / "periop.toml"
    file.write_text(CONFIG.format(url=hapi))
    return file


def periop(config: Path, *arguments: str) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    assert main(["--config", str(config), *arguments, "--json"], Session(out, err, {})) == 0, err.getvalue()
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_hapi_lacks_nothing(config: Path) -> None:
    search, bulk = periop(config, "check")["sites"]
    said = {(each["check"], each["resource_type"]): each for each in search["findings"]}
    assert {key for key, each in said.items() if each["level"] != "ok"} == set()
    assert "HAPI FHIR Server" in said["fhir", None]["said"]
    assert said["vendor", None]["said"] == "HAPI FHIR, as the site says"
    assert said["zones", None]["said"] == "_lastUpdated is compared with its zone"
    assert said["export", None]["said"].startswith("$export is listed for system, group and patient")
    assert said["paging", None]["said"] == "a next link leads to the next page"
    assert search["path"]["transfer"] == "paged search"
    assert (search["path"]["nights"], search["path"]["deletions"]) == ("changes only", "by history")
    assert (bulk["ok"], bulk["path"]["transfer"]) == (True, "bulk export")


def test_a_dry_run_tells_how_much_a_sync_will_bring(config: Path) -> None:
    """One patient of the cohort on the server has another cancer (DEC-03), and is not asked for."""
    (plan,) = periop(config, "sync", "hapi", "--dry-run")["sites"]
    others = {kind: sum("DEC-03" in line for line in lines(kind)) for kind in BUILT_IN}
    about_patients = [each for each in plan["requests"] if " of patients 1 to" in each["what"]]
    tried = [each for each in about_patients if each["what"].startswith("ids of")]  # whether lists are understood
    assert len(tried) == 2
    expected = {each["what"].split()[0]: each["expected"] for each in about_patients if each not in tried}
    nothing = ("MedicationDispense", "MedicationStatement", "MedicationRequest", "DiagnosticReport")
    assert expected == dict.fromkeys(nothing, 0) | {kind: BUILT_IN[kind] - others[kind] for kind in BUILT_IN}
    assert "SYN-01" not in json.dumps(plan)
    assert not (config.parent / "periop-data").exists()


def lines(kind: str) -> list[str]:
    return (ALNEO / f"{kind}.ndjson").read_text(encoding="utf-8").splitlines()
