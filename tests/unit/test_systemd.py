"""The units of systemd: what `systemd-analyze` says of them, and that they agree with the program and the docs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schedules.errors import ExitCode

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
PERIOP = "/opt/periop/.venv/bin/periop"
MOST_EXPOSED = 2.0  # of 10; below 2 systemd calls a service OK, and a service without any protection has 9.6

installed = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@installed
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_fault_102_a_service_is_little_exposed(unit: Path) -> None:
    done = analyze("security", "--offline=true", str(unit))
    level = re.search(rf"Overall exposure level for {unit.name}: ([\d.]+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= MOST_EXPOSED, done.stdout


@installed
def test_fault_102_an_unprotected_service_is_told_from_ours(tmp_path: Path) -> None:
    unit = tmp_path / "bare.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert "UNSAFE" in analyze("security", "--offline=true", str(unit)).stdout


@installed
def test_fault_102_the_units_are_valid(tmp_path: Path) -> None:
    """With a program that is there: systemd looks for it."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text("utf-8").replace(PERIOP, sys.executable))
    done = analyze("verify", "--man=no", *map(str, sorted(tmp_path.iterdir())))
    assert (done.returncode, done.stderr) == (0, "")
    broken = tmp_path / "periop.service"
    broken.write_text(broken.read_text().replace("ProtectSystem", "ProtectSytem"))
    assert "ProtectSytem" in analyze("verify", "--man=no", str(broken)).stderr


def value(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text("utf-8"), re.MULTILINE)


def test_both_services_are_protected_alike() -> None:
    parts = [
        unit.read_text("utf-8").partition("UMask=0077")[2].partition("\n[Install]")[0].strip() for unit in SERVICES
    ]
    assert len(parts[0].splitlines()) > 25
    assert parts[0] == parts[1]


def test_no_unit_holds_a_secret_and_all_run_the_installed_program() -> None:
    for unit in SERVICES:
        assert value(unit, "Environment") == []
        (command,) = value(unit, "ExecStart")
        assert command.startswith(f"{PERIOP} --env-file periop.env ")


def test_the_exit_codes_of_the_units_are_those_of_the_program() -> None:
    service, once = UNITS / "periop.service", UNITS / "periop-run.service"
    assert value(service, "RestartPreventExitStatus") == [str(int(ExitCode.CONFIG))]
    assert value(service, "Restart") == ["on-failure"]  # so also after UPDATED
    # What fails is tried again by `run --retry`, and by systemd only what was killed: not twice, and not for ever.
    assert value(once, "Restart") == ["on-abnormal"]
    assert (value(once, "StartLimitBurst"), value(once, "StartLimitIntervalSec")) == (["4"], ["4h"])
    assert value(once, "ExecStart")[0].endswith(" run --retry")
    assert value(once, "SuccessExitStatus") == [f"{int(ExitCode.PARTIAL)} {int(ExitCode.SUPPRESSED)}"]
