"""The requests of the next sync by search, as far as they are known before they are sent. Stores nothing.

How many resources each search has is asked for (`_summary=count`). What only a response makes necessary cannot be
listed: next pages, and a comparison of ids where a server turns out to ignore a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from urllib.parse import urlencode

from connectors.errors import ServerError
from connectors.fhir.resource_types import WITHOUT_PATIENT
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
        yield from planned_search(paging, request, _what(request, plan), _expected(paging, request))
    for kind in plan.types:
        if kind in WITHOUT_PATIENT:
            yield PlannedRequest("GET", f"{base}/{kind}?_id=…", f"each {kind} that is referred to, if any of it came")
    yield from _probes(plan, paging)


def _probes(plan: SyncPlan, paging: Paging) -> Iterator[PlannedRequest]:
    for kind in plan.types:
        if kind in plan.ignored:
            probe = requests.changes_probe(kind)
            for url in paging.count_urls(probe):
                yield PlannedRequest(paging.method(probe), url, f"{probe.label}, if any of it came")
        if kind not in plan.history:
            history = requests.history_probe(kind)
            label = f"{history.label}, if any of it came" if kind in plan.since else history.label
            yield from planned_search(paging, history, label)


def searches(plan: SyncPlan, base: str, limits: SearchLimits, cohort_type: str) -> Iterator[SearchRequest]:
    """Yield the first page of each search, in the order of `SearchExecutor.run`."""

    def whole(kinds: Sequence[str], patients: Sequence[str], of: str = "patients") -> Iterator[SearchRequest]:
        return chain.from_iterable(requests.everything(base, kind, patients, limits, of) for kind in kinds)

    yield from (requests.history(kind, plan.since[kind]) for kind in sorted(plan.history))
    since = {kind: time for kind, time in plan.since.items() if kind not in WITHOUT_PATIENT}
    if plan.reconcile:
        yield from (requests.versions(request, limits) for request in whole([*since], plan.known))
    yield from (requests.changes(request, since[request.resource_type]) for request in whole([*since], plan.known))
    yield from whole([*since], plan.fresh)
    yield from whole([kind for kind in plan.types if kind not in {*since, *WITHOUT_PATIENT}], plan.patients)
    if cohort_type in plan.types:
        yield from whole([cohort_type], plan.left, "former patients")


def _what(request: SearchRequest, plan: SyncPlan) -> str:
    """Return its label; changes are not asked for where the history says that there are none."""
    told = request.resource_type in plan.history and any(name == "_lastUpdated" for name, _ in request.params)
    return f"{request.label}, unless its history is empty" if told else request.label


def planned_search(
    paging: Paging, request: SearchRequest, what: str, expected: Sequence[int | None] = ()
) -> Iterator[PlannedRequest]:
    """Yield the first page of each query of a search. expected: how many resources each of them has, as far as known.

    The URLs are as they will be sent, with the ids of patients left out.
    """
    written = zip(paging.urls(request), paging.dialect.written(request), strict=True)
    for number, (url, query) in enumerate(written):
        count = expected[number] if number < len(expected) else None
        yield PlannedRequest(paging.method(request), _without_ids(url, query), what, count)


def _without_ids(url: str, query: SearchRequest) -> str:
    if query.patients is None:
        return url
    # The plan is shown on a screen and may be sent to the server's admin: no ids of patients in it.
    for name, value in query.params:
        if name in ("_id", "subject", "patient"):
            prefix = "Patient/" if name == "subject" else ""
            number = len(query.patients)
            hidden = f"{name}={prefix}…({number} {'patient' if number == 1 else 'patients'})"
            url = url.replace(urlencode({name: value}), hidden)
    return url


def _expected(paging: Paging, request: SearchRequest) -> Sequence[int | None]:
    """Return how many resources the server says it has; nothing of histories, whose totals count versions."""
    if request.suffix:
        return ()
    try:
        return paging.counts(request)
    except ServerError:
        return ()
