"""The files of an export: downloaded several at a time, each checked to be whole, and read line by line.

At most twice `streams` files are being downloaded or lie on disk until they are read. Each is deleted when it has been
read, whatever happens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from connectors.errors import ConnectorError
from connectors.fhir.events import Deleted, Problem, SourceEvent
from connectors.fhir.lenient import json_or_none
from connectors.fhir.resource import BOM, Reason, Rejected, as_truncated, is_severe_outcome, last_updated, read_resource
from connectors.fhir.resource_types import KNOWN
from connectors.http.response import Downloaded
from connectors.sources.bulk.manifest import ExportFile
from connectors.sources.concurrency import run_concurrently
from connectors.sources.folder import Line, split_lines

PIECE = 1 << 18
ADDRESS = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,256})")


@dataclass(frozen=True)
class DownloadedFile:
    """A file on disk. complete: its last line is whole. lines: how many are not empty."""

    file: ExportFile
    path: Path
    length_delimited: bool
    complete: bool
    lines: int

    @property
    def as_promised(self) -> bool:
        """True unless a second download could give more."""
        return self.complete and self.file.count in (None, self.lines)

    def doubt(self) -> str | None:
        """Return why it may not be all of the file, None where it is."""
        if not self.complete:
            return "ends in the middle of a line"
        if self.file.count is not None and self.lines != self.file.count:
            return f"holds {self.lines} lines where the manifest says {self.file.count}"
        if not self.length_delimited and self.file.count is None:
            return "came without its length, and the manifest does not say how many lines it has"
        return None


def download_whole(file: ExportFile, path: Path, download: Callable[[], Downloaded], limit: int) -> DownloadedFile:
    """Download a file, and once more if it is not whole. `limit`: bytes of a line."""
    downloaded = _inspected(file, path, download(), limit)
    # A connection that ends early is not always an error (no length, no chunks); a second download may be whole.
    return downloaded if downloaded.as_promised else _inspected(file, path, download(), limit)


def _inspected(file: ExportFile, path: Path, downloaded: Downloaded, limit: int) -> DownloadedFile:
    ends, last = 0, b""
    for piece in pieces(path):
        ends += piece.count(b"\n")
        # Of the last line at most the limit is kept: a file without any end of line must not fill the memory.
        last = piece.rpartition(b"\n")[2] if b"\n" in piece else (last + piece)[: limit + 1]
    lines = ends + bool(last.strip())
    if file.count not in (None, lines):  # perhaps some are empty
        lines = sum(bool(line.cut or line.content.strip()) for line in split_lines(pieces(path), limit))
    return DownloadedFile(file, path, downloaded.length_delimited, _complete(last, limit), lines)


def _complete(last: bytes, limit: int) -> bool:
    """Return True if what follows the last end of line is a whole line, or one over the limit (rejected later)."""
    if not last.strip() or len(last) > limit:
        return True
    try:
        orjson.loads(last.removeprefix(BOM))
    except orjson.JSONDecodeError:
        return False
    return True


def pieces(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in pieces."""
    with path.open("rb") as stream:
        yield from iter(lambda: stream.read(PIECE), b"")


def download_all(
    files: Sequence[ExportFile], fetch: Callable[[ExportFile], DownloadedFile], streams: int, interval: float = 5.0
) -> Iterator[tuple[ExportFile, DownloadedFile | ConnectorError] | None]:
    """Yield each file in order, or why it did not come, while the next ones are being fetched.

    While one takes long, None every `interval` seconds: a heartbeat, so that a request to stop is noticed.
    """

    def attempt(file: ExportFile) -> Iterator[tuple[ExportFile, DownloadedFile | ConnectorError]]:
        try:
            yield file, fetch(file)
        except ConnectorError as error:
            yield file, error

    return run_concurrently([partial(attempt, file) for file in files], streams, in_order=True, interval=interval)


def resources(downloaded: DownloadedFile, name: str, wanted: frozenset[str], limit: int) -> Iterator[SourceEvent]:
    """Yield the resources of one output file, and what is wrong with it. Memory: one line, at most `limit` bytes."""
    kinds = frozenset({downloaded.file.resource_type}) if downloaded.file.resource_type else wanted
    strange = False
    for line in _lines(downloaded, limit):
        if line.cut:
            yield Rejected(Reason.TOO_LARGE, _where(name, line), line.content, downloaded.file.resource_type)
            continue
        item = read_resource(line.content, name, kinds)
        if isinstance(item, Rejected):
            strange = strange or item.reason is Reason.UNREQUESTED_TYPE
            # Only here, because to format a place for each of millions of good lines takes time.
            item = replace(item if line.ended else as_truncated(item), where=_where(name, line))
        yield item
    if strange and downloaded.file.resource_type:
        yield Problem(f"{name} holds resources of other types than the manifest says: report it to the server's admin")
    if doubt := downloaded.doubt():
        yield Problem(f"{name} {doubt}: what arrived was read, report it to the server's admin")


def _lines(downloaded: DownloadedFile, limit: int) -> Iterator[Line]:
    return (line for line in split_lines(pieces(downloaded.path), limit) if line.cut or line.content.strip())


def _where(name: str, line: Line) -> str:
    return f"{name}, line {line.number}"


def outcomes(downloaded: DownloadedFile, name: str, limit: int) -> Iterator[Rejected]:
    """Yield the errors among the OperationOutcomes of a file; warnings and notes are no loss."""
    for line in _lines(downloaded, limit):
        item = read_resource(line.content, where := _where(name, line), frozenset())
        # Nothing but an OperationOutcome belongs into these files.
        if line.cut or not isinstance(item, Rejected) or item.reason is not Reason.OPERATION_OUTCOME:
            yield Rejected(Reason.NOT_JSON, where, line.content)
        elif is_severe_outcome(orjson.loads(line.content.removeprefix(BOM))):
            yield item


def types_named(rejected: Rejected, wanted: Iterable[str]) -> frozenset[str]:
    """Return the types that an outcome names, all where it names none."""
    text = rejected.content.decode("utf-8", "replace")
    named = frozenset(kind for kind in wanted if re.search(rf"\b{kind}\b", text))
    return named or frozenset(wanted)


def deletions(
    downloaded: DownloadedFile, name: str, wanted: frozenset[str], time: str | None, limit: int
) -> Iterator[SourceEvent]:
    """Yield the deletions that Bundles of DELETE entries report, at the time of the Bundle, else at `time`."""
    for line in _lines(downloaded, limit):
        where, bundle = _where(name, line), _bundle(line)
        if bundle is None:
            yield Rejected(Reason.MALFORMED_BUNDLE, where, line.content, "Bundle")
            yield Problem(f"{name} holds something else than a Bundle of deletions: report it to the server's admin")
            continue
        meta = bundle.get("meta")
        # The time of the Bundle, else of the export: without one the deletion would come after everything.
        moment = (last_updated(meta) if isinstance(meta, dict) else None) or time
        for number, entry in enumerate(bundle.get("entry", [])):
            if found := _deleted(entry):
                if found[0] in wanted:
                    yield Deleted(*found, None, moment, f"{where}, entry {number}")
            else:
                yield Rejected(Reason.MALFORMED_BUNDLE, f"{where}, entry {number}", b"", "Bundle")
                yield Problem(f"{name} holds an entry that is no deletion: report it to the server's admin")
    if doubt := downloaded.doubt():
        yield Problem(f"{name} {doubt}: what arrived was read, report it to the server's admin")


def _bundle(line: Line) -> dict[str, Any] | None:
    found = None if line.cut else json_or_none(line.content.removeprefix(BOM))
    if not isinstance(found, dict) or found.get("resourceType") != "Bundle":
        return None
    return found if isinstance(found.get("entry", []), list) else None


def _deleted(entry: object) -> tuple[str, str] | None:
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict) or request.get("method") != "DELETE" or not isinstance(request.get("url"), str):
        return None
    address = ADDRESS.fullmatch(request["url"])
    return (address[1], address[2]) if address and address[1] in KNOWN else None
