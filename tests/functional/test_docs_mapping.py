"""The page "adapt a mapping": every command on it is run, in order, and prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mappers.terminology import load_terminology

REPOSITORY = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n(?:\n((?:    [^\n]*\n)+))?", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the commands of the page are those of a POSIX shell")


def blocks() -> list[tuple[str, str, list[str]]]:
    """(language, commands, the lines shown below them) of the page, up to what test_cli_view.py runs."""
    page = (REPOSITORY / "docs" / "mapping.md").read_text(encoding="utf-8").split("## Try a view")[0]
    return [
        (language, text, [line.strip() for line in shown.splitlines()]) for language, text, shown in BLOCK.findall(page)
    ]


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    for name in ("fixtures", "mappers"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = blocks()
    assert sum(bool(shown) for _, _, shown in found) >= 4
    for language, text, shown in found:
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if shown:
            assert [line.strip() for line in done.stdout.splitlines()] == shown, text
    own = load_terminology(tmp_path / "valuesets")
    assert own.codes("residual-viable-tumour-code")[0] == ("https://rome.example/lab", "residual-viable-tumour")
    assert ("https://rome.example/response", "9") in own.codes("recist")
