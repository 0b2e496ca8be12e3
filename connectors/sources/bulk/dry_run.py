"""The requests of the next sync by Bulk Data export, as far as they are known before. Starts no export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.errors import ServerError
from connectors.http.client import FhirClient
from connectors.sources.base import PlannedRequest
from connectors.sources.bulk.job import KickOff
from connectors.sources.bulk.request import ExportRequest
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest

AFTERWARDS = (
    PlannedRequest("GET", "(the address that each kick-off is answered with)", "polling until the manifest is there"),
    PlannedRequest("GET", "(each address in the manifest)", "the files"),
    PlannedRequest("DELETE", "(the address that was polled)", "removing the job when its files are read"),
)


def planned(client: FhirClient, requests: Sequence[ExportRequest], kick_off: KickOff) -> Iterator[PlannedRequest]:
    """Yield each kick-off, and what follows. Raise AuthenticationError where the credentials are refused."""
    paging = Paging(client, SearchLimits())
    for request in requests:
        what, expected = f"kick-off, {request.label}", _expected(paging, request)
        if kick_off == "post":
            yield PlannedRequest("POST", f"{client.base}/{request.path()}", what, expected)
        else:
            yield PlannedRequest("GET", request.url(client.base), what, expected)
    yield from AFTERWARDS


def _expected(paging: Paging, request: ExportRequest) -> int | None:
    """Return how many resources an export of the whole system holds, by searches; None where that is unknown."""
    # A search cannot be limited to what an export by Group or by _typeFilter holds.
    if request.level != "system" or request.type_filter:
        return None
    since = (("_lastUpdated", f"ge{request.since}"),) if request.since else ()
    try:
        counts = [paging.count(SearchRequest(kind, since, None, kind)) for kind in request.types]
    except ServerError:
        return None
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
