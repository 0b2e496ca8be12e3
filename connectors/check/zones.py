"""The check whether `_lastUpdated` is compared as an instant, with its zone (FHIR R4, search.html#date).

A server that compares the digits alone loses the changes of as many hours as its zone is away from ours. The instant at
which a resource was updated is the same in every zone, so a search from then on has to find it in each.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from connectors.check import admin_requests
from connectors.check.findings import Finding, FindingLevel
from connectors.check.probe import Prober
from connectors.fhir.resource import Resource

# The farthest zone: there the digits of an instant are later than in any other.
ZONES = (UTC, timezone(timedelta(hours=14)))
ROUNDING = timedelta(seconds=2)  # some servers keep whole seconds


def zone_finding(prober: Prober, known: Resource, whose: tuple[tuple[str, str], ...]) -> Finding | None:
    """Ask for `known`, which is there, by when it was updated. None if that is unclear.

    whose: the parameters of the search that has just found it.
    """
    try:
        since = datetime.fromisoformat(known.last_updated or "") - ROUNDING
    except ValueError:
        return None
    # Of an instant without a zone (against FHIR) nobody knows which point in time it is.
    if since.tzinfo is None:
        return None
    for zone in ZONES:
        told = since.astimezone(zone).isoformat(timespec="milliseconds")
        result = prober.search(known.resource_type, (*whose, ("_lastUpdated", f"ge{told}"), ("_count", "1")))
        # A refusal here would have been one of the search that came before; the server is busy or broken.
        if result.page is None:
            return None
        if not result.matches:
            message = "_lastUpdated is compared without the zone: changes are missed until all ids are compared"
            request = admin_requests.compare_instants(prober.server)
            return Finding("zones", FindingLevel.NOTE, message, request=request)
    return Finding("zones", FindingLevel.OK, "_lastUpdated is compared with its zone")
