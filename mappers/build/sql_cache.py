"""Compiled SQL that is kept from run to run: to compile the cohort takes longer than a nightly change does.

A value is kept under the hash of everything that it depends on: what it was compiled from, the source files of the
compiler, and the versions of the libraries that write SQL. To lose a file costs only the time to compile again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mappers
from connectors.lake.files import write_atomically

WRITERS = ("ibis-framework", "sqlglot", "duckdb", "pyspark")


def compiler_digest() -> str:
    """Return a hash of the sources that make SQL, and of the versions of the libraries that write it."""
    digest = hashlib.sha256()
    for name in WRITERS:
        digest.update(f"{name} {_installed(name)}\n".encode())
    for path in sorted(Path(mappers.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # Spark is optional
        return "none"


class SqlCache:
    """The cache in `folder`, one JSON file a value. `dependencies` are what all values depend on."""

    def __init__(self, folder: Path, *dependencies: str) -> None:
        self._folder = folder
        self._dependencies = dependencies
        self._used: set[Path] = set()

    def get(self, compiled_from: str, compile_it: Callable[[], Any]) -> Any:
        """Return the JSON value of `compile_it`, or what it returned when `compiled_from` was the same."""
        text = json.dumps([*self._dependencies, compiled_from])
        # 128 bits of the hash are enough: a collision would take 2^64 values.
        path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        self._used.add(path)
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError):  # not there, or damaged
            value = compile_it()
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(value))
            return value

    def delete_unused(self) -> None:
        """Delete the values that nobody has asked for."""
        for path in self._folder.glob("*"):
            if path not in self._used:
                path.unlink()
