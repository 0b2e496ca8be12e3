"""The bundle: what of the lock applies to a machine, the hashes of what is in it, and that damage is found."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy import bundle

REPOSITORY = Path(__file__).parents[2]
LOCK = """\
# a comment
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via scipy
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
greenlet==3.1 ; platform_machine == 'aarch64' \\
    --hash=sha256:dd
colorama==0.4 ; sys_platform == 'win32' \\
    --hash=sha256:ee
"""


def test_the_lock_is_read_for_the_machine_and_the_python_of_the_bundle() -> None:
    numpy = "numpy==2.4.6 --hash=sha256:aa --hash=sha256:bb"
    assert list(bundle.locked(LOCK, "x86_64")) == [numpy]
    assert list(bundle.locked(LOCK, "aarch64")) == [numpy, "greenlet==3.1 --hash=sha256:dd"]


def test_what_is_locked_has_a_hash() -> None:
    for name in ("requirements.lock", "requirements-build.lock"):
        lines = list(bundle.locked((REPOSITORY / name).read_text("utf-8"), "aarch64"))
        assert len(lines) > 5
        assert [line for line in lines if " --hash=sha256:" not in line] == []


def test_the_build_tools_that_the_projects_want_are_locked() -> None:
    lines = bundle.locked((REPOSITORY / "requirements-build.lock").read_text("utf-8"), "x86_64")
    named = {Requirement(line.split(" ")[0]).name for line in lines}
    assert {"hatchling", "setuptools", "pip"} <= named


def test_a_wheel_of_two_machines_is_one_requirement(tmp_path: Path) -> None:
    names = {
        "a_b-1.0-cp311-cp311-manylinux_2_28_aarch64.whl": b"arm",
        "a_b-1.0-cp311-cp311-manylinux_2_28_x86_64.whl": b"intel",
    }
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    arm, intel = (hashlib.sha256(content).hexdigest() for content in names.values())
    assert bundle.requirements(tmp_path.iterdir()) == f"a-b==1.0 --hash=sha256:{arm} --hash=sha256:{intel}\n"


def test_the_wheel_of_an_sdist_is_recognised() -> None:
    wheel = Path("autograd_gamma-0.5.0-py3-none-any.whl")
    assert bundle.same_distribution(wheel, Path("autograd-gamma-0.5.0.tar.gz"))
    assert not bundle.same_distribution(wheel, Path("autograd-1.9.1.tar.gz"))


def test_the_python_of_the_bundle_is_the_one_that_its_script_asks_for() -> None:
    script = (REPOSITORY / "deploy" / "install.sh").read_text("utf-8")
    assert re.findall(r"!= \((\d+), (\d+)\)", script) == [tuple(bundle.PYTHON.split("."))]
    assert [machine for machine in bundle.MACHINES if f'"Linux {machine}"' not in script] == []


@pytest.mark.skipif(platform.system() != "Linux", reason="the bundle is for Linux")
@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_fault_101_a_damaged_bundle_installs_nothing(tmp_path: Path, damage: str) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = tmp_path / "wheels" / "periop_fhir-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    bundle.lay_out(tmp_path)
    if damage == "changed":
        wheel.write_bytes(b"whee1")
    else:
        wheel.unlink()
    # The Python of the tests may be another one than that of the bundle; the script asks it for its version first.
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in *version_info*) exit 0 ;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", tmp_path / "install.sh", tmp_path / "opt"],
        env=os.environ | {"PYTHON": str(python)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "install.sh: a file of the bundle is damaged; copy it again" in done.stderr
    assert not (tmp_path / "opt").exists()
