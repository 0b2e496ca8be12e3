"""Completion, the version, one clock, Ctrl-C: all that a person at a terminal meets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from tests.functional.test_cli_commands import Terminal, periop

__all__ = ["periop"]  # the fixture

posix_only = pytest.mark.skipif(os.name != "posix", reason="the shells are those of POSIX")
COMMAND = [sys.executable, "-m", "schedules.cli"]


def asked(shell: str, words: str, at: int) -> list[str]:
    """Return what the shell's function is answered."""
    environ = os.environ | {"_PERIOP_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    done = subprocess.run(COMMAND, env=environ, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


def test_completion_knows_commands_and_options() -> None:
    assert asked("bash", "periop st", 1) == ["plain,status"]
    assert asked("zsh", "periop view sh", 2)[:2] == ["plain", "show"]
    assert "--full" in " ".join(asked("bash", "periop sync --f", 2))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(periop: Terminal, shell: str) -> None:
    assert periop("completion", shell) == 0
    assert f"_PERIOP_COMPLETE={shell}_complete" in periop.out
    assert periop.err == ""
    assert periop("completion", "tcsh") == 2


@posix_only
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_works_in_bash(periop: Terminal, tmp_path: Path) -> None:
    periop("completion", "bash")
    (tmp_path / "script").write_text(periop.out)
    program = tmp_path / "periop"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m schedules.cli "$@"\n')
    program.chmod(0o755)
    ask = 'source script; COMP_WORDS=(periop verif); COMP_CWORD=1; _periop_completion periop; echo "${COMPREPLY[@]}"'
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        ["bash", "-c", ask], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "verify"


def test_the_version_is_for_persons_and_for_programs(periop: Terminal) -> None:
    assert periop("--version") == 0
    version = re.fullmatch(r"periop, version (\S+)\n", periop.out)
    assert version is not None
    assert periop("--version", "--json") == 0
    found = json.loads(periop.out)
    assert found["version"] == version[1]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert periop("--json", "status") == 2
    assert "--json before the command goes with --version" in periop.err


def test_fault_108_all_times_are_of_one_clock(periop: Terminal) -> None:
    periop.config.write_text(periop.config.read_text() + '[schedule]\ntimezone = "Pacific/Auckland"\n')
    periop("run")
    periop("status")
    times = re.findall(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S*", periop.out)
    assert len(times) >= 5
    assert [each for each in times if not each.endswith("Z")] == []
    found = periop.json("status")
    # 01:30 of the next day in Auckland, twelve hours ahead in May.
    assert found["next_due"] == "2026-05-01T13:30:00+00:00"
    offsets = [datetime.fromisoformat(found[name]).utcoffset() for name in ("now", "next_due", "stale_after")]
    assert len(set(offsets)) == 1


INTERRUPTED_IMPORT = """
import sys, types
class Interrupting(types.ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt
sys.modules["schedules.cli.session"] = Interrupting("schedules.cli.session")
from schedules.cli.entry import main
sys.exit(main())
"""


def test_fault_107_an_interrupt_of_an_import_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (130, 1)
    assert done.stderr.startswith("periop: interrupted;")


@posix_only
def test_fault_107_an_interrupt_of_a_command_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "periop.toml").write_text('[[sites]]\nname = "a"\nkind = "folder"\npath = "fhir"\n')
    command = [*COMMAND, "--config", str(tmp_path / "periop.toml"), "serve"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "serving;" in line:
                process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in "".join(said)
    assert "KeyboardInterrupt" not in "".join(said)
