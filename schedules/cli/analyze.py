"""`periop analyze`: print the results of the cohort tables, after disclosure control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from mappers.study import Study

UNPUBLISHED = 0  # the release number in results that are printed and not published


@click.command()
@click.option(
    "--cohort",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with adsl, adrs, adtte and adae of your own, as Parquet or CSV; needs no periop.toml.",
)
@click.option("--study", help="A shipped study, or the path of a study file.")
@click.option(
    "--min-cell", type=click.IntRange(0, 1000), help="The smallest count to release (only with --cohort; default 11)."
)
@as_json
@pass_session
def analyze(
    session: Session, cohort: Path | None, study: str | None, min_cell: int | None, json_wanted: bool
) -> ExitCode:
    """Print the results, after disclosure control, without writing a release."""
    if cohort is not None:
        return _analyze_folder(session, cohort, study or "alneo", min_cell, json_wanted)
    # Otherwise anyone who may read the results could lower the threshold of the hospital.
    if min_cell is not None:
        raise ConfigError(f"--min-cell goes with --cohort; else set disclosure.min_cell in {session.config}")
    from schedules.run.nightly import analyze_cohort, recorded_run

    settings = session.settings()
    name = study or settings.study
    loaded = session.study(name)
    with session.progress() as progress, recorded_run(settings, "analyze", session.now) as run:
        released = analyze_cohort(settings, loaded, session.pipeline(), progress, run).released
    _print_results(session, released, loaded, name, json_wanted)
    return run.exit_code


def _analyze_folder(session: Session, folder: Path, name: str, min_cell: int | None, json_wanted: bool) -> ExitCode:
    from schedules.config.settings import Disclosure

    session.log()
    session.data_dir = folder  # the tables are patient data, so a traceback may be kept next to them
    study = session.study(name)
    released = session.pipeline().analyze(folder, study, Disclosure().min_cell if min_cell is None else min_cell)
    _print_results(session, released, study, name, json_wanted)
    return ExitCode.SUPPRESSED if released.suppressed_entirely else ExitCode.OK


def _print_results(session: Session, released: Released, study: Study, name: str, json_wanted: bool) -> None:
    if json_wanted:
        from analytics.results import as_json as results_json

        session.print_json(results_json(released, UNPUBLISHED))
    else:
        from schedules.cli.tables.results import results
        from schedules.release.published import agreements

        session.print_out(results(released, study, agreements(released, study, name)))
