"""`periop publish`: write the results of the cohort tables as a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from schedules.release.publish import PublishReport


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the number of the release without writing it.")
@as_json
@pass_session
def publish(session: Session, dry_run: bool, json_wanted: bool) -> ExitCode:
    """Write the results of the cohort tables as a release."""
    from schedules.run.nightly import analyze_cohort, publish_release, recorded_run

    settings = session.settings()
    study, pipeline = session.study(settings.study), session.pipeline(settings.disclosure.note)
    # A dry run is in the ledger too, under its own name: it takes the lock and reads the tables.
    kind = "publish --dry-run" if dry_run else "publish"
    with session.progress() as progress, recorded_run(settings, kind, session.now) as run:
        released = analyze_cohort(settings, study, pipeline, progress, run)
        published = publish_release(settings, study, pipeline, progress, run, released, dry_run=dry_run)
    if json_wanted:
        # The same document as that of `periop run`, without the stages that were not run.
        nothing_else = {"exit_code": run.exit_code, "sites": [], "map": None}
        session.print_json(nothing_else | release_json(released, published) | {"dry_run": dry_run})
    else:
        session.print_out(release_text(published, dry_run))
    return run.exit_code


def release_json(released: Released, published: PublishReport | None) -> dict[str, Any]:
    """Return what `publish --json` and `run --json` print of the release."""
    return {
        "sites_missing": list(released.sites_missing),
        "sites_missing_note": released.provenance.note,
        "withheld": released.suppressed_entirely,
        "release": published.release if published else None,
        "path": str(published.path) if published else None,
        "unchanged": published.unchanged if published else None,
    }


def release_text(published: PublishReport | None, dry_run: bool = False) -> str:
    """Return a sentence about the release, and the path of its report."""
    if published is None:
        return "Disclosure control suppressed every result; no release was written."
    if published.unchanged:
        return f"Nothing changed: release {published.release} is still current.\nReport: {published.report}"
    if dry_run:
        return f"This would be release {published.release}; nothing was written."
    return f"Release {published.release} is written.\nReport: {published.report}"
