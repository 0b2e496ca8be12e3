"""`periop run`: a complete run, now."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from functools import partial

import click

from schedules.cli.publish import release_json, release_text
from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode


@click.command()
@click.option("--full", is_flag=True, help="Fetch everything, not only what has changed.")
@click.option("--accept-loss", is_flag=True, help="Believe once that what is missing was deleted.")
@click.option("--retry", is_flag=True, help="Try a run that failed again, for as long as [schedule] says.")
@as_json
@pass_session
def run(session: Session, full: bool, accept_loss: bool, retry: bool, json_wanted: bool) -> ExitCode:
    """Sync, map, analyze and publish."""
    from schedules.run.delivery import deliver
    from schedules.run.nightly import Outcome, run_nightly
    from schedules.run.notices import telling
    from schedules.run.retry import retried

    settings = session.settings()
    study, pipeline = session.study(settings.study), session.pipeline(settings.disclosure.note)
    send = partial(deliver, environ=session.environ)

    def attempt() -> Outcome:
        with telling(settings, session.now, send), session.progress() as progress:
            now = session.now
            return run_nightly(settings, study, pipeline, progress, now, full=full, accept_loss=accept_loss)

    retry_until = timedelta(hours=settings.schedule.retry_until if retry else 0)
    outcome = retried(attempt, settings.ledger_file, retry_until, session.now, session.sleep)
    # The release is on disk by now: nothing that goes wrong while it is printed can undo it.
    released, published = outcome.released, outcome.published
    if json_wanted:
        found = {
            "exit_code": outcome.exit_code,
            "sites": [report.as_json() for report in outcome.sites],
            "map": dataclasses.asdict(outcome.mapped),
        }
        session.print_json(found | release_json(released, published))
    else:
        from schedules.cli.tables.results import results
        from schedules.release.published import agreements

        session.print_out(results(released, study, agreements(released, study, settings.study)))
        session.print_out(release_text(published))
    return outcome.exit_code
