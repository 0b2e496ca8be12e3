"""`periop withdraw`: take a release back."""

from __future__ import annotations

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode


@click.command()
@click.argument("release", type=click.IntRange(min=1))
@as_json
@pass_session
def withdraw(session: Session, release: int, json_wanted: bool) -> ExitCode:
    """Take a release back from the releases folder and the targets; the release ledger remembers it."""
    from schedules.release.release_ledger import ReleaseLedger
    from schedules.release.withdraw import withdraw as take_back
    from schedules.run.nightly import recorded_run

    settings = session.settings()
    with recorded_run(settings, "withdraw", session.now) as run:
        run.detail["withdrawn"] = release
        ledger = ReleaseLedger(settings.release_ledger_dir)
        folders = (settings.releases_dir, settings.withdrawn_dir)
        done = take_back(release, *folders, settings.target_dirs, ledger, run.started)
        # Taken back in the hospital, and still to be read elsewhere: somebody must see to that.
        if done.left:
            run.exit_code = ExitCode.ERROR
    if json_wanted:
        left = [str(each) for each in done.left]
        session.print_json({"withdrawn": release, "current": done.current, "left": left, "exit_code": run.exit_code})
    else:
        now = f"release {done.current} is current" if done.current else "no release is current"
        session.print_out(f"Release {release} is withdrawn, and {now}.")
        session.print_out("Nobody can unread it: later releases are still compared with it.")
    for target in done.left:
        session.print_err(
            f"periop: {target}: release {release} could not be deleted there, or it is another one; delete it by hand"
        )
    return run.exit_code
