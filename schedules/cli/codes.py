"""`periop codes`: which codes and texts were seen and not understood, inside the hospital."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from mappers.codes.report import Share, UnknownCode

NOTICE = "For the inside of the hospital only: displays and texts are as received, and may hold what a person wrote."


@click.command()
@click.option("--site", "sites", multiple=True, metavar="SITE", help="Only this site; may be repeated.")
@click.option("--all", "every", is_flag=True, help="Print all rows, not only the first 40 of each table.")
@click.option("--write", type=click.Path(path_type=Path, file_okay=False), help="Write stubs to fill in to a folder.")
@as_json
@pass_session
def codes(session: Session, sites: tuple[str, ...], every: bool, write: Path | None, json_wanted: bool) -> ExitCode:
    """List codes and texts that were seen and not understood, and what share of each element is understood."""
    from mappers.codes.stubs import stubs, write_stubs
    from schedules.config.settings import check_sites
    from schedules.run.inside import unknown_codes

    settings = session.settings()
    study = session.study(settings.study)
    names = check_sites(settings, sites, session.config)
    with session.progress() as progress:
        found = unknown_codes(settings, study, session.environ, progress.step)
    unknown = [code for code in found.unknown if code.site in names]
    shares = [share for share in found.shares if share.site in names]
    content, without = stubs(unknown) if write is not None else ({}, 0)
    try:
        written = [] if write is None else write_stubs(write, content)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename}: is there already; name another folder, or delete it first") from None
    # One list in JSON, for programs that sort it as they need.
    if json_wanted:
        session.print_json(
            {
                "notice": NOTICE,
                "codes": [code_json(code) for code in unknown],
                "elements": [share_json(share) for share in shares],
                "written": [str(path) for path in written],
            }
        )
        return ExitCode.OK
    from schedules.cli.tables.codes import code_tables

    session.print_out(NOTICE, code_tables(unknown, shares, None if every else 40))
    for path in written:
        session.print_out(f"Wrote {path}")
    if written and without:
        session.print_out(f"{without} codes are in no stub: they resemble nothing, and several files could take them.")
    return ExitCode.OK


def code_json(code: UnknownCode) -> dict[str, Any]:
    """Return a code as plain data: `display` of a code, `text` where there is none."""
    resembles = code.resembles
    return {
        "site": code.site,
        "element": code.element,
        "system": code.system,
        "code": code.code,
        "display": code.text if code.code is not None else None,
        "text": code.text if code.code is None else None,
        "answers": code.question,
        "resources": code.resources,
        "patients": code.patients,
        "screened": code.screened,
        "resembles": resembles
        and {
            "name": resembles.concept.name,
            "system": resembles.concept.system,
            "code": resembles.concept.code,
            "display": resembles.concept.display,
            "target": resembles.concept.target,
            "similarity": resembles.similarity,
        },
    }


def share_json(share: Share) -> dict[str, Any]:
    """Return the share of one element as plain data."""
    return {
        "site": share.site,
        "element": share.element,
        "resources": share.resources,
        "understood": share.understood,
    }
