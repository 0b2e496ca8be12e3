"""The check of a folder: which resource types its files hold, and whether they can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from connectors.check.findings import Diagnosis, Finding, FindingLevel, SyncPath
from connectors.errors import FolderError
from connectors.fhir.resource import ID_LENGTH, Reason, Rejected, Resource
from connectors.sources.folder import FolderSource

SAMPLE = 100  # resources of each file: a check must be quick, whatever the size of the folder
LONG_ID = f"{Reason.INVALID_ID}, of more than {ID_LENGTH} characters: set lenient_ids = true for the site"
WHY_FOLDER = 'kind = "folder" is configured: every run reads every file'
WHY_UNCHANGED = "what is already in the lake is not stored again"
WHY_COMPLETE = "complete = true is configured: what is no longer in the folder counts as deleted"
WHY_PARTIAL = (
    "a folder may hold only a part, so only what its exports name as deleted counts as such (complete = true says that "
    "it holds everything)"
)


def check_folder(site: str, source: FolderSource, required: frozenset[str], *, lenient_ids: bool = False) -> Diagnosis:
    """Check the folder of `site` by the first resources of each file.

    required: types that it must hold. lenient_ids: the site accepts ids that are longer than FHIR allows.
    """
    findings = tuple(_findings(source, required, lenient_ids))
    if any(finding.level is FindingLevel.MISSING for finding in findings):
        path = None
    elif source.whole:
        path = SyncPath("folder", "everything", "by a comparison", (WHY_FOLDER, WHY_UNCHANGED, WHY_COMPLETE))
    else:
        path = SyncPath("folder", "everything", "by the export", (WHY_FOLDER, WHY_UNCHANGED, WHY_PARTIAL))
    return Diagnosis(site, "folder", str(source.path), findings, path)


def _findings(source: FolderSource, required: frozenset[str], lenient_ids: bool) -> Iterator[Finding]:
    try:
        files = source.files()
    except FolderError as error:
        yield Finding("folder", FindingLevel.MISSING, str(error))
        return
    types: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    unreadable = 0
    for file in files:
        try:
            for item in islice(source.read(file), SAMPLE):
                if isinstance(item, Resource) and len(item.id) > ID_LENGTH and not lenient_ids:
                    reasons[LONG_ID] += 1
                elif isinstance(item, Resource):
                    types[item.resource_type] += 1
                # An export may hold types that nobody asked for: that is no fault.
                elif isinstance(item, Rejected) and item.reason is not Reason.UNREQUESTED_TYPE:
                    reasons[item.reason.value] += 1
        except OSError:  # the other files may tell more
            unreadable += 1
    yield Finding("folder", FindingLevel.OK, f"{_files(len(files))} to read")
    if unreadable:
        message = f"{_files(unreadable)} cannot be opened: let the user that runs periop read them"
        yield Finding("readable", FindingLevel.MISSING, message)
    for kind in sorted(source.types or ()):
        if types[kind]:
            yield Finding("read", FindingLevel.OK, "found", kind)
        else:
            message = f"not there: none among the first {SAMPLE} resources of each file"
            if kind in required:
                yield Finding("read", FindingLevel.MISSING, f"{message}; export this type too", kind)
            else:
                yield Finding("read", FindingLevel.NOTE, message, kind)
    for reason, count in sorted(reasons.items()):
        message = f"{count} of the first {SAMPLE} resources of each file would be set aside: {reason}"
        yield Finding("readable", FindingLevel.NOTE, message)


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"
