"""`periop demo`: a complete run on the built-in cohort of 33 invented patients, in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedules.cli.publish import release_text
from schedules.cli.session import Session, pass_session
from schedules.errors import ConfigError, ExitCode, PeriopError

if TYPE_CHECKING:
    from schedules.config.settings import Settings

INVENTED = "The patients of this demo are invented, so nothing is suppressed (min_cell = 0)."
CONFIG = "periop.toml"
SETTINGS = f"""\
# Written by `periop demo`: the built-in cohort, as a site of its own.
data_dir = "."
study = "alneo"

[[sites]]
name = "demo"
kind = "folder"
path = "fhir"

[disclosure]
min_cell = 0
note = "{INVENTED}"
"""
# `pyproject.toml` puts the cohort into the wheel, next to this file; a checkout has it with the other fixtures.
IN_THE_WHEEL = Path(__file__).parent / "demo_cohort"
IN_A_CHECKOUT = Path(__file__).parents[2] / "fixtures" / "alneo"


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("periop-demo"),
    show_default=True,
    help="The folder for lake, tables and report.",
)
@pass_session
def demo(session: Session, out: Path) -> ExitCode:
    """Run all stages on the built-in cohort and compare the results with the published figures."""
    from schedules.cli.tables.results import comparison
    from schedules.config.credentials import private_folder
    from schedules.release.published import agreements
    from schedules.run.nightly import run_nightly

    session.log()
    cohort = demo_cohort()
    # As a real data folder would be. The check of what is in an existing one follows in `demo_settings`.
    if not out.exists():
        private_folder(out)
    settings = demo_settings(out, cohort)
    session.data_dir = settings.data_dir
    study, pipeline = session.study(settings.study), session.pipeline(settings.disclosure.note)
    with session.progress() as progress:
        outcome = run_nightly(settings, study, pipeline, progress, session.now)
    agreed = agreements(outcome.released, study, settings.study)
    proportions = [row.equal for row in agreed if row.is_proportion]
    medians = [row.equal for row in agreed if not row.is_proportion]
    summary = (
        f"{sum(proportions)} of {len(proportions)} published proportions are equal in x and n, "
        f"{sum(medians)} of {len(medians)} medians as printed."
    )
    session.print_out(comparison(agreed, study.title), summary, INVENTED, release_text(outcome.published))
    return outcome.exit_code if all(row.equal for row in agreed) else ExitCode.ERROR


def demo_cohort(*folders: Path) -> Path:
    """Return the first of `folders` (by default of a wheel, of a checkout) that holds the built-in cohort as NDJSON."""
    for folder in folders or (IN_THE_WHEEL, IN_A_CHECKOUT):
        if any(folder.glob("*.ndjson*")):
            return folder
    raise PeriopError("the cohort of the demo is not part of this installation; install periop-fhir again")


def demo_settings(out: Path, cohort: Path) -> Settings:
    """Copy `cohort` into `out`, write the `periop.toml` of the demo there, and return its settings.

    Raises `ConfigError` where `out` holds anything but an earlier demo, which is used again.
    """
    from schedules.config.settings import load_settings

    file = out / CONFIG
    if file.exists():
        # Only exactly our own file: an edited one may belong to real data.
        if file.read_text(encoding="utf-8") != SETTINGS:
            raise ConfigError(f"{file}: another configuration is here; name an empty folder with --out")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: not an empty folder; name another with --out")
    fhir = out / "fhir"
    fhir.mkdir(parents=True, exist_ok=True)
    for source in sorted(cohort.glob("*.ndjson*")):
        shutil.copyfile(source, fhir / source.name)
    file.write_text(SETTINGS, encoding="utf-8")
    return load_settings(file)
