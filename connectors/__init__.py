"""From FHIR servers and folders to the lake. Knows nothing of oncology."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.errors import ConnectorError
    from connectors.http.authenticators import BearerAuth
    from connectors.lake.quarantine import Quarantine
    from connectors.lake.table import Lake
    from connectors.report import SyncReport
    from connectors.sources.bulk.source import BulkSource
    from connectors.sources.folder import FolderSource
    from connectors.sources.search.by_type import TypeSearch
    from connectors.sources.search.source import SearchSource
    from connectors.sync import sync_site

__all__ = [
    "BearerAuth",
    "BulkSource",
    "ConnectorError",
    "FolderSource",
    "Lake",
    "Quarantine",
    "SearchSource",
    "SyncReport",
    "TypeSearch",
    "sync_site",
]

# Where each public name is. Imported when it is asked for (PEP 562): all at once would take seconds.
MODULES = {
    "BearerAuth": "connectors.http.authenticators",
    "BulkSource": "connectors.sources.bulk.source",
    "ConnectorError": "connectors.errors",
    "FolderSource": "connectors.sources.folder",
    "Lake": "connectors.lake.table",
    "Quarantine": "connectors.lake.quarantine",
    "SearchSource": "connectors.sources.search.source",
    "SyncReport": "connectors.report",
    "TypeSearch": "connectors.sources.search.by_type",
    "sync_site": "connectors.sync",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
