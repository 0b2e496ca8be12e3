"""The page "From Python": each example runs; and each package exports what it says, without importing it before."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.analytics_tables import alneo

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("connectors", "mappers", "analytics", "schedules")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def write_tables(folder: Path) -> None:
    """The published cohort as CSV, with the later data cutoff below it."""
    later = alneo().other_cutoffs["later_cut"]
    for place, tables in ((folder, alneo()), (folder / "cuts" / "later_cut", later)):
        place.mkdir(parents=True)
        for name in ("adsl", "adrs", "adtte", "adae"):
            getattr(tables, name).to_csv(place / f"{name}.csv", index=False)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fhir").mkdir()
    shutil.copy(REPOSITORY / "fixtures" / "alneo" / "Patient.ndjson", tmp_path / "fhir")
    write_tables(tmp_path / "cohort")
    (tmp_path / "periop.toml").write_text('[[sites]]\nname = "milan"\nkind = "folder"\npath = "fhir"\n')
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = []
    for text in BLOCK.findall((REPOSITORY / "docs" / "python.md").read_text("utf-8")):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(text, names)  # in one notebook, from top to bottom
        printed.append(out.getvalue())
    view, shipped, stored, figures, report, settings, error = printed
    assert "SYN-01" in view
    assert "birth_date" in shipped
    assert "stored=48" in stored
    assert ("response.mpr", 15, 33) in [(p.id, p.x, p.n) for p in names["released"].proportions]
    assert "('" in figures
    assert report == ""
    assert "<html" in (tmp_path / "report.html").read_text("utf-8")
    assert settings == "('milan',) 11\n"
    assert "nowhere.toml: no such file" in error


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_exports_what_it_says(name: str) -> None:
    package = importlib.import_module(name)
    assert sorted(package.MODULES) == sorted(package.__all__)
    for exported, module in package.MODULES.items():
        assert getattr(package, exported) is getattr(importlib.import_module(module), exported)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018
    assert (REPOSITORY / name / "py.typed").is_file()


def test_a_package_imports_nothing_before_it_is_asked() -> None:
    code = (
        "import sys; before = set(sys.modules); import connectors, mappers, analytics, schedules;"
        "print(sorted({each.partition('.')[0] for each in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['analytics', 'connectors', 'mappers', 'schedules']\n"
