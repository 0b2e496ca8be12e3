"""Losses that are not believed, of a folder and of an export; of a search in test_faults_search.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import Lake
from connectors.sync import sync_site
from schedules.cli.main import main
from schedules.errors import ExitCode
from tests.export_server import ExportServer, source
from tests.raw_server import ndjson

LOST = (
    "not believed to be deleted, and kept: {} of the lake did not come, more than max_loss allows (20%). Ask the "
    "server's administrator; if they are really gone, run `periop sync --accept-loss` once"
)


def resource(kind: str, name: str) -> dict[str, Any]:
    return {"resourceType": kind, "id": name, "subject": {"reference": "Patient/p1"}}


def rows(folder: Path) -> int:
    return sum(len(batch) for batch in Lake(folder / "periop-data/lake").rows("milan", ["id"]))


def test_fault_36_a_folder_of_which_half_is_missing(tmp_path: Path) -> None:
    folder, config = tmp_path / "export", tmp_path / "periop.toml"
    folder.mkdir()
    lines = [json.dumps(resource("Observation", f"o{number}")) + "\n" for number in range(10)]
    (folder / "Observation.ndjson").write_text("".join(lines))
    config.write_text('[[sites]]\nname = "milan"\nkind = "folder"\npath = "export"\ncomplete = true\n')
    assert main(["--config", str(config), "sync"]) == 0
    (folder / "Observation.ndjson").write_text("".join(lines[:5]))
    assert main(["--config", str(config), "sync"]) == ExitCode.PARTIAL
    assert rows(tmp_path) == 10
    assert main(["--config", str(config), "sync", "--accept-loss"]) == 0
    assert rows(tmp_path) == 15  # five tombstones


def test_fault_36_an_export_whose_files_are_all_empty(tmp_path: Path) -> None:
    server = ExportServer()
    try:
        lake, quarantine = Lake(tmp_path / "lake"), Quarantine(tmp_path / "quarantine")
        server.files["Condition"] = ndjson(*(resource("Condition", f"c{number}") for number in range(6)))
        assert sync_site(source(server, tmp_path), lake, "site", quarantine).status == "ok"
        server.files = {"Patient": b"", "Condition": b""}
        for full in (True, False):
            report = sync_site(source(server, tmp_path), lake, "site", quarantine, full=full)
            assert (report.status, report.removed) == ("partial", {})
            assert LOST.format("6 of 6 Condition, 3 of 3 Patient") in report.messages
    finally:
        server.close()
