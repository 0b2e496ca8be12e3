"""`periop status`: release, sites, runs and quality."""

from __future__ import annotations

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode


@click.command()
@as_json
@pass_session
def status(session: Session, json_wanted: bool) -> ExitCode:
    """Show release, sites, runs and quality; exit code 4 if a good run is overdue, 3 if a site is not up to date."""
    from schedules.cli.tables.status import status_tables
    from schedules.run.status import status as read_status

    # The exit code is that of a monitor: 4 also with --json, for scripts that look at nothing else.
    found, code = read_status(session.settings(), session.now())
    if json_wanted:
        session.print_json(found | {"exit_code": code})
    else:
        session.print_out(status_tables(found))
    return code
