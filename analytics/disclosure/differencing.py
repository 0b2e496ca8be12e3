"""Which published counts give a small one away when they are added or subtracted.

A reader who knows the study knows which groups of patients contain or exclude each other: responders
were resected, the dead had an event. Then counts can be subtracted: 28 resected less 26 with adjuvant
treatment are 2 without. Here every published count is taken together with one and with two others and
the total. A sum of them with signs that counts each patient 0 or 1 times is the count of a group as
well; if it is small, all counts that make it are given away and their breakdowns must be withheld. Among
counts of one family (`analytics.disclosure.linkage`) what holds in the data is taken as known to the reader, so
that more is withheld than need be. Sums of four and more counts are looked at only for the cells of one
breakdown together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from analytics.disclosure.linkage import Families, tied
from analytics.estimates.model import Cell


@dataclass(frozen=True)
class Side:
    """A published group of patients, or all others, as bits; `groups` are the breakdowns that tell it."""

    bits: int
    groups: frozenset[str]
    families: Families

    def tied(self, *others: Side) -> bool:
        """Whether a reader may know how this group and each of `others` lie to one another."""
        return all(tied(self.families, other.families) for other in others)


def group_of(breakdown: str) -> str:
    """A breakdown at two data cuts is one group: ``survival.alive@later_cut`` -> ``survival.alive``."""
    return breakdown.partition("@")[0]


def small(count: int | None, k: int) -> bool:
    """Whether a count is protected: 1 to k - 1."""
    return count is not None and 0 < count < k


def given_away(cells: Iterable[Cell], k: int) -> frozenset[str]:
    """The groups to withhold so that no count of 1 to k - 1 follows from up to three published and the total.

    The group "enrolled" is always known and never withheld.
    """
    published = tuple(cells)
    everyone = _bits(frozenset[int]().union(*(cell.patients for cell in published)))
    n = everyone.bit_count()
    alone = {cell.group for cell in published if _gives_away(_bits(cell.patients), everyone, k)}
    if "enrolled" in alone:  # a further cut has a few more patients
        alone |= {cell.group for cell in published if _bits(cell.patients) == everyone}
        alone.remove("enrolled")
    sides = _sides((cell for cell in published if cell.group not in alone), everyone)
    found = alone | _pairs(sides, everyone, k) | _triples(sides, everyone, n, k)
    return frozenset(found - {"enrolled"})


def _gives_away(bits: int, everyone: int, k: int) -> bool:
    return small(bits.bit_count(), k) or small((everyone & ~bits).bit_count(), k)


def _bits(patients: frozenset[int]) -> int:
    if not patients:
        return 0
    numbers = np.fromiter(patients, dtype=np.int64)
    present = np.zeros(int(numbers.max()) + 1, dtype=bool)
    present[numbers] = True
    return int.from_bytes(np.packbits(present, bitorder="little").tobytes(), "little")


def _sides(cells: Iterable[Cell], everyone: int) -> list[tuple[Side, Side]]:
    """Each distinct group with its complement; the count of one is the count of the other."""
    found: dict[tuple[int, Families], set[str]] = {}
    for cell in cells:
        bits = _bits(cell.patients)
        if bits not in (0, everyone):
            found.setdefault((min(bits, everyone & ~bits), cell.families), set()).add(cell.group)
    return [_both(bits, everyone, frozenset(groups), families) for (bits, families), groups in found.items()]


def _both(bits: int, everyone: int, groups: frozenset[str], families: Families) -> tuple[Side, Side]:
    return Side(bits, groups, families), Side(everyone & ~bits, groups, families)


def _pairs(sides: list[tuple[Side, Side]], everyone: int, k: int) -> set[str]:
    """Two groups that exclude each other: the rest of all patients is known."""
    found: set[str] = set()
    for first, second in combinations(sides, 2):
        for a, b in product(first, second):
            if a.tied(b) and not a.bits & b.bits and small((everyone & ~(a.bits | b.bits)).bit_count(), k):
                found |= a.groups | b.groups
    return found


def _triples(sides: list[tuple[Side, Side]], everyone: int, n: int, k: int) -> set[str]:
    """Three groups, each patient in at most one (the rest is known) or in one or two (both are known)."""
    found: set[str] = set()
    sizes = np.array([[side.bits.bit_count() for side in pair] for pair in sides]).reshape(-1, 2)
    for (_, first), (j, second) in combinations(enumerate(sides), 2):
        if not first[0].tied(second[0]):
            continue
        for a, b in product(first, second):
            for c in _candidates(sides, sizes, j, a.bits.bit_count() + b.bits.bit_count(), n, k):
                if c.tied(a, b) and _determined(a.bits, b.bits, c.bits, everyone, n, k):
                    found |= a.groups | b.groups | c.groups
    return found


def _candidates(
    sides: list[tuple[Side, Side]], sizes: npt.NDArray[np.int64], after: int, two: int, n: int, k: int
) -> Iterator[Side]:
    """The third sides whose size makes a small count possible: most are ruled out without looking at them."""
    total = sizes[after + 1 :] + two
    rests = (n - total, total - n, 2 * n - total)
    possible = np.logical_or.reduce([(rest > 0) & (rest < k) for rest in rests])
    return (sides[after + 1 + i][j] for i, j in np.argwhere(possible))


def _determined(a: int, b: int, c: int, everyone: int, n: int, k: int) -> bool:
    total = a.bit_count() + b.bit_count() + c.bit_count()
    if not (a & b or a & c or b & c):
        return small(n - total, k)
    if not a & b & c and a | b | c == everyone:
        return small(total - n, k) or small(2 * n - total, k)
    return False
