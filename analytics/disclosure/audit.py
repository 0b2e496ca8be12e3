"""Audit a release: look for protected counts that can be derived from what it publishes. Nothing leaves that fails.

This is the attacker's side. It is written apart from `suppression` and knows nothing of how that chose: it takes the
counts of one release, or of several together, and looks with integer programming for the least and the greatest value
that each protected count can have for a reader, who knows all that is published, which patients are counted by
definition, and the rule by which counts are withheld.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from analytics.disclosure.model import Bools, Count, Floats, Model, Part, groups_to_hide, protected_groups

TOLERANCE = 1e-6
DISTINCT = 2  # values that a reader cannot tell apart


@dataclass(frozen=True)
class Exposure:
    """A protected count that a reader can narrow down to `low` to `high`; `counts` are the ids in its block.

    `patients` are the patients as bits. For the hospital only: the numbers are those of few patients.
    """

    size: int
    low: int
    high: int
    counts: tuple[str, ...]
    described: str = field(default="")
    patients: int = field(default=0, repr=False)


def audit(counts: Iterable[Count], k: int) -> tuple[Exposure, ...]:
    """Return the protected counts that follow from those `counts` that are published; none: they may leave.

    Give the counts of a release, withheld ones too (`published=False`): a count is protected whether it is shown or
    not. To audit several releases together, give the counts of all, with ids that differ and one numbering of the
    patients: a patient has the same bit in each. What holds then:

    - a count of 1 to k - 1 patients, or of all of its population but 1 to k - 1, can have at least k different values;
    - of these at least two are 1 to k - 1, for a reader who guesses right that it is withheld because it is small;
    - no other group of 1 to k - 1 patients that two counts define (in both, in one only, in neither), and none that all
      counts of linked variables define together, has one possible value only.

    Args:
        counts: every count of the release or releases, with the patients behind it.
        k: the threshold; below 2 nothing is protected.

    Returns:
        Each protected count that can be narrowed down, with what a reader would know of it.
    """
    given = tuple(counts)
    if k < DISTINCT or not given:
        return ()
    attacker = _Attacker(Model(given), k)
    return tuple(attacker.exposed())


class _Attacker:
    """All that a reader can find out, with the solutions found so far: most questions are answered by an old one."""

    def __init__(self, model: Model, k: int) -> None:
        self.model = model
        self.k = k
        self.published = np.array([count.published for count in model.counts])
        self.parts = model.parts(self.published)
        self.alone = [model.alone(b, self.published) for b in range(len(model.blocks))]
        # By the first group of a part: its solutions, the true one first.
        self.solutions: dict[int, list[Floats]] = {}

    def exposed(self) -> Iterable[Exposure]:
        """Yield what can be narrowed down."""
        protected = protected_groups(self.model, self.k)
        for (b, packed), size in protected.items():
            group = np.unpackbits(np.frombuffer(packed, np.uint8), count=len(self.model.blocks[b].sizes)).astype(bool)
            low, high = self._range(b, group, self._is_hidden)
            if self._is_hidden(low, high):
                continue
            yield self._exposure(b, size, low, high, group)
        for b, block in enumerate(self.model.blocks):
            for group in self._same_so_far(b, groups_to_hide(self.model, b, self.k)):
                if (b, np.packbits(group).tobytes()) in protected:
                    continue
                low, high = self._range(b, group, _are_two)
                if not _are_two(low, high):
                    yield self._exposure(b, int(block.sizes[group].sum()), low, high, group)

    def _is_hidden(self, low: int, high: int) -> bool:
        """Return whether `low` to `high` are enough values for a small count, those that are small among them."""
        return high - low + 1 >= self.k and _are_two(max(low, 1), min(high, self.k - 1))

    def _same_so_far(self, b: int, groups: Bools) -> Bools:
        """Return those of `groups` of block b that are alike in all solutions found so far."""
        part = self.parts[b]
        known = self.solutions.get(int(part.columns[0]), [part.sizes])
        own = np.array(known)[:, self._columns(part, b)]
        values = groups @ own.T
        alike: Bools = groups[np.ptp(values, axis=1) < 1]
        return alike

    def _columns(self, part: Part, b: int) -> slice:
        """Return where the groups of block b stand in the part that it belongs to."""
        start = int(np.searchsorted(part.columns, self.model.starts[b]))
        return slice(start, start + len(self.model.blocks[b].sizes))

    def _exposure(self, b: int, size: int, low: int, high: int, group: Bools) -> Exposure:
        block = self.model.blocks[b]
        same = [i for r, i in enumerate(block.counts) if np.array_equal(block.members[r], group)]
        described = self.model.counts[same[0]].id if same else "a group of patients that several counts define"
        ids = tuple(self.model.counts[i].id for i in block.counts if self.published[i])
        return Exposure(size, low, high, ids, described, block.patients(group))

    def _range(self, b: int, group: Bools, enough: Callable[[int, int], bool]) -> tuple[int, int]:
        """Return the least and greatest value of `group`, or as soon as they are found any that are `enough` apart."""
        part = self.parts[b]
        target = np.zeros(len(part.columns))
        target[self._columns(part, b)] = group
        known = self.solutions.setdefault(int(part.columns[0]), [part.sizes])
        values = [target @ solution for solution in known]
        low, high = round(float(min(values))), round(float(max(values)))
        # First within the block, which is quick and nearly always enough, then in all that hangs together with it.
        systems = [self.alone[b], part] if len(part.columns) > len(group) else [part]
        for system, sign in ((system, sign) for system in systems for sign in (1.0, -1.0)):
            if enough(low, high):
                break
            own = np.isin(part.columns, system.columns, assume_unique=True)
            solution = part.sizes.copy()
            solution[own] = self._solve(system, sign * target[own])
            known.append(solution)
            value = round(float(target @ solution))
            low, high = min(low, value), max(high, value)
        return low, high

    def _solve(self, part: Part, objective: Floats) -> Floats:
        """Return a solution in whole numbers in which `objective` is small; the truth where no better one is found."""
        equations = [LinearConstraint(part.matrix, part.values, part.values)]
        most = part.sizes.sum()
        # Fractions first, which is quick: what does not move with them does not move at all.
        fractions = milp(objective, constraints=equations, bounds=Bounds(0, most))
        if fractions.x is None or objective @ fractions.x > objective @ part.sizes - 1 + TOLERANCE:
            return part.sizes
        tried = [np.round(fractions.x)]
        # A change of up to k in each group is nearly always enough, and found much sooner than the very end.
        near = Bounds(np.maximum(0, part.sizes - self.k), part.sizes + self.k)
        for bounds in (near, Bounds(0, most)):
            if _solves(tried[-1], part) and objective @ tried[-1] < objective @ part.sizes:
                return tried[-1]
            whole = np.ones(len(objective), dtype=np.int64)
            found = milp(
                objective, constraints=equations, bounds=bounds, integrality=whole, options={"time_limit": 10.0}
            )
            tried.append(part.sizes if found.x is None else np.round(found.x))
        # Without an answer in time the truth alone counts as possible: the count is taken for exposed.
        return tried[-1] if _solves(tried[-1], part) else part.sizes


def _are_two(low: int, high: int) -> bool:
    return high - low + 1 >= DISTINCT


def _solves(solution: Floats, part: Part) -> bool:
    """Return whether a solution that was rounded to whole numbers is one."""
    return bool((solution >= 0).all() and np.abs(part.matrix @ solution - part.values).max(initial=0.0) < TOLERANCE)
