"""FHIR instants: points in time, in this program the times that servers state (FHIR R4 2.24.0.1)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from connectors.fhir import dates

INSTANT = re.compile(dates.INSTANT)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@lru_cache(maxsize=64)  # each is asked for again as soon as its resource is compared with the known ones
def instant(text: str | None) -> int | None:
    """Return a FHIR instant in microseconds since 1970, None for anything else.

    Digits beyond the microsecond are dropped.
    """
    if text is None or not INSTANT.fullmatch(text):
        return None
    try:
        return (datetime.fromisoformat(text) - EPOCH) // MICROSECOND
    except ValueError:
        return None


def comparable(text: str | None) -> float:
    """Return a FHIR instant in microseconds since 1970; -inf, before all instants, for anything else."""
    found = instant(text)
    return float("-inf") if found is None else found


def earliest(*texts: str | None) -> str | None:
    """Return the earliest of these FHIR instants, None where there is none."""
    return min((text for text in texts if instant(text) is not None), key=comparable, default=None)


def earlier(text: str | None, seconds: float) -> str | None:
    """Return the FHIR instant so many seconds before `text`, in UTC and milliseconds (rounded down).

    None where there is none.
    """
    moment = instant(text)
    if moment is None:
        return None
    found = EPOCH + timedelta(microseconds=moment) - timedelta(seconds=seconds)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
