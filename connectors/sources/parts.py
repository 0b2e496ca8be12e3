"""The parts of a pull: each is read whole or not at all, and what was read is known by the names of the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event

from connectors.errors import ServerError, UnavailableError
from connectors.fhir.events import SourceEvent
from connectors.fhir.resource import Resource
from connectors.sources.concurrency import run_concurrently

AWAY = "the server did not answer an earlier request, so this was not asked for"


@dataclass(frozen=True)
class Part:
    """A part of a pull. read: yields what it holds, and raises ServerError where it cannot be read whole."""

    name: str
    read: Callable[[], Iterator[SourceEvent]]


@dataclass(frozen=True)
class PartEnd:
    """The end of a part, and why it ended early (None: it did not)."""

    part: Part
    error: ServerError | None = None


def read_parts(parts: Sequence[Part], streams: int) -> Iterator[SourceEvent | PartEnd]:
    """Yield each part in order, `streams` at a time, with a PartEnd after each. Raises AuthenticationError."""
    away = Event()  # then the other parts would wait for the server one after the other
    return run_concurrently([partial(_attempt, each, away) for each in parts], streams, in_order=True, size=_size)


def _attempt(part: Part, away: Event) -> Iterator[SourceEvent | PartEnd]:
    error: ServerError | None = None
    try:
        if away.is_set():
            raise UnavailableError(f"{part.name}: {AWAY}")
        yield from part.read()
    except ServerError as raised:
        error = raised
        if isinstance(raised, UnavailableError):
            away.set()
    yield PartEnd(part, error)


def _size(event: SourceEvent | PartEnd) -> int:
    return len(event.raw) if isinstance(event, Resource) else 0
