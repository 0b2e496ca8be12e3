"""The events that a source yields while it is read, in the order of arrival."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.fhir.resource import Rejected, Resource


@dataclass(frozen=True, slots=True)
class Problem:
    """A part of the source could not be read whole, so the sync is partial. `message` is a sentence for the report."""

    message: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth knowing that does not make the sync partial. `message` is a sentence for the report."""

    message: str


@dataclass(frozen=True, slots=True)
class ProgressMessage:
    """A message of the server while it prepares an export, for the screen; it changes nothing.

    Holds only what may be shown: letters, digits and a few punctuation marks, at most one line.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The server says that `count` more resources of this type will come."""

    resource_type: str
    count: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """The server says that this resource was deleted.

    version_id, last_updated: of the deletion, as the server states them. where: its place in the source. in_order: what
    the source yields after it was made after it, so a resource that comes again was not deleted in the end.
    """

    resource_type: str
    id: str
    version_id: str | None
    last_updated: str | None
    where: str
    in_order: bool = False


@dataclass(frozen=True, slots=True)
class Exists:
    """The server has this resource, but its content was not asked for, or (`readable` false) is in quarantine.

    version_id, last_updated: as the server states them, None where it does not.
    """

    resource_type: str
    id: str
    readable: bool = True
    version_id: str | None = None
    last_updated: str | None = None


@dataclass(frozen=True, slots=True)
class CompleteFor:
    """Everything of this type about these patients was asked for and came, as Resource or as Exists.

    What the lake has of them beyond that was deleted on the server. Comes after the resources.
    """

    resource_type: str
    patients: frozenset[str]


@dataclass(frozen=True, slots=True)
class NoData:
    """The export returned no file for this type, although everything of it was asked for.

    That is ambiguous (no data, or no permission), so nothing is treated as deleted.
    """

    resource_type: str


@dataclass(frozen=True, slots=True)
class NotOffered:
    """The site does not have this type, so it was not asked for. how: what says so, after "because"."""

    resource_type: str
    how: str


InfoEvent = Note | ProgressMessage | Expected | Deleted | Exists | CompleteFor | NoData | NotOffered
SourceEvent = Resource | Rejected | Problem | InfoEvent
