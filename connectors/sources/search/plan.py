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
from connectors.sources.search import requests as windows
from connectors.sources.search.paging import Paging, SearchLimits, Window
from connectors.sources.search.sync_plan import Question


def planned(
    question: Question, paging: Paging, base: str, limits: SearchLimits, cohort_type: str
) -> Iterator[PlannedRequest]:
    """Yield the requests that follow the cohort query."""
    for window in searches(question, base, limits, cohort_type):
        yield PlannedRequest("GET", shown(paging, window), _what(window, question), _expected(paging, window))
    yield from _probes(question, paging)


def _probes(question: Question, paging: Paging) -> Iterator[PlannedRequest]:
    for kind in question.types:
        if kind in question.ignored:
            probe = windows.changes_probe(kind)
            yield PlannedRequest("GET", paging.count_url(probe), f"{probe.label}, if any of it came")
        if kind not in question.history:
            history = windows.history_probe(kind)
            label = f"{history.label}, if any of it came" if kind in question.since else history.label
            yield PlannedRequest("GET", paging.url(history), label)


def searches(question: Question, base: str, limits: SearchLimits, cohort_type: str) -> Iterator[Window]:
    """The first page of each window, in the order of `connectors.sources.search.executor.Reading.everything`."""

    def whole(kinds: Sequence[str], patients: Sequence[str], of: str = "patients") -> Iterator[Window]:
        return chain.from_iterable(windows.everything(base, kind, patients, limits, of) for kind in kinds)

    since = question.since
    yield from (windows.history(kind, since[kind]) for kind in sorted(question.history))
    if question.reconcile:
        yield from (windows.ids(window, limits) for window in whole([*since], question.known))
    yield from (windows.changes(window, since[window.resource_type]) for window in whole([*since], question.known))
    yield from whole([*since], question.fresh)
    yield from whole([kind for kind in question.types if kind not in since], question.patients)
    if cohort_type in question.types:
        yield from whole([cohort_type], question.left, "former patients")


def _what(window: Window, question: Question) -> str:
    """Its label; changes are not asked for where the history says that there are none."""
    told = window.resource_type in question.history and any(name == "_lastUpdated" for name, _ in window.params)
    return f"{window.label}, unless its history is empty" if told else window.label


def shown(paging: Paging, window: Window) -> str:
    """The URL as it will be sent, with the ids of patients left out."""
    url = paging.url(window)
    if window.patients is None:
        return url
    for name, value in window.params:
        if name in ("_id", "subject"):
            prefix = "" if name == "_id" else "Patient/"
            number = len(window.patients)
            hidden = f"{name}={prefix}…({number} {'patient' if number == 1 else 'patients'})"
            url = url.replace(urlencode({name: value}), hidden)
    return url


def _expected(paging: Paging, window: Window) -> int | None:
    """What the server says it would give; None for histories, whose totals count versions."""
    if window.suffix:
        return None
    try:
        return paging.count(window)
    except ServerError:
        return None
