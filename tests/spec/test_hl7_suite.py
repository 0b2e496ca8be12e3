"""The test cases of HL7 for SQL on FHIR v2, each one run on DuckDB and on Spark.

They are HL7's, so they are not part of this repository. docs/developer.md says where to get them; this file is
collected where PERIOP_SQL_ON_FHIR_TESTS names their folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mappers.engines.base import Engine
from tests.engines import ENGINES, Engines
from tests.sql_on_fhir_cases import assert_case, read_cases
from tests.view_terminal import Terminal

FOLDER = Path(os.environ["PERIOP_SQL_ON_FHIR_TESTS"]).resolve()
CASES = read_cases(FOLDER)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Engine]:
    with engines.started(request.param) as engine:
        yield engine


def test_the_whole_suite_is_here() -> None:
    # HL7 adds cases, so the number is a lower bound; a folder that is empty or half copied would prove nothing.
    assert len(CASES) >= 105  # those of 2026-05; later versions have more


@pytest.mark.parametrize(("test", "resources"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_case(test: dict[str, Any], resources: list[dict[str, Any]], engine: Engine) -> None:
    assert_case(test, resources, engine)


def test_the_report_names_every_case_in_order_and_all_passed(tmp_path: Path) -> None:
    periop = Terminal(tmp_path)
    assert periop("conformance", str(FOLDER), "--report", "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    files = sorted(FOLDER.glob("*.json"))
    assert list(report) == [file.name for file in files]
    for file in files:
        titles = [test["title"] for test in json.loads(file.read_text("utf-8"))["tests"]]
        assert [test["name"] for test in report[file.name]["tests"]] == titles
    assert all(test["result"] == {"passed": True} for file in report.values() for test in file["tests"])
