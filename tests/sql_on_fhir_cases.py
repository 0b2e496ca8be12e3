"""Test cases of SQL on FHIR v2 in the JSON format of HL7, read from a folder and run on an engine.

A file has `title`, `resources` and `tests`; a test has `title`, `view` and one of `expect` (rows in any order),
`expectCount` and `expectError`. `expectColumns` is the order of the columns.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mappers.engines.base import Engine
from mappers.errors import UnsupportedError, ViewError
from mappers.view.runner import ViewDefinition, run_view

Case = tuple[str, dict[str, Any], list[dict[str, Any]]]  # its name, itself, and the resources of its file


def read_cases(folder: Path) -> list[Case]:
    """Return the cases of all files of a folder, in the order of the files."""
    found: list[Case] = []
    for path in sorted(folder.glob("*.json")):
        suite = json.loads(path.read_text("utf-8"))
        found += [(f"{suite['title']}/{test['title']}", test, suite["resources"]) for test in suite["tests"]]
    return found


def assert_case(test: dict[str, Any], resources: list[dict[str, Any]], engine: Engine) -> None:
    """Run the view of a case and compare it with what the case expects."""
    if test.get("expectError"):
        with pytest.raises(ViewError) as caught:
            run_view(ViewDefinition.load(test["view"]), resources, engine)
        # An error that says "not supported" is no answer to a view that is wrong.
        assert not isinstance(caught.value, UnsupportedError)
        return
    frame = run_view(ViewDefinition.load(test["view"]), resources, engine)
    assert "expect" in test or "expectCount" in test, "the case expects nothing"
    if "expect" in test:
        assert in_any_order(rows(frame)) == in_any_order(test["expect"])
    if "expectCount" in test:
        assert len(frame) == test["expectCount"]
    if "expectColumns" in test:
        assert list(frame.columns) == test["expectColumns"]


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame as JSON rows: nulls as None, decimals as numbers."""

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
    # 2 and 2.0 are one number in JSON, so whole floats are written as integers.
    def canonical(value: Any) -> Any:
        if isinstance(value, list):
            return [canonical(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return sorted(json.dumps({key: canonical(row[key]) for key in sorted(row)}) for row in found)
