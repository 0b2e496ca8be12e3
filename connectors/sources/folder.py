"""Resources from a folder: *.ndjson and *.jsonl (a resource a line) and *.json (a resource, a Bundle, or an array).

All may be compressed (*.gz), have capital letters in their ending, and lie in a folder below it. A Bundle may hold
deletions (requests with the method DELETE), as the folder `deleted` of a Bulk Data export does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from connectors.errors import FolderError
from connectors.fhir.bundle import (
    Bundle,
    CutBundleError,
    Entry,
    NotABundleError,
    json_values,
    looks_like_bundle,
    read_bundle,
)
from connectors.fhir.events import Deleted, Note, Problem, SourceEvent
from connectors.fhir.lenient import json_or_none
from connectors.fhir.references import RESTFUL, BundleReferences
from connectors.fhir.resource import BOM, Reason, Rejected, as_truncated, read_entry, read_resource
from connectors.fhir.resource_types import KNOWN
from connectors.http.gunzip import gunzip
from connectors.http.retry import TruncatedError
from connectors.lake.table import Cursor
from connectors.sources.base import PlannedRequest
from connectors.sources.folder_listing import (
    PATTERNS,
    FolderListing,
    is_document,
    list_folder,
    note_of_client_file,
)

UNLISTED = "{} folders below the folder of the site could not be opened: let the user that runs periop read them"
HINTS = "warnings and notes that the server wrote about an export (OperationOutcome) were not stored"
EXPORT_ERRORS = (
    "an export in the folder reports errors, so something is missing in it: see the quarantine of the site, and export "
    "again"
)
NO_FHIR = (
    "files of the folder hold JSON without a resourceType, which is no FHIR: the quarantine of the site names them "
    "(no-resource-type), and while they are there nothing is taken as deleted; move them out of the folder"
)
DOCUMENT_TOO_LARGE = (
    "a *.json file of more than {} MB was not read, because such a file is read as a whole: export it as NDJSON, of "
    "which a line is read at a time"
)
DAMAGED = "a gzip file is cut or corrupt, what stood before the damage was read: export it again"
CHUNK = 1 << 18
NESTED = 8  # Bundles in Bundles: nobody needs more, and each level takes memory and stack


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
    def asked(self) -> frozenset[str] | None:
        return self.types

    @property
    def fingerprint(self) -> str:
        types = ",".join(sorted(self.types)) if self.types is not None else "*"
        return hashlib.sha256(f"folder\n{self.path.absolute()}\n{types}".encode()).hexdigest()

    def pull(self, previous: Cursor | None = None) -> Iterator[SourceEvent]:  # noqa: ARG002
        """Yield every resource of every file. Raise FolderError if there is no folder, or nothing to read in it."""
        listing = self._listing()
        if listing.unlisted:
            yield Problem(UNLISTED.format(listing.unlisted))
        yield from map(Note, listing.notes())
        for number, file in enumerate(listing.files, 1):
            try:
                yield from self.read(file)
            except OSError as error:
                yield Problem(
                    f"file {number} of the folder could not be read ({error.strerror}): check its permissions"
                )

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:  # noqa: ARG002
        """Yield how many files would be read, by the end of their names: a name may be that of a patient."""
        ends = [next(end for end in PATTERNS if file.name.lower().endswith(end)) for file in self.files()]
        for end in dict.fromkeys(ends):
            number = ends.count(end)
            yield PlannedRequest("READ", f"{self.path}/**/*{end}", f"{number} file{'s' if number > 1 else ''}")

    def files(self) -> tuple[Path, ...]:
        """Return the files to read, in order, without hidden ones."""
        return self._listing().files

    def _listing(self) -> FolderListing:
        if not self.path.is_dir():
            raise FolderError(f"{self.path} is not a folder: correct the `path` of the site")
        listing = list_folder(self.path)
        if not listing.files:
            raise FolderError(
                f"{self.path} holds no *.ndjson, *.jsonl or *.json (or *.gz of these): put the export there"
            )
        return listing

    def read(self, file: Path) -> Iterator[SourceEvent]:
        """Yield what is in one file."""
        name = file.relative_to(self.path).as_posix()
        for item in self.read_document(file, name) if is_document(file) else self.read_lines(file, name):
            if isinstance(item, Rejected) and item.reason is Reason.NO_RESOURCE_TYPE:
                yield Note(NO_FHIR)  # one sentence, however many there are
            if not isinstance(item, Rejected) or item.reason is not Reason.OPERATION_OUTCOME:
                yield item
            elif not item.severe:
                yield Note(HINTS)
            else:
                yield item
                # What an export could not read is no reason to take it as deleted.
                yield Problem(EXPORT_ERRORS) if self.whole else Note(EXPORT_ERRORS)

    def read_document(self, file: Path, name: str) -> Iterator[SourceEvent]:
        """Yield what is in one file that is read whole: a resource, a Bundle, an array, or several of these."""
        pieces, size = list[bytes](), 0
        try:
            for piece in read_chunks(file):
                pieces.append(piece)
                size += len(piece)
                # A document is parsed as a whole, in several times its size of memory.
                if size > self.limits.document:
                    yield Rejected(Reason.TOO_LARGE, name, pieces[0])
                    yield Problem(DOCUMENT_TOO_LARGE.format(self.limits.document >> 20))
                    return
        except TruncatedError:
            yield Rejected(Reason.DAMAGED_GZIP, name, b"".join(pieces))
            yield Problem(DAMAGED)
            return
        values = json_values(b"".join(pieces).removeprefix(BOM))
        if len(values) > 0 and (note := note_of_client_file(file, values[0])):
            yield Note(note)
            return
        for number, value in enumerate(values):
            yield from self.expand(value, f"{name} entry {number}" if len(values) > 1 else name)

    def read_lines(self, file: Path, name: str) -> Iterator[SourceEvent]:
        """Yield the lines of one *.ndjson; where it is JSON over several lines, what is in that.

        What stands before a damage of the gzip stream is kept; the damage is rejected.
        """
        last = Line(0, b"", ended=True)
        try:
            first, second = self._first_two(file)
            if note := note_of_client_file(file, first):
                yield Note(note)
                return
            if is_over_lines(first, second):
                yield from self.read_document(file, name)
                return
            for line in split_lines(read_chunks(file), self.limits.resource):
                last = line
                if line.ended:
                    yield from self.read_line(line, name)
        except TruncatedError:
            content = b"" if last.ended else last.content
            yield Rejected(Reason.DAMAGED_GZIP, f"{name}:{last.number + last.ended}", content)
            yield Problem(DAMAGED)
            return
        # Many exports end without an end of line; one that was cut ends so too, and is rejected as truncated.
        if not last.ended:
            yield from self.read_line(last, name)

    def _first_two(self, file: Path) -> tuple[bytes, bytes]:
        """Return the first two lines that are not blank, without a byte order mark; b"" where there is none."""
        lines = (
            line.content.removeprefix(BOM).strip() for line in split_lines(read_chunks(file), self.limits.resource)
        )
        filled = filter(None, lines)
        return next(filled, b""), next(filled, b"")

    def read_line(self, line: Line, name: str) -> Iterator[SourceEvent]:
        """Yield what is in one line: a resource or, in some exports, a Bundle."""
        where = f"{name}:{line.number}"
        if line.cut:
            yield Rejected(Reason.TOO_LARGE, where, line.content)
        elif content := line.content.removeprefix(BOM).strip():
            for item in self.expand(content, where):
                yield as_truncated(item) if isinstance(item, Rejected) and not line.ended else item

    def expand(
        self, raw: bytes, where: str, outer: BundleReferences | None = None, depth: int = 0
    ) -> Iterator[SourceEvent]:
        """Yield a resource as itself, a Bundle as its entries, and those that are Bundles as theirs.

        outer, depth: the references of the Bundle that this is an entry of, and in how many Bundles it is.
        """
        if not depth and raw.lstrip()[:1] == b"[" and (values := json_values(raw)) != [raw]:
            for number, value in enumerate(values):
                yield from self.expand(value, f"{where} entry {number}", depth=1)
            return
        if not looks_like_bundle(raw):
            yield (
                read_entry(raw, where, self.types, self.limits.resource)
                if depth
                else read_resource(raw, where, self.types)
            )
            return
        if depth > NESTED:
            yield Rejected(Reason.TOO_DEEP, where, raw, "Bundle")
            return
        try:
            bundle = read_bundle(raw)
        except (CutBundleError, NotABundleError) as error:
            reason = Reason.TRUNCATED if isinstance(error, CutBundleError) else Reason.MALFORMED_BUNDLE
            yield Rejected(reason, where, raw, "Bundle")
            return
        references = BundleReferences(bundle, outer)
        entries = [*enumerate(zip(bundle.entries, references.resources(bundle), strict=True))]
        # In a history the newest entry stands first (FHIR R4, 3.1.0.11).
        for number, (entry, resource) in reversed(entries) if bundle.type == "history" else entries:
            place = f"{where} entry {number}"
            if deleted := deletion(bundle, entry, place):
                # Of a type that nobody asked for, nothing is known that could be deleted.
                if self.types is None or deleted.resource_type in self.types:
                    yield deleted
            else:
                yield from self.expand(resource, place, references, depth + 1)


def deletion(bundle: Bundle, entry: Entry, where: str) -> Deleted | None:
    """Return the deletion that an entry reports: one with the method DELETE, and no resource.

    At the time of the entry, else of the Bundle.
    """
    address = RESTFUL.fullmatch(entry.url) if entry.method == "DELETE" and not entry.resource else None
    if address is None or address[1] not in KNOWN:
        return None
    return Deleted(address[1], address[2], None, entry.modified or bundle.last_updated, where, in_order=True)


def is_over_lines(first: bytes, second: bytes) -> bool:
    """Return True if the file is JSON over several lines, by its first two lines that are not blank.

    >>> is_over_lines(b'{"resourceType": "Patient",', b'"id": "p1"')
    True
    >>> is_over_lines(b'{"resourceType": "Patient", "id": "cu', b'{"resourceType": "Patient", "id": "p2"}')
    False
    """
    if first[:1] not in (b"{", b"[") or not second or json_or_none(first) is not None:
        return False
    # A resource that was cut is followed by the next one, which is whole.
    return first[:1] == b"[" or second[:1] != b"{" or json_or_none(second) is None


def read_chunks(file: Path) -> Iterator[bytes]:
    """Yield the content of a file in pieces, decompressed if its name ends in .gz."""
    with file.open("rb") as stream:
        pieces = iter(lambda: stream.read(CHUNK), b"")
        yield from gunzip(pieces) if file.suffix.lower() == ".gz" else pieces


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
