"""`periop completion`: what a shell needs to complete commands and options by the tabulator key."""

from __future__ import annotations

from collections.abc import Mapping

import click

from schedules.cli.session import Session, pass_session
from schedules.errors import ExitCode

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PERIOP_COMPLETE"  # by which the shell's function asks for what may come next


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@pass_session
def completion(session: Session, shell: str) -> ExitCode:
    """Print the script that completes commands and options in bash, zsh or fish."""
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has one for each of SHELLS
    # `source` asks the installed bash for its version and warns, also where the script is for another machine.
    complete = kind(root, {}, "periop", VARIABLE)
    session.print_out(complete.source_template % complete.source_vars())
    return ExitCode.OK


def answer(root: click.Command, environ: Mapping[str, str]) -> int | None:
    """Answer the shell's function where that has called the program; return None where it was called by a person."""
    asked = environ.get(VARIABLE)
    if not asked:
        return None
    from click.shell_completion import shell_complete

    return shell_complete(root, {}, "periop", VARIABLE, asked)
