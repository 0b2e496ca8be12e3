"""`make expected` runs outside of pytest."""

from __future__ import annotations

import os
import subprocess
import sys


def test_the_committed_artefacts_can_be_written_by_hand() -> None:
    """The generator starts without what a run of the tests prepares."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PERIOP_TESTS")}
    program = "from tests.expectations import everything; names = [name for name, _ in everything()]; print(len(names))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
