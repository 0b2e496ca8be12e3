"""`periop maintain`: keep the data folder small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from schedules.run.maintain import Maintenance

NOTHING_DONE = "Nothing was changed (--dry-run)."


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@as_json
@pass_session
def maintain(session: Session, dry_run: bool, json_wanted: bool) -> ExitCode:
    """Merge small files, and delete what is older than [retention] allows or was left by killed runs."""
    from schedules.run.nightly import maintain_data, recorded_run

    settings = session.settings()
    kind = "maintain --dry-run" if dry_run else "maintain"
    with session.progress() as progress, recorded_run(settings, kind, session.now) as run:
        done = maintain_data(settings, progress, run, dry_run=dry_run)
    if json_wanted:
        session.print_json(done.as_json() | {"dry_run": dry_run})
    else:
        session.print_out(*_sentences(done, dry_run))
    return ExitCode.OK


def _sentences(done: Maintenance, dry_run: bool) -> list[str]:
    superseded = ", ".join(f"{kind} {count}" for kind, count in done.superseded.items()) or "none"
    expired = ", ".join(f"{name} {count}" for name, count in done.expired.items()) or "nothing"
    gone = f"{done.unused} data files that no table names, {done.tables} tables of views that are not in use"
    lines = [
        f"Files of lake and view tables written anew: {done.merged}; logs cut short: {done.logs}.",
        f"Superseded versions deleted: {superseded}.",
        f"Deleted: {gone}, {done.leftovers} leftovers of killed runs.",
        f"Deleted by age: {expired}.",
    ]
    if dry_run:
        return [*lines, NOTHING_DONE]
    sizes = [f"{files} files, {size / 1e6:.1f} MB" for files, size in _before_and_after(done)]
    return [*lines, f"The data folder: {sizes[0]} before, {sizes[1]} now."]


def _before_and_after(done: Maintenance) -> tuple[tuple[int, int], tuple[int, int]]:
    return (done.files_before, done.bytes_before), (done.files_after, done.bytes_after)
