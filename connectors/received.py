"""What a source yields, in the order of arrival, and what a source is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from connectors.resource import Rejected, Resource


@dataclass(frozen=True, slots=True)
class Problem:
    """A part of the source could not be read whole:

    The sync is partial. `message` is a sentence for the report.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The server says that `count` more resources of this type will come."""

    resource_type: str
    count: int


Received = Resource | Rejected | Problem | Expected


class Source(Protocol):
    """A place that resources come from. `pull` is read once, to its end, with bounded memory."""

    @property
    def fingerprint(self) -> str:
        """A digest of what is asked for (place and query, no secret): another one means another question."""

    @property
    def server_time(self) -> str | None:
        """The server's clock when the pull began, once it is known; None for a folder."""
        ...

    def pull(self) -> Iterator[Received]:
        """Yield all there is. Raises ConnectorError where nothing can be read at all."""
