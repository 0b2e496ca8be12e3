"""Logs and tracebacks on stderr, without patient data.

Only our own packages log below WARNING: an HTTP library logs addresses, and an address may hold a patient's id. A
traceback shows where the program was and the kind of the error, but not its message, which may quote a record; the
messages go to `crash.txt` in the data directory, where the records are anyway.
"""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

from analytics.report.wording import clean
from connectors.lake.files import write_atomically

PACKAGES = ("connectors", "mappers", "analytics", "schedules")
HEADERS = "connectors.http.headers"
SILENT = ("httpx", "httpcore", "apscheduler", "matplotlib")
CRASH_FILE = "crash.txt"

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Lines(logging.Formatter):
    """One line a record, in UTC, without control characters; tracebacks without messages."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's
        # UTC, as the ledger and the report, so that their times can be compared.
        return datetime.fromtimestamp(record.created, UTC).strftime(datefmt or "%Y-%m-%dT%H:%M:%SZ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return clean(super().formatMessage(record))  # a message may quote what a server sent

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - logging's name
        return traceback_without_messages(ei[1]) if ei[1] is not None else ""


def configure(stream: TextIO, level: int, *, headers: bool = False) -> None:
    """Send the log records of our packages from `level` on, and warnings of others, to `stream`.

    headers: also those about the headers of requests.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)
    logging.getLogger(HEADERS).setLevel(logging.DEBUG if headers else logging.WARNING)
    # Even their warnings may quote a URL, or tell of a job that is late, which the service itself handles.
    # And matplotlib warns twice a night of a user without a home directory, where it keeps its list of fonts.
    for library in SILENT:
        logging.getLogger(library).setLevel(logging.ERROR)


def traceback_without_messages(error: BaseException) -> str:
    """Return the traceback of `error` and of its causes, with the class of each error in place of its message."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    # As Python prints them. An exception can be its own cause, by way of another.
    while link is not None and not any(link is each for each in chain):
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    parts = []
    for link in reversed(chain):
        frames = "".join(traceback.format_tb(link.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{type(link).__module__}.{type(link).__qualname__}")
    return "\n\nand then\n\n".join(parts)


def write_crash_file(error: BaseException, folder: Path) -> Path | None:
    """Write the traceback of `error` with its messages to `crash.txt` in `folder`; return None if that fails."""
    file = folder / CRASH_FILE
    try:
        # A message may hold half of a surrogate pair, which UTF-8 cannot encode.
        write_atomically(file, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
    except OSError:
        return None
    return file
