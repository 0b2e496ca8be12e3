"""Where everything is required (CI), a test that was skipped fails the run, also in one of several processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SKIPPED = {
    "a test": "import pytest\n\n\ndef test_this():\n    pytest.skip('absent')\n",
    "setup": "import pytest\n\n\n@pytest.fixture\ndef it():\n    pytest.skip('absent')\n\n\ndef test_it(it): ...\n",
    "a file": "import pytest\n\npytest.skip('absent', allow_module_level=True)\n",
}


def code(folder: Path, required: str, workers: int) -> int:
    """Exit code of pytest in a folder of tests."""
    shutil.copy(CONFTEST, folder)
    (folder / "test_passes.py").write_text("def test_passes(): ...\n")
    command = [sys.executable, "-m", "pytest", "-n", str(workers), "--rootdir", str(folder), str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PERIOP_REQUIRE_ALL"] = required
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=False).returncode


@pytest.mark.parametrize(("what", "workers"), [(what, 2) for what in SKIPPED] + [("a test", 0)])
def test_a_skip_fails_the_run(tmp_path: Path, what: str, workers: int) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPPED[what])
    assert code(tmp_path, "1", workers) == pytest.ExitCode.TESTS_FAILED


def test_where_nothing_is_required_it_does_not(tmp_path: Path) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPPED["a test"])
    assert code(tmp_path, "", 2) == pytest.ExitCode.OK


def test_without_a_skip_the_run_passes(tmp_path: Path) -> None:
    assert code(tmp_path, "1", 2) == pytest.ExitCode.OK
