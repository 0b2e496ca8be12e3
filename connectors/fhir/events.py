"""What a source yields, in the order of arrival, and what a source is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from connectors.fhir.resource import Rejected, Resource
from connectors.lake.table import Cursor


@dataclass(frozen=True, slots=True)
class Problem:
    """A part of the source could not be read whole:

    The sync is partial. `message` is a sentence for the report.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth knowing that makes nothing partial, as a sentence for the report."""

    message: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What the server says while it prepares an export: for the screen, it changes nothing.

    Holds only what may be shown: letters, digits and a few marks, cut to a line.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The server says that `count` more resources of this type will come."""

    resource_type: str
    count: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """The server says that this resource is gone.

    version_id, last_updated: of the deletion, as the server tells them. where: its place in the source.
    """

    resource_type: str
    id: str
    version_id: str | None
    last_updated: str | None
    where: str


@dataclass(frozen=True, slots=True)
class Present:
    """The server has this resource, but its content was not asked for, or (`readable` false) is in quarantine."""

    resource_type: str
    id: str
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Covered:
    """All of this type about these patients was asked for, and all of it came, as Resource or as Present.

    What the lake has of them beyond that is gone from the server. Comes after the resources.
    """

    resource_type: str
    patients: frozenset[str]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Everything of this type was asked for and nothing came, not even an empty file.

    Perhaps there is none, perhaps the server may not give it: nothing is concluded from absence.
    """

    resource_type: str


Received = Resource | Rejected | Problem | Note | Notice | Expected | Deleted | Present | Covered | Unseen


class Source(Protocol):
    """A place that resources come from. `pull` is read once, to its end, with bounded memory."""

    @property
    def fingerprint(self) -> str:
        """A digest of what is asked for (place and query, no secret): another one means another question."""

    @property
    def server_time(self) -> str | None:
        """Up to when the pull is whole by the server's own clock, as a FHIR instant, once it is known.

        The Date of its first answer, or what it states (transactionTime) if that is earlier. None for a folder.
        """
        ...

    @property
    def whole(self) -> bool:
        """After the pull: everything that exists was asked for and read, so what the lake has beyond it is gone.

        Of whatever patient. A source that asks for some patients says what is whole by Covered instead.
        """
        ...

    @property
    def state(self) -> Mapping[str, str]:
        """After the pull: what the source wants to find in the cursor of the next one. No secret, no id.

        Empty for a source that reads everything every time. asked = "everything" says that it did so this time.
        """
        ...

    def pull(self, previous: Cursor | None) -> Iterator[Received]:
        """Yield what there is, or what has changed since `previous`.

        `previous` is the cursor of this site if the same question was asked last time (same fingerprint), None for
        everything. Raises ConnectorError where nothing can be read at all.
        """
