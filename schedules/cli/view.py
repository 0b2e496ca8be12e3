"""`periop view`: run a ViewDefinition on files of your own, print its SQL, run the test cases of the standard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedules.cli.session import Session, existing_file, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from mappers.engines.start import EngineName

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
@click.argument("files", type=existing_file, metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "ndjson", "parquet"]),
    help="The format of the rows; by default table, with --out Parquet.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead of stdout.")
@engine_option
@pass_session
def run(
    session: Session, definition: Path, files: tuple[Path, ...], form: str | None, out: Path | None, engine: EngineName
) -> ExitCode:
    """Print the rows of a view: FILE is NDJSON (also .gz), or .json with one resource or a Bundle."""
    from schedules.cli.views import run_view

    return run_view(session, definition, files, form, out, engine)


@view.command(name="show")
@click.argument("definition", type=existing_file, metavar="VIEW.json")
@engine_option
@pass_session
def show(session: Session, definition: Path, engine: EngineName) -> ExitCode:
    """Print the SQL of a view, over a table `resources` with the text column `resource`."""
    from schedules.cli.views import show_view

    return show_view(session, definition, engine)


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
    from schedules.cli.views import run_conformance

    return run_conformance(session, folder, report, engine)
