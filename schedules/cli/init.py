"""`periop init`: write a `periop.toml` to start from."""

from __future__ import annotations

import click

from schedules.cli.session import Session, pass_session
from schedules.errors import ConfigError, ExitCode


@click.command()
@click.option("--force", is_flag=True, help="Replace an existing file.")
@pass_session
def init(session: Session, force: bool) -> ExitCode:
    """Write a commented periop.toml to start from."""
    from schedules.config.settings import STARTER_FILE

    file = session.config
    try:
        # "x" refuses an existing file in one step, so none can come in between.
        with file.open("w" if force else "x", encoding="utf-8") as handle:
            handle.write(STARTER_FILE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"{file}: already exists; edit it, or replace it with `periop init --force`") from None
    except FileNotFoundError:
        raise ConfigError(f"{file.parent}: no such folder; make it first") from None
    session.print_out(
        f"Wrote {file}. Next:\n"
        f"  1. edit the [[sites]] in {file}: a folder of FHIR NDJSON, or the url of a FHIR server\n"
        "  2. periop run      sync, map, analyze and publish once\n"
        "  3. periop status   what was received, what was quarantined, and where the release is\n"
        "  4. periop serve    the same every night"
    )
    return ExitCode.OK
