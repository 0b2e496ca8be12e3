"""The searches for the resources of given patients: type by type, in batches that fit the limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import quote

from connectors.sources.search.paging import SearchLimits, Window

ROOM = 240  # characters for type, `_count`, `_total`, `_elements` and `_lastUpdated`


def everything(
    base: str, kind: str, patients: Sequence[str], limits: SearchLimits, of: str = "patients", done: int = 0
) -> Iterator[Window]:
    """All resources of this type about these patients. `of` names the patients in messages, `done` were before them."""
    prefix = "" if kind == "Patient" else "Patient/"
    name = "_id" if kind == "Patient" else "subject"  # R4 AdverseEvent has no `patient`; all have `subject`
    for batch in batches(patients, prefix, limits.batch, limits.url - len(base) - ROOM):
        label = f"{kind} of {of} {done + 1} to {done + len(batch)}"
        done += len(batch)
        yield Window(kind, ((name, ",".join(prefix + each for each in batch)),), frozenset(batch), label, counted=True)


def changes(window: Window, since: str) -> Window:
    """Of a window, what has changed since this instant, as the server sees it (FHIR R4, 3.1.1.3.2)."""
    params = (*window.params, ("_lastUpdated", f"ge{since}"))
    return replace(window, params=params, label=f"changes of {window.label}", counted=False)


def ids(window: Window, limits: SearchLimits, count: int | None = None) -> Window:
    """Of a window, which resources there are. count: on a page, `limits.ids` if it is None."""
    params = (*window.params, ("_elements", "id"))
    return replace(window, params=params, label=f"ids of {window.label}", count=count or limits.ids)


def history(kind: str, since: str) -> Window:
    """What was done to resources of this type since then, of all patients of the server, without their content."""
    return Window(kind, (("_since", since), ("_elements", "id")), None, f"history of {kind}", "/_history")


def history_probe(kind: str) -> Window:
    """The newest entry of the history of a type."""
    return Window(kind, (("_elements", "id"),), None, f"history of {kind}", "/_history", count=1)


def changes_probe(kind: str) -> Window:
    """What was changed after the year 2999: nothing, unless the server ignores `_lastUpdated`."""
    return Window(kind, (("_lastUpdated", "gt2999-01-01T00:00:00.000Z"),), None, f"question of {kind} for changes")


def batches(patients: Sequence[str], prefix: str, size: int, room: int) -> Iterator[list[str]]:
    """Patients in order, at most `size` together, and with at most `room` characters when percent-encoded (at
    least one).
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
