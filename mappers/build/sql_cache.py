"""SQL that was compiled in an earlier night: compiling the cohort takes longer than a night's changes do.

A text is kept under the hash of everything that it depends on: what it was made from, the source files of the
compiler, and the versions of the libraries that write SQL. A file that is damaged or that nobody asked for is no loss.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mappers

WRITERS = ("ibis-framework", "sqlglot", "duckdb", "pyspark")
SOURCES = (Path(mappers.__file__).parent,)


def compiler_digest() -> str:
    """A hash of the program's sources that make SQL, and of the versions of the libraries that write it."""
    digest = hashlib.sha256()
    for name in WRITERS:
        digest.update(f"{name} {_installed(name)}\n".encode())
    for folder in SOURCES:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # an engine that is not there writes nothing
        return "none"


class CompiledTexts:
    """The texts in `folder`, one JSON file each."""

    def __init__(self, folder: Path, *dependencies: str) -> None:
        self._folder = folder
        self._dependencies = dependencies
        self._asked: set[Path] = set()

    def get(self, made_from: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, a value of JSON, or what it gave when it was asked for with the same `made_from`."""
        text = json.dumps([*self._dependencies, made_from])
        path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        self._asked.add(path)
        known = _read(path)
        return self._keep(path, make()) if known is None else known

    def _keep(self, path: Path, value: Any) -> Any:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(value), encoding="utf-8")
        unfinished.replace(path)
        return value

    def forget_others(self) -> None:
        """Delete the texts that nobody has asked for."""
        for path in self._folder.glob("*"):
            if path not in self._asked:
                path.unlink()


def _read(path: Path) -> Any:
    """The value in a file; None where there is none, or a damaged one."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
