"""The report of the stage `map`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MapReport:
    """Counts of a map: patients with the condition, those enrolled, view tables rebuilt from scratch, entries of the
    quality list, and patients whose cohort rows were derived again."""

    patients: int
    enrolled: int
    views_rebuilt: int
    quality_rows: int
    derived: int = 0
