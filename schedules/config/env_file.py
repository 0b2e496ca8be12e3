"""Read the file of `--env-file`: environment variables with secrets, which must not stand in a command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from schedules.config.credentials import private_bytes
from schedules.errors import ConfigError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_env_file(file: Path) -> Mapping[str, str]:
    r"""Return the variables of a file with lines `NAME=value`, as `EnvironmentFile=` of systemd reads plain ones.

    Blank lines, and lines that begin with # or ;, are passed over. A value is taken as it stands, also $ and \; only a
    pair of quotes around all of it is taken off. Raises `ConfigError` that names the line and shows nothing of it.
    """
    content = private_bytes(file, "secrets", own=True)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text; write it again, one NAME=value on each line") from None
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        name, equals, value = text.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise ConfigError(f"{file}, line {number}: is no NAME=value; correct it (no `export`, no blanks around =)")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        found[name] = value[1:-1] if quoted else value
    return found
