"""The wall clock of all stages: what a test replaces. Only the triggers of APScheduler read their own."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present as an aware UTC instant."""
    return datetime.now(UTC)
