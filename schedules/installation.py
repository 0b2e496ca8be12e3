"""Tell of the installed program its version, whether it was updated, and whether another one is in its way.

The root packages of periop have everyday names, and PyPI has distributions that install folders of these names: pip
lays one over the other without a word.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from schedules.errors import ConfigError

DISTRIBUTION = "periop-fhir"
ROOT_PACKAGES = ("connectors", "mappers", "analytics", "schedules")
PACKAGES_FOLDER = Path(__file__).resolve().parents[1]  # that of the four packages

State = frozenset[tuple[str, int, int]]


def site_folder() -> Path | None:
    """Return the folder into which periop was installed, None where it runs from a folder without installation."""
    try:
        return Path(str(distribution(DISTRIBUTION).locate_file("")))
    except PackageNotFoundError:
        return None


def installed_version() -> str:
    """Return the version that is installed now; a running process may be of an earlier one."""
    try:
        return distribution(DISTRIBUTION).version
    except PackageNotFoundError:
        return "unknown"


def program_state(site: Path | None, packages: Path = PACKAGES_FOLDER) -> State:
    """Return (path, time of change, size) of what an update changes: our modules, and the record of each distribution.

    Also of other distributions: modules that are imported later than at the start would be those of the new version.
    """
    files = [file for name in ROOT_PACKAGES for file in (packages / name).rglob("*.py")]
    files += site.glob("*.dist-info/RECORD") if site else ()
    found = set()
    for file in files:
        try:
            status = file.stat()
        except FileNotFoundError:  # an update is deleting it
            continue
        found.add((str(file), status.st_mtime_ns, status.st_size))
    return frozenset(found)


class ProgramWatch:
    """Notices that the program on the disk is no longer the one that was started.

    >>> states = iter(["old", "old", "half", "new", "new"])
    >>> watch = ProgramWatch(lambda: next(states))
    >>> watch.is_updated(), watch.is_settled(), watch.is_settled(), watch.is_settled()
    (False, False, False, True)
    """

    def __init__(self, state: Callable[[], object]) -> None:
        self._state = state
        self._at_start = self._last = state()

    def is_updated(self) -> bool:
        """Return True if the program is another one now than at the start."""
        return self._state() != self._at_start

    def is_settled(self) -> bool:
        """Return True if the program is another one, and the same as at the last call: its update is over."""
        before, self._last = self._last, self._state()
        return self._at_start != self._last == before


def refuse_foreign_packages(site: Path | None, packages: Path = PACKAGES_FOLDER) -> None:
    """Raise `ConfigError` where a root package of ours is another distribution's, or is found in another place."""
    if owners := sorted(set(foreign_owners(site))):
        named = ", ".join(f"{package} ({owner})" for package, owner in owners)
        raise ConfigError(
            f"{site}: another distribution has installed packages of the names that periop uses: {named}; "
            "install periop in an environment of its own (venv, pipx, uv tool)"
        )
    for name in ROOT_PACKAGES:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parents[1] if spec and spec.origin else None
        if found != packages:
            raise ConfigError(
                f"{packages / name}: Python finds {found / name if found else 'no file'} in its place; install periop "
                "in an environment of its own, and unset PYTHONPATH"
            )


def foreign_owners(site: Path | None) -> Iterator[tuple[str, str]]:
    """Yield (root package, distribution) of each other distribution that has installed into one of our packages."""
    for record in site.glob("*.dist-info/RECORD") if site else ():
        owner = record.parent.name.removesuffix(".dist-info")
        if owner.startswith("periop_fhir-"):
            continue
        # As bytes, and not by importlib.metadata, which takes 0.1 s for all files of all distributions.
        content = b"\n" + record.read_bytes()
        for name in ROOT_PACKAGES:
            if any(f"\n{name}{end}".encode() in content for end in ("/", ".py,")):
                yield name, owner
