"""Secrets, by the name of an environment variable or of a file: passwords, tokens, the private keys of SMART and TLS,
and the key of the pseudonyms. Also the private data folder."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.lake.files import write_atomically
from schedules.config.settings import Settings
from schedules.config.site_settings import ServerSite
from schedules.errors import ConfigError

if TYPE_CHECKING:
    from connectors.auth.keys import SigningKey

PSEUDONYM_KEY = "PERIOP_PSEUDONYM_KEY"
KEY_FILE = "pseudonym.key"
KEY_MARKER = "_pseudonym_key"  # in the folder of the lake, so that it is in each backup; readers of Delta pass over _
KEY_BYTES = 32


def secret(env: str | None, file: Path | None, environ: Mapping[str, str]) -> str:
    """Return the secret in the environment variable `env` or in `file`.

    Raises `ConfigError` that names which one is missing or empty.
    """
    if env is not None:
        where, value = f"environment variable {env}", environ.get(env, "")
    elif file is not None:
        where, value = f"{file}", _first_line(file)
    else:
        raise ConfigError("a secret needs the name of an environment variable or of a file")
    # A line break or a control character in a header would be refused later, without a word about the cause.
    if not value.isprintable() or not value:
        raise ConfigError(f"{where}: holds no secret of one printable line; put it there and run again")
    return value


def _first_line(file: Path) -> str:
    content = private_bytes(file, "secret", own=True)
    try:
        return content.decode().rstrip("\r\n")  # editors end the line; spaces may belong to it
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: the secret is not UTF-8 text; write it again as one line") from None


def signing_key(file: Path) -> SigningKey:
    """Return the private key of SMART Backend Services. Raises `ConfigError` that says what is wrong with the file."""
    from connectors.auth.keys import read_key
    from connectors.errors import SourceConfigError

    content = private_bytes(file, "private key")
    try:
        return read_key(content)
    except SourceConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def private_bytes(file: Path, what: str, *, own: bool = False) -> bytes:
    """Return the content of a file that only its owner, or its group, can read. `own`: not the group of our own file.

    Raises `ConfigError` where others can read it.
    """
    try:
        content, status = file.read_bytes(), file.stat()
    except OSError as error:
        raise ConfigError(f"{file}: the {what} cannot be read ({error.strerror}); check path and permissions") from None
    # The group may read a file of another user: by the group a secret manager, or the program that renews a token,
    # shares it with periop.
    if os.name == "posix" and status.st_mode & 0o007:
        raise ConfigError(f"{file}: every user of this machine can read the {what}; run `chmod 600` on it")
    if os.name == "posix" and own and status.st_mode & 0o070 and status.st_uid == os.getuid():
        raise ConfigError(f"{file}: other users of its group can read the {what}; run `chmod 600` on it")
    return content


def client_ssl_context(site: ServerSite, environ: Mapping[str, str]) -> ssl.SSLContext | bool:
    """Return the TLS settings of `site`: the authorities to trust, and its client certificate if one is configured.

    Only for the origin of the site: to any other origin use `trust_only_ssl_context`, so that periop does not show
    its certificate there. Raises `ConfigError` when a file cannot be used.
    """
    context = trust_only_ssl_context(site)
    if site.client_cert_file is None:
        return context
    key_file = site.client_key_file or site.client_cert_file
    private_bytes(key_file, "private key of the client certificate")
    if not isinstance(context, ssl.SSLContext):
        import httpx

        context = httpx.create_ssl_context(trust_env=False)  # with the public authorities
    env, file = site.client_key_password_env, site.client_key_password_file
    password = secret(env, file, environ) if env or file else ""
    try:
        # Always a callback, even for no password: without one OpenSSL prompts on the terminal.
        context.load_cert_chain(site.client_cert_file, key_file, lambda: password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "the password is too long"
        raise ConfigError(
            f"{site.client_cert_file}: the client certificate of site {site.name} cannot be used "
            f"({str(reason).replace('_', ' ').lower()}); check that certificate, key and password belong together"
        ) from None
    return context


def trust_only_ssl_context(site: ServerSite) -> ssl.SSLContext | bool:
    """Return the authorities that may sign the certificate of `site`: only those in its `ca_file`, or True for the
    public ones.

    Raises `ConfigError` when the file cannot be read or holds no certificate.
    """
    if site.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=site.ca_file)
    except ssl.SSLError:
        problem, remedy = "holds no certificate in PEM form", "give blocks of -----BEGIN CERTIFICATE-----"
    except OSError as error:
        problem, remedy = f"cannot be read ({error.strerror})", "check path and permissions"
    raise ConfigError(f"{site.ca_file}: the ca_file of site {site.name} {problem}; {remedy}")


def private_folder(folder: Path) -> None:
    """Make `folder` if absent, for its owner alone, and close an existing one to others as `close_to_others` does."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    close_to_others(folder)


def close_to_others(folder: Path) -> None:
    """Take the rights of all other users off `folder`, if it exists: what is in it is readable only through it.

    Raises `ConfigError` where they have rights and the folder is not ours, or its file system keeps no rights.
    """
    if os.name != "posix" or not folder.is_dir() or not folder.stat().st_mode & 0o077:
        return
    if folder.stat().st_uid == os.getuid():
        folder.chmod(0o700)
    if folder.stat().st_mode & 0o077:
        raise ConfigError(
            f"{folder}: other users of this machine can enter this folder, which holds data of patients; "
            "run `chmod 700` on it as its owner, or set data_dir to a folder of the user who runs periop"
        )


def pseudonym_key(settings: Settings, environ: Mapping[str, str]) -> bytes:
    """Return the key of the patients' pseudonyms: PERIOP_PSEUDONYM_KEY (64 or more hex digits), or `pseudonym.key`.

    The file is made at first use with 32 random bytes, readable by its owner alone. Raises `ConfigError` when the key
    is malformed, when others can read its file, when the file is missing although tables were made with it, or when
    the lake was mapped with another key.
    """
    found = existing_key(settings, environ)
    if found is not None:
        return found
    file = settings.data_dir / KEY_FILE
    private_folder(file.parent)
    with suppress(FileExistsError):  # another process was faster, and its key is read below
        write_atomically(file, secrets.token_hex(KEY_BYTES) + "\n", exclusive=True)
    return _decoded(_first_line(file), str(file))


def existing_key(settings: Settings, environ: Mapping[str, str]) -> bytes | None:
    """Return the key of the pseudonyms, None where none has been made yet. Raises as `pseudonym_key` does."""
    # The variable comes first: it keeps the key off the disk that holds the lake.
    if PSEUDONYM_KEY in environ:
        where = f"environment variable {PSEUDONYM_KEY}"
        return _key_of_the_lake(settings, _decoded(environ[PSEUDONYM_KEY], where), where)
    file = settings.data_dir / KEY_FILE
    if not file.exists():
        _refuse_a_lost_key(settings, file)
        return None
    # Stricter than for the keys of the sites, since nobody but periop has a use for this one.
    if os.name == "posix" and file.stat().st_mode & 0o077:
        raise ConfigError(f"{file}: others can read it; run `chmod 600` on it")
    return _key_of_the_lake(settings, _decoded(_first_line(file), str(file)), str(file))


def _key_of_the_lake(settings: Settings, key: bytes, where: str) -> bytes:
    """Return `key`. Raises `ConfigError` where the lake was mapped with another one."""
    # A lake that was restored beside the key of another installation would give every patient a new pseudonym, by which
    # nobody finds again what was published, explained or erased before.
    marker = settings.lake_dir / KEY_MARKER
    if marker.exists() and not hmac.compare_digest(marker.read_text().strip(), fingerprint(key)):
        raise ConfigError(
            f"{where}: is not the key that this lake was mapped with; restore that key from its backup, "
            f"or delete {marker} to give every patient a new pseudonym"
        )
    return key


def mark_lake(settings: Settings, key: bytes) -> None:
    """Note in the folder of the lake that it is mapped with `key`, so that a restored lake asks for it."""
    marker = settings.lake_dir / KEY_MARKER
    if settings.lake_dir.is_dir() and not (marker.exists() and marker.read_text().strip() == fingerprint(key)):
        write_atomically(marker, fingerprint(key) + "\n")


def fingerprint(key: bytes) -> str:
    """Return a digest that identifies `key` without revealing it: HMAC-SHA-256 of a fixed text under it."""
    # Compared to find that the key is another one, and then all tables are built from scratch.
    return hmac.new(key, b"periop pseudonym key", hashlib.sha256).hexdigest()


def _decoded(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:  # also after the ValueError
        raise ConfigError(f"{where}: not a key of {2 * KEY_BYTES} or more hex digits; restore it from a backup")
    return key


def _refuse_a_lost_key(settings: Settings, file: Path) -> None:
    # A new key would give every patient a second pseudonym, and the tables would count them twice.
    made = [folder for folder in ("views", "cohort") if (settings.data_dir / folder).exists()]
    marker = settings.lake_dir / KEY_MARKER
    if not made and marker.exists():
        raise ConfigError(
            f"{file}: missing, although this lake was mapped with it; restore it from a backup, set {PSEUDONYM_KEY}, "
            f"or delete {marker} to give every patient a new pseudonym"
        )
    if made:
        raise ConfigError(
            f"{file}: missing, although {' and '.join(made)} were made with it; restore it from a backup, "
            "or delete views and cohort to give every patient a new pseudonym"
        )
