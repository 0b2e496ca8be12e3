"""`periop serve`: the nightly run as a service."""

from __future__ import annotations

import logging
import os
import sys
import threading
from datetime import timedelta
from functools import partial
from zoneinfo import ZoneInfo

import click

from schedules.cli.session import Session, pass_session
from schedules.errors import ExitCode

log = logging.getLogger(__name__)


@click.command()
@pass_session
def serve(session: Session) -> ExitCode:
    """Keep running, and start a run every night at the time set in periop.toml."""
    from schedules.cli.progress import stoppable
    from schedules.config.cron import CronSchedule
    from schedules.installation import ProgramWatch, program_state, site_folder
    from schedules.run.delivery import deliver
    from schedules.run.nightly import recorded_run, run_nightly
    from schedules.run.notices import tell_or_log, telling
    from schedules.run.readiness import problems
    from schedules.service import NightlyJob
    from schedules.service import serve as serve_until_signal

    # First of all: what is imported from here on is of the program that is there now.
    program = ProgramWatch(partial(program_state, site_folder()))
    settings = session.settings(logging.INFO)
    study, pipeline = session.study(settings.study), session.pipeline(settings.disclosure.note)
    stop = threading.Event()  # set by the signal handler, looked at by the run at each page and step

    send = partial(deliver, environ=session.environ)

    def nightly_run() -> ExitCode:
        with telling(settings, session.now, send), session.progress() as progress:
            return run_nightly(settings, study, pipeline, stoppable(progress, stop), session.now).exit_code

    # Records the first start of the service: only a slot after it can be missed.
    with recorded_run(settings, "serve", session.now):
        pass
    # It serves all the same: other sites may work, and what is missing may be there by night.
    for problem in problems(settings, session.environ):
        log.error("a run will miss this: %s", problem)
    schedule = CronSchedule(settings.schedule.nightly, ZoneInfo(settings.schedule.timezone))
    retry_until = timedelta(hours=settings.schedule.retry_until)
    job = NightlyJob(schedule, settings.ledger_file, session.now, nightly_run, retry_until, program)
    job.tell_if_killed()
    return serve_until_signal(job, stop, _exit_now, lambda: tell_or_log(settings, session.now(), send))


def _exit_now(code: int) -> None:
    # Not sys.exit: that would wait for the thread of the run, which has just been found not to stop.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
