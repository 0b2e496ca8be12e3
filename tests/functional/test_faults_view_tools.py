"""`periop view check` and `schema`: what a view is, without any resource."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.view_terminal import Terminal

WRONG: dict[str, Any] = {
    "resourceType": "ViewDefinition",
    "resource": "Patient",
    "fhirVersion": ["3.0.2"],
    "constant": [{"name": "c", "valueString": "x"}, {"name": "d", "valueInteger": "no"}],
    "where": [{"path": "gendr = 'male'"}, {"path": "name"}],
    "select": [
        {
            "column": [
                {"name": "id", "path": "id"},
                {"name": "a", "path": "name.famly"},
                {"name": "1st", "path": "id"},
                {"name": "b", "path": "birthDate.foo()", "type": "date"},
            ]
        },
        {"forEach": "nam", "column": [{"name": "c", "path": "given"}]},
        {"unionAll": [{"column": [{"name": "u", "path": "id"}]}, {"column": [{"name": "u", "path": "idd"}]}]},
    ],
}
PLACES = [
    "constant[1].valueInteger",
    "fhirVersion",
    "select[0].column[1].path",
    "select[0].column[2].name",
    "select[0].column[3].path",
    "select[1].forEach",
    "select[2].unionAll[1].column[0].path",
    "where[0].path",
    "where[1].path",
]
RIGHT = {
    "url": "http://example.org/v",
    "name": "v",
    "fhirVersion": ["4.0.1"],
    "resource": "Patient",
    "select": [
        {"column": [{"name": "id", "path": "id", "type": "id"}, {"name": "born", "path": "birthDate", "type": "date"}]}
    ],
}


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.put("wrong.json", json.dumps(WRONG))
    terminal.put("right.json", json.dumps(RIGHT))
    return terminal


def test_fault_123_all_errors_of_a_view_at_once(periop: Terminal) -> None:
    assert periop("check", "wrong.json", "--json") == 1
    (found,) = json.loads(periop.out)
    assert sorted(error["element"] for error in found["errors"]) == PLACES
    assert periop("check", "wrong.json", "right.json") == 1
    lines = periop.out.splitlines()
    assert sum("wrong.json: " in line for line in lines) == len(PLACES)
    assert "did you mean 'family'?" in periop.out
    assert "Traceback" not in periop.err


def test_fault_123_what_the_profiles_miss(periop: Terminal) -> None:
    assert periop("check", "right.json", "--profile", "shareable", "--profile", "tabular") == 0
    assert periop.out.endswith("right.json: no error\n")
    assert periop("check", "view.json") == 0
    assert "ShareableViewDefinition: url: missing" in periop.out
    assert "ShareableViewDefinition: select[0].column[0].type: missing" in periop.out
    assert "TabularViewDefinition: select[0].column[4].collection: true" in periop.out
    assert periop("check", "view.json", "--profile", "tabular") == 1


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "{}", '{"resource": "Patient", "select": [1]}'])
def test_fault_123_what_is_no_view_at_all(periop: Terminal, text: str) -> None:
    periop.put("none.json", text)
    assert periop("check", "none.json") == 1
    assert periop.out.count("\n") == 1
    assert "Traceback" not in periop.err


def test_fault_124_the_columns_of_a_view_before_it_has_run(periop: Terminal) -> None:
    assert periop("schema", "view.json", "--json") == 0
    assert json.loads(periop.out) == [
        {"name": "id", "type": "string"},
        {"name": "active", "type": "boolean"},
        {"name": "birth", "type": "int64"},
        {"name": "first", "type": "string"},
        {"name": "families", "type": "array<string>"},
    ]
    assert periop("schema", "right.json") == 0
    assert [line.split() for line in periop.out.splitlines()] == [["id", "string"], ["born", "string"]]
