"""`periop forget`: erase patients from the data folder, for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedules.cli.session import Session, as_json, existing_file, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from schedules.run.forget import Erasure

NOTHING_ERASED = "Nothing was erased (--dry-run)."


@click.command()
@click.argument("file", type=existing_file)
@click.option("--system", metavar="URI", help="FILE has identifiers of this system, not ids of Patient resources.")
@click.option("--site", help="The site of the ids. Identifiers without it: of all sites.")
@click.option("--dry-run", is_flag=True, help="Say how many patients FILE names, and erase nothing.")
@as_json
@pass_session
def forget(
    session: Session, file: Path, system: str | None, site: str | None, dry_run: bool, json_wanted: bool
) -> ExitCode:
    """Erase the patients in FILE, one a line, from all data, and keep them out of every later sync."""
    from schedules.config.settings import check_sites
    from schedules.run.forget import Erasure, matching, read_request
    from schedules.run.forget import forget as erase
    from schedules.run.nightly import recorded_run

    settings = session.settings()
    if site is not None:
        check_sites(settings, (site,), session.config)
    request = read_request(file, system, site, settings.site_names)
    kind = "forget --dry-run" if dry_run else "forget"
    with recorded_run(settings, kind, session.now) as run:
        if dry_run:
            found, records = matching(settings, request)
            erasure = Erasure(len(request.values), found, len(records))
        else:
            erasure = erase(settings, session.environ, request)
        # The trace in the ledger: when, and how much, but not who.
        run.detail["forget"] = {**erasure.as_json(), "user": session.user()}
    if json_wanted:
        session.print_json(erasure.as_json() | {"dry_run": dry_run})
    else:
        session.print_out(*_sentences(erasure, dry_run))
    return ExitCode.OK


def _sentences(erasure: Erasure, dry_run: bool) -> list[str]:
    found = f"{erasure.found} of {erasure.asked} in the file are in the lake"
    if dry_run:
        return [f"{found}, with {erasure.records} records of Patient.", NOTHING_ERASED]
    versions = ", ".join(f"{kind} {count}" for kind, count in sorted(erasure.versions.items())) or "none"
    erased = f"Erased: versions of resources: {versions}; {erasure.quarantined} entries of the quarantine"
    rows = f"{erasure.behind_releases} rows of the patients behind past releases"
    return [
        f"{found}; all {erasure.asked} are kept out of later syncs.",
        f"{erased}; {erasure.files} data files; {rows}. {erasure.audited} lines of the audit log no longer name them.",
        "View tables and cohort tables are deleted: `periop run` (or `periop map`) makes them without these patients.",
        "Not erased: releases, which hold figures only; backups, exports and the source itself.",
    ]
