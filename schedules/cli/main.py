"""The command `periop`: stdout is the result, stderr is progress and logs, the exit code is a contract.

Each command has a file in this package, with its options and its code. Those files import pydantic, DuckDB, rich and
the like inside their functions only, so that `periop --help`, which imports all of them, answers within 0.3 s.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from schedules.cli.analyze import analyze
from schedules.cli.check import check
from schedules.cli.codes import codes
from schedules.cli.completion import answer, completion
from schedules.cli.demo import demo
from schedules.cli.diff import diff
from schedules.cli.explain import explain
from schedules.cli.export import export
from schedules.cli.forget import forget
from schedules.cli.init import init
from schedules.cli.keys import keys
from schedules.cli.maintain import maintain
from schedules.cli.map import map_
from schedules.cli.notify import notify
from schedules.cli.pool import pool
from schedules.cli.publish import publish
from schedules.cli.pull import pull
from schedules.cli.run import run
from schedules.cli.sandbox import sandbox
from schedules.cli.serve import serve
from schedules.cli.session import Session
from schedules.cli.status import status
from schedules.cli.sync import sync
from schedules.cli.terminology import terminology
from schedules.cli.verify import verify
from schedules.cli.view import view
from schedules.cli.withdraw import withdraw

# Objects made until Python looks for reference cycles. With the default of 700 it looks again and again while modules
# are imported, a tenth of the time of `periop view run`.
GC_THRESHOLD = 50_000


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="COMMAND [ARGS]...",
    invoke_without_command=True,  # for --version
    no_args_is_help=True,
)
@click.option("--version", is_flag=True, help="Print the version and exit.")
@click.option("--json", "json_wanted", is_flag=True, help="With --version: as JSON, with Python and system.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("periop.toml"),
    show_default=True,
    help="The configuration file.",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    help="A file with NAME=value lines: the secrets that the configuration names, readable by its owner only.",
)
@click.option(
    "-v",
    "--verbose",
    count=True,
    help="Log stages and each request on stderr; -vv: headers too (never patient data, never secrets).",
)
@click.pass_context
def cli(
    context: click.Context, version: bool, json_wanted: bool, config: Path, env_file: Path | None, verbose: int
) -> None:
    """Perioperative oncology endpoints from FHIR servers, every night.

    \b
    Begin with:  periop demo     a complete run on invented patients
                 periop init     write periop.toml, then: periop run
    \b
    Exit codes:  0 ok · 1 error · 2 usage or config · 3 partial (a site is missing) · 4 stale
                 5 suppressed by disclosure control · 6 authentication · 7 updated (serve)
                 75 another run is in progress · 130 interrupted
    """
    from schedules.installation import installed_version, refuse_foreign_packages, site_folder

    session: Session = context.obj
    if version:
        print_version(session, installed_version(), json_wanted)
        context.exit()
    if json_wanted:
        raise click.UsageError("--json before the command goes with --version; else give it after the command")
    if context.invoked_subcommand is None:
        raise click.UsageError("Missing command.", context)
    refuse_foreign_packages(site_folder())
    session.config, session.verbose = config, verbose
    if env_file is not None:
        from schedules.config.env_file import read_env_file

        # The file wins, as with systemd: what is left in a shell from yesterday is not stronger than what is named.
        session.environ = {**session.environ, **read_env_file(env_file)}


def print_version(session: Session, version: str, json_wanted: bool) -> None:
    """Print the version, for a person or for a program."""
    if not json_wanted:
        session.print_out(f"periop, version {version}")
        return
    import platform

    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    session.print_json({"version": version, "python": python, "system": system})


# In the order in which they are learned; `--help` sorts them by name.
COMMANDS = (
    demo,
    init,
    sync,
    check,
    codes,
    map_,
    explain,
    export,
    analyze,
    publish,
    diff,
    withdraw,
    pool,
    run,
    serve,
    status,
    notify,
    verify,
    maintain,
    forget,
    keys,
    sandbox,
    pull,
    view,
    terminology,
    completion,
)
for command in COMMANDS:
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run `periop` with `arguments` (by default those of the process) and return the exit code."""
    if session is None:
        gc.set_threshold(GC_THRESHOLD)
        session = Session.of_process()
        session.usual_umask = os.umask(0o077)  # nearly everything that periop writes is about patients
    if arguments is None and (answered := answer(cli, session.environ)) is not None:
        return answered
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Not cli.main(): that prints errors and ends the process by itself.
        with cli.make_context("periop", given, obj=session) as context:
            code = int(cli.invoke(context))
    except click.exceptions.Exit as end:  # --help and --version
        code = end.exit_code
    except click.UsageError as error:
        error.show(session.stderr)
        code = error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        code = session.report_error(error)
    session.flush()
    return code
