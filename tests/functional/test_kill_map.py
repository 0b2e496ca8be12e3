"""SIGKILL at any moment of a map: the one that runs after it ends with the tables of one that was never killed."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.nights import Hospital, charts, differing, mapped, settled

ROOT = Path(__file__).parents[2]
MOMENTS = 8

# Imports once, then forks a map for each line on stdin: the moments fall into the map, not into the imports.
PROGRAM = """
import os
import sys
from pathlib import Path
import mappers.build.mapping  # noqa: F401
from tests.nights import mapped, settled

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        mapped(settled(Path(line.rstrip())))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Maps:
    """Maps of a data folder in processes of their own, one after the other."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def run(self, data: Path, kill_after: float | None = None) -> int:
        """Exit code of the map; it is killed with SIGKILL if it has not ended after so many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{data}\n".encode())
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
def maps() -> Iterator[Maps]:
    started = Maps()
    yield started
    started.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_map_that_was_killed_at_any_moment_is_made_up_for(maps: Maps, tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "before" / "data")
    bodies = {(body["resourceType"], body["id"]): body for chart in charts() for body in chart.resources}
    hospital.night("milan", bodies)
    mapped(settled(hospital.data))
    hospital.night("milan", {key: body | {"status": "entered-in-error"} for key, body in list(bodies.items())[::4]})
    whole = shutil.copytree(hospital.data, tmp_path / "whole")
    started = time.perf_counter()
    assert maps.run(whole) == 0
    took = time.perf_counter() - started
    moments, codes = random.Random(1), set()
    for nth in range(MOMENTS):
        data = shutil.copytree(hospital.data, tmp_path / f"killed-{nth}")
        codes.add(maps.run(data, kill_after=took * moments.uniform(0.05, 1)))
        assert maps.run(data) == 0
        assert differing(settled(data), settled(whole)) == []
        assert sorted(path.name for path in data.iterdir() if path.name.startswith("cohort")) == ["cohort"]
        shutil.rmtree(data)
    assert -signal.SIGKILL in codes
