"""The quarantine: everything that could not be stored, with its reason, in <folder>/<site>.ndjson.

The file is readable by its owner only; nothing of it goes into a log. Each line is {"key", "reason", "where",
"resource_type", "bytes", "content" | "content_base64", "since"}. `key` is a digest of reason and content, so that the
same bad resource is the same line in the next sync. `since` is the day from which the age of the content is counted; a
sync that brings the same thing again writes the line without it. The file is replaced as a whole.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import orjson

from connectors.errors import SpoolError
from connectors.fhir.resource import WITHOUT_CONTENT, Rejected
from connectors.lake.files import AtomicFile, remove_unfinished, write_atomically

KEPT = 1 << 20  # bytes of the content of one line
CONTENT = frozenset({"content", "content_base64"})


class Quarantine:
    """The quarantine files of all sites, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, site: str) -> Path:
        """Return the quarantine file of one site."""
        return self.folder / f"{site}.ndjson"

    def open(self, site: str) -> OpenQuarantine:
        """Begin a sync of this site. Nothing of the present file changes before `commit`."""
        return OpenQuarantine(self.path(site))

    def entries(self, site: str) -> Iterator[dict[str, Any]]:
        """Yield what is in quarantine for this site: content of resources, for the screen of the hospital only."""
        if self.path(site).exists():
            with self.path(site).open("rb") as lines:
                yield from (orjson.loads(line) for line in lines)

    def erase(self, site: str, concerns: Callable[[str], bool]) -> int:
        """Remove the lines whose content `concerns` is True for; return how many. The file is replaced as a whole."""
        path = self.path(site)
        if not path.exists():
            return 0
        try:
            remove_unfinished(path)
            lines = path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if not concerns(_content(orjson.loads(line)))]
            if len(kept) < len(lines):
                write_atomically(path, b"".join(kept)) if kept else path.unlink()
        except OSError as error:
            raise SpoolError(
                f"the quarantine {path} cannot be written ({error.strerror}): check permissions"
            ) from error
        return len(lines) - len(kept)

    def expire(self, site: str, today: date, keep: timedelta, *, dry_run: bool = False) -> int:
        """Delete the contents that no sync has brought for longer than `keep`; return how many, with `dry_run` too.

        The line stays, with reason, type and size: it still counts as not used. The first call notes the day, from
        which a content is as old as that.
        """
        path, expired, changed = self.path(site), 0, False
        try:
            for line in self.entries(site):
                aged = _aged(line, today, keep)
                changed |= aged != line
                expired += len(CONTENT & line.keys()) - len(CONTENT & aged.keys())
            if changed and not dry_run:
                remove_unfinished(path)
                # Line by line once more: a quarantine may be larger than the memory.
                with AtomicFile(path) as stream:
                    stream.writelines(orjson.dumps(_aged(line, today, keep)) + b"\n" for line in self.entries(site))
        except OSError as error:
            raise SpoolError(
                f"the quarantine {path} cannot be written ({error.strerror}): check disk space and permissions"
            ) from error
        except ValueError as error:
            raise SpoolError(
                f"the quarantine {path} is damaged ({type(error).__name__}): delete it and run `periop sync --full`"
            ) from error
        return expired


def _aged(line: dict[str, Any], today: date, keep: timedelta) -> dict[str, Any]:
    """Return the line with the day from which its content is counted, or without a content that is too old."""
    if not line.keys() & CONTENT:
        return line
    since = date.fromisoformat(line.get("since") or today.isoformat())
    if today - since > keep:
        return {name: value for name, value in line.items() if name not in CONTENT}
    return line | {"since": since.isoformat()}


def _content(line: Mapping[str, Any]) -> str:
    if "content_base64" in line:
        return base64.b64decode(line["content_base64"]).decode("utf-8", "replace")
    return str(line.get("content", ""))


class OpenQuarantine:
    """The quarantine of the sync that is running, in a file next to the one that it will replace."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A private database, on disk where it is large: an export may hold millions that nobody asked for.
        self._keys = sqlite3.connect("")
        self._keys.execute("CREATE TABLE keys (key TEXT PRIMARY KEY) WITHOUT ROWID")
        self._empty = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(path)  # of a killed run; the lock of the run keeps others out
            self._file = AtomicFile(path)
        except OSError as error:
            self._keys.close()
            raise self._failed(error) from error

    def add(self, rejected: Rejected) -> None:
        """Set one thing aside. The same thing twice is one line."""
        self._write(rejected_line(rejected))

    def commit(self, replace: bool) -> None:
        """Put the new file in place. Unless `replace`, the old lines stay, after the new ones."""
        try:
            if not replace and self._path.exists():
                with self._path.open("rb") as lines:
                    for line in lines:
                        self._write(orjson.loads(line))
            self._keys.close()
            if self._empty:
                self._file.discard()
                self._path.unlink(missing_ok=True)
            else:
                self._file.commit()
        except OSError as error:
            raise self._failed(error) from error

    def discard(self) -> None:
        """Leave the present file as it is. Harmless after `commit`."""
        self._file.discard()
        self._keys.close()

    def _write(self, line: dict[str, Any]) -> None:
        try:
            if self._keys.execute("INSERT OR IGNORE INTO keys VALUES (?)", (line["key"],)).rowcount:
                self._empty = False
                self._file.stream.write(orjson.dumps(line) + b"\n")
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> SpoolError:
        reason = error.strerror if isinstance(error, OSError) else error
        return SpoolError(f"the quarantine {self._path} cannot be written ({reason}): check disk space and permissions")


def rejected_line(rejected: Rejected) -> dict[str, Any]:
    """Return one line of the file, with at most 1 MiB of content, and none of what nobody asked for."""
    identity = hashlib.sha256(f"{rejected.reason}\n{'' if rejected.content else rejected.where}\n".encode())
    identity.update(rejected.content)
    line: dict[str, Any] = {
        "key": identity.hexdigest()[:32],
        "reason": rejected.reason.value,
        "where": rejected.where.encode("utf-8", "replace").decode(),
        "resource_type": rejected.resource_type,
        "bytes": len(rejected.content),
    }
    return line if rejected.reason in WITHOUT_CONTENT else line | content_of(rejected.content[:KEPT])


def content_of(content: bytes) -> dict[str, str]:
    """Return the content as text where it is UTF-8, else as base64."""
    try:
        return {"content": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"content_base64": base64.b64encode(content).decode("ascii")}
