"""SIGKILL at any moment of a sync: the lake holds all of it or nothing, and a rerun ends the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pyarrow as pa
import pytest

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import SCHEMA, Lake

ROOT = Path(__file__).parents[2]
PATIENTS = 600
PER_PATIENT = 5
MOMENTS = 50

# Imports once, then forks a sync for each line on stdin: the moments fall into the sync, not the imports.
PROGRAM = """
import os
import sys
from pathlib import Path
from connectors.sources.folder import FolderSource
from connectors.lake.table import Lake
from connectors.lake.quarantine import Quarantine
from connectors.sync import sync_site
import ibis.backends.duckdb  # the sync would import it, and that would be most of its time
import pandas  # pyarrow would import it within the sync

for line in sys.stdin:
    folder, data = (Path(part) for part in line.rstrip().split("|"))
    child = os.fork()
    if child == 0:
        report = sync_site(FolderSource(folder), Lake(data / "lake"), "site", Quarantine(data / "quarantine"))
        os._exit(0 if report.status == "ok" else 9)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Syncs:
    """Syncs of `folder` in processes of their own, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def run(self, data: Path, kill_after: float | None = None) -> int:
        """Exit code of the sync; it is killed with SIGKILL if it has not ended after so many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{self.folder}|{data}\n".encode())
        pid = int(self.process.stdout.readline())
        if kill_after is not None and not select.select([self.process.stdout], [], [], kill_after)[0]:
            with suppress(ProcessLookupError):  # it ended at this very moment
                os.kill(pid, signal.SIGKILL)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def syncs(folder: Path) -> Iterator[Syncs]:
    with closing(Syncs(folder)) as syncs:
        yield syncs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 patients with 5 observations each, one line of nonsense among them."""
    folder = tmp_path_factory.mktemp("export")
    patients = [{"resourceType": "Patient", "id": f"p{p}"} for p in range(PATIENTS)]
    observations = [
        {
            "resourceType": "Observation",
            "id": f"o{p}-{n}",
            "meta": {"versionId": "1", "lastUpdated": "2024-01-01T00:00:00Z"},
            "subject": {"reference": f"Patient/p{p}"},
            "note": [{"text": "x" * 500}],
        }
        for p in range(PATIENTS)
        for n in range(PER_PATIENT)
    ]
    (folder / "Patient.ndjson").write_text("".join(json.dumps(each) + "\n" for each in patients))
    lines = [json.dumps(each) for each in observations]
    (folder / "Observation.ndjson").write_text("\n".join([*lines[:100], "nonsense", *lines[100:]]) + "\n")
    return folder


def content(data: Path) -> tuple[int, int, str, bytes]:
    """Rows, Delta version, a digest of all columns of the lake, and the quarantine."""
    lake = Lake(data / "lake")
    names = [name for name in SCHEMA.names if name != "site"]
    batches = list(lake.rows("site", names))
    rows = (
        sorted(pa.Table.from_batches([batch.select(names) for batch in batches]).to_pylist(), key=str)
        if batches
        else []
    )
    quarantine = Quarantine(data / "quarantine").path("site")
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return len(rows), lake.version(), digest, quarantine.read_bytes() if quarantine.exists() else b""


def test_fault_23_a_kill_at_any_of_fifty_moments_changes_nothing(syncs: Syncs, tmp_path: Path) -> None:
    assert syncs.run(tmp_path / "first") == 0  # warm caches
    began = time.monotonic()
    assert syncs.run(tmp_path / "undisturbed") == 0
    duration = time.monotonic() - began
    expected = content(tmp_path / "undisturbed")
    assert expected[:2] == (PATIENTS * (1 + PER_PATIENT), 1)  # version 0 is the empty table

    chance = random.Random(20260101)
    codes = []
    for number in range(MOMENTS):
        data = tmp_path / str(number)
        began = time.monotonic()
        codes.append(syncs.run(data, kill_after=chance.uniform(0, duration)))
        if codes[-1] == 0:  # the machine is quicker than it was: the next kills come earlier
            duration = min(duration, time.monotonic() - began)
        after_kill = content(data)
        assert after_kill[0] in (0, expected[0]), "a killed sync left a part of its rows"
        assert syncs.run(data) == 0
        assert content(data) == expected
        shutil.rmtree(data)
    assert codes.count(-signal.SIGKILL) > MOMENTS // 2, "most kills came too late to prove anything"


def test_fault_23_kills_one_after_the_other_on_the_same_lake(syncs: Syncs, tmp_path: Path) -> None:
    assert syncs.run(tmp_path / "undisturbed") == 0
    data = tmp_path / "data"
    for moment in (0.01, 0.03, 0.05):
        syncs.run(data, kill_after=moment)
    assert syncs.run(data) == 0
    assert content(data) == content(tmp_path / "undisturbed")
    assert syncs.run(data) == 0
    assert content(data) == content(tmp_path / "undisturbed")
