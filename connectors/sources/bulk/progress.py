"""The state of one export while it is read: what came, what is missing, and up to which time it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from connectors.errors import ForeignOriginError
from connectors.fhir.instants import earliest
from connectors.sources.bulk.completeness import ListedFiles
from connectors.sources.bulk.job import Export
from connectors.sources.bulk.request import ExportRequest


@dataclass
class ExportProgress:
    """The state of one export while it is read.

    failed: the types of which something is missing. seen: those of which the manifest lists a file, '' for any. listed:
    all files that it lists. patients: a Patient came. stated: the transactionTime. closed: the storage where the files
    lie gives none of them. refused: the reasons for which files of another origin were not asked for.
    """

    export: Export
    request: ExportRequest
    last_try: bool
    failed: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    listed: ListedFiles = field(default_factory=ListedFiles)
    patients: bool = False
    closed: bool = False
    refused: set[str] = field(default_factory=set)
    stated: str | None = None
    times: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def time(self) -> str | None:
        """Return the earliest time that the server stated: Date at kick-off or transactionTime (fault 14)."""
        return earliest(*self.times)

    def first_refusal(self, error: ForeignOriginError) -> bool:
        """Return whether no other file was refused for the same reason."""
        reason = str(error).partition(": ")[2]  # without the type of the file
        known = reason in self.refused
        self.refused.add(reason)
        return not known

    def fail(self, kind: str) -> None:
        """Hold the cursor of this type; of all where the file may hold any."""
        self.failed |= {kind} if kind in self.request.types else set(self.request.types)
