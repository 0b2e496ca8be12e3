"""`periop diff`: compare two releases figure by figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session, as_json, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from schedules.release.differences import Difference


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@as_json
@pass_session
def diff(session: Session, a: str, b: str, json_wanted: bool) -> ExitCode:
    """Compare two releases, each a number or the path of a results.json."""
    from schedules.release.differences import context_differences, differences

    session.log()
    before, after = _results(session, a), _results(session, b)
    around, found = context_differences(before, after), differences(before, after)
    if json_wanted:
        context = {name: {"a": pair[0], "b": pair[1]} for name, pair in around.items()}
        session.print_json({"a": a, "b": b, "context": context, "figures": [_json(each) for each in found]})
        return ExitCode.OK
    from schedules.cli.tables.releases import release_differences

    session.print_out(*(f"{name}: {pair[0]} → {pair[1]}" for name, pair in around.items()))
    session.print_out(release_differences(found, a, b) if found else "No figure differs.")
    return ExitCode.OK


def _results(session: Session, named: str) -> Mapping[str, Any]:
    from schedules.release.differences import read_release, read_results
    from schedules.release.release_ledger import ReleaseLedger

    # A file that is named like a number can be given as ./1.
    if not named.isdecimal():
        file = Path(named)
        return read_results(file / "results.json" if file.is_dir() else file)
    settings = session.settings()
    return read_release(int(named), settings.releases_dir, ReleaseLedger(settings.release_ledger_dir))


def _json(found: Difference) -> dict[str, Any]:
    named = {"section": found.section, "id": found.id, "label": found.label, "statistic": found.statistic}
    return named | {"a": found.a, "b": found.b, "change": found.change}
