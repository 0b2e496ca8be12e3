"""What a sync would ask, before it asks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from connectors.lake.table import Cursor


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of the next sync, or one file that it would read.

    method: of HTTP, READ for a file. url_shown: the URL as it will be sent, but for the ids of patients, which
    stand as `Patient/…(50 patients)`; in words, in brackets, where only an answer tells it. what: what it is for,
    in words. expected: how many resources the server says it would give, None where it does not tell.
    """

    method: str
    url_shown: str
    what: str
    expected: int | None = None


@runtime_checkable
class Planning(Protocol):
    """A source that can say what it would ask. It may ask the server to find out; it stores nothing."""

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:
        """The requests of a sync that begins at `previous`, in order. Raises ConnectorError as `pull` does."""
        ...
