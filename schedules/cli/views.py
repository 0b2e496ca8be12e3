"""The commands `periop view`: a ViewDefinition on files of one's own, its SQL, and the standard's own test cases.

They need no periop.toml and no lake. What they print of resources is what the view selects, and goes to stdout or to
the file that was asked for; no error quotes a resource.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import ibis

from connectors.fhir.bundle import NotABundleError, looks_like_bundle, read_bundle
from connectors.fhir.resource import BOM
from mappers.engines.duckdb import error_of
from mappers.engines.start import EngineName
from mappers.engines.start import engine as engine_of
from mappers.errors import CardinalityError, MappingError, ViewError
from mappers.view.runner import ViewDefinition, parsed_texts, read_twice_if_needed, sql, view_table
from schedules.cli.session import Session
from schedules.cli.view_formats import TABLE_ROWS, as_table, text_of, write_file
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

    from mappers.engines.duckdb import Engine
    from mappers.fhir_model.shape import Shape
    from mappers.view.runner import Parsing

    Parse = Callable[[Engine, Path], Parsing]

BATCH = 50_000  # rows in memory at a time when a file is written
MALFORMED = re.compile(r"Malformed JSON in file .*, at byte \d+ in line (\d+): ([^.]+)")  # DuckDB 2.0
TOO_LARGE = "maximum_object_size"


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
    with engine_of(on) as engine, _explained(view, files):

        def deliver(parse: Parse) -> int:
            rows = read_rows(engine, _compiled(view, checked, read_files(engine, files, parse)))
            return _print(session, rows, form) if out is None else write_file(rows, form, out)

        count = read_twice_if_needed(deliver)
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


def _compiled(path: Path, view: ViewDefinition, resources: Parsing) -> ir.Table:
    with _named(path):
        return view_table(view, resources)


def read_files(engine: Engine, files: Sequence[Path], parse: Parse) -> Parsing:
    """How the resources are parsed of NDJSON files (also .gz), and of *.json with one resource or a Bundle.

    Raises:
        MappingError: a *.json that is neither.
    """
    documents = [text for file in files if file.suffix == ".json" for text in _document(file)]
    ways = [parse(engine, file) for file in files if file.suffix != ".json"]

    def parsed(shape: Shape) -> ir.Table:
        tables = [way(shape) for way in ways]
        tables += [parsed_texts(engine.resources(documents), shape)] if documents or not ways else []
        return ibis.union(*tables) if len(tables) > 1 else tables[0]

    return parsed


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


def read_rows(engine: Engine, table: ir.Table) -> pa.RecordBatchReader:
    """Run a view. On DuckDB rows are made while they are read, and so are its errors (`duckdb.Error`)."""
    return engine.reader(engine.compile(table), BATCH)


@contextmanager
def _explained(view: Path, files: Sequence[Path]) -> Iterator[None]:
    """What the engine says of the files and of the rows, in a sentence that quotes none of them."""
    try:
        yield
    except CardinalityError as error:  # of Spark, in which the mapping's own errors are told apart
        raise type(error)(f"{view}: {error.element}", error.problem) from error
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        message = str(error)
        own = error_of(message)
        if own is not None:
            raise type(own)(f"{view}: {own.element}", own.problem) from error
        reason = _unreadable(message)
        if reason is None:
            raise
        named = next((str(file) for file in files if str(file) in message), "a file")
        raise MappingError(f"{named}: {reason}") from error


def _unreadable(message: str) -> str | None:
    """Why a file cannot be read, for the message of DuckDB; None if it is about something else."""
    if found := MALFORMED.search(message):  # the message counts the line that it is to read next
        return f"not JSON in line {int(found[1]) - 1} ({found[2]}); NDJSON has one whole resource a line"
    if "GZIP" in message:
        return "not a whole gzip file; export or copy it again"
    if TOO_LARGE in message:
        return "a line is longer than 16 MiB; NDJSON has one resource a line"
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
