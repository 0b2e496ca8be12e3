"""The check of a folder: what is there, of which types, and whether it can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from connectors.check.findings import Diagnosis, Finding, Level, SyncPath
from connectors.errors import FolderError
from connectors.fhir.events import SourceEvent
from connectors.fhir.resource import Reason, Rejected, Resource
from connectors.sources.folder import FolderSource

SAMPLE = 100  # resources of each file that are looked at
WITHOUT = frozenset({"Patient", "Condition"})  # no cohort comes of a folder that lacks these
READ = 'kind = "folder" is configured: every file is read each night'
KNOWN = "what is in the lake already is not stored again"
WHOLE = "complete = true is configured: what is no longer in the folder is taken as deleted"
PART = "a folder may hold a part, so nothing is concluded from what is not in it (complete = true says it holds all)"


def check_folder(site: str, source: FolderSource) -> Diagnosis:
    """What is in the folder of `site`, by the first resources of each file."""
    findings = tuple(_findings(source))
    unusable = any(finding.level is Level.MISSING for finding in findings)
    return Diagnosis(site, "folder", str(source.path), findings, None if unusable else _path(source))


def _path(source: FolderSource) -> SyncPath:
    if source.whole:
        return SyncPath("folder", "everything", "by a comparison", (READ, KNOWN, WHOLE))
    return SyncPath("folder", "everything", "never", (READ, KNOWN, PART))


def _findings(source: FolderSource) -> Iterator[Finding]:
    try:
        files = source.files()
    except FolderError as error:
        yield Finding("folder", Level.MISSING, str(error))
        return
    types: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    unreadable = 0
    for file in files:
        try:
            for item in islice(source.read(file), SAMPLE):
                _count(item, types, reasons)
        except OSError:
            unreadable += 1
    yield Finding("folder", Level.OK, f"{_number(len(files), 'file')} to read")
    if unreadable:
        said = f"{_number(unreadable, 'file')} cannot be opened: let the user that runs periop read them"
        yield Finding("readable", Level.MISSING, said)
    yield from _types(types, source.types or frozenset())
    for reason, count in sorted(reasons.items()):
        said = f"{count} of the first {SAMPLE} resources of each file would be set aside: {reason}"
        yield Finding("readable", Level.NOTE, said)


def _count(item: SourceEvent, types: Counter[str], reasons: Counter[str]) -> None:
    if isinstance(item, Resource):
        types[item.resource_type] += 1
    elif isinstance(item, Rejected) and item.reason is not Reason.UNREQUESTED_TYPE:
        reasons[item.reason.value] += 1


def _types(found: Counter[str], wanted: frozenset[str]) -> Iterator[Finding]:
    for kind in sorted(wanted):
        if found[kind]:
            yield Finding("read", Level.OK, "there", kind)
        else:
            level = Level.MISSING if kind in WITHOUT else Level.NOTE
            said = f"none among the first {SAMPLE} resources of each file: export it too"
            yield Finding("read", level, said, kind)


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
