"""`periop view conformance`: the report on invented cases, and on those of tests/spec/cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mappers.view.conformance import read_suites, run_suites
from tests.view_terminal import ANNA, BEN, COLUMNS, Terminal, definition, sentence

OWN = Path(__file__).parents[1] / "spec" / "cases"


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def case(title: str, *columns: dict[str, Any], **expected: Any) -> dict[str, Any]:
    return {"title": title, "view": json.loads(definition(*columns)), **expected}


FAMILY = {"name": "family", "path": "name.family"}
CASES = [
    case("equal in any order", COLUMNS[0], expect=[{"id": "ben"}, {"id": "anna"}], expectColumns=["id"]),
    case("one row is another", COLUMNS[0], expect=[{"id": "ben"}, {"id": "carl"}]),
    case("a row too many", COLUMNS[0], expect=[{"id": "ben"}]),
    case("the same row once only", COLUMNS[0], expect=[{"id": "ben"}, {"id": "ben"}]),
    case("number of rows", COLUMNS[0], expectCount=2),
    case("another number of rows", COLUMNS[0], expectCount=0),
    case("columns", COLUMNS[0], COLUMNS[1], expectCount=2, expectColumns=["active", "id"]),
    case("true is not 1", COLUMNS[1], expect=[{"active": 1}, {"active": None}]),
    case("2.0 is 2", COLUMNS[2], expect=[{"birth": 2.0}, {"birth": None}]),
    case("an error that is expected", FAMILY, expectError=True),
    case("an error that is not", FAMILY, expect=[]),
    case("no error where one is expected", COLUMNS[0], expectError=True),
    case("nothing expected", COLUMNS[0]),
    {"title": "no view", "expect": []},
]
REASONS = {
    "one row is another": "1 of 2 expected rows are missing, 1 of 2 rows are not expected",
    "a row too many": "0 of 1 expected rows are missing, 1 of 2 rows are not expected",
    "the same row once only": "1 of 2 expected rows are missing, 1 of 2 rows are not expected",
    "another number of rows": "0 rows are expected, and the view gave 2",
    "columns": "the columns active, id are expected, and the view gave id, active",
    "true is not 1": "1 of 2 expected rows are missing, 1 of 2 rows are not expected",
    "an error that is not": (
        'error: select[0].column[0].path: several values in a resource; add .first(), or "collection": true to take all'
    ),
    "no error where one is expected": "an error is expected, and the view gave 2 rows",
    "nothing expected": "the case expects nothing: none of expect, expectCount, expectError",
    "no view": "error: view: a ViewDefinition is needed",
}


def suite(*cases: dict[str, Any]) -> str:
    return json.dumps({"title": "own", "resources": [json.loads(ANNA), json.loads(BEN)], "tests": list(cases)})


def test_the_report_says_of_every_case_whether_and_why_not(periop: Terminal) -> None:
    periop.put("own.json", suite(*CASES))
    periop.put("other.json", "[]")
    (periop.folder / "view.json").unlink()
    assert periop("conformance", f"{periop.folder}/.", "--report", "report.json") == 1
    report = json.loads((periop.folder / "report.json").read_text("utf-8"))
    assert list(report) == ["own.json"]
    tests = report["own.json"]["tests"]
    assert [test["name"] for test in tests] == [each["title"] for each in CASES]
    assert {test["name"]: test["result"]["reason"] for test in tests if not test["result"]["passed"]} == REASONS
    assert [test["result"] for test in tests if test["name"] not in REASONS] == [{"passed": True}] * 4
    assert periop.out.startswith("own.json: 4 of 14\n  ✗ one row is another: 1 of 2 expected")
    assert "4 of 14 cases passed." in periop.out
    assert periop.err == f"{periop.folder / 'other.json'}: ignored, because it holds no list `tests`\n"


def test_all_passed_is_exit_code_0_and_the_report_is_no_test_file(periop: Terminal) -> None:
    periop.put("own.json", suite(CASES[0]))
    for _ in range(2):
        assert periop("conformance", f"{periop.folder}/.", "--report", "report.json") == 0
    assert "report.json" not in periop.err


def test_what_is_not_supported_is_no_expected_error(periop: Terminal) -> None:
    unsupported = case("unsupported", {"name": "x", "path": "birthDate < today()"}, expectError=True)
    periop.put("own.json", suite(unsupported))
    (suites, _) = read_suites(periop.folder, periop.folder / "report.json")
    (result,) = run_suites(suites)
    assert result.reason is not None
    assert result.reason.startswith("not supported: select[0].column[0].path: today() is not supported: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "own.json: not JSON"),
        ('{"tests": []}', "own.json: resources: missing or no list"),
        ('{"resources": [], "tests": [{}]}', "own.json: tests[0]: a case has a `title`"),
    ],
)
def test_a_damaged_test_file(periop: Terminal, text: str, said: str) -> None:
    periop.put("own.json", text)
    assert periop("conformance", f"{periop.folder}/.") == 1
    assert sentence(periop).startswith(said)


def test_a_folder_without_test_files(periop: Terminal) -> None:
    (periop.folder / "view.json").unlink()
    assert periop("conformance", f"{periop.folder}/.") == 2
    assert "no test file" in sentence(periop)


def test_files_of_cases_are_reported_in_order(periop: Terminal) -> None:
    """Three of our own: tests/spec runs the others, which would prove nothing more here."""
    (periop.folder / "view.json").unlink()
    files = [OWN / name for name in ("columns.json", "fn_first.json", "validation.json")]
    for file in files:
        periop.put(file.name, file.read_text("utf-8"))
    assert periop("conformance", f"{periop.folder}/.", "--report", "report.json") == 0
    report = json.loads((periop.folder / "report.json").read_text("utf-8"))
    assert list(report) == [file.name for file in files]
    for file in files:
        titles = [test["title"] for test in json.loads(file.read_text("utf-8"))["tests"]]
        assert [test["name"] for test in report[file.name]["tests"]] == titles
