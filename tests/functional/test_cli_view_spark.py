"""`periop view … --engine spark` as a user runs it: each command starts a Spark of its own, so they are few."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.engines import Engines
from tests.view_terminal import ANNA, BEN, COLUMNS, DOSE, Terminal, definition, sentence


@pytest.fixture
def periop(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
def _spark(engines: Engines) -> None:
    """Skips where Spark or Java is missing; ends the Spark of other tests, because a process holds one."""
    pytest.importorskip("pyspark", reason="Spark is missing")
    if shutil.which("java", path=f"{os.environ.get('JAVA_HOME', '')}/bin{os.pathsep}{os.environ['PATH']}") is None:
        pytest.skip("Java is missing")
    engines.stop()


@pytest.mark.usefixtures("_spark")
def test_rows_are_those_of_duckdb(periop: Terminal) -> None:
    periop.put("one.json", ANNA.replace("anna", "carl"))
    assert periop("run", "view.json", "patients.ndjson", "one.json", "--format", "csv", "--engine", "spark") == 0
    found, said = periop.out, periop.err
    assert periop("run", "view.json", "patients.ndjson", "one.json", "--format", "csv") == 0
    assert sorted(csv.reader(found.splitlines())) == sorted(csv.reader(periop.out.splitlines()))
    assert len(found.splitlines()) == 4
    assert said == ""


@pytest.mark.usefixtures("_spark")
def test_faults_name_view_and_file_and_quote_nothing(periop: Terminal) -> None:
    periop.put("view.json", definition({"name": "family", "path": "name.family"}))
    assert periop("run", "view.json", "patients.ndjson", "--engine", "spark") == 1
    assert sentence(periop).startswith("view.json: select[0].column[0].path: several values in a resource")
    periop.put("patients.ndjson", f"{BEN}\nsecret\n")
    assert periop("run", "view.json", "patients.ndjson", "--engine", "spark") == 1
    assert sentence(periop) == "patients.ndjson: a line is not JSON; NDJSON has one whole resource a line"


@pytest.mark.usefixtures("_spark")
def test_the_conformance_report(periop: Terminal) -> None:
    cases = [
        {"title": "right", "view": json.loads(definition(COLUMNS[0])), "expect": [{"id": "ben"}, {"id": "anna"}]},
        {"title": "wrong", "view": json.loads(definition(COLUMNS[0])), "expect": [{"id": "ben"}]},
        {"title": "error", "view": json.loads(definition({"name": "x", "path": "no"})), "expectError": True},
    ]
    suite = {"title": "own", "resources": [json.loads(ANNA), json.loads(BEN), json.loads(DOSE)], "tests": cases}
    (periop.folder / "view.json").unlink()
    periop.put("own.json", json.dumps(suite))
    words = ("conformance", f"{periop.folder}/.", "--report", "report.json", "--engine", "spark")
    assert periop(*words) == 1
    report = json.loads((periop.folder / "report.json").read_text("utf-8"))
    assert [test["result"]["passed"] for test in report["own.json"]["tests"]] == [True, False, True]
    assert "2 of 3 cases passed." in periop.out


def test_the_sql_runs_on_spark_alone(periop: Terminal, engines: Engines) -> None:
    periop.put("view.json", definition(COLUMNS[0], COLUMNS[2]))
    assert periop("show", "view.json", "--engine", "spark") == 0
    with engines.started("spark") as spark:
        spark.create_view("resources", spark.compile(spark.resources([ANNA, BEN, DOSE])))
        found = spark.arrow(periop.out.rstrip().removesuffix(";"))
    assert sorted(map(tuple, (row.values() for row in found.to_pylist()))) == [("anna", None), ("ben", 2)]


def test_without_spark_a_sentence_says_what_to_install(periop: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    assert periop("show", "view.json", "--engine", "spark") == 0
    assert periop("run", "view.json", "patients.ndjson", "--engine", "spark") == 1
    assert sentence(periop) == 'Spark is not installed; install "periop-fhir[spark]", or take the engine duckdb'
