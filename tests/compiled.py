"""The SQL of the cohort, compiled once in a run of the tests: compiling takes longer than most maps of a test do.

periop keeps compiled SQL in the data folder from run to run, under a hash of everything that it was made from. Here a
new data folder begins with what was compiled in others, also by other processes that share the tests, so each text is
compiled once. It needs a key that is given: periop refuses views whose `pseudonym.key` is missing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "PERIOP_TESTS_COMPILED"  # names the shared folder; tests/conftest.py makes it and deletes it at the end


@contextmanager
def compiled_once(data_dir: Path) -> Iterator[None]:
    """Within it, a map in `data_dir` compiles only what no map before it has compiled."""
    if FOLDER not in os.environ:  # outside a run of the tests, as in `make expected`
        yield
        return
    shared, own = Path(os.environ[FOLDER]), data_dir / "views" / ".compiled"
    own.mkdir(parents=True, exist_ok=True)
    for file in shared.glob("*.json"):
        shutil.copyfile(file, own / file.name)
    yield
    for file in own.glob("*.json"):
        if not (shared / file.name).exists():
            # Renamed when it is whole, because another process may copy it at the same time.
            with tempfile.NamedTemporaryFile(dir=shared, delete=False) as part:
                part.write(file.read_bytes())
            Path(part.name).replace(shared / file.name)
