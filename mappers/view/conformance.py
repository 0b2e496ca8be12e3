"""The HL7 test cases of SQL on FHIR v2, run, and the report of them in the format of HL7.

Test files: https://github.com/FHIR/sql-on-fhir-v2, tests/tests.schema.json: `title`, `resources` and `tests`, each of
these with `title`, `view` and one of `expect` (rows in any order), `expectCount` and `expectError`; `expectColumns` is
the order of the columns.

Report: the same repository, test_report/test-report.schema.json: a map from the name of a test file to
``{"tests": [{"name": title, "result": {"passed": bool}}]}``, tests in the order of the file (the HL7 page of
implementations reads them by position). `result.reason` says why a case did not pass, as other implementations have it
(pull request 235 there).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from mappers.engines.base import Engine
from mappers.engines.start import EngineName, start_engine
from mappers.errors import MappingError, UnsupportedError, ViewError
from mappers.view.runner import ViewDefinition, view_table

if TYPE_CHECKING:
    import ibis.expr.types as ir

Row = Mapping[str, Any]
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Suite:
    """One test file: its name, the text of each resource, and its cases as they stand there."""

    file: str
    resources: tuple[str, ...]
    cases: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class CaseResult:
    """The result of one case; `reason` is why it did not pass."""

    file: str
    name: str
    reason: str | None = None

    @property
    def passed(self) -> bool:
        return self.reason is None


def read_suites(folder: Path, report: Path) -> tuple[list[Suite], list[Path]]:
    """Read the test files of a folder, sorted; also return its other JSON files, without an earlier `report`.

    Raises:
        MappingError: a file that is not JSON, or whose cases lack what HL7 asks of them.
    """
    suites, others = [], []
    for path in sorted(folder.glob("*.json")):
        # An earlier report lies in the same folder when it is the working folder.
        if path.resolve() == report.resolve():
            continue
        data = _read(path)
        if isinstance(data, dict) and isinstance(data.get("tests"), list):
            suites.append(_suite(path, data))
        else:
            others.append(path)
    return suites, others


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"), parse_float=Decimal)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MappingError(f"{path}: not JSON ({type(error).__name__}); get the test file again") from error


def _suite(path: Path, data: Mapping[str, Any]) -> Suite:
    resources = data.get("resources")
    if not isinstance(resources, list):
        raise MappingError(f"{path}: resources: missing or no list; HL7 test files have one")
    for number, case in enumerate(data["tests"]):
        if not isinstance(case, dict) or not isinstance(case.get("title"), str):
            raise MappingError(f"{path}: tests[{number}]: a case has a `title`; HL7 reports name it")
    return Suite(path.name, tuple(_encode(item).decode() for item in resources), tuple(data["tests"]))


def run_suites(suites: Sequence[Suite], on: EngineName = "duckdb") -> list[CaseResult]:
    """Run every case on an engine, in order.

    Raises:
        MappingError: the engine cannot start.
    """
    with start_engine(on, threads=1) as started:
        results = []
        for suite in suites:
            resources = started.resources(suite.resources)
            results += [run_case(suite.file, case, started, resources) for case in suite.cases]
        return results


def run_case(file: str, case: Mapping[str, Any], engine: Engine, resources: ir.Table) -> CaseResult:
    """Run one case. Whatever goes wrong is the case's reason: a fault in one hides no other."""
    try:
        reason = _judged(case, engine, resources)
    except Exception as error:  # a fault of periop, and the cases after it are to be run too
        reason = f"fault of periop: {type(error).__name__}"
    return CaseResult(file, case["title"], reason)


def _judged(case: Mapping[str, Any], engine: Engine, resources: ir.Table) -> str | None:
    """Return None if the case passed, else why not."""
    if case.get("expect") is None and case.get("expectCount") is None and not case.get("expectError"):
        return "the case expects nothing: none of expect, expectCount, expectError"
    try:
        columns, rows = _rows(case.get("view"), engine, resources)
    # Before ViewError, of which it is one: not supported is no pass for `expectError`.
    except UnsupportedError as error:
        return f"not supported: {error}"
    except ViewError as error:
        return None if case.get("expectError") else f"error: {error}"
    if case.get("expectError"):
        return f"an error is expected, and the view gave {len(rows)} rows"
    return _difference(case, columns, rows)


def _rows(view: Any, engine: Engine, resources: ir.Table) -> tuple[list[str], list[Row]]:
    """Return columns and rows of a view.

    Raises:
        ViewError: it cannot be compiled or run.
    """
    if not isinstance(view, Mapping):
        raise ViewError("view", "a ViewDefinition is needed")
    table = view_table(ViewDefinition.load(view), resources)
    frame = engine.frame(table)
    rows = pa.Table.from_pandas(frame, table.schema().to_pyarrow(), False).to_pylist()
    return list(frame.columns), [{name: _present(value) for name, value in row.items()} for row in rows]


def _present(value: Any) -> Any:
    """Return a value as JSON has it: of a struct, the elements that are there."""
    if isinstance(value, dict):
        return {name: _present(item) for name, item in value.items() if item is not None and item != []}
    return [_present(item) for item in value] if isinstance(value, list) else value


def _difference(case: Mapping[str, Any], columns: list[str], rows: list[Row]) -> str | None:
    """Describe how columns and rows differ from the expected ones, quoting no value; None if they do not."""
    wanted = case.get("expectColumns")
    if wanted is not None and wanted != columns:
        return f"the columns {', '.join(map(str, wanted))} are expected, and the view gave {', '.join(columns)}"
    count = case.get("expectCount")
    if count is not None and count != len(rows):
        return f"{count} rows are expected, and the view gave {len(rows)}"
    expected = case.get("expect")
    if expected is None:
        return None
    # Rows count as often as they occur, in any order.
    missing, left = 0, [_canonical(row) for row in rows]
    for row in map(_canonical, expected):
        if row in left:
            left.remove(row)
        else:
            missing += 1
    if not missing and not left:
        return None
    return f"{missing} of {len(expected)} expected rows are missing, {len(left)} of {len(rows)} rows are not expected"


def _canonical(value: Any) -> str:
    """Return a text that is the same for the same JSON: keys in any order, 1.50 and 1.5 alike, 1 and true not."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    # format "f": str() of a Decimal would write exponents.
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        digits = format(Decimal(value), "f")
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    return json.dumps(value)


def as_report(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return the report of HL7."""

    def result(case: CaseResult) -> dict[str, Any]:
        return {"passed": case.passed} | ({} if case.reason is None else {"reason": case.reason})

    return {
        file: {"tests": [{"name": case.name, "result": result(case)} for case in cases]}
        for file, cases in groupby(results, key=lambda case: case.file)
    }


def write_report(results: Sequence[CaseResult], path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(as_report(results), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def summary(results: Sequence[CaseResult]) -> str:
    """Return passed cases by file, each case that did not pass with its reason, and the total."""
    lines = []
    for file, group in groupby(results, key=lambda case: case.file):
        cases = list(group)
        lines.append(f"{file}: {sum(case.passed for case in cases)} of {len(cases)}")
        lines += [f"  ✗ {case.name}: {case.reason}" for case in cases if not case.passed]
    return "\n".join([*lines, f"{sum(case.passed for case in results)} of {len(results)} cases passed."])
