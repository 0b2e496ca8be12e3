"""`periop publish`: write the results of the cohort tables as a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from schedules.release.policy import Waiting
    from schedules.release.publish import PublishReport


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the number of the release without writing it.")
@click.option("--now", "release_now", is_flag=True, help="Do not wait for a declared date.")
@click.option("--accept-fall", is_flag=True, help="Believe once that so many enrolled patients are gone.")
@as_json
@pass_session
def publish(session: Session, dry_run: bool, release_now: bool, accept_fall: bool, json_wanted: bool) -> ExitCode:
    """Write the results of the cohort tables as a release."""
    from schedules.release.policy import Asked
    from schedules.run.nightly import analyze_cohort, publish_release, recorded_run

    settings = session.settings()
    study, pipeline = session.study(settings.study), session.pipeline(settings.disclosure.note)
    # A dry run is in the ledger too, under its own name: it takes the lock and reads the tables.
    kind = "publish --dry-run" if dry_run else "publish"
    with session.progress() as progress, recorded_run(settings, kind, session.now) as run:
        analysis = analyze_cohort(settings, study, pipeline, progress, run)
        asked = Asked(now=release_now, accept_fall=accept_fall)
        published = publish_release(settings, study, pipeline, progress, run, analysis, asked=asked, dry_run=dry_run)
    released = analysis.released
    if json_wanted:
        # The same document as that of `periop run`, without the stages that were not run.
        nothing_else = {"exit_code": run.exit_code, "sites": [], "map": None}
        session.print_json(nothing_else | release_json(released, published) | {"dry_run": dry_run})
    else:
        session.print_out(release_text(published, dry_run))
    return run.exit_code


def release_json(released: Released, published: PublishReport | Waiting | None) -> dict[str, Any]:
    """Return what `publish --json` and `run --json` print of the release; while it waits, of the one that stays."""
    from schedules.release.policy import Waiting

    number, path, unchanged, reason = None, None, None, None
    if isinstance(published, Waiting):
        number, path, unchanged, reason = published.current, published.path, True, published.reason
    elif published:
        number, path, unchanged = published.release, published.path, published.unchanged
    return {
        "sites_missing": list(released.sites_missing),
        "sites_missing_note": released.provenance.note,
        "withheld": released.suppressed_entirely,
        "waiting": reason,
        "release": number,
        "path": str(path) if path else None,
        "unchanged": unchanged,
    }


def release_text(published: PublishReport | Waiting | None, dry_run: bool = False) -> str:
    """Return a sentence about the release, and the path of its report."""
    from schedules.release.policy import Waiting

    if published is None:
        return "Disclosure control suppressed every result; no release was written."
    if isinstance(published, Waiting):
        stays = f"Release {published.current} is still current." if published.current else "There is no release yet."
        return f"{published.reason}\n{stays}"
    if published.unchanged:
        return f"Nothing changed: release {published.release} is still current.\nReport: {published.report}"
    if dry_run:
        return f"This would be release {published.release}; nothing was written."
    return f"Release {published.release} is written.\nReport: {published.report}"
