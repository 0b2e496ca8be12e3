"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PUBLIC = [  # what somebody calls who uses the packages as a library
    ("mappers.view.runner", "run_view"),
    ("connectors.lake.table", "Lake"),
    ("mappers.study", "load_study"),
    ("analytics.analysis", "analyse"),
    ("analytics.disclosure.control", "release"),
    ("schedules.config.settings", "Settings"),
    ("schedules.config.site_settings", "ServerSite"),
]
PACKAGES = ("connectors", "mappers", "analytics", "schedules")


def modules_with_examples() -> list[str]:
    """Return their names, found in the text: to import every module would cost each worker seconds."""
    files = sorted(file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py"))
    with_examples = [file for file in files if ">>> " in file.read_text("utf-8")]
    names = [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in with_examples]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what an example writes is left behind nowhere
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed, "see the output for what was expected and what was got"


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_public_entry_points_have_an_example(module: str, name: str) -> None:
    assert ">>> " in (getattr(importlib.import_module(module), name).__doc__ or "")
