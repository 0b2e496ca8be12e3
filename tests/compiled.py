"""The SQL of the cohort, compiled once in a process of tests: compiling takes longer than most maps of a test do.

periop keeps compiled SQL in the data folder from night to night, under a hash of everything that it was made from. Here
a new data folder begins with what was compiled in others, so each text is compiled once. It needs a key that is given:
periop refuses views whose `pseudonym.key` is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEXTS: dict[str, bytes] = {}  # by file name, which is the hash


@contextmanager
def compiled_once(data_dir: Path) -> Iterator[None]:
    """Within it, a map in `data_dir` compiles only what no map before it has compiled."""
    folder = data_dir / "views" / ".compiled"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in TEXTS.items():
        (folder / name).write_bytes(text)
    yield
    TEXTS.update((file.name, file.read_bytes()) for file in folder.glob("*.json"))
