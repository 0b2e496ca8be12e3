"""Rules for the files of the repository as a whole."""

from __future__ import annotations

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MAY_NAME_SHARED = {".ci/run", "docs/developer.md", "tests/architecture/test_repository.py"}


def files() -> list[Path]:
    """Return the files of the repository: those that git knows, or all but what was built where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [REPOSITORY / name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()]
    built = {".venv", "node_modules", "target", "periop-demo", "__pycache__"}
    found = (file for file in REPOSITORY.rglob("*") if file.is_file())
    return [file for file in found if not built & set(file.relative_to(REPOSITORY).parts)]


def test_a_clone_stands_alone() -> None:
    """Nothing reads what lies beside the clone, but CI, which runs HL7's test cases where they are there."""
    naming = {
        file.relative_to(REPOSITORY).as_posix()
        for file in files()
        if b"../shared" in (content := file.read_bytes()) or b"PERIOP_" + b"SHARED" in content
    }
    assert naming - MAY_NAME_SHARED == set()
