"""From one night to the next: a changed resource is a new version, and what is appended equals what is built anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from connectors.lake import Lake
from tests.cohorts import ALNEO, TABLES, Ran, run_folder


def change(folder: Path, identifier: str, **elements: object) -> None:
    """A new version of one observation, as the hospital's server would give it."""
    file = folder / "Observation.ndjson"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["id"] == identifier:
            line |= elements
            line["meta"] |= {"versionId": "2", "lastUpdated": "2025-06-02T03:00:00Z"}
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n")


def central_reading(folder: Path, patient: str) -> str:
    """The id of the central reading of residual viable tumour of `patient`."""
    for line in (folder / "Observation.ndjson").read_text().splitlines():
        resource = json.loads(line)
        codes = {coding["code"] for coding in resource.get("method", {}).get("coding", [])}
        mine = resource["subject"]["reference"] == f"Patient/{patient}" and "central-review" in codes
        if mine and resource["status"] in ("final", "amended", "corrected"):
            return str(resource["id"])
    raise AssertionError(f"{patient} has no central reading")


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Ran, Path]:
    folder, data = tmp_path_factory.mktemp("changing"), tmp_path_factory.mktemp("nights")
    for file in ALNEO.glob("*.ndjson"):
        shutil.copy(file, folder)
    first = run_folder(data, folder)
    change(folder, central_reading(folder, "SYN-05"), valueQuantity={"value": 5, "code": "%"})
    return first, run_folder(data, folder), folder


def test_only_the_new_version_is_stored(nights: tuple[Ran, Ran, Path]) -> None:
    first, second, _ = nights
    assert (second.sync.stored, second.sync.identical) == (1, first.sync.stored - 1)
    rows = sum(file.rows for file in Lake(second.settings.lake_dir).files())
    assert rows == first.sync.stored + 1


def test_the_new_version_counts(nights: tuple[Ran, Ran, Path]) -> None:
    first, second, _ = nights
    mpr = [{p.id: p for p in night.released.proportions}["response.mpr"].x for night in (first, second)]
    assert mpr == [15, 16]


def test_the_appended_views_give_what_views_built_anew_give(nights: tuple[Ran, Ran, Path]) -> None:
    _, second, folder = nights
    appended = {name: second.table(name) for name in TABLES}
    shutil.rmtree(second.settings.data_dir / "views")
    anew = run_folder(second.settings.data_dir, folder)
    for name, table in appended.items():
        pd.testing.assert_frame_equal(anew.table(name), table)
