"""`periop view run` and `show` from a command line to output: rows worked out by hand from invented resources."""

from __future__ import annotations

import gzip
import json
import os
import stat
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from schedules.cli.tables import rows
from tests.view_terminal import ANNA, BEN, COLUMNS, DOSE, Terminal, definition, sentence


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
    periop.put("many.ndjson", f"{ANNA}\n" * (rows.TABLE_ROWS + 1))
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


@pytest.mark.skipif(os.name != "posix", reason="such names are those of POSIX")
@pytest.mark.parametrize("name", ["p*.ndjson", "p?.ndjson", "p[1].ndjson", "it's.ndjson"])
def test_a_name_that_looks_like_a_pattern_is_one_file(periop: Terminal, name: str) -> None:
    periop.put("p1.ndjson", ANNA)
    periop.put(name, BEN)
    periop.put("id.json", definition(COLUMNS[0]))
    assert periop("run", "id.json", name, "--format", "csv") == 0
    assert periop.out.split() == ["id", "ben"]


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


def test_a_line_that_is_not_json_is_named(periop: Terminal) -> None:
    periop.put("bad.ndjson", f'{ANNA}\n{{"resourceType":"Patient","id":"secret\n{BEN}\n')
    assert periop("run", "view.json", "bad.ndjson") == 1
    assert sentence(periop).startswith("bad.ndjson: not JSON in line 2 (")
    assert "secret" not in periop.err


@pytest.mark.parametrize("line", [b'{"id":"secret', b'{"id":"secret\xff"}'])
def test_a_line_that_is_not_json_is_named_although_rows_were_made_before_it(periop: Terminal, line: bytes) -> None:
    lines = [b'{"resourceType":"Patient","id":"%d"}' % number for number in range(150_000)]
    (periop.folder / "late.ndjson").write_bytes(b"\n".join([*lines, line, b"{}"]))
    for arguments in ((), ("--out", "rows.parquet")):
        assert periop("run", "view.json", "late.ndjson", *arguments) == 1
        assert sentence(periop).startswith("late.ndjson: not JSON in line 150001 (")
        assert "secret" not in periop.err
    assert periop.out == ""


@pytest.mark.parametrize("text", ["{", '"secret"', '{"resourceType": "Bundle", "entry": [{'])
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


# The example of the guide


def test_the_example_of_the_mapping_guide(periop: Terminal) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text("utf-8").split("## Try a view")[1]
    view, patients = (part.split("\nEND\n")[0] for part in guide.split("<<'END'\n")[1:])
    shown = [line.strip() for line in guide.split("```")[2].splitlines() if line.startswith("    ")]
    periop.put("residence.json", view)
    periop.put("patients.ndjson", patients)
    assert periop("run", "residence.json", "patients.ndjson", "--format", "csv") == 0
    assert sorted(periop.out.splitlines()) == sorted(shown)
    periop.put("residence.json", view.replace('"path": "city"', '"path": "town"'))
    assert periop("run", "residence.json", "patients.ndjson") == 1
    assert f"`{sentence(periop)}`" in guide
