"""Write one archive with which periop is installed on a machine without a network: `make bundle`.

It holds a wheel of every distribution of `requirements.lock` for each machine of `MACHINES`, all with their hashes, the
wheel of periop, the units of systemd and `install.sh`. A distribution that has no wheel is built from its sdist, whose
hash is in the lock, by the tools of `requirements-build.lock`.

Run it with the Python that has these tools; `make bundle` does.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename

REPOSITORY = Path(__file__).resolve().parents[1]
MACHINES = ("x86_64", "aarch64")  # the names of `uname -m`; Debian calls them amd64 and arm64
PYTHON = "3.11"  # wheels with compiled code are for one version of Python; this is the oldest that periop runs on
# glibc up to 2.28: Debian 10, Red Hat Enterprise Linux 8, Ubuntu 18.10 and all later ones. pip wants each tag by name.
GLIBC = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in range(28, 16, -1)))
EPOCH = 1_700_000_000  # when all files of the bundle were made, for those who ask


def main(arguments: list[str] | None = None) -> int:
    """Write the bundle to a folder and print its path."""
    parser = argparse.ArgumentParser(description="Write the archive that installs periop without a network.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist", help="the folder to write it to")
    out: Path = parser.parse_args(arguments).out
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / f"periop-{version}-linux-python{PYTHON}"
        wheels = folder / "wheels"
        wheels.mkdir(parents=True)
        for machine in MACHINES:
            download(machine, wheels)
        build(wheels)
        lay_out(folder)
        print(archive(folder, out))
    return 0


def locked(lock: str, machine: str) -> Iterator[str]:
    """Yield the lines of a lock that apply to `machine`, each with its hashes and without its marker.

    pip evaluates markers for the Python that runs it, whatever platform it downloads for.
    """
    target = {
        "python_version": PYTHON,
        "python_full_version": f"{PYTHON}.0",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for line in lock.replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        wanted, *hashes = line.split("--hash=")
        requirement = Requirement(wanted)
        if requirement.marker is None or requirement.marker.evaluate(target):
            pinned = f"{requirement.name}{requirement.specifier}"
            yield " ".join([pinned, *(f"--hash={each.strip()}" for each in hashes)])


def download(machine: str, folder: Path) -> None:
    """Download what the lock names for `machine`, verified by hash: wheels, and sdists where there is no wheel."""
    lock = (REPOSITORY / "requirements.lock").read_text("utf-8")
    tags = [option for glibc in GLIBC for option in ("--platform", f"{glibc}_{machine}")]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(locked(lock, machine)))
        requirements.flush()
        # --no-deps: the lock is complete. --no-build-isolation: an sdist is asked for its metadata, and the tools for
        # that are those that we have, with hashes, and not the newest that the registry has.
        pip(
            "download", "--no-deps", "--require-hashes", "--prefer-binary", "--no-build-isolation",
            "--python-version", PYTHON, "--implementation", "cp", *tags,
            "-r", requirements.name, "-d", str(folder),
        )  # fmt: skip


def build(wheels: Path) -> None:
    """Build a wheel of each sdist in `wheels`, and of periop; an sdist does not go into the bundle."""
    sdists = [file for file in wheels.iterdir() if file.suffix != ".whl"]
    for source in (*sdists, REPOSITORY):
        pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source))
    for file in sdists:
        file.unlink()
        built = [each for each in wheels.glob("*.whl") if same_distribution(each, file)]
        # What is compiled here would not run on the other machine.
        if not any(each.name.endswith("-none-any.whl") for each in built):
            raise SystemExit(f"{file.name}: has compiled code and no wheel; another version is needed in the lock")


def same_distribution(wheel: Path, sdist: Path) -> bool:
    """Return True if a wheel is of the distribution of an sdist."""
    name, _, _ = sdist.name.removesuffix(".tar.gz").rpartition("-")
    return parse_wheel_filename(wheel.name)[0] == canonicalize_name(name)


def requirements(wheels: Iterable[Path]) -> str:
    """Return the hashed requirements that exactly these wheels fulfil: for each distribution those of all machines."""
    hashes: dict[tuple[NormalizedName, str], list[str]] = defaultdict(list)
    for file in sorted(wheels):
        name, version, _, _ = parse_wheel_filename(file.name)
        hashes[name, str(version)].append(sha256(file))
    return "".join(
        " ".join([f"{name}=={version}", *(f"--hash=sha256:{each}" for each in found)]) + "\n"
        for (name, version), found in hashes.items()
    )


def lay_out(folder: Path) -> None:
    """Put beside the wheels in `folder` everything else that the bundle has, the hashes of all files last."""
    for source in ("deploy/systemd", "docs"):
        shutil.copytree(REPOSITORY / source, folder / source)
    for source in ("deploy/install.sh", "deploy/README.txt", "LICENSE"):
        shutil.copy(REPOSITORY / source, folder)
    (folder / "requirements.txt").write_text(requirements((folder / "wheels").iterdir()), "utf-8")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = "".join(f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files)
    (folder / "SHA256SUMS").write_text(sums, "utf-8")  # as `sha256sum --check` reads it


def archive(folder: Path, out: Path) -> Path:
    """Write the files of `folder` as one archive in the folder `out`; return its path."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        # Neither who made the bundle nor when: two bundles of one commit are equal.
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = EPOCH
        entry.mode = 0o755 if entry.isdir() or entry.name.endswith(".sh") else 0o644
        return entry

    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{folder.name}.tar"  # not compressed: wheels are
    with tarfile.open(path, "w") as tar:
        tar.add(folder, folder.name, filter=plain)  # sorted by name
    return path


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def pip(*arguments: str) -> None:
    """Run pip of this Python. Raises `SystemExit` where it fails; it has said why."""
    # hatchling and setuptools date the files of a wheel by it.
    environ = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", *arguments[1:]]
    if subprocess.run(command, env=environ, check=False).returncode:
        raise SystemExit(f"pip {arguments[0]} failed; the bundle is made where the package registry can be reached")


if __name__ == "__main__":
    sys.exit(main())
