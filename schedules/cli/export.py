"""`periop export`: the cohort tables as files for statistical programs. Inside the hospital."""

from __future__ import annotations

from pathlib import Path

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode

NOTICE = "For the inside of the hospital only: one row a patient, under pseudonyms. This use is in the audit log."
FORMATS = ("parquet", "csv", "xpt")  # as `mappers.adam.export.FORMATS`, which is not imported for --help


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="Write this format only; may be repeated. Default: all.",
)
@click.option("--cut", metavar="ID", help="The tables of a further data cutoff of the study, by its id.")
@as_json
@pass_session
def export(session: Session, folder: Path, formats: tuple[str, ...], cut: str | None, json_wanted: bool) -> ExitCode:
    """Write ADSL, ADRS, ADTTE and ADAE to FOLDER as Parquet, CSV and SAS transport files, with define.json."""
    from mappers.adam.export import DEFINE
    from mappers.adam.export import FORMATS as ALL
    from schedules.run.export import export_cohort

    settings = session.settings()
    study = session.study(settings.study)
    chosen = tuple(each for each in ALL if not formats or each in formats)
    rows = export_cohort(settings, study, folder, chosen, cut, session.now(), session.user())
    if json_wanted:
        session.print_json({"notice": NOTICE, "folder": str(folder), "formats": chosen, "records": dict(rows)})
        return ExitCode.OK
    counts = ", ".join(f"{name} {count}" for name, count in rows.items())
    session.print_out(NOTICE, f"Rows: {counts}.", f"Wrote {', '.join(chosen)} and {DEFINE} to {folder}")
    return ExitCode.OK
