"""`periop map`: build the cohort tables from the lake."""

from __future__ import annotations

import dataclasses

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode


@click.command(name="map")
@click.option("--full", is_flag=True, help="Build all views and cohort tables from scratch, not only what changed.")
@as_json
@pass_session
def map_(session: Session, full: bool, json_wanted: bool) -> ExitCode:
    """Build the cohort tables from the lake."""
    from schedules.run.nightly import map_lake, recorded_run

    settings = session.settings()
    study = session.study(settings.study)
    # Ends with 0 where a site is missing too: the tables are those of what the lake holds, and the release tells.
    with session.progress() as progress, recorded_run(settings, "map", session.now) as run:
        mapped = map_lake(settings, study, session.pipeline(), progress, run, full=full)
    if json_wanted:
        session.print_json(dataclasses.asdict(mapped))
    else:
        session.print_out(
            f"{mapped.enrolled} enrolled of {mapped.patients} patients with the condition, "
            f"{mapped.derived} of them derived again; "
            f"{mapped.quality_rows} entries in the quality list.\nTables: {settings.cohort_dir}"
        )
    return ExitCode.OK
