"""`periop keys`: the key pair of SMART Backend Services. stdout is the JWKS for the server's administrator."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedules.cli.session import Session, existing_file, pass_session
from schedules.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from connectors.auth.keys import Algorithm


@click.group()
def keys() -> None:
    """The key pair with which periop requests tokens from a server (SMART Backend Services)."""


@keys.command(name="new")
@click.option(
    "--alg",
    "algorithm",
    type=click.Choice(["ES384", "RS384"]),
    default="ES384",
    show_default=True,
    help="The algorithm that the server accepts: EC P-384 or RSA of 3072 bits.",
)
@click.option(
    "--out",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("periop-key.json"),
    show_default=True,
    help="The file for the private key.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing key (it can no longer be used).")
@pass_session
def new(session: Session, algorithm: Algorithm, file: Path, force: bool) -> ExitCode:
    """Make a key pair and print its public half, a JWKS, for the server's administrator."""
    from connectors.auth.keys import generate_key, private_jwk, public_jwks
    from connectors.lake.files import write_atomically

    # Before the key is made: RSA takes a second, and then the file could not be written. lexists: also a broken link.
    if not force and os.path.lexists(file):
        raise _already_exists(file)
    key = generate_key(algorithm)
    try:
        write_atomically(file, json.dumps(private_jwk(key), indent=2) + "\n", exclusive=not force)
    except FileExistsError:
        raise _already_exists(file) from None
    except FileNotFoundError:
        raise ConfigError(f"{file.parent}: no such folder; make it first") from None
    # Only the JWKS goes to stdout, so that it can be redirected to a file and sent as it is.
    session.print_json(public_jwks(key))
    session.print_err(
        f"Wrote the private key to {file}, readable by you alone; keep it on this machine. Next:\n"
        "  1. send the lines above to the server's administrator, to register the client\n"
        f'  2. auth = {{ kind = "smart", client_id = "…", key_file = {json.dumps(str(file))} }}   in periop.toml\n'
        "  3. periop check"
    )
    return ExitCode.OK


@keys.command(name="show")
@click.argument("file", type=existing_file, metavar="FILE")
@pass_session
def show(session: Session, file: Path) -> ExitCode:
    """Print the public half of a private key again, as a JWKS."""
    from connectors.auth.keys import public_jwks
    from schedules.config.credentials import signing_key

    session.print_json(public_jwks(signing_key(file)))
    return ExitCode.OK


def _already_exists(file: Path) -> ConfigError:
    return ConfigError(f"{file}: already exists; name another file with --out, or overwrite it with --force")
