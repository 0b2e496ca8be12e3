"""One run at a time: between processes, freed by death, and told by process id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schedules.errors import ExitCode, LockBusyError, exit_code
from schedules.run.lock import holder_pid, is_held, run_lock

HOLD = """
import sys
from pathlib import Path
from schedules.run.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holding(data_dir: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_told_who_holds(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        assert is_held(tmp_path)
        assert holder_pid(tmp_path) == process.pid
        with pytest.raises(LockBusyError, match=f"process {process.pid} ") as caught, run_lock(tmp_path):
            pass
        assert exit_code(caught.value) == ExitCode.LOCKED == 75
        process.communicate("\n")
    with run_lock(tmp_path):
        assert holder_pid(tmp_path) == os.getpid()


def test_the_system_frees_the_lock_of_a_killed_run(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        process.kill()
        process.communicate()
    assert not is_held(tmp_path)
    with run_lock(tmp_path):
        assert is_held(tmp_path)


def test_a_folder_that_was_never_used_is_free(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "new")
    assert holder_pid(tmp_path / "new") is None
    with run_lock(tmp_path / "new"):
        pass
    assert not is_held(tmp_path / "new")
