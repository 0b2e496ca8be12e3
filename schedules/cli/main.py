"""The command `periop`: stdout is the result, stderr is progress and logs, the exit code is a contract.

What a command needs is imported inside it, so that `periop --help` answers at once.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schedules.cli.session import Session

if TYPE_CHECKING:
    from connectors.auth.keys import Algorithm
    from mappers.engines.start import EngineName
    from schedules.errors import Exit

Command = Callable[..., Any]
GARBAGE = 50_000  # objects made until Python looks for cycles: with 700 it looks through all again and again on import

as_json = click.option("--json", "json_wanted", is_flag=True, help="Print the result as JSON.")
pass_session = click.make_pass_decorator(Session)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="periop-fhir", prog_name="periop")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("periop.toml"),
    show_default=True,
    help="The configuration file.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr (never patient data).")
@pass_session
def cli(session: Session, config: Path, verbose: bool) -> None:
    """Perioperative oncology endpoints from FHIR servers, every night.

    \b
    Begin with:  periop demo     the whole way on invented patients
                 periop init     write periop.toml, then: periop run
    \b
    Exit codes:  0 ok · 1 error · 2 usage or config · 3 partial (a site is missing) · 4 stale
                 5 withheld by disclosure control · 6 authentication · 75 another run is on · 130 interrupted
    """
    session.begin(config, verbose)


@cli.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("periop-demo"),
    show_default=True,
    help="Where lake, tables and report go.",
)
@pass_session
def demo(session: Session, out: Path) -> Exit:
    """The whole way on the built-in cohort, compared with the published figures."""
    from schedules.cli.commands import run_demo

    return run_demo(session, out)


@cli.command()
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@pass_session
def init(session: Session, force: bool) -> Exit:
    """Write a commented periop.toml to start from."""
    from schedules.cli.commands import write_starter

    return write_starter(session, force)


@cli.command()
@click.argument("sites", nargs=-1, metavar="[SITE]...")
@click.option("--full", is_flag=True, help="Ask for everything, not only for what has changed.")
@click.option("--dry-run", is_flag=True, help="Only say what would be asked of whom; store nothing.")
@as_json
@pass_session
def sync(session: Session, sites: tuple[str, ...], full: bool, dry_run: bool, json_wanted: bool) -> Exit:
    """Bring the lake up to date with the sites (all of them, or those named)."""
    from schedules.cli.commands import run_sync

    return run_sync(session, sites, full, json_wanted, dry_run=dry_run)


@cli.command()
@click.argument("sites", nargs=-1, metavar="[SITE]...")
@click.option("--url", help="A FHIR server that is in no periop.toml, without credentials: a public sandbox.")
@as_json
@pass_session
def check(session: Session, sites: tuple[str, ...], url: str | None, json_wanted: bool) -> Exit:
    """See what the sites can do, which path a sync takes and why, and what to ask their administrators for."""
    from schedules.cli.check import run_check

    return run_check(session, sites, url, json_wanted)


@cli.command(name="map")
@click.option("--full", is_flag=True, help="Build all views and cohort rows anew, not only what changed.")
@as_json
@pass_session
def map_(session: Session, full: bool, json_wanted: bool) -> Exit:
    """Build the cohort tables from the lake."""
    from schedules.cli.commands import run_map

    return run_map(session, full, json_wanted)


@cli.command()
@click.option(
    "--cohort",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Tables of your own: adsl, adrs, adtte, adae as Parquet or CSV; needs no periop.toml.",
)
@click.option("--study", help="A shipped study, or the path of a study file.")
@click.option("--min-cell", type=click.IntRange(0, 1000), help="Smallest count released (with --cohort; else 11).")
@as_json
@pass_session
def analyze(session: Session, cohort: Path | None, study: str | None, min_cell: int | None, json_wanted: bool) -> Exit:
    """Show the results, after disclosure control; files nothing."""
    from schedules.cli.commands import run_analyze

    return run_analyze(session, cohort, study, min_cell, json_wanted)


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only say which release it would be.")
@as_json
@pass_session
def publish(session: Session, dry_run: bool, json_wanted: bool) -> Exit:
    """File the results of the cohort tables as a release."""
    from schedules.cli.commands import run_publish

    return run_publish(session, dry_run, json_wanted)


@cli.command()
@click.option("--full", is_flag=True, help="Ask for everything, not only for what has changed.")
@as_json
@pass_session
def run(session: Session, full: bool, json_wanted: bool) -> Exit:
    """Sync, map, analyze and publish."""
    from schedules.cli.commands import run_all

    return run_all(session, full, json_wanted)


@cli.command()
@pass_session
def serve(session: Session) -> Exit:
    """Stay up and run every night at the time that periop.toml says."""
    from schedules.cli.commands import run_service

    return run_service(session)


@cli.command()
@as_json
@pass_session
def status(session: Session, json_wanted: bool) -> Exit:
    """How things stand: release, sites, runs, quality; exit code 4 when the last good run is older than
    26 h."""
    from schedules.cli.commands import show_status

    return show_status(session, json_wanted)


@cli.group()
def keys() -> None:
    """The key pair by which periop gets tokens from a server (SMART Backend Services)."""


@keys.command(name="new")
@click.option(
    "--alg",
    "algorithm",
    type=click.Choice(["ES384", "RS384"]),
    default="ES384",
    show_default=True,
    help="What the server accepts: EC P-384 or RSA of 3072 bits.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("periop-key.json"),
    show_default=True,
    help="Where the private key goes.",
)
@click.option("--force", is_flag=True, help="Replace a key that is there: it will sign no more.")
@pass_session
def keys_new(session: Session, algorithm: Algorithm, out: Path, force: bool) -> Exit:
    """Make a key pair and print its public half, a JWKS, to hand to the server's administrator."""
    from schedules.cli.keys import make_keys

    return make_keys(session, algorithm, out, force)


@keys.command(name="show")
@click.argument("file", type=existing_file, metavar="FILE")
@pass_session
def keys_show(session: Session, file: Path) -> Exit:
    """Print the public half of a private key again, as a JWKS."""
    from schedules.cli.keys import show_keys

    return show_keys(session, file)


where_option = click.argument("where", metavar="URL|SITE")
server_option = click.option("--server", metavar="HOST", help="Repeat the host: yes, it is a sandbox.")


@cli.group()
def sandbox() -> None:
    """Invented patients on a FHIR server of your own, and off again."""


@sandbox.command(name="load")
@where_option
@server_option
@as_json
@pass_session
def sandbox_load(session: Session, where: str, server: str | None, json_wanted: bool) -> Exit:
    """Put the built-in cohort on the server, tagged; a second time changes nothing."""
    from schedules.cli.sandbox import run_load

    return run_load(session, where, server, json_wanted)


@sandbox.command(name="clear")
@where_option
@server_option
@as_json
@pass_session
def sandbox_clear(session: Session, where: str, server: str | None, json_wanted: bool) -> Exit:
    """Take what `load` put there off again, and nothing else."""
    from schedules.cli.sandbox import run_clear

    return run_clear(session, where, server, json_wanted)


@cli.group()
def view() -> None:
    """SQL on FHIR v2 views on files of your own; needs no periop.toml."""


on_engine = click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    default="duckdb",
    show_default=True,
    help="What runs the view; Spark is the optional part periop-fhir[spark] and needs Java 17.",
)


@view.command(name="run")
@click.argument("definition", type=existing_file, metavar="VIEW.json")
@click.argument("files", type=existing_file, metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "ndjson", "parquet"]),
    help="How to give the rows; without it as a table, with --out as Parquet.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead of stdout.")
@on_engine
@pass_session
def view_run(
    session: Session, definition: Path, files: tuple[Path, ...], form: str | None, out: Path | None, engine: EngineName
) -> Exit:
    """Show the rows of a view: FILE is NDJSON (also .gz), or .json with one resource or a Bundle."""
    from schedules.cli.views import run_view

    return run_view(session, definition, files, form, out, engine)


@view.command(name="show")
@click.argument("definition", type=existing_file, metavar="VIEW.json")
@on_engine
@pass_session
def view_show(session: Session, definition: Path, engine: EngineName) -> Exit:
    """Print the SQL of a view, over a table `resources` with the text column `resource`."""
    from schedules.cli.views import show_view

    return show_view(session, definition, engine)


@view.command(name="conformance")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("test_report.json"),
    show_default=True,
    help="Where the HL7 test report goes.",
)
@on_engine
@pass_session
def view_conformance(session: Session, folder: Path, report: Path, engine: EngineName) -> Exit:
    """Run the HL7 test files of DIR and report them; exit code 1 unless every case passes."""
    from schedules.cli.views import run_conformance

    return run_conformance(session, folder, report, engine)


def main(arguments: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run `periop` with `arguments` (those of the process if none) and return the exit code."""
    if session is None:
        gc.set_threshold(GARBAGE)
        session = Session.of_the_process()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with cli.make_context("periop", given, obj=session) as context:
            code = int(cli.invoke(context))
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.UsageError as error:
        error.show(session.stderr)
        code = error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        code = session.report(error)
    return session.end(code)
