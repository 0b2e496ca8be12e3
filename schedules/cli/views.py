"""The commands `periop view`: a ViewDefinition on files of one's own, its SQL, and the standard's own test cases.

They need no periop.toml and no lake. What they print of resources is what the view selects, and goes to stdout or to
the file that was asked for; no error quotes a resource.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import ibis
import orjson

from connectors.fhir.bundle import NotABundleError, looks_like_bundle, read_bundle
from connectors.fhir.resource import BOM
from mappers.engines.base import error_of
from mappers.engines.start import EngineName, start_engine
from mappers.errors import CardinalityError, MappingError, ViewError
from mappers.view.runner import ViewDefinition, sql, view_table
from schedules.cli.session import Session
from schedules.cli.view_formats import TABLE_ROWS, as_table, text_of, write_file
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

    from mappers.engines.base import Engine

BATCH = 50_000  # rows in memory at a time when a file is written
LONGEST = 16 << 20  # bytes of a line: `maximum_object_size` of DuckDB
ONE_A_LINE = "NDJSON has one whole resource a line"


def run_view(
    session: Session,
    view: Path,
    files: Sequence[Path],
    form: str | None,
    out: Path | None,
    on: EngineName = "duckdb",
) -> ExitCode:
    """Print the rows of a view, or write them to `out`.

    Nothing is printed, and `out` stays as it was, unless every row could be made.

    Raises:
        MappingError: the view cannot be compiled or run, or a file cannot be read.
    """
    session.log()
    form = form or ("table" if out is None else "parquet")
    _check_output(form, out)
    checked = load_view(view)
    with start_engine(on) as engine, _explained(view, files):
        resources = read_files(engine, files)
        with _named(view):
            table = view_table(checked, resources)
        # Rows are made while they are read, and so errors may come while they are printed or written.
        rows = engine.reader(engine.compile(table), BATCH)
        count = _print(session, rows, form) if out is None else write_file(rows, form, out)
    if out is not None:
        session.print_err(f"{count} rows are in {out}")
    return ExitCode.OK


def show_view(session: Session, view: Path, on: EngineName = "duckdb") -> ExitCode:
    """Print the SQL of a view over a table `resources` with the text column `resource`, as the engine runs it."""
    session.log()
    checked = load_view(view)
    with _named(view):
        text = sql(checked, keep=(), engine=on)
    session.write_out(f"{text};\n")
    return ExitCode.OK


def run_conformance(session: Session, folder: Path, report: Path, on: EngineName = "duckdb") -> ExitCode:
    """Run the HL7 test cases of a folder and write their report; ERROR unless every case passed."""
    from mappers.view.conformance import read_suites, run_suites, summary, write_report

    session.log()
    _check_folder(report)
    suites, others = read_suites(folder, report)
    for file in others:
        session.print_err(f"{file}: left out, it holds no list `tests`")
    if not suites:
        raise ConfigError(f"{folder}: no test file (*.json with a list `tests`) in it; name the folder of the cases")
    results = run_suites(suites, on)
    write_report(results, report)
    session.print_out(f"{summary(results)}\nReport: {report}")
    return ExitCode.OK if all(case.passed for case in results) else ExitCode.ERROR


def load_view(path: Path) -> ViewDefinition:
    """A ViewDefinition; its faults name the file.

    Raises:
        ViewError: the file and the element that is wrong.
    """
    with _named(path):
        return ViewDefinition.load(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """The error of a view, with its file before its element."""
    try:
        yield
    except ViewError as error:
        if error.element == str(path):
            raise
        raise type(error)(f"{path}: {error.element}" if error.element else str(path), error.problem) from error


def read_files(engine: Engine, files: Sequence[Path]) -> ir.Table:
    """Return the resources of NDJSON files (also .gz), and of *.json files with one resource or a Bundle.

    Raises:
        MappingError: a *.json file that is neither.
    """
    documents = [text for file in files if file.suffix == ".json" for text in _document(file)]
    tables = [engine.read_ndjson(file) for file in files if file.suffix != ".json"]
    if documents or not tables:
        tables.append(engine.resources(documents))
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _document(file: Path) -> list[str]:
    """The resources of one *.json as received: decimals keep their digits."""
    raw = file.read_bytes().removeprefix(BOM)
    try:
        entries = [entry.resource for entry in read_bundle(raw).entries] if looks_like_bundle(raw) else [raw]
        texts = [entry.decode("utf-8") for entry in entries if entry]
        whole = all(isinstance(json.loads(text), dict) for text in texts)
    except (NotABundleError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        whole = False
    if not whole:
        raise MappingError(f"{file}: not JSON of one resource or a Bundle; give many resources as .ndjson, one a line")
    return texts


@contextmanager
def _explained(view: Path, files: Sequence[Path]) -> Iterator[None]:
    """Turn an error of the engine into a sentence that quotes no resource, as the engine's own message may."""
    try:
        yield
    except CardinalityError as error:  # of Spark, in which the mapping's own errors are told apart
        raise type(error)(f"{view}: {error.element}", error.problem) from error
    except (duckdb.InvalidInputException, duckdb.IOException, UnicodeDecodeError) as error:
        # A message of DuckDB that quotes a line which is not UTF-8 cannot be decoded itself.
        own = None if isinstance(error, UnicodeDecodeError) else error_of(str(error))
        if own is not None:
            raise type(own)(f"{view}: {own.element}", own.problem) from error
        for file in files:
            fault = None if file.suffix == ".json" else _fault_of(file)
            if fault is not None:
                raise MappingError(f"{file}: {fault}") from error
        raise


def _fault_of(file: Path) -> str | None:
    """Return why an NDJSON file cannot be read, without quoting it; None if nothing is wrong with it."""
    if not file.is_file():  # a pipe cannot be read a second time
        return f"a line is not JSON; {ONE_A_LINE}"
    number = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if len(line) > LONGEST:
                    return f"line {number} is longer than 16 MiB; {ONE_A_LINE}"
                if line.strip():
                    orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"not JSON in line {number} ({error.msg}); {ONE_A_LINE}"
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return "not a whole gzip file; export or copy it again"
    return None


def _check_output(form: str, out: Path | None) -> None:
    if form == "parquet" and out is None:
        raise ConfigError("--format parquet needs a file: add --out FILE")
    if form == "table" and out is not None:
        raise ConfigError("--format table is for the terminal: take csv, json, ndjson or parquet with --out")
    if out is not None:
        _check_folder(out)


def _check_folder(file: Path) -> None:
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent}: no such folder; make it first")


def _print(session: Session, reader: pa.RecordBatchReader, form: str) -> int:
    """Print rows once all of them are made; returns how many there are."""
    batches = list(reader)
    count: int = sum(batch.num_rows for batch in batches)
    if form != "table":
        for text in text_of(reader.schema, batches, form):
            session.write_out(text)
        return count
    session.print_out(as_table(reader.schema, batches))
    if count > TABLE_ROWS:
        session.print_err(f"the first {TABLE_ROWS} of {count} rows are shown; --format csv prints all")
    return count
