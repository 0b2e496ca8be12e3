"""`periop keys`: the key pair of SMART Backend Services. stdout is the JWKS for the server's administrator."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from schedules.config.credentials import signing_key
from schedules.errors import ConfigError, Exit

if TYPE_CHECKING:
    from connectors.auth.keys import Algorithm, SigningKey
    from schedules.cli.session import Session


def make_keys(session: Session, algorithm: Algorithm, file: Path, force: bool) -> Exit:
    """Write a new private key to `file`, for its owner alone, and print the public one.

    Raises `ConfigError` where a file is, unless `force`: a key that is replaced signs no more.
    """
    from connectors.auth.keys import generate_key, private_jwk

    if not force and os.path.lexists(file):
        raise _there_already(file)
    key = generate_key(algorithm)
    _write(file, json.dumps(private_jwk(key), indent=2) + "\n", force)
    _print(session, key)
    session.say(
        f"Wrote the private key to {file}, for you alone; it stays here. Next:\n"
        "  1. send the lines above to the server's administrator, to register the client with them\n"
        f'  2. auth = {{ kind = "smart", client_id = "…", key_file = {json.dumps(str(file))} }}   in periop.toml\n'
        "  3. periop check"
    )
    return Exit.OK


def show_keys(session: Session, file: Path) -> Exit:
    """Print the public half of the private key in `file`."""
    _print(session, signing_key(file))
    return Exit.OK


def _print(session: Session, key: SigningKey) -> None:
    from connectors.auth.keys import public_jwks

    session.show_json(public_jwks(key))


def _write(file: Path, text: str, force: bool) -> None:
    """Whole or not at all, readable by its owner from the first byte on; over a file that is there only by force."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        if force:
            draft.replace(file)
        else:
            os.link(draft, file)
    except FileExistsError:
        raise _there_already(file) from None
    except FileNotFoundError:
        raise ConfigError(f"{file.parent}: no such folder; make it first") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _there_already(file: Path) -> ConfigError:
    return ConfigError(f"{file}: is there already; give another file with --out, or replace it with --force")
