"""`periop publish`: write the results of the cohort tables as a release."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from schedules.release.following import Analysis
    from schedules.release.policy import Waiting
    from schedules.release.publish import PublishReport


@click.command()
@click.option("--dry-run", is_flag=True, help="Print what would be released and what withheld, and write no release.")
@click.option("--now", "release_now", is_flag=True, help="Do not wait for a declared date.")
@click.option("--accept-fall", is_flag=True, help="Believe once that so many enrolled patients are gone.")
@click.option("--figures-only", is_flag=True, help="Do without the patients behind past releases where they are lost.")
@as_json
@pass_session
def publish(
    session: Session, dry_run: bool, release_now: bool, accept_fall: bool, figures_only: bool, json_wanted: bool
) -> ExitCode:
    """Write the results of the cohort tables as a release."""
    from schedules.release.policy import Asked
    from schedules.run.nightly import analyze_cohort, publish_release, recorded_run

    settings = session.settings()
    study, pipeline = session.study(settings.study), session.pipeline(settings.disclosure.note)
    # A dry run is in the ledger too, under its own name: it takes the lock and reads the tables.
    kind = "publish --dry-run" if dry_run else "publish"
    with session.progress() as progress, recorded_run(settings, kind, session.now) as run:
        analysis = analyze_cohort(settings, study, pipeline, progress, run)
        asked = Asked(release_now, accept_fall, figures_only)
        released, published = publish_release(
            settings, study, pipeline, progress, run, analysis, asked=asked, dry_run=dry_run
        )
    if json_wanted:
        # The same document as that of `periop run`, without the stages that were not run.
        nothing_else = {"exit_code": run.exit_code, "sites": [], "map": None}
        found = nothing_else | release_json(released, published) | {"dry_run": dry_run}
        session.print_json(found | (_withheld_json(analysis, released, published) if dry_run else {}))
    else:
        session.print_out(release_text(published, dry_run))
        if dry_run:
            _print_withheld(session, analysis, released, published)
    return run.exit_code


# The only place that prints true counts: for a person in the hospital who decides about a release.
def _withheld_json(analysis: Analysis, released: Released, published: PublishReport | Waiting | None) -> dict[str, Any]:
    from schedules.release.internal import NOTICE
    from schedules.release.withheld import withheld_cells

    cells = [dataclasses.asdict(cell) for cell in withheld_cells(analysis.internal, released, analysis.released)]
    moves = [dataclasses.asdict(move) for move in getattr(published, "moves", ())]
    return {"notice": NOTICE, "withheld_cells": cells, "moved": moves}


def _print_withheld(
    session: Session, analysis: Analysis, released: Released, published: PublishReport | Waiting | None
) -> None:
    from schedules.cli.tables.releases import withheld
    from schedules.release.internal import NOTICE
    from schedules.release.withheld import withheld_cells

    cells, moves = withheld_cells(analysis.internal, released, analysis.released), getattr(published, "moves", ())
    if cells or moves:
        session.print_out(withheld(cells, moves, NOTICE))
    else:
        session.print_out("Nothing is withheld or coarsened.")


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
        stays = f"Release {published.current} is still current." if published.current else "No release is current."
        return f"{published.reason}\n{stays}"
    if published.unchanged:
        return f"Nothing changed: release {published.release} is still current.\nReport: {published.report}"
    if dry_run:
        return f"This would be release {published.release}; nothing was written."
    return f"Release {published.release} is written.\nReport: {published.report}"
