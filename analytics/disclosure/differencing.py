"""Find published counts that disclose a small one by differencing: when they are added or subtracted.

A reader who knows the study knows which groups of patients contain or exclude each other: responders
were resected, the dead had an event. Then counts can be subtracted: 28 resected less 26 with adjuvant
treatment are 2 without. Here every published count is combined with one and with two others and the total.
A sum of them with signs that counts each patient 0 or 1 times is the count of a group of patients; if it is
small, the breakdowns of all counts in the sum must be suppressed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, product
from operator import or_

import numpy as np
import numpy.typing as npt

from analytics.disclosure.variable_groups import VariableGroups, linked
from analytics.estimates.model import Cell


@dataclass(frozen=True)
class Side:
    """A published group of patients, or all others, as bits; `breakdowns` are those that publish its count."""

    bits: int
    breakdowns: frozenset[str]
    variable_groups: VariableGroups

    def linked(self, *others: Side) -> bool:
        """Return whether a reader may know which patients this group shares with each of `others`."""
        return all(linked(self.variable_groups, other.variable_groups) for other in others)


def without_cutoff(name: str) -> str:
    """Return an id or breakdown without its data cutoff: ``survival.alive@later_cut`` -> ``survival.alive``."""
    return name.partition("@")[0]


def is_protected(count: int | None, k: int) -> bool:
    """Return whether a count is 1 to k - 1."""
    return count is not None and 0 < count < k


def disclosed_by_differencing(cells: Iterable[Cell], k: int) -> frozenset[str]:
    """Return the breakdowns to suppress so that no protected count follows from up to three published and the total.

    The breakdown "enrolled" is always known and never suppressed. Among counts of linked variables
    (`analytics.disclosure.variable_groups`) everything that holds in the data is taken as known to the reader, so
    that more is suppressed than need be. Sums of four and more counts are looked at only where the cells of one
    breakdown exclude each other: `analytics.analysis` adds their union as a cell, and from each group the cells of
    one breakdown that lie in it, or that it lies in, are subtracted together.
    """
    published = tuple(cells)
    everyone = _bits(frozenset[int]().union(*(cell.patients for cell in published)))
    n = everyone.bit_count()
    alone = {
        cell.breakdown
        for cell in published
        if is_protected(len(cell.patients), k) or is_protected(n - len(cell.patients), k)
    }
    if "enrolled" in alone:
        # A further data cutoff has a few more patients than the main one: every count of all of them, less
        # the known number of enrolled, is the few.
        alone |= {cell.breakdown for cell in published if len(cell.patients) == n}
        alone.remove("enrolled")
    shown = [cell for cell in published if cell.breakdown not in alone]
    sides = _sides(shown, everyone)
    found = _pairs(sides, everyone, k) | _triples(sides, everyone, n, k) | _nested(sides, _exclusive(shown), k)
    return frozenset((alone | found) - {"enrolled"})


def _bits(patients: frozenset[int]) -> int:
    # One integer for each group: union, intersection and size of groups of thousands take microseconds.
    present = np.zeros(max(patients, default=-1) + 1, dtype=bool)
    present[list(patients)] = True
    return int.from_bytes(np.packbits(present, bitorder="little").tobytes(), "little")


def _sides(cells: Iterable[Cell], everyone: int) -> list[tuple[Side, Side]]:
    """Return each distinct group of patients with its complement: with the total, either count tells the other."""
    found: dict[tuple[int, VariableGroups], set[str]] = {}
    for cell in cells:
        bits = _bits(cell.patients)
        if bits not in (0, everyone):
            found.setdefault((min(bits, everyone & ~bits), cell.variable_groups), set()).add(cell.breakdown)
    return [
        (Side(bits, frozenset(breakdowns), groups), Side(everyone & ~bits, frozenset(breakdowns), groups))
        for (bits, groups), breakdowns in found.items()
    ]


def _pairs(sides: list[tuple[Side, Side]], everyone: int, k: int) -> set[str]:
    """Return the breakdowns of two groups that exclude each other and leave a protected rest of all patients."""
    found: set[str] = set()
    for first, second in combinations(sides, 2):
        # With the complements this also covers one group within another (28 - 26) and two that overlap (12 + 10 - 20).
        for a, b in product(first, second):
            if a.linked(b) and not a.bits & b.bits and is_protected((everyone & ~(a.bits | b.bits)).bit_count(), k):
                found |= a.breakdowns | b.breakdowns
    return found


def _triples(sides: list[tuple[Side, Side]], everyone: int, n: int, k: int) -> set[str]:
    """Return the breakdowns of three groups that disclose a protected count together."""
    found: set[str] = set()
    sizes = np.array([[side.bits.bit_count() for side in pair] for pair in sides]).reshape(-1, 2)
    for (_, first), (j, second) in combinations(enumerate(sides), 2):
        if not first[0].linked(second[0]):
            continue
        for a, b in product(first, second):
            for c in _candidates(sides, sizes, j, a.bits.bit_count() + b.bits.bit_count(), n, k):
                if c.linked(a, b) and _discloses(a.bits, b.bits, c.bits, everyone, n, k):
                    found |= a.breakdowns | b.breakdowns | c.breakdowns
    return found


def _exclusive(cells: Iterable[Cell]) -> Iterator[list[Side]]:
    """Yield the cells of each breakdown of at least three that exclude each other; fewer are pairs and triples."""
    by_breakdown: dict[str, dict[int, Side]] = {}
    for cell in cells:
        if bits := _bits(cell.patients):
            side = Side(bits, frozenset({cell.breakdown}), cell.variable_groups)
            by_breakdown.setdefault(cell.breakdown, {})[bits] = side
    for sides in by_breakdown.values():
        # Without the unions of others, which are cells of the same breakdown.
        least = [side for bits, side in sides.items() if not any(o != bits and not o & ~bits for o in sides)]
        union = reduce(or_, (side.bits for side in least), 0)
        if len(least) >= 3 and union.bit_count() == sum(side.bits.bit_count() for side in least):
            yield least


def _nested(sides: list[tuple[Side, Side]], breakdowns: Iterable[list[Side]], k: int) -> set[str]:
    """Return the breakdowns of a group and of the cells in it, or around it, that differ from it by few patients."""
    found: set[str] = set()
    for cells in breakdowns:
        for side in (side for pair in sides for side in pair):
            inside = [cell for cell in cells if not cell.bits & ~side.bits]
            around = [cell for cell in cells if cell.bits & side.bits]
            for chosen in (inside, around):
                union = reduce(or_, (cell.bits for cell in chosen), 0)
                holds = union & side.bits in (union, side.bits)
                if chosen and holds and is_protected((union ^ side.bits).bit_count(), k) and side.linked(*chosen):
                    found |= side.breakdowns | cells[0].breakdowns
    return found


def _candidates(
    sides: list[tuple[Side, Side]], sizes: npt.NDArray[np.int64], after: int, two: int, n: int, k: int
) -> Iterator[Side]:
    """Yield the third groups whose size makes a protected count possible.

    Sizes are compared as arrays first: of the millions of triples of a large study nearly all are ruled out here.
    """
    rest = np.abs(n - two - sizes[after + 1 :])
    possible = (rest > 0) & (rest < k)
    return (sides[after + 1 + i][j] for i, j in np.argwhere(possible))


def _discloses(a: int, b: int, c: int, everyone: int, n: int, k: int) -> bool:
    """Return whether the sizes of three groups of patients (as bits) and the total tell a protected count."""
    total = a.bit_count() + b.bit_count() + c.bit_count()
    # Each patient is in at most one: the rest is known.
    if not (a & b or a & c or b & c):
        return is_protected(n - total, k)
    # Each patient is in one or two: total - n are in two. The 2n - total who are in one are the total - n of the three
    # complements, which are looked at as well.
    return not a & b & c and a | b | c == everyone and is_protected(total - n, k)
