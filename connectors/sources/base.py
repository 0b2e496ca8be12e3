"""The protocol of every source of resources, and of its plan: the requests that it would send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from connectors.fhir.events import SourceEvent
from connectors.lake.table import Cursor

# Which types are asked for is no part of a fingerprint: each has a time of its own in the cursor, and one that is new
# is read from the beginning. These stand in its place, as in the fingerprints of version 0.1, so that its cursors hold.
TYPES_0_1 = ("Patient", "Condition", "MedicationAdministration", "Procedure", "AdverseEvent", "Observation")


class Source(Protocol):
    """A place that resources come from. `pull` is read once, to its end, with bounded memory."""

    @property
    def fingerprint(self) -> str:
        """A digest of what is asked for (place and query, no secret). Where it changes, cursors are void."""

    @property
    def server_time(self) -> str | None:
        """Until when the pull is complete by the server's own clock, as a FHIR instant, once it is known.

        The Date of its first response, or what it states (transactionTime) if that is earlier. None for a folder.
        """
        ...

    @property
    def whole(self) -> bool:
        """After the pull: True if everything of all patients was asked for and read, of the types in `asked`.

        Then what the lake has beyond it was deleted at the source. A source that asks for some patients says by
        CompleteFor what is complete.
        """
        ...

    @property
    def asked(self) -> frozenset[str] | None:
        """After the pull: the types that were asked for, None for every type. Of others nothing is known."""
        ...

    @property
    def state(self) -> Mapping[str, str]:
        """After the pull: what the source wants to find in the cursor of the next one. No secret, no id.

        Empty for a source that always reads everything. `asked` = "everything" says that it did so this time.
        """
        ...

    def pull(self, previous: Cursor | None) -> Iterator[SourceEvent]:
        """Yield what there is, or what has changed since `previous`.

        Args:
            previous: the cursor of this site if the same was asked for last time (same fingerprint), None to ask for
                everything.

        Raises:
            ConnectorError: nothing can be read at all.
        """


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of the next sync, or one file that it would read.

    method: of HTTP, READ for a file.
    url_shown: the URL as it will be sent, except for the ids of patients, which stand as `Patient/…(50 patients)`; a
        description in brackets where only a response tells the URL.
    what: the purpose, in words.
    expected: how many resources the server says it would return, None where it does not say.
    """

    method: str
    url_shown: str
    what: str
    expected: int | None = None


@runtime_checkable
class SupportsPlan(Protocol):
    """A source that can list its requests. It may ask the server to find out; it stores nothing."""

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:
        """Yield the requests of a sync that begins at `previous`, in order. Raises ConnectorError as `pull` does."""
        ...
