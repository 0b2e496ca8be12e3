"""Names of what shows a count: a population's size, and adverse events by grade, severe or not, or at any grade."""

from __future__ import annotations

SIZE = "n."  # n.resected, n.enrolled@later_cut
# After the breakdown of a term and phase, from fine to coarse.
GRADES = "#grades"
SEVERE_OR_NOT = "#severe"
ANY_GRADE = "#any"
COARSE = (SEVERE_OR_NOT, ANY_GRADE)
