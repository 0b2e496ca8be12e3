"""The HL7 test cases of SQL on FHIR v2 (shared/conformance), each one run on DuckDB and on Spark.

A case that is not supported stands in UNSUPPORTED with its reason and must raise the error that says so; one
that starts to pass fails here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mappers.engines.base import Engine
from mappers.errors import UnsupportedError, ViewError
from mappers.view.runner import ViewDefinition, run_view
from tests.engines import ENGINES, Engines

SHARED = Path(os.environ.get("PERIOP_SHARED", Path(__file__).parents[3] / "shared"))
SUITE = SHARED / "conformance" / "sql-on-fhir-v2"

UNSUPPORTED: dict[str, str] = {}


def cases() -> list[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    found = []
    for path in sorted(SUITE.glob("*.json")):
        suite = json.loads(path.read_text("utf-8"))
        found += [(f"{suite['title']}/{test['title']}", test, suite["resources"]) for test in suite["tests"]]
    return found


CASES = cases()


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Engine]:
    with engines.started(request.param) as engine:
        yield engine


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as JSON rows: nulls as None, decimals as numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
            value = value.tolist() if hasattr(value, "tolist") else value
            return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
        if isinstance(value, Decimal):
            return float(value)
        return None if pd.isna(value) else value

    records = frame.astype(object).to_dict("records")
    return [{str(key): plain(value) for key, value in record.items()} for record in records]


def in_any_order(found: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in found)


@pytest.mark.skipif(not CASES, reason=f"the conformance cases are not at {SUITE} (PERIOP_SHARED)")
def test_the_whole_suite_is_here() -> None:
    assert len(CASES) == 107
    assert set(UNSUPPORTED) <= {name for name, _, _ in CASES}


@pytest.mark.parametrize(("name", "test", "resources"), CASES, ids=[name for name, _, _ in CASES])
def test_case(name: str, test: dict[str, Any], resources: list[dict[str, Any]], engine: Engine) -> None:
    if name in UNSUPPORTED:
        with pytest.raises(UnsupportedError):
            run_view(ViewDefinition.load(test["view"]), resources, engine)
        return
    if test.get("expectError"):
        with pytest.raises(ViewError) as caught:
            run_view(ViewDefinition.load(test["view"]), resources, engine)
        assert not isinstance(caught.value, UnsupportedError)
        return
    frame = run_view(ViewDefinition.load(test["view"]), resources, engine)
    assert in_any_order(rows(frame)) == in_any_order(test["expect"])
    if "expectColumns" in test:
        assert list(frame.columns) == test["expectColumns"]
