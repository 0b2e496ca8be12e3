"""The requests of the next sync by search, as far as they are known before they are sent. Stores nothing.

How many resources each search has is asked for (`_summary=count`). What only a response makes necessary cannot be
listed: next pages, and a comparison of ids where a server turns out to ignore a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from urllib.parse import urlencode

from connectors.errors import ServerError
from connectors.sources.base import PlannedRequest
from connectors.sources.search import requests
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest
from connectors.sources.search.sync_plan import SyncPlan


def planned(
    plan: SyncPlan, paging: Paging, base: str, limits: SearchLimits, cohort_type: str
) -> Iterator[PlannedRequest]:
    """Yield the requests that follow the cohort query."""
    for request in searches(plan, base, limits, cohort_type):
        yield PlannedRequest("GET", shown(paging, request), _what(request, plan), _expected(paging, request))
    yield from _probes(plan, paging)


def _probes(plan: SyncPlan, paging: Paging) -> Iterator[PlannedRequest]:
    for kind in plan.types:
        if kind in plan.ignored:
            probe = requests.changes_probe(kind)
            yield PlannedRequest("GET", paging.count_url(probe), f"{probe.label}, if any of it came")
        if kind not in plan.history:
            history = requests.history_probe(kind)
            label = f"{history.label}, if any of it came" if kind in plan.since else history.label
            yield PlannedRequest("GET", paging.url(history), label)


def searches(plan: SyncPlan, base: str, limits: SearchLimits, cohort_type: str) -> Iterator[SearchRequest]:
    """Yield the first page of each search, in the order of `SearchExecutor.run`."""

    def whole(kinds: Sequence[str], patients: Sequence[str], of: str = "patients") -> Iterator[SearchRequest]:
        return chain.from_iterable(requests.everything(base, kind, patients, limits, of) for kind in kinds)

    since = plan.since
    yield from (requests.history(kind, since[kind]) for kind in sorted(plan.history))
    if plan.reconcile:
        yield from (requests.ids(request, limits) for request in whole([*since], plan.known))
    yield from (requests.changes(request, since[request.resource_type]) for request in whole([*since], plan.known))
    yield from whole([*since], plan.fresh)
    yield from whole([kind for kind in plan.types if kind not in since], plan.patients)
    if cohort_type in plan.types:
        yield from whole([cohort_type], plan.left, "former patients")


def _what(request: SearchRequest, plan: SyncPlan) -> str:
    """Return its label; changes are not asked for where the history says that there are none."""
    told = request.resource_type in plan.history and any(name == "_lastUpdated" for name, _ in request.params)
    return f"{request.label}, unless its history is empty" if told else request.label


def shown(paging: Paging, request: SearchRequest) -> str:
    """Return the URL as it will be sent, with the ids of patients left out."""
    url = paging.url(request)
    if request.patients is None:
        return url
    # The plan is shown on a screen and may be sent to the server's admin: no ids of patients in it.
    for name, value in request.params:
        if name in ("_id", "subject"):
            prefix = "" if name == "_id" else "Patient/"
            number = len(request.patients)
            hidden = f"{name}={prefix}…({number} {'patient' if number == 1 else 'patients'})"
            url = url.replace(urlencode({name: value}), hidden)
    return url


def _expected(paging: Paging, request: SearchRequest) -> int | None:
    """Return how many resources the server says it has; None for histories, whose totals count versions."""
    if request.suffix:
        return None
    try:
        return paging.count(request)
    except ServerError:
        return None
