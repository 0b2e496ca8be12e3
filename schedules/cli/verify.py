"""`periop verify`: look for damage in the lake."""

from __future__ import annotations

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode


@click.command()
@as_json
@pass_session
def verify(session: Session, json_wanted: bool) -> ExitCode:
    """Check every row of the lake against its digest, and name the files that are damaged."""
    from connectors.lake.table import Lake
    from connectors.lake.verify import refuse_damage
    from schedules.run.nightly import recorded_run, refuse_an_empty_lake

    settings = session.settings()
    refuse_an_empty_lake(settings)
    with session.progress() as progress, recorded_run(settings, "verify", session.now):
        progress.step("verifying the lake")
        files = refuse_damage(Lake(settings.lake_dir))
    if json_wanted:
        session.print_json({"files": files, "damaged": 0})
    else:
        session.print_out(f"All rows of {files} files of the lake are as they were stored.")
    return ExitCode.OK
