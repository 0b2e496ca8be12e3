"""Cohort tables -> results -> rendered artefacts. Never imports connectors, httpx or apscheduler."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics.analysis import analyse
    from analytics.disclosure.control import Released, release
    from analytics.errors import AnalyticsError
    from analytics.estimates.cohort_tables import load_cohort
    from analytics.report.html import render_html

__all__ = [
    "AnalyticsError",
    "Released",
    "analyse",
    "load_cohort",
    "release",
    "render_html",
]

# Where each public name is. Imported when it is asked for (PEP 562): all at once would take seconds.
MODULES = {
    "AnalyticsError": "analytics.errors",
    "Released": "analytics.disclosure.control",
    "analyse": "analytics.analysis",
    "load_cohort": "analytics.estimates.cohort_tables",
    "release": "analytics.disclosure.control",
    "render_html": "analytics.report.html",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
