"""`periop notify`: tell those who are to be told what has changed, as each nightly run does."""

from __future__ import annotations

from functools import partial

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ConfigError, ExitCode, PeriopError


@click.command()
@click.option("--test", is_flag=True, help="Send a message to each target, to see that it arrives.")
@as_json
@pass_session
def notify(session: Session, test: bool, json_wanted: bool) -> ExitCode:
    """Tell by mail or webhook what has changed since the last message: for a timer, beside what `run` tells."""
    from schedules.run.delivery import deliver
    from schedules.run.notices import Notice, tell

    settings = session.settings()
    if not settings.notify:
        raise ConfigError(f"{session.config}: has no [[notify]]; say there who is to be told")
    results: dict[str, str | None] = {}
    if test:
        notice = Notice(settings.study, session.now(), ["a test: this message was asked for, nothing is wrong"], [], [])
        for target in settings.notify:
            try:
                deliver(target, notice, session.environ)
                results[target.where] = None
            except PeriopError as failure:
                results[target.where] = str(failure)
    else:
        results = tell(settings, session.now(), partial(deliver, environ=session.environ))
    code = ExitCode.ERROR if any(results.values()) else ExitCode.OK
    if json_wanted:
        session.print_json({"told": results, "exit_code": code})
        return code
    for where, error in results.items():
        if error is None:
            session.print_out(f"{where}: told")
        else:
            session.print_err(f"periop: {error}")
    if not results:
        session.print_out("Nothing has changed since the last message.")
    return code
