"""Elements of a type that FHIR does not give them: null, and never a wrong value, on both engines and from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mappers.engines.base import Engine
from mappers.view.runner import ViewDefinition, run_view
from tests.engines import ENGINES, Engines

COLUMNS = {
    "status": "status",
    "value": "value.ofType(Quantity).value",
    "unit": "value.ofType(Quantity).unit",
    "flag": "value.ofType(boolean)",
    "whole": "value.ofType(integer)",
    "codes": "code.coding.code",
}
VIEW = ViewDefinition.load(
    {
        "resourceType": "ViewDefinition",
        "resource": "Observation",
        "status": "draft",
        "select": [
            {"column": [{"name": n, "path": p, "collection": n == "codes"} for n, p in COLUMNS.items()]},
        ],
    }
)
NOTHING = dict.fromkeys(COLUMNS) | {"codes": []}
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"status": {"a": 1}}, {}),
    ({"status": ["final"]}, {}),
    ({"status": '{"a": 1}', "valueQuantity": {"unit": "{a} b"}}, {"status": '{"a": 1}', "unit": "{a} b"}),
    ({"status": [], "code": {"coding": {"code": "x"}}}, {}),
    ({"valueQuantity": {"value": True, "unit": {}}}, {}),
    ({"valueQuantity": {"value": {"value": 1}, "unit": [1]}}, {}),
    ({"valueQuantity": [{"value": 1}]}, {}),
    ({"valueQuantity": {"value": "many", "unit": "{score}"}}, {"unit": "{score}"}),
    ({"valueQuantity": {"value": 1.5, "unit": "[degF]"}}, {"value": Decimal("1.5"), "unit": "[degF]"}),
    ({"valueBoolean": 1, "valueInteger": 1.5}, {}),
    ({"valueBoolean": {"a": True}, "valueInteger": True}, {}),
    (
        {"code": {"coding": [{"code": {"a": 1}}, {"code": "{b}"}, "x", {"code": ["y"]}, {"code": "z"}]}},
        {"codes": ["{b}", "z"]},
    ),
]
RESOURCES = [{"resourceType": "Observation", **given} for given, _ in CASES]
EXPECTED = [NOTHING | made for _, made in CASES]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Engine]:
    with engines.started(request.param) as engine:
        yield engine


def rows(source: list[dict[str, Any]] | Path, engine: Engine) -> list[dict[str, Any]]:
    records = run_view(VIEW, source, engine).astype(object).to_dict("records")
    return [{str(name): _plain(value) for name, value in record.items()} for record in records]


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return value if isinstance(value, (str, list, Decimal)) else None


def test_resources(engine: Engine) -> None:
    assert rows(RESOURCES, engine) == EXPECTED


def test_a_file(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "odd.ndjson"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in RESOURCES), encoding="utf-8")
    assert rows(path, engine) == EXPECTED
