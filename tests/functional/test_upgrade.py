"""A data folder of the version before the packages were rearranged is mapped and published by this one without loss."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from connectors.lake.table import Lake
from mappers.view.shipped import load_views

ARCHIVE = Path(__file__).parents[2] / "fixtures" / "data_folder_0_1.tar.xz"  # two syncs, two releases


def unpacked(folder: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def periop(data: Path, *arguments: str) -> dict[str, Any]:
    """Run a command with --json, and give what it prints."""
    command = [sys.executable, "-m", "schedules.cli", "--config", str(data / "periop.toml"), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def lake_rows(data: Path) -> int:
    return sum(file.rows for file in Lake(data / "lake").files())


def cohort(data: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of all cohort tables at all data cutoffs, with the columns that analyses read."""
    tables = {}
    for path in sorted((data / "cohort").rglob("*.parquet")):
        if path.name != "quality_patients.parquet":  # a step on the way to quality.parquet
            tables[str(path.relative_to(data))] = pq.read_table(path).to_pylist()
    return tables


def results(data: Path, release: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "releases" / str(release) / "results.json").read_text(encoding="utf-8"))
    return found


def of_before(tables: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of `tables` with the columns that the version before had, and which mean now what they meant.

    SRCREF names the variable that a resource supports since then, and the quality list knows more issues.
    """
    found = {}
    for path, rows in old.items():
        if "quality" not in path:
            columns = [name for name in rows[0] if name != "SRCREF"]
            found[path] = sorted(str([row[name] for name in columns]) for row in tables[path])
    return found


OF_ITS_MAKING = {"release", "study_hash", "quality", "provenance", "sites_missing_note"}


def figures(released: dict[str, Any]) -> dict[str, Any]:
    """Return what a release says of the patients, without what says from which program, study and data it is."""
    return {name: value for name, value in released.items() if name not in OF_ITS_MAKING}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("before"))


def test_a_run_pulls_nothing_twice_and_finds_the_figures_unchanged(before: Path, tmp_path: Path) -> None:
    data = unpacked(tmp_path)
    found = periop(data, "run")
    counts = found["sites"][0]["counts"]
    assert (counts["stored"], counts["identical"]) == (0, counts["received"])
    assert lake_rows(data) == lake_rows(before)
    assert of_before(cohort(data), cohort(before)) == of_before(cohort(before), cohort(before))
    # The study and the quality list have changed since, so the release is another one, with the same figures.
    assert figures(results(data, found["release"])) == figures(results(before, 2))


def test_what_changes_afterwards_is_in_the_next_release(before: Path, tmp_path: Path) -> None:
    data = unpacked(tmp_path)
    assert periop(data, "map")["derived"] in {0, 45}  # rules may be others than those of the version before
    assert of_before(cohort(data), cohort(before)) == of_before(cohort(before), cohort(before))
    file = data / "fhir" / "Patient.ndjson"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    enrolled = next(line for line in lines if line["id"] == "SYN-05")
    enrolled["gender"] = "male" if enrolled["gender"] == "female" else "female"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    found = periop(data, "run")
    assert found["sites"][0]["counts"]["stored"] == 1
    assert (found["map"]["derived"], found["release"], found["unchanged"]) == (1, 3, False)
    assert [results(data, number) for number in (1, 2)] == [results(before, number) for number in (1, 2)]


def test_a_full_map_gives_the_same_tables_and_release_from_the_lake_alone(before: Path, tmp_path: Path) -> None:
    data = unpacked(tmp_path)
    assert periop(data, "map", "--full")["views_rebuilt"] == len(load_views())
    assert of_before(cohort(data), cohort(before)) == of_before(cohort(before), cohort(before))
    published = periop(data, "publish")
    assert (published["release"], published["unchanged"]) == (3, False)
    assert figures(results(data, 3)) == figures(results(before, 2))
