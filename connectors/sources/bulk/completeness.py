"""Checks that an export is complete: files that a manifest lists late, and types that it has no file of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from connectors.errors import ConnectorError
from connectors.http.client import FhirClient
from connectors.sources.bulk.manifest import ExportFile, Manifest
from connectors.sources.bulk.request import ExportRequest
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest, changes_probe

Shape = tuple[str, int | None, str]


@dataclass
class ListedFiles:
    """The files of a manifest that were taken up so far."""

    _files: set[ExportFile] = field(default_factory=set)
    _shapes: Counter[Shape] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self._files)

    def take(self, page: Manifest) -> None:
        """Note the files of a page."""
        self._files.update(page.files)
        self._shapes.update(map(_shape, page.files))

    def new(self, pages: Sequence[Manifest]) -> list[Manifest]:
        """Return the pages with the files alone that were not taken up; none where nothing is new.

        pages: all of the manifest, read again.
        """
        listed = Counter(_shape(file) for page in pages for file in page.files)
        # The signatures of presigned URLs may be others each time: as many files of the same names are no news.
        if listed == self._shapes:
            return []
        self._shapes = listed
        rests = [
            replace(
                page, output=self._new(page.output), deleted=self._new(page.deleted), outcomes=self._new(page.outcomes)
            )
            for page in pages
        ]
        self._files.update(file for page in pages for file in page.files)
        return [page for page in rests if page.files]

    def _new(self, files: Iterable[ExportFile]) -> tuple[ExportFile, ...]:
        return tuple(file for file in files if file not in self._files)


def _shape(file: ExportFile) -> Shape:
    return file.resource_type, file.count, file.url.partition("?")[0]


def missing_types(
    client: FhirClient, request: ExportRequest, absent: Iterable[str], until: str | None
) -> Iterator[tuple[str, int]]:
    """Yield those of the absent types that the server has resources of by its search, and how many.

    until: the transactionTime of the export. Yields nothing of a type where the server does not count, or where a
    search counts others than an export holds: those of a Group, of some patients, or of a filter.
    """
    paging = Paging(client, SearchLimits())
    try:
        for kind in filter(request.holds_all_of, absent):
            count = paging.count(SearchRequest(kind, _period(request.since, until), None, kind))
            # A server that ignores `_lastUpdated` counts everything: then the number says nothing of the changes.
            if count and (request.since is None or paging.count(changes_probe(kind)) == 0):
                yield kind, count
    except ConnectorError:  # a client for exports may not be allowed to search
        return


def _period(since: str | None, until: str | None) -> tuple[tuple[str, str], ...]:
    if since is None:
        return ()
    return (("_lastUpdated", f"ge{since}"), *((("_lastUpdated", f"lt{until}"),) if until else ()))
