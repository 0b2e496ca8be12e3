"""Our own cases for every feature of SQL on FHIR v2, each one run on DuckDB and on Spark.

They are written from the specification (each file names its sections), so that what is expected does not come from this
program. `tests/spec/test_hl7_suite.py` runs those of HL7.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mappers.engines.base import Engine
from mappers.fhirpath.functions import FUNCTIONS
from tests.engines import ENGINES, Engines
from tests.sql_on_fhir_cases import assert_case, read_cases

FOLDER = Path(__file__).parent / "cases"
CASES = read_cases(FOLDER)

# The shareable ViewDefinition profile: required and experimental FHIRPath, and the functions that SQL on FHIR adds.
FUNCTIONS_OF_THE_PROFILE = {
    *("where", "exists", "empty", "extension", "ofType", "first", "not"),
    *("getResourceKey", "getReferenceKey", "join", "lowBoundary", "highBoundary"),
}
OPERATORS_OF_THE_PROFILE = {"and", "or", "+", "-", "*", "/", "=", "!=", ">", "<="}
KEYS_OF_A_SELECT = {"column", "select", "forEach", "forEachOrNull", "unionAll", "repeat"}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Engine]:
    with engines.started(request.param) as engine:
        yield engine


@pytest.mark.parametrize(("test", "resources"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_case(test: dict[str, Any], resources: list[dict[str, Any]], engine: Engine) -> None:
    assert_case(test, resources, engine)


def test_every_case_has_a_name_of_its_own() -> None:
    names = [name for name, _, _ in CASES]
    assert sorted(set(names)) == sorted(names)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object within `value`."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from objects(inner)


def paths_that_run() -> list[str]:
    """The paths of the views that give rows, with the text of their string literals left out."""
    views = [item for _, test, _ in CASES if not test.get("expectError") for item in objects(test["view"])]
    paths = [item[key] for item in views for key in ("path", "forEach", "forEachOrNull") if key in item]
    return [re.sub(r"'(?:\\.|[^'\\])*'", "''", path) for path in paths]


@pytest.mark.parametrize("name", sorted(FUNCTIONS_OF_THE_PROFILE))
def test_every_function_of_the_profile_has_a_case(name: str) -> None:
    assert name in FUNCTIONS
    assert any(re.search(rf"\b{name}\(", path) for path in paths_that_run())


@pytest.mark.parametrize("operator", sorted(OPERATORS_OF_THE_PROFILE))
def test_every_operator_of_the_profile_has_a_case(operator: str) -> None:
    assert any(f" {operator} " in path for path in paths_that_run())


def test_every_key_of_a_select_has_a_case() -> None:
    used = {key for _, test, _ in CASES for select in objects(test["view"].get("select", [])) for key in select}
    assert used >= KEYS_OF_A_SELECT


def test_indexers_constants_and_the_index_of_a_row_have_a_case() -> None:
    for pattern in (r"\[\d\]", r"%[a-z]+\b", r"%rowIndex"):
        assert any(re.search(pattern, path) for path in paths_that_run()), pattern


def test_every_type_of_a_constant_has_a_case() -> None:
    suite = json.loads((FOLDER / "constant_types.json").read_text("utf-8"))
    used = {key for test in suite["tests"] for constant in test["view"].get("constant", []) for key in constant}
    # ViewDefinition.constant.value[x]; integer64 is a type of R5, which R4 resources cannot carry.
    types = "Base64Binary Boolean Canonical Code Date DateTime Decimal Id Instant Integer Oid String PositiveInt Time"
    assert used >= {f"value{name}" for name in (*types.split(), "UnsignedInt", "Uri", "Url", "Uuid")}
