"""Raw resources -> views -> cohort tables. Pure: takes Ibis tables and a Study, returns Ibis tables."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mappers.errors import MappingError
    from mappers.study import Study, load_study
    from mappers.view.definition import ViewDefinition
    from mappers.view.runner import run_view
    from mappers.view.shipped import load_views

__all__ = [
    "MappingError",
    "Study",
    "ViewDefinition",
    "load_study",
    "load_views",
    "run_view",
]

# Where each public name is. Imported when it is asked for (PEP 562): all at once would take seconds.
MODULES = {
    "MappingError": "mappers.errors",
    "Study": "mappers.study",
    "ViewDefinition": "mappers.view.definition",
    "load_study": "mappers.study",
    "load_views": "mappers.view.shipped",
    "run_view": "mappers.view.runner",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
