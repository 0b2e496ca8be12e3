"""Presets: what is known of a vendor's server, and the defaults of a site's settings that follow from it.

Each is a file of `vendors/`, with the public source of each line. A site names one (`vendor = "epic"`); its own
settings win. A file may hold any setting of the site's kind, in `[site]` (both kinds), `[search]` and `[bulk]`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

VENDORS = Path(__file__).parent / "vendors"
VendorName = Literal["epic", "oracle_health", "smart_reference", "hapi", "firely", "azure"]


@dataclass(frozen=True)
class Preset:
    """The facts about the server of one vendor.

    title, software, lacks, unfit: as in `connectors.check.vendors.KnownServer`. defaults: settings by kind of site.
    """

    name: str
    title: str
    software: tuple[str, ...]
    lacks: frozenset[str]
    unfit: Mapping[str, str]
    defaults: Mapping[str, Mapping[str, Any]]


@cache
def presets() -> Mapping[str, Preset]:
    """Return all presets by name."""
    return {file.stem: _read(file) for file in sorted(VENDORS.glob("*.toml"))}


def with_defaults(site: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a site with the defaults of its vendor where it has none of its own.

    In a table, such as `limits` or `parameters`, each key counts for itself: a type with parameters of its own has
    none of the vendor's.

    >>> with_defaults({"vendor": "hapi", "kind": "bulk"})
    {'max_poll_seconds': 5, 'vendor': 'hapi', 'kind': 'bulk'}
    """
    preset = presets().get(str(site.get("vendor")))
    return _merged(preset.defaults.get(str(site.get("kind")), {}), site) if preset else dict(site)


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    # One level deep: below it are the settings of one thing, like the parameters of a type, which belong together.
    merged = {**defaults, **own}
    for key, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(own.get(key), Mapping):
            merged[key] = {**value, **own[key]}
    return merged


def _read(file: Path) -> Preset:
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    return Preset(
        file.stem,
        content["title"],
        tuple(content["software"]),
        frozenset(content["lacks"]),
        content.get("unfit", {}),
        {kind: _merged(content["site"], content[kind]) for kind in ("search", "bulk")},
    )
