"""Properties: what says nothing of a patient changes no endpoint.

The patients are those of the table of carriers, so every way to carry a fact is among them. Each property changes how
they are told (order, duplicates, layout, references, ids, names of code systems, the calendar) and compares all rows.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mappers.study import load_study
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from tests import cohorts
from tests.carriers import write
from tests.cohorts import pseudonym

TABLES = ("adsl", "adrs", "adtte", "adae", "quality_patients")
YEARS = 4  # a shift that keeps the calendar: every period of four years has 1,461 days (1901 to 2099)
PSEUDONYM = re.compile("[0-9a-f]{32}")
REFERENCE = re.compile(r'"reference": "([A-Z][A-Za-z]+/[^"/]+)"')
Resource = dict[str, Any]
Frames = dict[str, pd.DataFrame]


def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Resource], list[Resource]]:
    """Return the resources of all patients, and the Bundles."""
    folder = tmp_path_factory.mktemp("told")
    write(folder)
    lines = (folder / "all.ndjson").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], [json.loads(file.read_text()) for file in folder.glob("*.json")]


def mapped(folder: Path, resources: Iterable[Resource], bundles: Iterable[Resource], years: int = 0) -> Frames:
    """Return the cohort tables of these resources in one folder; `years` is how far the data cutoff is shifted."""
    source = folder / "fhir"
    source.mkdir(exist_ok=True)
    with (source / "all.ndjson").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(resource, ensure_ascii=False) + "\n" for resource in resources)
    for number, bundle in enumerate(bundles):
        (source / f"bundle-{number}.json").write_text(json.dumps(bundle), encoding="utf-8")
    study = load_study("alneo")
    later = study.data_cut.replace(year=study.data_cut.year + years)
    settings = Settings(data_dir=folder / "data", sites=(FolderSite(name="s", kind="folder", path=source),))
    cohorts.mapped(settings, study.model_copy(update={"cuts": (), "data_cut": later}))
    return {name: pd.read_parquet(settings.cohort_dir / f"{name}.parquet") for name in TABLES}


def same(found: Frames, expected: Frames) -> None:
    """Compare all rows, whatever their order."""
    for name, frame in expected.items():
        assert len(frame), name
        ours, theirs = as_rows(found[name]), as_rows(frame)
        different = {name: [*(ours - theirs), *(theirs - ours)]}
        assert different == {name: []}


def as_rows(frame: pd.DataFrame) -> Counter[str]:
    """Return how often each row is there; a list in a cell has no order."""
    cells = frame.map(lambda value: sorted(value) if isinstance(value, np.ndarray | list) else value)
    return Counter(json.dumps(row, default=str, sort_keys=True) for row in cells.to_dict("records"))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Resource], list[Resource]]:
    return told(tmp_path_factory)


@pytest.fixture(scope="module")
def expected(everything: tuple[list[Resource], list[Resource]], tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return mapped(tmp_path_factory.mktemp("expected"), *everything)


def shuffled(resources: list[Resource]) -> list[Resource]:
    return Random(16).sample(resources, len(resources))


def repeated(resources: list[Resource]) -> list[Resource]:
    return [*resources, *shuffled(resources)]


def with_names_of_the_server(resources: list[Resource]) -> list[Resource]:
    """Return the resources with absolute references, every third of them to a version."""

    def absolute(match: re.Match[str]) -> str:
        version = "/_history/1" if sha256(match[1].encode()).digest()[0] % 3 == 0 else ""
        return f'"reference": "https://fhir.hospital.example/r4/{match[1]}{version}"'

    return [json.loads(REFERENCE.sub(absolute, json.dumps(resource))) for resource in resources]


def with_elements_that_nobody_reads(resources: list[Resource]) -> list[Resource]:
    """Return the resources with a narrative and an unknown extension, and with laboratory results beside them."""
    said = {
        "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">…</div>'},
        "language": "en",
    }
    return [resource | said for resource in resources]


SAME_ROWS: dict[str, Callable[[list[Resource]], list[Resource]]] = {
    "in another order": shuffled,
    "each twice": repeated,
    "with absolute and versioned references": with_names_of_the_server,
    "with a narrative": with_elements_that_nobody_reads,
}


@pytest.mark.parametrize("how", SAME_ROWS)
def test_the_same_rows(
    how: str, everything: tuple[list[Resource], list[Resource]], expected: Frames, tmp_path: Path
) -> None:
    resources, bundles = everything
    same(mapped(tmp_path, SAME_ROWS[how](resources), bundles), expected)


def test_bundles_are_worth_their_resources(
    everything: tuple[list[Resource], list[Resource]], expected: Frames, tmp_path: Path
) -> None:
    """A collection for each patient, one of them inside another Bundle, in place of one file of lines."""
    resources, bundles = everything
    by_patient: dict[str, list[Resource]] = {}
    for resource in resources:
        by_patient.setdefault(resource["id"].split("-")[0], []).append(resource)
    made = [
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in group]}
        for group in by_patient.values()
    ]
    inside = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": made.pop()}]}
    same(mapped(tmp_path, [], [*bundles, *made, inside]), expected)


def test_other_resources_change_no_endpoint(
    everything: tuple[list[Resource], list[Resource]], expected: Frames, tmp_path: Path
) -> None:
    resources, bundles = everything
    patients = [resource["id"] for resource in resources if resource["resourceType"] == "Patient"]
    others = [
        {
            "resourceType": "Observation",
            "id": f"{patient}-potassium-{number}",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]},
            "subject": {"reference": f"Patient/{patient}"},
            # Before time 0, so that it does not move the day on which the patient was last seen
            "effectiveDateTime": f"2024-05-0{number}",
            "valueQuantity": {"value": 4.1, "unit": "mmol/L"},
        }
        for patient in patients
        for number in (1, 2)
    ]
    found = mapped(tmp_path, [*others, *resources], bundles)
    endpoints = {name: frame for name, frame in expected.items() if name != "quality_patients"}
    same({name: found[name] for name in endpoints}, endpoints)


def test_consistent_new_ids_change_no_endpoint(
    everything: tuple[list[Resource], list[Resource]], expected: Frames, tmp_path: Path
) -> None:
    """The new ids sort like the old ones: of two resources that say the same, the one with the lower id is named."""
    resources, bundles = everything
    inside = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    new = {resource["id"]: f"new-{resource['id']}" for resource in [*resources, *inside]}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: new.get(item, item)
                if name == "id" and isinstance(item, str)
                else renamed_reference(item)
                if name == "reference" and isinstance(item, str)
                else renamed(item)
                for name, item in value.items()
            }
        return [renamed(item) for item in value] if isinstance(value, list) else value

    def renamed_reference(reference: str) -> str:
        before, slash, identifier = reference.rpartition("/")
        return before + slash + new.get(identifier, identifier)

    found = mapped(tmp_path, [renamed(each) for each in resources], [renamed(each) for each in bundles])
    back = {pseudonym(to): pseudonym(was) for was, to in new.items()}

    def old(value: Any) -> Any:
        if isinstance(value, str):
            return PSEUDONYM.sub(lambda match: back.get(match[0], match[0]), value)
        return [old(item) for item in value] if hasattr(value, "__iter__") else value

    for frame in found.values():
        for column in ("USUBJID", "SUBJID", "SRCREF"):
            if column in frame:
                frame[column] = frame[column].map(old)
    same(found, expected)


def test_shifted_dates_shift_the_days_and_nothing_else(
    everything: tuple[list[Resource], list[Resource]], expected: Frames, tmp_path: Path
) -> None:
    day = re.compile(r'"((?:19|20)\d\d)((?:-\d\d){0,2}(?:[T ][^"]*)?)"')

    def shifted(resource: Resource) -> Resource:
        text = day.sub(lambda match: f'"{int(match[1]) + YEARS}{match[2]}"', json.dumps(resource))
        return dict(json.loads(text))

    resources, bundles = everything
    found = mapped(tmp_path, map(shifted, resources), map(shifted, bundles), YEARS)
    for frame in found.values():
        for column in frame:
            frame[column] = frame[column].map(
                lambda value: value.replace(year=value.year - YEARS) if isinstance(value, date) else value
            )
    same(found, expected)
