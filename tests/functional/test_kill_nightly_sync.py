"""SIGKILL in an incremental night with deletions: at every named point, and at random moments. Nothing lost or doubled.

The server is a model in the process that is killed, the same at each start: the night is always the same night.
"""

from __future__ import annotations

import hashlib
import json
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from os import kill
from pathlib import Path

import pytest

from connectors.lake.quarantine import Quarantine
from connectors.lake.table import SCHEMA, Lake

ROOT = Path(__file__).parents[2]
PATIENTS = 60
MOMENTS = 150  # with the 50 of test_kill_sync.py: 200
POINTS = ("received 1", "received 40", "pulled 1", "quarantined 1", "written 1", "committed 1")

# Imports and builds the server once, then forks a night for each line on stdin. A point is handed in as a callback that
# kills the process there.
PROGRAM = f"""
import os
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from connectors.lake.table import Lake
from connectors.lake.quarantine import Quarantine
from connectors.sources.search.source import CohortQuery, SearchSource
from connectors.sync import sync_site
from tests.fhir_server import BASE, Features, ModelServer
import pandas  # pyarrow would import it within the sync, and that would be most of its time

server = ModelServer(Features(page=40))
for p in range({PATIENTS}):
    subject = {{"reference": f"Patient/p{{p}}"}}
    server.put("Patient", f"p{{p}}")
    server.put("Condition", f"c{{p}}", code={{"text": "lung"}}, subject=subject)
    for n in range(3):
        server.put("Observation", f"o{{p}}-{{n}}", subject=subject, note=[{{"text": "x" * 400}}])
server.now += timedelta(days=1)


def change():
    server.now += timedelta(days=1)
    for p in range({PATIENTS}):
        server.put("Observation", f"o{{p}}-0", subject={{"reference": f"Patient/p{{p}}"}}, valueInteger=p)
        server.delete("Observation", f"o{{p}}-1")
    server.put("Condition", "c0", code={{"text": "breast"}}, subject={{"reference": "Patient/p0"}})
    poison = {{"reference": "Patient/p1"}}
    server.put("Observation", "poison", subject=poison, valueDecimal=float("nan"))
    server.now += timedelta(minutes=1)


def night(data, point):
    lake, reached = Lake(data / "lake"), Counter()

    def stop(name):
        reached[name] += 1
        if f"{{name}} {{reached[name]}}" == point:
            os.kill(os.getpid(), signal.SIGKILL)

    cohort = CohortQuery("Condition", (("code", "lung"),))
    stored = lambda: lake.patients("site")
    source = SearchSource(BASE, cohort, ("Patient", "Condition", "Observation"), http_transport=server, stored=stored)
    return sync_site(source, lake, "site", Quarantine(data / "quarantine"), reached=stop).status


for line in sys.stdin:
    data, number, point = line.rstrip(chr(10)).split("|")
    child = os.fork()
    if child == 0:
        if number == "2":
            change()
        os._exit(0 if night(Path(data), point) == "ok" else 9)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nights:
    """Nights in processes of their own, one after the other."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def run(self, data: Path, number: int, point: str = "", kill_after: float | None = None) -> int:
        """Exit code of night 1 or 2; it is killed at this point, or if it has not ended after so many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{data}|{number}|{point}\n".encode())
        pid = int(self.process.stdout.readline())
        if kill_after is not None and not select.select([self.process.stdout], [], [], kill_after)[0]:
            with suppress(ProcessLookupError):  # it ended at this very moment
                kill(pid, signal.SIGKILL)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nights() -> Iterator[Nights]:
    with closing(Nights()) as nights:
        yield nights


@pytest.fixture(scope="module")
def before(nights: Nights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder after the first night."""
    data = tmp_path_factory.mktemp("night") / "one"
    assert nights.run(data, 1) == 0
    assert content(data)[0] == PATIENTS * 5
    return data


@pytest.fixture(scope="module")
def expected(nights: Nights, before: Path) -> tuple[int, str, str, bytes]:
    """What the second night leaves when nobody kills it.

    p0 has left the cohort: 59 changes, 60 tombstones (deletions are told of everybody), one condition, one poison.
    """
    data = before.with_name("two")
    shutil.copytree(before, data)
    assert nights.run(data, 2) == 0
    found = content(data)
    assert found[0] == PATIENTS * 5 + 59 + 60 + 1
    assert found[3].count(b"\n") == 1
    return found


def content(data: Path) -> tuple[int, str, str, bytes]:
    """Rows, a digest of all columns of the lake, the cursor, and the quarantine."""
    lake = Lake(data / "lake")
    names = [name for name in SCHEMA.names if name != "site"]
    rows = [row for batch in lake.rows("site", names) for row in batch.select(names).to_pylist()]
    digest = hashlib.sha256(json.dumps(sorted(rows, key=str)).encode()).hexdigest()
    quarantine = Quarantine(data / "quarantine").path("site")
    return len(rows), digest, str(lake.cursor("site")), quarantine.read_bytes() if quarantine.exists() else b""


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("number", [1, 2])
def test_fault_23_a_kill_at_every_named_point(
    nights: Nights, before: Path, expected: tuple[int, str, str, bytes], tmp_path: Path, point: str, number: int
) -> None:
    data = tmp_path / "data"
    if number == 2:
        shutil.copytree(before, data)
    undisturbed = content(before) if number == 1 else expected
    untouched = content(data)[:3]
    assert nights.run(data, number, point) == -signal.SIGKILL
    assert content(data)[:3] == (undisturbed[:3] if point.startswith("committed") else untouched)
    assert nights.run(data, number) == 0
    rows, digest, _, quarantine = content(data)
    assert (rows, digest, quarantine) == (undisturbed[0], undisturbed[1], undisturbed[3])


def test_fault_23_a_kill_at_random_moments(
    nights: Nights, before: Path, expected: tuple[int, str, str, bytes], tmp_path: Path
) -> None:
    timed = tmp_path / "timed"
    shutil.copytree(before, timed)
    began = time.monotonic()
    assert nights.run(timed, 2) == 0
    duration = time.monotonic() - began
    untouched, chance, codes = content(before)[:3], random.Random(20261124), []
    for number in range(MOMENTS):
        data = tmp_path / str(number)
        shutil.copytree(before, data)
        began = time.monotonic()
        codes.append(nights.run(data, 2, kill_after=chance.uniform(0, duration)))
        if codes[-1] == 0:  # the machine is quicker than it was: the next kills come earlier
            duration = min(duration, time.monotonic() - began)
        assert content(data)[:3] in (untouched, expected[:3]), "a killed night left a part of its rows"
        assert nights.run(data, 2) == 0
        assert content(data) == expected
        shutil.rmtree(data)
    assert codes.count(-signal.SIGKILL) > MOMENTS // 2, "most kills came too late to prove anything"
