"""Which texts of resources have a modifier extension that is not understood, in Python as in SQL."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from connectors.fhir.modifiers import KNOWN, is_modified
from mappers.build import versions
from mappers.engines.duckdb import DuckDBEngine

CODED = {"coding": [{"system": "http://snomed.info/sct", "code": "421755005", "display": "y"}]}
[Y] = KNOWN


def extension(url: str = Y, **value: Any) -> dict[str, Any]:
    return {"url": url, **(value or {"valueCodeableConcept": CODED})}


CASES = [
    ({"status": "final"}, False),
    ({"note": "no modifierExtension here"}, False),
    ({"modifierExtension": [extension()]}, False),
    ({"modifierExtension": [{"valueCodeableConcept": CODED, "url": Y}]}, False),
    ({"modifierExtension": [extension()], "component": [{"modifierExtension": [extension()]}]}, False),
    ({"modifierExtension": [extension("http://x.example/not-done")]}, True),
    ({"modifierExtension": [extension(f"{Y}-not")]}, True),
    ({"modifierExtension": [extension(), extension("http://x.example/not-done")]}, True),
    ({"modifierExtension": [extension()], "component": [{"modifierExtension": [extension("http://x.example")]}]}, True),
    ({"modifierExtension": [extension(valueBoolean=True)]}, True),  # nobody knows what that would mean
    ({"modifierExtension": [extension(valueCodeableConcept=CODED, extension=[extension("http://x.example")])]}, True),
    ({"modifierExtension": []}, True),
]


@pytest.mark.parametrize(("body", "modified"), CASES)
@pytest.mark.parametrize("indent", [None, 2])
def test_only_a_known_extension_alone_is_understood(body: dict[str, Any], modified: bool, indent: int | None) -> None:
    assert is_modified(json.dumps(body, indent=indent)) == modified


def test_sql_judges_alike() -> None:
    texts = [json.dumps(body, indent=indent) for body, _ in CASES for indent in (None, 2)]
    with DuckDBEngine() as engine:
        rows = engine.register_rows("texts", pa.table({"text": texts}))
        found = engine.frame(rows.select("text", modified=versions.is_modified(rows["text"])))
    assert dict(zip(found["text"], found["modified"], strict=True)) == {text: is_modified(text) for text in texts}
