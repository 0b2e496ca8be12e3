"""What a run of the tests promises, whatever goes wrong in it, also in several processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import FIRST, place

TESTS = Path(__file__).parents[1]
CONFTEST = TESTS / "conftest.py"
SKIPPED = {
    "a test": "import pytest\n\n\ndef test_this():\n    pytest.skip('absent')\n",
    "setup": "import pytest\n\n\n@pytest.fixture\ndef it():\n    pytest.skip('absent')\n\n\ndef test_it(it): ...\n",
    "a file": "import pytest\n\npytest.skip('absent', allow_module_level=True)\n",
}


DRAWS = """
from hypothesis import given, settings, strategies as st

@settings(max_examples=20)
@given(number=st.integers())
def test_draws(number):
    with open("drawn", "a") as file:
        print(number, file=file)
"""


def ran(
    folder: Path, workers: int, *options: str, required: str = "", hypothesis: str = ""
) -> subprocess.CompletedProcess[str]:
    """pytest in a folder of tests, with our settings."""
    for file in (CONFTEST, CONFTEST.parents[1] / "pyproject.toml"):
        shutil.copy(file, folder)
    (folder / "test_passes.py").write_text("def test_passes(): ...\n")
    command = [sys.executable, "-m", "pytest", "-n", str(workers), *options, "--rootdir", str(folder), str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PERIOP_REQUIRE_ALL"] = required
    if hypothesis:
        environment["PERIOP_HYPOTHESIS"] = hypothesis
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def code(folder: Path, required: str, workers: int) -> int:
    """Exit code of pytest in a folder of tests."""
    return ran(folder, workers, required=required).returncode


@pytest.mark.parametrize(("what", "workers"), [(what, 1) for what in SKIPPED] + [("a test", 0)])
def test_a_skip_fails_the_run(tmp_path: Path, what: str, workers: int) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPPED[what])
    assert code(tmp_path, "1", workers) == pytest.ExitCode.TESTS_FAILED


def test_where_nothing_is_required_it_does_not(tmp_path: Path) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPPED["a test"])
    assert code(tmp_path, "", 1) == pytest.ExitCode.OK


def test_without_a_skip_the_run_passes(tmp_path: Path) -> None:
    assert code(tmp_path, "1", 1) == pytest.ExitCode.OK


def test_a_test_that_hangs_is_named_and_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text("import time\n\n\ndef test_hangs():\n    time.sleep(600)\n")
    # More than the fixture of the whole session takes, which imports the pipeline, on a busy machine.
    run = ran(tmp_path, 2, "-o", "faulthandler_timeout=8")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "crashed while running 'test_hangs.py::test_hangs'" in run.stdout
    assert "1 failed, 1 passed" in run.stdout
    assert "in test_hangs" in run.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_is_told_when_it_happens(tmp_path: Path, workers: int) -> None:
    (tmp_path / "test_fails.py").write_text("def test_fails():\n    assert 1 == 2\n")
    at_once, at_the_end = ran(tmp_path, workers).stdout.split("= FAILURES =")
    assert "test_fails.py::test_fails failed in its call" in at_once
    assert "assert 1 == 2" in at_once
    assert "assert 1 == 2" in at_the_end


def test_every_line_of_first_names_files_that_exist() -> None:
    """A file that was renamed would run in any process, and start a Spark or a HAPI server of its own."""
    files = [file.relative_to(TESTS).as_posix() for file in TESTS.rglob("test_*.py")]
    unknown = [name for line in FIRST for name in line if not any(file.startswith(name) for file in files)]
    assert unknown == []


def test_the_files_that_use_spark_share_one_process() -> None:
    uses = re.compile(r"\bEngines\b|\bSparkEngine\(|\bspark: |_spark\b")
    others = set(TESTS.rglob("test_*.py")) - {Path(__file__)}
    using = [file for file in others if uses.search(file.read_text("utf-8"))]
    apart = [file for file in using if place(file.relative_to(TESTS.parent).as_posix())[0] != 0]
    assert len(using) > 5
    assert apart == []


def test_logging_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "test_logs.py").write_text(
        "import logging\n\n\n"
        "def test_first():\n"
        "    logging.basicConfig(level=logging.DEBUG, force=True)\n"
        "    logging.getLogger('new').setLevel(logging.INFO)\n\n\n"
        "def test_second():\n"
        "    assert logging.getLogger().level == logging.WARNING\n"
        "    assert logging.getLogger('new').level == logging.NOTSET\n"
        "    assert logging.StreamHandler not in map(type, logging.getLogger().handlers)\n"
    )
    assert code(tmp_path, "", 0) == pytest.ExitCode.OK


@pytest.mark.parametrize(("profile", "same"), [("periop", True), ("fuzz", False)])
def test_examples_are_the_same_in_every_run_but_those_of_a_search(tmp_path: Path, profile: str, same: bool) -> None:
    (tmp_path / "test_draws.py").write_text(DRAWS)
    drawn = []
    for _ in range(2):
        assert ran(tmp_path, 0, hypothesis=profile).returncode == pytest.ExitCode.OK
        drawn.append((tmp_path / "drawn").read_text())
        (tmp_path / "drawn").unlink()
    assert (drawn[0] == drawn[1]) is same
