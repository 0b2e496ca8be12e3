"""The searches for the resources of given patients: type by type, in batches that fit the limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from connectors.fhir.resource_types import WITHOUT_PATIENT

PARAMETER_ROOM = 240  # characters for type, `_count`, `_total`, `_elements` and `_lastUpdated`


@dataclass(frozen=True)
class SearchLimits:
    """Limits of a search.

    page_size: `_count`.
    batch: patients in one search.
    url: characters of a URL.
    pages: of one search.
    restarts: of a search that has expired.
    resource: bytes of one resource.
    ids: `_count` where only ids are asked for.
    streams: searches at a time.
    history: entries of a history that are read for deletions; 0 to read none.
    overlap: seconds before the last sync from which changes are asked for.
    reconcile_days: between two comparisons of all ids.
    fewer: types of which the server announces more than it gives, because it counts what it hides.
    """

    page_size: int = 200
    batch: int = 50
    url: int = 4_000
    pages: int = 10_000
    restarts: int = 3
    resource: int = 16 << 20
    ids: int = 1_000
    streams: int = 4
    history: int = 10_000
    overlap: float = 300.0
    reconcile_days: float = 7.0
    fewer: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SearchRequest:
    """One search, or one history, with all its pages.

    patients: whose resources are asked for, None for all. label: names it in messages. suffix: of the path. count:
    resources on a page, None for the usual number. counted: the server is asked how many there are where its pages do
    not say it.
    """

    resource_type: str
    params: tuple[tuple[str, str], ...]
    patients: frozenset[str] | None
    label: str
    suffix: str = ""
    count: int | None = None
    counted: bool = False


def everything(
    base: str, kind: str, patients: Sequence[str], limits: SearchLimits, of: str = "patients"
) -> Iterator[SearchRequest]:
    """Yield the searches for all resources of this type about these patients. `of` names the patients in messages.

    Of a type without patients `patients` are the ids of the resources themselves.
    """
    by_id = kind == "Patient" or kind in WITHOUT_PATIENT
    prefix = "" if by_id else "Patient/"
    name = "_id" if by_id else "subject"  # R4 AdverseEvent has no `patient`; all have `subject`
    done = 0
    # Proxies refuse long URLs (Apache those above 8,190 characters), and not every server offers search by POST.
    for batch in batches(patients, prefix, limits.batch, limits.url - len(base) - PARAMETER_ROOM):
        label = f"{kind} of {of} {done + 1} to {done + len(batch)}"
        done += len(batch)
        params = ((name, ",".join(prefix + each for each in batch)),)
        yield SearchRequest(kind, params, frozenset(batch), label, counted=True)


def halves(request: SearchRequest) -> Iterator[SearchRequest]:
    """Yield a search for a list of patients as two searches, each for one half of it."""
    (name, listed), *others = request.params
    values, patients = listed.split(","), request.patients or frozenset()
    middle = (len(values) + 1) // 2  # the longer one first: what is too long shows at once
    for part in (values[:middle], values[middle:]):
        asked = frozenset(each.rpartition("/")[2] for each in part) & patients
        yield replace(request, params=((name, ",".join(part)), *others), patients=asked)


def changes(request: SearchRequest, since: str) -> SearchRequest:
    """Return the search for what has changed since this instant by the server's clock (FHIR R4, 3.1.1.3.2)."""
    params = (*request.params, ("_lastUpdated", f"ge{since}"))
    # Not counted, which would cost a request a batch: what a lost page hides shows when all ids are compared.
    return replace(request, params=params, label=f"changes of {request.label}", counted=False)


def ids(request: SearchRequest, limits: SearchLimits, count: int | None = None) -> SearchRequest:
    """Return the search for the ids alone, with `count` on a page (None: `limits.ids`)."""
    params = (*request.params, ("_elements", "id"))
    return replace(request, params=params, label=f"ids of {request.label}", count=count or limits.ids)


def owners(request: SearchRequest, limits: SearchLimits) -> SearchRequest:
    """Return the search for the ids, and for whom the resources are about."""
    return replace(ids(request, limits), params=(*request.params, ("_elements", "id,subject")))


def versions(request: SearchRequest, limits: SearchLimits) -> SearchRequest:
    """Return the search for the ids and the versions alone."""
    params = (*request.params, ("_elements", "id,meta"))
    return replace(ids(request, limits), params=params)


def history(kind: str, since: str) -> SearchRequest:
    """Return the request for what was done to resources of this type since then, without their content.

    A history cannot be limited to patients: it is that of all patients of the server.
    """
    return SearchRequest(kind, (("_since", since), ("_elements", "id")), None, f"history of {kind}", "/_history")


def history_probe(kind: str) -> SearchRequest:
    """Return the request for the newest entry of the history of a type."""
    return SearchRequest(kind, (("_elements", "id"),), None, f"history of {kind}", "/_history", count=1)


def changes_probe(kind: str) -> SearchRequest:
    """Return the search for changes after the year 2999: none, unless the server ignores `_lastUpdated`."""
    params = (("_lastUpdated", "gt2999-01-01T00:00:00.000Z"),)
    return SearchRequest(kind, params, None, f"question of {kind} for changes")


def batches(patients: Sequence[str], prefix: str, size: int, room: int) -> Iterator[list[str]]:
    """Yield the patients in order, at most `size` together.

    A batch has at most `room` characters when percent-encoded, but at least one patient.
    """
    batch: list[str] = []
    length, around = 0, len(quote(f"{prefix},", safe=""))
    for patient in patients:
        added = around + len(patient)  # a FHIR id has no character that is encoded
        if batch and (len(batch) >= size or length + added > room):
            yield batch
            batch, length = [], 0
        batch.append(patient)
        length += added
    if batch:
        yield batch
