"""Names of what shows a count: sizes of populations, adverse events by grade, severe or not, or any grade; records."""

from __future__ import annotations

SIZE = "n."  # n.resected, n.enrolled@later_cut
# After the breakdown of a term and phase, from fine to coarse.
GRADES = "#grades"
SEVERE_OR_NOT = "#severe"
ANY_GRADE = "#any"
COARSE = (SEVERE_OR_NOT, ANY_GRADE)


def quality_name(site: str, domain: str, issue: str) -> str:
    """Return the name of a line of the quality list."""
    return f"{site} {domain} {issue}"
