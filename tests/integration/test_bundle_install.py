"""`make bundle`, and periop installed from it on a machine without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from deploy import bundle

REPOSITORY = Path(__file__).parents[2]
VERSION = tuple(int(part) for part in bundle.PYTHON.split("."))
UNREACHABLE = ("NewConnectionError", "ConnectTimeout", "NameResolutionError", "No matching distribution")

pytestmark = pytest.mark.registry


def python() -> str | None:
    """Return a Python of the version of the bundle."""
    return sys.executable if sys.version_info[:2] == VERSION else shutil.which(f"python{bundle.PYTHON}")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    command = ["make", "bundle", f"PYTHON={sys.executable}", f"TOOLS={folder / 'tools'}", f"DIST={folder}"]
    # Without what a `make` that runs the tests hands on: this one would print which folders it enters and leaves.
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode and any(word in done.stdout + done.stderr for word in UNREACHABLE):
        pytest.skip("needs a package registry, or a cache of pip with what the lock names")
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.tar")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()  # half a gigabyte
    return folder / archive.stem


@pytest.mark.parametrize("machine", bundle.MACHINES)
def test_fault_100_the_bundle_has_what_each_machine_needs(unpacked: Path, machine: str) -> None:
    """Each distribution of the lock has a wheel that this machine takes, with a hash of the lock and of the bundle."""
    tags = {
        *cpython_tags(VERSION, platforms=[f"{glibc}_{machine}" for glibc in bundle.GLIBC]),
        *compatible_tags(VERSION, interpreter=f"cp{VERSION[0]}{VERSION[1]}"),
    }
    wheels = {}
    for file in (unpacked / "wheels").iterdir():
        name, version, _, supported = parse_wheel_filename(file.name)
        if tags & supported:
            wheels[name, str(version)] = bundle.sha256(file)
    hashes = dict(line.split(" ", 1) for line in (unpacked / "requirements.txt").read_text("utf-8").splitlines())
    assert [name for (name, version), found in wheels.items() if found not in hashes[f"{name}=={version}"]] == []
    built = set()
    for line in bundle.locked((REPOSITORY / "requirements.lock").read_text("utf-8"), machine):
        requirement = Requirement(line.split(" ")[0])
        name, version = canonicalize_name(requirement.name), str(requirement.specifier).removeprefix("==")
        if wheels[name, version] not in line:
            built.add(name)
    assert built == {"autograd-gamma"}  # built from its sdist
    assert any(name == "periop-fhir" for name, _ in wheels)


def without_network() -> list[str]:
    """Return the command in front of another one that takes the network from it, where this machine allows that."""
    command = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        return command
    return []


def test_fault_100_it_is_installed_and_runs_without_a_network(unpacked: Path, tmp_path: Path) -> None:
    if os.uname().machine not in bundle.MACHINES or (interpreter := python()) is None:
        pytest.skip(f"needs Linux on one of {bundle.MACHINES} and Python {bundle.PYTHON}")
    # No setting of pip, no PYTHONPATH: only what a machine has that never saw this repository.
    environ = {"PATH": os.environ["PATH"], "PYTHON": interpreter, "HOME": str(tmp_path)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [*without_network(), *command], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    opt = tmp_path / "opt"
    assert "installed: periop, version" in run(str(unpacked / "install.sh"), str(opt))
    periop = str(opt / ".venv" / "bin" / "periop")
    assert run(periop, "--version").startswith("periop, version ")
    assert "41 of 41 published proportions are equal" in run(periop, "demo", "--out", "demo")
    assert (opt / "deploy" / "systemd" / "periop.service").is_file()
    assert (opt / "docs" / "hospital-it.md").is_file()
