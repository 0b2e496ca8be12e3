"""The ALNEO fixture as FHIR: reproducible, valid, closed under its references, made of known codes only."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

REPOSITORY = Path(__file__).resolve().parents[2]
ALNEO = REPOSITORY / "fixtures" / "alneo"
CODES = REPOSITORY / "fixtures" / "reference" / "codes.csv"
TYPES = ("Patient", "Condition", "MedicationAdministration", "Procedure", "AdverseEvent", "Observation")
STRUCTURAL = (  # codes of FHIR itself and units, which the list of clinical codes does not hold
    "http://unitsofmeasure.org",
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "http://fhir.hospital.example/",
)


def _read(kind: str) -> list[dict[str, Any]]:
    text = (ALNEO / f"{kind}.ndjson").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def resources() -> list[dict[str, Any]]:
    return [resource for kind in TYPES for resource in _read(kind)]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object within `value`."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def test_building_again_gives_the_same_bytes(tmp_path: Path) -> None:
    built = tmp_path / "alneo"
    subprocess.run([sys.executable, str(ALNEO / "build.py"), str(built)], check=True, cwd=tmp_path)
    generated = sorted(file.name for file in built.iterdir())
    assert generated == sorted(f"{kind}.ndjson" for kind in TYPES)
    for name in generated:
        assert (built / name).read_bytes() == (ALNEO / name).read_bytes(), name
    key = "alneo_answers.json"
    assert (tmp_path / key).read_bytes() == (ALNEO.parent / key).read_bytes()


@pytest.mark.parametrize("kind", TYPES)
def test_every_resource_is_valid_r4(kind: str) -> None:
    model = get_fhir_model_class(kind)
    for resource in _read(kind):
        assert resource["resourceType"] == kind
        model.model_validate(resource)


def test_ids_are_unique_and_short_and_every_resource_has_a_version(resources: list[dict[str, Any]]) -> None:
    assert max(Counter((one["resourceType"], one["id"]) for one in resources).values()) == 1
    assert max(len(one["id"]) for one in resources) <= 64
    assert {one["meta"]["versionId"] for one in resources} == {"1"}
    assert len({one["meta"]["lastUpdated"] for one in resources}) == 1


def test_references_are_relative_and_lead_to_the_same_patient(resources: list[dict[str, Any]]) -> None:
    owner = {
        f"{one['resourceType']}/{one['id']}": one.get("subject", {}).get("reference", f"Patient/{one['id']}")
        for one in resources
    }
    for one in resources:
        for inner in _objects(one):
            target = inner.get("reference")
            if target and not target.startswith("#"):
                assert owner[target] == owner[f"{one['resourceType']}/{one['id']}"], one["id"]


def test_no_code_is_invented(resources: list[dict[str, Any]]) -> None:
    with CODES.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] in ("verified", "seen_low_authority")]
    known = {(row["system"], row["code"]) for row in rows}
    known |= {(row["system"], code) for row in rows if row["display"] == "(all codes)" for code in row["code"].split()}
    used = {
        (inner["system"], inner["code"])
        for one in resources
        for inner in _objects(one)
        if "system" in inner and "code" in inner and not inner["system"].startswith(STRUCTURAL)
    }
    assert used - known == set()
    assert len(used) > 100
