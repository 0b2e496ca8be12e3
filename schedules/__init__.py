"""Composition root: the only package that imports all others, reads the environment, and knows the clock."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schedules.cli.main import main
    from schedules.config.settings import Settings, load_settings
    from schedules.errors import ExitCode, PeriopError

__all__ = [
    "ExitCode",
    "PeriopError",
    "Settings",
    "load_settings",
    "main",
]

# Where each public name is. Imported when it is asked for (PEP 562): all at once would take seconds.
MODULES = {
    "ExitCode": "schedules.errors",
    "PeriopError": "schedules.errors",
    "Settings": "schedules.config.settings",
    "load_settings": "schedules.config.settings",
    "main": "schedules.cli.main",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
