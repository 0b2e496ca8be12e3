"""`periop view`: run a ViewDefinition on files of your own, print its SQL, run the test cases of the standard.

Neither periop.toml nor a lake is needed. Resources are printed only as the view selects them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedules.cli.session import Session, as_json, existing_file, pass_session, resource_file
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import pyarrow as pa

    from mappers.engines.start import EngineName

BATCH = 50_000  # rows in memory at a time while a file is written

engine_option = click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    default="duckdb",
    show_default=True,
    help="The engine that runs the view; Spark is the optional extra periop-fhir[spark] and needs Java 17.",
)


@click.group()
def view() -> None:
    """SQL on FHIR v2 views on files of your own; needs no periop.toml."""


@view.command(name="run")
@click.argument("definition", type=existing_file, metavar="VIEW.json")
@click.argument("files", type=resource_file, metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "ndjson", "parquet"]),
    help="The format of the rows; by default table, with --out Parquet.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead of stdout.")
@click.option("--raw", is_flag=True, help="In CSV, leave text as it is that a spreadsheet would take for a formula.")
@engine_option
@pass_session
def run(
    session: Session,
    definition: Path,
    files: tuple[Path, ...],
    form: str | None,
    out: Path | None,
    raw: bool,
    engine: EngineName,
) -> ExitCode:
    """Print the rows of a view: FILE is NDJSON, or .json with a resource, Bundle or array; also .gz; - is stdin."""
    from mappers.engines.start import start_engine
    from mappers.view.runner import ViewDefinition, view_table
    from schedules.cli.view_files import explain_errors, name_view
    from schedules.cli.view_formats import write_file
    from schedules.cli.view_input import read_input, what_was_read

    session.log()
    # Checked first, because the engine takes a second to start.
    form = form or ("table" if out is None else "parquet")
    _check_output(form, out)
    with name_view(definition):
        loaded = ViewDefinition.load(definition)
    with start_engine(engine) as started, explain_errors(definition, files):
        found = read_input(started, files, lambda: sys.stdin.buffer)
        with name_view(definition):
            table = view_table(loaded, found.resources)
        # DuckDB makes the rows while they are read, so errors may come while they are printed or written.
        rows = started.reader(started.compile(table), BATCH)
        if out is None:
            number = _print_rows(session, rows, form, raw=raw)
        else:
            number = write_file(rows, form, out, raw=raw)
            session.print_err(f"{number} rows are in {out}")
        for sentence in what_was_read(started, found, loaded.resource, number):
            session.print_err(sentence)
    return ExitCode.OK


@view.command(name="show")
@click.argument("definition", type=existing_file, metavar="VIEW.json")
@engine_option
@pass_session
def show(session: Session, definition: Path, engine: EngineName) -> ExitCode:
    """Print the SQL of a view, over a table `resources` with the text column `resource`."""
    from mappers.view.runner import ViewDefinition, sql
    from schedules.cli.view_files import name_view

    session.log()
    with name_view(definition):
        # keep=(): without the columns that only the tables of the lake have (site and version).
        text = sql(ViewDefinition.load(definition), keep=(), engine=engine)
    session.print_out(f"{text};")
    return ExitCode.OK


@view.command(name="check")
@click.argument("definitions", type=existing_file, metavar="VIEW.json...", nargs=-1, required=True)
@click.option(
    "--profile",
    "profiles",
    type=click.Choice(["shareable", "tabular"]),
    multiple=True,
    help="Take what this profile of SQL on FHIR misses as an error.",
)
@as_json
@pass_session
def check(session: Session, definitions: tuple[Path, ...], profiles: tuple[str, ...], json_wanted: bool) -> ExitCode:
    """Print all errors of views at once, and what the profiles miss in them; exit code 1 if there are errors."""
    from schedules.cli.view_checks import Checked

    session.log()
    checked = [Checked.of(definition) for definition in definitions]
    if json_wanted:
        session.print_json([each.as_json() for each in checked])
    else:
        for each in checked:
            session.write_out("".join(f"{line}\n" for line in each.lines()))
    return ExitCode.OK if all(each.passed(profiles) for each in checked) else ExitCode.ERROR


@view.command(name="schema")
@click.argument("definition", type=existing_file, metavar="VIEW.json")
@as_json
@pass_session
def schema(session: Session, definition: Path, json_wanted: bool) -> ExitCode:
    """Print the names and types of the columns of a view, without running it."""
    from mappers.view.check import columns_of
    from mappers.view.runner import ViewDefinition
    from schedules.cli.view_files import name_view

    session.log()
    with name_view(definition):
        columns = {name: str(dtype) for name, dtype in columns_of(ViewDefinition.load(definition)).items()}
    if json_wanted:
        session.print_json([{"name": name, "type": dtype} for name, dtype in columns.items()])
    else:
        width = max(map(len, columns))
        session.write_out("".join(f"{name:<{width}}  {dtype}\n" for name, dtype in columns.items()))
    return ExitCode.OK


@view.command(name="conformance")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("test_report.json"),
    show_default=True,
    help="The file for the HL7 test report.",
)
@engine_option
@pass_session
def conformance(session: Session, folder: Path, report: Path, engine: EngineName) -> ExitCode:
    """Run the HL7 test files in DIR and write a report; exit code 1 unless every case passes."""
    from mappers.view.conformance import read_suites, run_suites, summary, write_report

    session.log()
    _check_folder(report)  # first: a wrong folder is to be reported before the cases run
    suites, others = read_suites(folder, report)
    for file in others:
        session.print_err(f"{file}: ignored, because it holds no list `tests`")
    if not suites:
        raise ConfigError(f"{folder}: holds no test file (*.json with a list `tests`); name the folder of the cases")
    results = run_suites(suites, engine)
    write_report(results, report)
    session.print_out(f"{summary(results)}\nReport: {report}")
    return ExitCode.OK if all(case.passed for case in results) else ExitCode.ERROR


def _check_output(form: str, out: Path | None) -> None:
    if form == "parquet" and out is None:
        raise ConfigError("--format parquet needs a file: add --out FILE")
    if form == "table" and out is not None:
        raise ConfigError("--format table is for the terminal: use csv, json, ndjson or parquet with --out")
    if out is not None:
        _check_folder(out)


def _check_folder(file: Path) -> None:
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent}: no such folder; make it first")


def _print_rows(session: Session, reader: pa.RecordBatchReader, form: str, *, raw: bool) -> int:
    """Print the rows, and return their number."""
    from schedules.cli.tables.rows import TABLE_ROWS, rows_table
    from schedules.cli.view_formats import text_of

    # All rows are made before the first is printed, so that an error does not leave half of them on stdout.
    batches = list(reader)
    count: int = sum(batch.num_rows for batch in batches)
    if form != "table":
        for text in text_of(reader.schema, batches, form, raw=raw):
            session.write_out(text)
        return count
    session.print_out(rows_table(reader.schema, batches))
    if count > TABLE_ROWS:
        session.print_err(f"the first {TABLE_ROWS} of {count} rows are shown; --format csv prints all")
    return count
