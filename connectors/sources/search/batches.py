"""Finds out how many patients a server takes in one search, by what it refuses.

A URL that is too long is answered with 414 (RFC 9110, 15.5.15), by some with 400, 404, 413 or 431; a list that is too
long for the server itself with 400 or 422 (Epic takes one patient in a search). None of them says what would be short
enough, so a refused list is asked for in halves, and what worked holds for the rest of the sync and for the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from connectors.errors import RefusedError
from connectors.fhir.events import SourceEvent
from connectors.sources.search.requests import SearchRequest, halves

# The status says that the request is too large.
TOO_LONG = frozenset({413, 414, 431})
# IIS answers 404 to a query string beyond its limit, Epic 400 to a second patient.
PERHAPS_TOO_LONG = frozenset({400, 404, 422})
Read = Callable[[SearchRequest], Iterator[SourceEvent]]


@dataclass
class LearnedBatches:
    """The number of patients in one search. Several threads may use it.

    size: how many may be asked for together, as far as is known. shrunk: a longer list was refused.
    """

    size: int
    shrunk: bool = field(default=False, init=False)
    _refused: set[str] = field(default_factory=set, init=False)  # types that are refused for one patient as well
    _taken: set[str] = field(default_factory=set, init=False)

    def read(self, request: SearchRequest, read: Read) -> Iterator[SourceEvent]:
        """Yield what `read` yields of a search, in parts where the server refuses so many patients.

        Raises RefusedError where it refuses one patient as well.
        """
        kind, length = request.resource_type, len(request.patients or ())
        if length > self.size and kind not in self._refused:
            for half in halves(request):
                yield from self.read(half, read)
            return
        try:
            yield from read(request)
        except RefusedError as error:
            if not self._may_be_too_long(kind, length, error.status):
                raise
        else:
            self._taken.add(kind)
            return
        first, second = halves(request)
        yield from self.read(first, read)
        # Only now: a type that is refused for another reason says nothing about lists.
        if (size := len(first.patients or ())) < self.size:
            self.size, self.shrunk = size, True
        yield from self.read(second, read)

    def _may_be_too_long(self, kind: str, length: int, status: int) -> bool:
        if status not in TOO_LONG | PERHAPS_TOO_LONG or kind in self._refused:
            return False
        # Where others of the type were answered, it is this one patient that is refused.
        if length < 2 and kind not in self._taken:
            self._refused.add(kind)
        return length > 1
