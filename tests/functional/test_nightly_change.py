"""From one night to the next: a changed resource is a new version, and what is appended equals what is built anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from connectors.lake.table import Lake
from mappers.build.cohort import data_cutoffs
from mappers.errors import MappingError, ViewError
from mappers.study import load_study
from mappers.terminology import load_terminology
from mappers.view.shipped import SHIPPED_VIEWS, load_views
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from schedules.run.pipeline import Pipeline
from tests.cohorts import ALNEO, KEY, TABLES, Ran, run_folder
from tests.compiled import compiled_once


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
    assert (second.sync.counts.stored, second.sync.counts.identical) == (1, first.sync.counts.stored - 1)
    rows = sum(file.rows for file in Lake(second.settings.lake_dir).files())
    assert rows == first.sync.counts.stored + 1


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


def test_a_site_that_is_configured_no_more_is_left_out(tmp_path: Path) -> None:
    both = Settings(
        data_dir=tmp_path,
        sites=tuple(FolderSite(name=name, kind="folder", path=ALNEO) for name in ("milan", "rome")),
    )
    pipeline, study = Pipeline({"PERIOP_PSEUDONYM_KEY": KEY}), load_study("alneo")
    for name in both.site_names:
        pipeline.sync_site(both, name, full=False, progress=lambda _: None)
    with compiled_once(tmp_path):
        assert pipeline.map_lake(both, study, progress=lambda _: None).enrolled == 66
    told: list[str] = []
    rome = both.model_copy(update={"sites": both.sites[1:]})
    assert pipeline.map_lake(rome, study, progress=told.append).enrolled == 33
    assert "site milan is in the lake but not in periop.toml: left out" in told
    # Each step that counts its statements counts all of them, one after the other.
    counted = [text.rpartition(": ") for text in told if text.endswith(" statements")]
    for what in dict.fromkeys(what for what, _, _ in counted):
        numbers = [number for each, _, number in counted if each == what]
        assert numbers == [f"{nth} of {len(numbers)} statements" for nth in range(1, len(numbers) + 1)]
    assert {what for what, _, _ in counted} == {
        "preparing the cohort",
        *(f"building the cohort at {cutoff.day.isoformat()}" for cutoff in data_cutoffs(study)),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"select": [{"column": [{"name": "key", "path": "foo()"}]}]}, "select[0].column[0].path: unknown function"),
        ({"select": [{"column": [{"name": "key", "path": "id"}]}]}, "lacks the column(s) status, effective"),
    ],
)
def test_a_view_of_the_hospitals_own_with_a_fault_is_named_with_its_file(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    view = json.loads((SHIPPED_VIEWS / "observation.json").read_text()) | change
    (tmp_path / "observation.json").write_text(json.dumps(view))
    with pytest.raises(ViewError) as error:
        load_views(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "observation.json"))
    assert message in str(error.value)


def test_a_view_that_is_no_json_is_named_once(tmp_path: Path) -> None:
    file = tmp_path / "observation.json"
    file.write_text("{")
    with pytest.raises(ViewError) as error:
        load_views(tmp_path)
    assert str(error.value).startswith(f"{file}: not a readable JSON file")


@pytest.mark.parametrize("load", [load_views, load_terminology])
def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path, load: Callable[[Path], object]) -> None:
    with pytest.raises(MappingError, match="no such folder; correct mapping"):
        load(tmp_path / "valuesetz")
