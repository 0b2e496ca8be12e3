"""The benchmark's resources: the same for the same seed, each one about a patient, in sizes as in a hospital."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path

import orjson
import pytest

from benchmarks.generate import CHANGED, PER_PATIENT, SITE, TYPES, fill, generate
from connectors.fhir.resource import Resource
from connectors.lake.table import Lake

COUNT = 4 * PER_PATIENT


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    return list(generate(COUNT, seed=3))


def test_the_same_seed_gives_the_same_resources(resources: list[Resource]) -> None:
    assert len(resources) == COUNT
    assert list(generate(COUNT, seed=3)) == resources
    assert list(generate(COUNT, seed=4)) != resources
    assert list(generate(10, seed=3)) == resources[:10]


def test_every_resource_is_about_a_patient(resources: list[Resource]) -> None:
    for resource in resources:
        body = orjson.loads(resource.raw)
        assert (body["resourceType"], body["id"]) == (resource.resource_type, resource.id)
        if resource.resource_type != "Patient":
            assert body["subject"]["reference"] == f"Patient/{resource.patient}"
    assert {resource.patient for resource in resources} == {"P000000", "P000001", "P000002", "P000003"}


def test_no_two_resources_are_the_same(resources: list[Resource]) -> None:
    assert len({(resource.resource_type, resource.id) for resource in resources}) == COUNT


def test_references_lead_to_the_clone_and_not_to_the_demo_cohort(resources: list[Resource]) -> None:
    assert not any("SYN-" in resource.raw or "DEC-" in resource.raw for resource in resources)


def test_types_and_sizes_are_those_of_a_hospital(resources: list[Resource]) -> None:
    types = Counter(resource.resource_type for resource in resources)
    assert set(types) == set(TYPES)
    assert types["MedicationAdministration"] + types["Observation"] > 0.9 * COUNT
    sizes = sorted(len(resource.raw) for resource in resources)
    assert sizes[COUNT // 20] >= 600
    assert sizes[-COUNT // 20] <= 1_200


def test_they_are_fhir_r4(resources: list[Resource]) -> None:
    models = {kind: getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind) for kind in TYPES}
    for resource in resources[:PER_PATIENT]:
        models[resource.resource_type].model_validate_json(resource.raw)


def test_the_lake_holds_so_many_versions_some_of_them_second_ones(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    fill(lake, COUNT, seed=3)
    rows = [row for batch in lake.rows(SITE, ["id", "version_id", "sync"]) for row in batch.to_pylist()]
    first, second = ({row["id"] for row in rows if row["sync"] == number} for number in (1, 2))
    assert (len(rows), lake.sync_number()) == (COUNT, 2)
    assert len(second) == COUNT // (CHANGED + 1)
    assert second < first
    assert {(row["version_id"], row["sync"]) for row in rows} == {("1", 1), ("2", 2)}
