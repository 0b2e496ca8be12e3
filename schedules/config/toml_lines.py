"""The line of a key in a TOML file, which `tomllib` does not tell: for messages about a wrong setting.

A key in an inline table has the line of that table; one that is not found has that of the nearest table around it.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from typing import Any

HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(#.*)?")
KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
ASSIGNMENT = re.compile(rf"\s*({KEY}(?:\s*\.\s*{KEY})*)\s*=")

Path = tuple[int | str, ...]


def line_of(text: str, keys: Sequence[int | str]) -> int | None:
    """Return the line, from 1, on which the value at `keys` is set; None where nothing of its path is in the file.

    >>> line_of('study = "alneo"\\n[[sites]]\\nname = "a"\\n[[sites]]\\nname = 5\\n', ("sites", 1, "name"))
    5
    """
    found = _lines(text)
    # The longest part of the path that has a line: an inline table, or the section where a key ought to be.
    for length in range(len(keys), 0, -1):
        if (line := found.get(tuple(keys[:length]))) is not None:
            return line
    return None


def _lines(text: str) -> dict[Path, int]:
    found: dict[Path, int] = {}
    arrays: Counter[Path] = Counter()
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := HEADER.fullmatch(line):
            table = _entered(header[1] == "[[", _parts(header[2]), arrays)
            if header[1] == "[[":
                found.setdefault(table[:-1], number)
            found.setdefault(table, number)
        elif assignment := ASSIGNMENT.match(line):
            parts = _parts(assignment[1])
            for length in range(1, len(parts) + 1):
                found.setdefault((*table, *parts[:length]), number)
    return found


def _entered(is_array: bool, parts: Sequence[str], arrays: Counter[Path]) -> Path:
    """Return the path of a table that a header opens; `arrays` counts the items of each array of tables so far."""
    path: Path = ()
    for nth, part in enumerate(parts, 1):
        path = (*path, part)
        if is_array and nth == len(parts):
            arrays[path] += 1
        # The header of a table in an array, [sites.auth], is of the item that was opened last.
        if arrays[path]:
            path = (*path, arrays[path] - 1)
    return path


def _parts(dotted: str) -> tuple[str, ...]:
    # Quoted keys may hold a dot, so the parser of TOML takes the key apart.
    try:
        content: Any = tomllib.loads(f"{dotted.strip()} = 0")
    except tomllib.TOMLDecodeError:
        return (dotted.strip(),)
    parts: list[str] = []
    while isinstance(content, dict):
        ((key, content),) = content.items()
        parts.append(key)
    return tuple(parts)
