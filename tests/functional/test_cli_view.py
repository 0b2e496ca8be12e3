"""`periop view` from a command line to its output: rows worked out by hand from three invented patients."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from analytics.results import FORMULA
from schedules import view_formats
from schedules.cli import main
from schedules.conformance import read_suites, run_suites
from schedules.session import Session

SHARED = Path(os.environ.get("PERIOP_SHARED", Path(__file__).parents[3] / "shared"))
SUITE = SHARED / "conformance" / "sql-on-fhir-v2"

ANNA = '{"resourceType":"Patient","id":"anna","active":true,"name":[{"family":"Rossi"},{"family":"Bianchi"}]}'
BEN = '{"resourceType":"Patient","id":"ben","name":[{"family":"=1+1"}],"multipleBirthInteger":2}'
DOSE = '{"resourceType":"Observation","id":"d","status":"final","code":{"text":"x"},"valueQuantity":{"value":-1.50}}'

COLUMNS = [
    {"name": "id", "path": "id"},
    {"name": "active", "path": "active"},
    {"name": "birth", "path": "multipleBirth.ofType(integer)"},
    {"name": "first", "path": "name.first().family"},
    {"name": "families", "path": "name.family", "collection": True},
]


def definition(*columns: dict[str, Any], resource: str = "Patient", **more: Any) -> str:
    return json.dumps({"resource": resource, "select": [{"column": list(columns), **more}]})


class Terminal:
    """Runs `periop view` in a folder that has a view and a file of resources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = self.err = ""
        self.put("view.json", definition(*COLUMNS))
        self.put("patients.ndjson", f"{ANNA}\n{BEN}\n{DOSE}\n")

    def put(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def __call__(self, *words: str) -> int:
        """A word that is a name in the folder is its path."""
        given = [str(self.folder / word) if "." in word else word for word in words]
        out, err = io.StringIO(), io.StringIO()
        code = main(["--config", str(self.folder / "none"), "view", *given], Session(out, err, {}))
        self.out, self.err = out.getvalue(), err.getvalue()
        return code


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


# Formats


def test_rows_as_a_table(periop: Terminal) -> None:
    assert periop("run", "view.json", "patients.ndjson") == 0
    lines = [line.split() for line in periop.out.splitlines() if line.strip()]
    assert lines[0] == ["id", "active", "birth", "first", "families"]
    assert lines[2:] == [["anna", "true", "Rossi", '["Rossi","Bianchi"]'], ["ben", "2", "=1+1", '["=1+1"]']]
    assert periop.err == ""


def test_rows_as_csv_in_which_no_text_is_a_formula(periop: Terminal) -> None:
    assert periop("run", "view.json", "patients.ndjson", "--format", "csv") == 0
    assert periop.out == (
        'id,active,birth,first,families\r\nanna,true,,Rossi,"[""Rossi"",""Bianchi""]"\r\nben,,2,\'=1+1,"[""=1+1""]"\r\n'
    )


def test_a_negative_number_is_no_formula(periop: Terminal) -> None:
    periop.put(
        "dose.json", definition({"name": "dose", "path": "value.ofType(Quantity).value"}, resource="Observation")
    )
    assert periop("run", "dose.json", "patients.ndjson", "--format", "csv") == 0
    assert periop.out == "dose\r\n-1.5\r\n"


def test_what_begins_a_formula_is_what_the_results_say() -> None:
    assert view_formats.FORMULA == FORMULA


def test_rows_as_ndjson_and_as_json(periop: Terminal) -> None:
    expected = [
        {"id": "anna", "active": True, "birth": None, "first": "Rossi", "families": ["Rossi", "Bianchi"]},
        {"id": "ben", "active": None, "birth": 2, "first": "=1+1", "families": ["=1+1"]},
    ]
    assert periop("run", "view.json", "patients.ndjson", "--format", "ndjson") == 0
    assert [json.loads(line) for line in periop.out.splitlines()] == expected
    assert periop("run", "view.json", "patients.ndjson", "--format", "json") == 0
    assert json.loads(periop.out) == expected


def test_a_decimal_of_many_digits_is_a_whole_number_in_json(periop: Terminal) -> None:
    value = "12345678901234567890.123456789012345678"
    periop.put(
        "dose.json", definition({"name": "dose", "path": "value.ofType(Quantity).value"}, resource="Observation")
    )
    periop.put("one.ndjson", DOSE.replace("-1.50", value))
    assert periop("run", "dose.json", "one.ndjson", "--format", "ndjson") == 0
    assert periop.out == f'{{"dose":{value}}}\n'


def test_no_rows_are_an_empty_list(periop: Terminal) -> None:
    periop.put("none.ndjson", f"{DOSE}\n")
    assert periop("run", "view.json", "none.ndjson", "--format", "json") == 0
    assert json.loads(periop.out) == []


def test_rows_as_parquet_with_their_types(periop: Terminal) -> None:
    assert periop("run", "view.json", "patients.ndjson", "--out", "rows.parquet") == 0
    assert (periop.out, periop.err) == ("", f"2 rows are in {periop.folder / 'rows.parquet'}\n")
    table = pq.read_table(periop.folder / "rows.parquet")
    assert [str(kind) for kind in table.schema.types[:4]] == ["string", "bool", "int64", "string"]
    assert table.column("birth").to_pylist() == [None, 2]
    assert table.column("families").to_pylist() == [["Rossi", "Bianchi"], ["=1+1"]]


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
def test_a_file_of_rows_is_for_its_owner_alone(periop: Terminal) -> None:
    assert periop("run", "view.json", "patients.ndjson", "--format", "csv", "--out", "rows.csv") == 0
    assert stat.S_IMODE((periop.folder / "rows.csv").stat().st_mode) == 0o600


def test_a_long_table_says_that_it_is_cut(periop: Terminal) -> None:
    periop.put("many.ndjson", f"{ANNA}\n" * (view_formats.TABLE_ROWS + 1))
    assert periop("run", "view.json", "many.ndjson") == 0
    assert periop.out.count("anna") == 1000
    assert periop.err == "the first 1000 of 1001 rows are shown; --format csv prints all\n"


# Files


def test_gzip_bundle_and_single_resource_are_read_together(periop: Terminal) -> None:
    with gzip.open(periop.folder / "anna.ndjson.gz", "wt") as file:
        file.write(f"{ANNA}\n")
    entries = [{"resource": json.loads(BEN)}, {"fullUrl": "urn:uuid:empty"}]
    periop.put("bundle.json", json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))
    periop.put("single.json", json.dumps(json.loads(ANNA) | {"id": "carl"}, indent=2))
    periop.put("id.json", definition(COLUMNS[0]))
    assert periop("run", "id.json", "anna.ndjson.gz", "bundle.json", "single.json", "--format", "csv") == 0
    assert sorted(periop.out.split()) == ["anna", "ben", "carl", "id"]


def test_a_bundle_keeps_the_digits_of_a_decimal(periop: Terminal) -> None:
    path = "value.ofType(Quantity).value.lowBoundary()"  # of 1.50, known to the hundredth: 1.495
    periop.put("low.json", definition({"name": "low", "path": path}, resource="Observation"))
    resource = DOSE.replace("-1.50", "1.50")
    periop.put("bundle.json", f'{{"resourceType":"Bundle","entry":[{{"resource":{resource}}}]}}')
    assert periop("run", "low.json", "bundle.json", "--format", "ndjson") == 0
    assert json.loads(periop.out, parse_float=Decimal) == {"low": Decimal("1.495")}


# What goes wrong: a sentence without a traceback, the place, and no value of a resource


def test_a_missing_file_is_a_usage_error(periop: Terminal) -> None:
    assert periop("run", "view.json", "nothing.ndjson") == 2
    assert "nothing.ndjson' does not exist" in periop.err
    assert periop("run", "nothing.json", "patients.ndjson") == 2
    assert periop("run", "view.json") == 2


def sentence(periop: Terminal) -> str:
    """What stderr says, which is one line; nothing is on stdout."""
    assert periop.out == ""
    assert "Traceback" not in periop.err
    (line,) = periop.err.splitlines()
    return line.removeprefix("periop: ").replace(f"{periop.folder}{os.sep}", "")


def test_a_line_that_is_not_json_is_named(periop: Terminal) -> None:
    periop.put("bad.ndjson", f'{ANNA}\n{{"resourceType":"Patient","id":"secret\n{BEN}\n')
    assert periop("run", "view.json", "bad.ndjson") == 1
    assert sentence(periop).startswith("bad.ndjson: not JSON in line 2 (")
    assert "secret" not in periop.err


@pytest.mark.parametrize("text", ["{", "[]", '"secret"', '{"resourceType": "Bundle", "entry": [{'])
def test_a_document_that_is_no_resource(periop: Terminal, text: str) -> None:
    periop.put("bad.json", text)
    assert periop("run", "view.json", "bad.json") == 1
    assert sentence(periop).startswith("bad.json: not JSON of one resource or a Bundle; ")


def test_a_cut_gzip_file(periop: Terminal) -> None:
    (periop.folder / "cut.ndjson.gz").write_bytes(gzip.compress(ANNA.encode())[:40])
    assert periop("run", "view.json", "cut.ndjson.gz") == 1
    assert sentence(periop) == "cut.ndjson.gz: not a whole gzip file; export or copy it again"


def test_an_unknown_function_names_its_element(periop: Terminal) -> None:
    periop.put("view.json", definition(COLUMNS[0], {"name": "x", "path": "name.foo()"}))
    for command in (("run", "view.json", "patients.ndjson"), ("show", "view.json")):
        assert periop(*command) == 1
        assert sentence(periop).startswith("view.json: select[0].column[1].path: unknown function 'foo'")


def test_a_view_that_is_not_json(periop: Terminal) -> None:
    periop.put("view.json", "{")
    assert periop("show", "view.json") == 1
    assert sentence(periop).startswith("view.json: not a readable JSON file")


def test_several_values_name_the_element_and_leave_the_file(periop: Terminal) -> None:
    periop.put("view.json", definition({"name": "family", "path": "name.family"}))
    expected = "view.json: select[0].column[0].path: several values in a resource; add .first(), "
    assert periop("run", "view.json", "patients.ndjson") == 1
    assert sentence(periop).startswith(expected)
    periop.put("rows.csv", "as it was")
    assert periop("run", "view.json", "patients.ndjson", "--format", "csv", "--out", "rows.csv") == 1
    assert sentence(periop).startswith(expected)
    assert (periop.folder / "rows.csv").read_text() == "as it was"
    assert sorted(path.name for path in periop.folder.iterdir()) == ["patients.ndjson", "rows.csv", "view.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "parquet"), "--format parquet needs a file: add --out FILE"),
        (("--format", "table", "--out", "rows.txt"), "--format table is for the terminal"),
        (("--out", "no.folder/rows.parquet"), "no.folder: no such folder; make it first"),
    ],
)
def test_a_format_and_a_file_that_do_not_go_together(periop: Terminal, words: tuple[str, ...], said: str) -> None:
    assert periop("run", "view.json", "patients.ndjson", *words) == 2
    assert sentence(periop).startswith(said)


def test_an_unknown_format_is_a_usage_error(periop: Terminal) -> None:
    assert periop("run", "view.json", "patients.ndjson", "--format", "xml") == 2


# The SQL


def test_the_sql_runs_on_duckdb_alone(periop: Terminal) -> None:
    periop.put("view.json", definition(COLUMNS[0], COLUMNS[2]))
    assert periop("show", "view.json", "--engine", "duckdb") == 0
    with duckdb.connect() as con:
        con.execute("create table resources (resource varchar)")
        con.executemany("insert into resources values (?)", [[ANNA], [BEN], [DOSE]])
        assert con.execute(periop.out).fetchall() == [("anna", None), ("ben", 2)]


def test_another_engine_is_a_usage_error(periop: Terminal) -> None:
    assert periop("show", "view.json", "--engine", "oracle") == 2


# Conformance: the report, and its honesty


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
    assert periop.err == f"{periop.folder / 'other.json'}: left out, it holds no list `tests`\n"


def test_all_passed_is_exit_code_0_and_the_report_is_no_test_file(periop: Terminal) -> None:
    periop.put("own.json", suite(CASES[0]))
    for _ in range(2):
        assert periop("conformance", f"{periop.folder}/.", "--report", "report.json") == 0
    assert "report.json" not in periop.err


def test_what_is_not_supported_is_no_expected_error(periop: Terminal) -> None:
    unsupported = case("unsupported", {"name": "x", "path": "name.trace('x').exists()"}, expectError=True)
    periop.put("own.json", suite(unsupported))
    (suites, _) = read_suites(periop.folder, periop.folder / "report.json")
    (result,) = run_suites(suites)
    assert result.reason is None or result.reason.startswith("not supported: select[0].column[0].path: ")


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


@pytest.mark.skipif(not SUITE.is_dir(), reason=f"the conformance cases are not at {SUITE} (PERIOP_SHARED)")
def test_the_hl7_cases_are_reported_in_order_and_as_they_went(periop: Terminal) -> None:
    code = periop("conformance", str(SUITE), "--report", "report.json")
    report = json.loads((periop.folder / "report.json").read_text("utf-8"))
    files = sorted(SUITE.glob("*.json"))
    assert list(report) == [file.name for file in files]
    for file in files:
        titles = [test["title"] for test in json.loads(file.read_text("utf-8"))["tests"]]
        assert [test["name"] for test in report[file.name]["tests"]] == titles
    results = [test["result"] for file in report.values() for test in file["tests"]]
    failed = [result for result in results if not result["passed"]]
    assert len(results) == 107
    assert all(result["reason"].startswith("not supported: ") for result in failed)
    assert code == (1 if failed else 0)
