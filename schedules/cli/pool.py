"""`periop pool`: one result from the releases of several sites, without a patient's data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedules.cli.session import Session, as_json, existing_file, pass_session
from schedules.errors import ExitCode

if TYPE_CHECKING:
    from analytics.pooling.pool import Pooled


@click.command()
@click.argument("files", metavar="RESULTS…", nargs=-1, required=True, type=existing_file)
@click.option("--study", help="A shipped study, or the path of a study file; by default the one the files name.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write pool.json and report.html there.")
@as_json
@pass_session
def pool(session: Session, files: tuple[Path, ...], study: str | None, out: Path | None, json_wanted: bool) -> ExitCode:
    """Pool the results.json of several sites."""
    from analytics.pooling.pool import pool as pool_results
    from analytics.pooling.writing import pooled_json
    from schedules.release.differences import read_results

    session.log()
    # The names as they were given: a refusal names the file that a person must replace.
    documents = [(str(file), read_results(file)) for file in files]
    loaded = session.study(study or str(documents[0][1].get("study")))
    pooled = pool_results(documents, loaded)
    if out is not None:
        _write(pooled, out)
    if json_wanted:
        session.print_json(pooled_json(pooled))
    else:
        from schedules.cli.tables.releases import pooled_tables

        session.print_out(pooled_tables(pooled))
        if out is not None:
            session.print_out(f"Report: {out / 'report.html'}")
    return ExitCode.OK


def _write(pooled: Pooled, folder: Path) -> None:
    import orjson

    from analytics.pooling.page import render_pool
    from analytics.pooling.writing import pooled_json
    from connectors.lake.files import write_atomically

    # Made before the folder: where one of them cannot be made, nothing is left behind.
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    made = {"pool.json": orjson.dumps(pooled_json(pooled), option=options), "report.html": render_pool(pooled).encode()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        # What nobody suppressed is patient data; what was released may be read by whom the folder is for.
        write_atomically(folder / name, content, private=not pooled.protected)
