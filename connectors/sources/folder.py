"""Resources from a folder: *.ndjson, *.ndjson.gz and *.json (one resource, or a Bundle), in all folders below it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from connectors.errors import FolderError
from connectors.fhir.bundle import (
    CutBundleError,
    NotABundleError,
    looks_like_bundle,
    patients_by_full_url,
    read_bundle,
)
from connectors.fhir.events import Problem, SourceEvent
from connectors.fhir.resource import BOM, Reason, Rejected, as_truncated, read_entry, read_resource
from connectors.http.gunzip import gunzip
from connectors.http.retry import TruncatedError
from connectors.lake.table import Cursor
from connectors.sources.base import PlannedRequest

PATTERNS = (".ndjson", ".ndjson.gz", ".json")
CHUNK = 1 << 18


@dataclass(frozen=True)
class FolderLimits:
    """Sizes in bytes: of one resource (a line), and of one Bundle (a *.json file, which is read whole)."""

    resource: int = 16 << 20
    document: int = 512 << 20


class Line(msgspec.Struct, frozen=True):  # made faster than a frozen dataclass
    """One line without its end. ended: it had one. cut: it was over the limit, and only its beginning is here."""

    number: int
    content: bytes
    ended: bool
    cut: bool = False


@dataclass(frozen=True)
class FolderSource:
    """All FHIR files below `path`, sorted by their path.

    types: the resource types asked for, None for every type of FHIR R4.
    whole: the folder holds everything. Else it may hold a part, and what is missing is not taken as deleted.
    """

    path: Path
    types: frozenset[str] | None = None
    limits: FolderLimits = field(default_factory=FolderLimits)

    server_time: str | None = field(default=None, init=False)
    whole: bool = False
    state: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def fingerprint(self) -> str:
        types = ",".join(sorted(self.types)) if self.types is not None else "*"
        return hashlib.sha256(f"folder\n{self.path.absolute()}\n{types}".encode()).hexdigest()

    def pull(self, previous: Cursor | None = None) -> Iterator[SourceEvent]:  # noqa: ARG002
        """Yield every resource of every file. Raise FolderError if there is no folder, or nothing to read in it."""
        for number, file in enumerate(self.files(), 1):
            try:
                yield from self.read(file)
            except OSError as error:
                yield Problem(
                    f"file {number} of the folder could not be read ({error.strerror}): check its permissions"
                )

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:  # noqa: ARG002
        """Yield how many files would be read, by the end of their names: a name may be that of a patient."""
        ends = [next(end for end in PATTERNS if file.name.endswith(end)) for file in self.files()]
        for end in dict.fromkeys(ends):
            number = ends.count(end)
            yield PlannedRequest("READ", f"{self.path}/**/*{end}", f"{number} file{'s' if number > 1 else ''}")

    def files(self) -> tuple[Path, ...]:
        """Return the files to read, sorted by their path, without hidden ones."""
        if not self.path.is_dir():
            raise FolderError(f"{self.path} is not a folder: correct the `path` of the site")
        found = sorted(
            file
            for file in self.path.rglob("*")
            if file.name.endswith(PATTERNS) and self._visible(file) and file.is_file()
        )
        if not found:
            raise FolderError(f"{self.path} holds no *.ndjson, *.ndjson.gz or *.json: put the export there")
        return tuple(found)

    def _visible(self, file: Path) -> bool:
        # Editors, macOS and synchronisation programs leave hidden copies, which would be read as further versions.
        return not any(part.startswith(".") for part in file.relative_to(self.path).parts)

    def read(self, file: Path) -> Iterator[SourceEvent]:
        """Yield the resources of one file."""
        name = file.relative_to(self.path).as_posix()
        if file.suffix == ".json":
            yield from self.read_document(file, name)
        else:
            yield from self.read_lines(file, name)

    def read_document(self, file: Path, name: str) -> Iterator[SourceEvent]:
        """Yield what is in one *.json: a resource, or a Bundle of them."""
        if file.stat().st_size > self.limits.document:
            # A document is parsed as a whole, in several times its size of memory.
            with file.open("rb") as stream:
                yield Rejected(Reason.TOO_LARGE, name, stream.read(CHUNK))
            return
        yield from self.expand(file.read_bytes().removeprefix(BOM), name)

    def read_lines(self, file: Path, name: str) -> Iterator[SourceEvent]:
        """Yield the lines of one *.ndjson or *.ndjson.gz.

        What stands before a damage of the gzip stream is kept; the damage is rejected.
        """
        last = Line(0, b"", ended=True)
        try:
            for line in split_lines(read_chunks(file), self.limits.resource):
                last = line
                if line.ended:
                    yield from self.read_line(line, name)
        except TruncatedError:
            content = b"" if last.ended else last.content
            yield Rejected(Reason.DAMAGED_GZIP, f"{name}:{last.number + last.ended}", content)
            yield Problem("a gzip file is cut or corrupt, what stood before the damage was read: export it again")
            return
        # Many exports end without an end of line; one that was cut ends so too, and is rejected as truncated.
        if not last.ended:
            yield from self.read_line(last, name)

    def read_line(self, line: Line, name: str) -> Iterator[SourceEvent]:
        """Yield what is in one line: a resource or, in some exports, a Bundle."""
        where = f"{name}:{line.number}"
        if line.cut:
            yield Rejected(Reason.TOO_LARGE, where, line.content)
        elif line.content.strip():
            for item in self.expand(line.content, where):
                yield as_truncated(item) if isinstance(item, Rejected) and not line.ended else item

    def expand(self, raw: bytes, where: str) -> Iterator[SourceEvent]:
        """Yield a resource as itself, a Bundle as its entries."""
        if not looks_like_bundle(raw):
            yield read_resource(raw, where, self.types)
            return
        try:
            bundle = read_bundle(raw)
        except (CutBundleError, NotABundleError) as error:
            reason = Reason.TRUNCATED if isinstance(error, CutBundleError) else Reason.MALFORMED_BUNDLE
            yield Rejected(reason, where, raw, "Bundle")
            return
        patients = patients_by_full_url(bundle)
        for number, entry in enumerate(bundle.entries):
            place = f"{where} entry {number}"
            yield read_entry(entry.resource, place, self.types, self.limits.resource, patients)


def read_chunks(file: Path) -> Iterator[bytes]:
    """Yield the content of a file in pieces, decompressed if its name ends in .gz."""
    with file.open("rb") as stream:
        pieces = iter(lambda: stream.read(CHUNK), b"")
        yield from gunzip(pieces) if file.suffix == ".gz" else pieces


def split_lines(pieces: Iterable[bytes], limit: int) -> Iterator[Line]:
    """Yield the lines; of one that is longer than `limit` bytes only the beginning.

    Memory is bounded by `limit` and one piece. What follows the last end of line is yielded (ended=False) before an
    error of `pieces` is passed on.
    """
    number, rest, dropped = 1, b"", False
    try:
        for piece in pieces:
            *whole, tail = piece.split(b"\n")
            for part in whole:
                content = rest + part
                too_long = dropped or len(content) > limit
                yield Line(number, content[:CHUNK] if too_long else content, ended=True, cut=too_long)
                number, rest, dropped = number + 1, b"", False
            rest += tail if not dropped else b""
            # Dropped up to the next end of line: one endless line must not fill the memory.
            if len(rest) > limit:
                rest, dropped = rest[:CHUNK], True
    # The caller tells which line was damaged, and counts it.
    except TruncatedError:
        yield Line(number, rest, ended=False, cut=dropped)
        raise
    if rest:
        yield Line(number, rest, ended=False, cut=dropped)
