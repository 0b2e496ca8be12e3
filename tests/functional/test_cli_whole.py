"""The whole way through the real stages, as a user goes it: the demo, and what can be asked afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schedules.run.ledger import open_ledger, read_ledger

PERIOP = (sys.executable, "-m", "schedules.cli")
posix_only = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")


def periop(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*PERIOP, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, periop("demo", "--out", out)


Demo = tuple[Path, subprocess.CompletedProcess[str]]


def test_the_demo_gives_every_published_figure(demo: Demo) -> None:
    out, done = demo
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 41 + 6
    assert "✗" not in done.stdout
    assert "41 of 41 published proportions are equal in x and n, 6 of 6 medians as printed." in done.stdout
    assert "patients of this demo are invented, so nothing is suppressed" in done.stdout
    assert done.stdout.endswith(f"Report: {out / 'releases' / '1' / 'report.html'}\n")


def test_the_demo_files_a_whole_release(demo: Demo) -> None:
    out, _ = demo
    assert {file.name for file in (out / "releases" / "current").iterdir()} == {
        "results.json",
        "results.csv",
        "report.html",
    }
    assert "are invented" in (out / "releases" / "1" / "report.html").read_text(encoding="utf-8")


def test_the_demo_again_changes_nothing(demo: Demo) -> None:
    out, _ = demo
    done = periop("demo", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "Nothing changed: release 1 is still current." in done.stdout


def test_the_demo_leaves_a_folder_in_use_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    done = periop("demo", "--out", tmp_path)
    assert done.returncode == 2
    assert "not an empty folder" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_the_tables_alone_give_the_same_results(demo: Demo) -> None:
    out, _ = demo
    done = periop("analyze", "--cohort", out / "cohort", "--min-cell", "0", "--json")
    filed: dict[str, Any] = json.loads((out / "releases" / "1" / "results.json").read_bytes())
    assert done.returncode == 0, done.stderr
    from_tables = json.loads(done.stdout)
    # Tables that are handed in say nothing of a lake, of sites, or of a run.
    assert from_tables.pop("provenance")["sites"] == []
    assert from_tables == {name: value for name, value in filed.items() if name != "provenance"} | {"release": 0}


def test_status_after_the_demo(demo: Demo) -> None:
    out, _ = demo
    done = periop("--config", out / "periop.toml", "status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert found["release"]["number"] == 1
    assert found["sites"][0]["status"] == "ok"
    assert set(found["lake"]) == {
        "AdverseEvent",
        "Condition",
        "MedicationAdministration",
        "Observation",
        "Patient",
        "Procedure",
    }


def owe_a_run(demo: Path) -> None:
    """As if the service had been up two days ago, and down since."""
    before = datetime.now(UTC) - timedelta(days=2)
    (demo / "runs.sqlite").unlink()
    for file in demo.glob("runs.sqlite-*"):
        file.unlink()
    with open_ledger(demo / "runs.sqlite") as ledger, ledger.record("serve", lambda: before):
        pass


def serving(config: Path, until: str) -> subprocess.Popen[str]:
    """`periop serve`, once it has logged `until`."""
    command: Sequence[str] = [*PERIOP, "--config", str(config), "serve"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if until in line:
            return process
    raise AssertionError("".join(lines))


def runs(data_dir: Path) -> list[tuple[str, str]]:
    with read_ledger(data_dir / "runs.sqlite") as ledger:
        assert ledger is not None
        return [(run.kind, run.status) for run in reversed(ledger.last())]


@posix_only
def test_the_service_makes_up_for_a_missed_run_and_stops_in_the_middle_of_one(demo: Demo) -> None:
    out, _ = demo
    owe_a_run(out)
    process = serving(out / "periop.toml", "begins")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 0
    process = serving(out / "periop.toml", "the nightly run ended: ok")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert runs(out)[-2:] == [("serve", "ok"), ("run", "ok")]
