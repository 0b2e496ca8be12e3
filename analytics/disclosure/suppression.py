"""Choose what to withhold: the least important counts without which no protected count can be derived.

Complementary cell suppression as one optimisation over the whole release, by the method of Fischetti and Salazar (2000,
Management Science 46:1008): a program with one yes or no for each count, which minimises the weight of what is
withheld. Its conditions are made as they are needed. For a protected count that can be derived, the dual solution of
the linear program that derives it names the published counts that are used: at least one of these must be withheld.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse.linalg import lsqr

from analytics.disclosure.model import (
    Bools,
    Count,
    Counts,
    Floats,
    Model,
    Part,
    groups_to_hide,
    is_protected,
    protected_groups,
)

TOLERANCE = 1e-7
# After so many rounds nothing that was withheld is given back: the rounds are bounded by the number of counts.
FREE_ROUNDS = 25


@dataclass(frozen=True)
class Candidate:
    """A count that may be published. Those of one `unit` are published together, and only if those that it `needs` are.

    `weight` is what is lost if it is withheld; infinite for a number that is known anyway (how many are enrolled).
    """

    count: Count
    unit: str
    weight: float
    needs: tuple[str, ...] = ()


def withheld_units(
    candidates: Sequence[Candidate], further: Iterable[Count], k: int, forced: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Return the units to withhold.

    Args:
        candidates: all counts that could be published.
        further: counts that are never published and are protected like the others, as the rest of a breakdown.
        k: the threshold, at least 2.
        forced: units that are withheld in any case.
    """
    if not candidates:
        return frozenset()
    chosen = _Choice(candidates, further, k, forced)
    return chosen.units(chosen.solve())


class _Choice:
    """The whole choice: which counts are withheld, in `bools` of the candidates followed by those never published."""

    def __init__(
        self, candidates: Sequence[Candidate], further: Iterable[Count], k: int, forced: frozenset[str]
    ) -> None:
        self.candidates = tuple(candidates)
        self.k = k
        never = tuple(replace(count, published=False) for count in further)
        self.model = Model((*(candidate.count for candidate in self.candidates), *never))
        self.names = tuple(dict.fromkeys(candidate.unit for candidate in self.candidates))
        place = {name: i for i, name in enumerate(self.names)}
        self.unit = np.array([place[c.unit] for c in self.candidates], dtype=np.int64)
        self.weights = np.zeros(len(self.names))
        np.add.at(self.weights, self.unit, [c.weight for c in self.candidates])
        self.needs = sorted(
            {(place[c.unit], place[need]) for c in self.candidates for need in c.needs if need in place}
        )
        self.cuts: list[frozenset[int]] = []
        self.solutions: list[Floats] = []
        # Small counts first: what they take with them is found round by round.
        self.withheld = self._small()
        self.withheld |= np.array([name in forced for name in self.names], dtype=bool)
        self.protected = [
            (b, np.unpackbits(np.frombuffer(packed, np.uint8), count=len(self.model.blocks[b].sizes)).astype(bool))
            for b, packed in protected_groups(self.model, k)
        ]
        known = {(b, np.packbits(group).tobytes()) for b, group in self.protected}
        self.derived = [
            np.array(
                [g for g in groups_to_hide(self.model, b, k) if (b, np.packbits(g).tobytes()) not in known], dtype=bool
            )
            for b in range(len(self.model.blocks))
        ]

    def units(self, withheld: Bools) -> frozenset[str]:
        """Return the names of the withheld units."""
        return frozenset(name for name, no in zip(self.names, withheld, strict=True) if no)

    def solve(self) -> Bools:
        """Return which units are withheld: solve, look for what is exposed, add its conditions, until nothing is."""
        forced = self.withheld
        for number in range(len(self.names) + FREE_ROUNDS):
            self.withheld = self._least_weight(forced)
            if not self._add_cuts():
                break
            if number >= FREE_ROUNDS:
                forced = self.withheld
        return self.withheld

    def _small(self) -> Bools:
        """Return the units with a count that is protected, or that leaves a protected rest of its population."""
        found = np.zeros(len(self.names), bool)
        values = {c.count.id: c.count for c in self.candidates}
        for i, candidate in enumerate(self.candidates):
            count = candidate.count
            whole = values.get(count.population)
            rest = 0 if whole is None else (whole.patients & ~count.patients).bit_count()
            if (is_protected(count.value, self.k) or is_protected(rest, self.k)) and np.isfinite(candidate.weight):
                found[self.unit[i]] = True
        return found

    def _least_weight(self, forced: Bools) -> Bools:
        """Return the units of least weight that meet every condition found so far."""
        n = len(self.names)
        fixed = ~np.isfinite(self.weights)
        rows: list[tuple[list[int], list[float], float]] = [
            (sorted(cut), [1.0] * len(cut), 1.0) for cut in dict.fromkeys(self.cuts)
        ]
        rows += [([child, parent], [1.0, -1.0], 0.0) for child, parent in self.needs]
        upper = np.where(fixed, 0.0, 1.0)
        constraints = []
        if rows:
            places = np.concatenate([np.full(len(columns), i) for i, (columns, _, _) in enumerate(rows)])
            columns = np.concatenate([np.array(columns) for columns, _, _ in rows])
            data = np.concatenate([np.array(values) for _, values, _ in rows])
            matrix = sparse.csr_array((data, (places, columns)), shape=(len(rows), n))
            constraints = [LinearConstraint(matrix, [least for _, _, least in rows], np.inf)]
        # The optimum is worth seconds, not more: half a percent above it is as good.
        found = milp(
            np.where(fixed, 0.0, self.weights),
            constraints=constraints,
            bounds=Bounds(np.minimum(forced.astype(float), upper), upper),
            integrality=np.ones(n, dtype=np.int64),
            options={"time_limit": 10.0, "mip_rel_gap": 0.005},
        )
        if found.x is None:
            return ~fixed
        chosen: Bools = np.round(found.x).astype(bool)
        return chosen

    def _published(self) -> Bools:
        published = np.zeros(len(self.model.counts), bool)
        published[: len(self.candidates)] = ~self.withheld[self.unit]
        return published

    def _add_cuts(self) -> bool:
        """Add a condition for each protected count that can be derived from what is published; False if none is."""
        published = self._published()
        parts = self.model.parts(published)
        cuts = list(self._determined(parts))
        # Linear algebra is quick. Intervals are looked at when nothing is determined outright.
        if not cuts:
            cuts = list(self._narrow(parts, published))
        # A condition without a unit cannot be met: the audit will say so.
        new = {frozenset(cut) for cut in cuts if cut} - set(self.cuts)
        self.cuts += sorted(new, key=sorted)
        return bool(new)

    def _units_of(self, counts: Iterable[int]) -> frozenset[int]:
        """Return the units of published counts that can be withheld."""
        units = {int(self.unit[i]) for i in counts if 0 <= i < len(self.candidates)}
        return frozenset(unit for unit in units if np.isfinite(self.weights[unit]) and not self.withheld[unit])

    def _determined(self, parts: dict[int, Part]) -> Iterator[frozenset[int]]:
        """Yield the counts of each combination that gives a protected group exactly.

        All groups of patients have at least one patient, so that the truth lies inside the solutions, and a sum of
        groups has one value only if it is a combination of the equations: if no change that the equations allow
        moves it. Two changes drawn at random stand for all: a sum that is no combination moves with nearly every one.
        """
        bases: dict[int, Floats] = {}  # by part: blocks of one part have one basis
        for b, block in enumerate(self.model.blocks):
            part = parts[b]
            groups = np.concatenate([self._protected_in(b), self.derived[b].reshape(-1, len(block.sizes))])
            if not len(groups) or not len(part.values):
                continue
            if id(part) not in bases:
                bases[id(part)] = _hidden_changes(part.matrix)
            targets = np.zeros((len(groups), len(part.columns)))
            targets[:, self._columns(part, b)] = groups
            left = targets @ bases[id(part)]
            for target in targets[np.abs(left).max(axis=1) < TOLERANCE]:
                yield self._units_of(part.sources[_combination(part, target)])

    def _protected_in(self, b: int) -> Bools:
        own = [group for at, group in self.protected if at == b]
        return np.array(own, bool).reshape(len(own), len(self.model.blocks[b].sizes))

    def _columns(self, part: Part, b: int) -> slice:
        """Return the place of the groups of block b among those of the part that it belongs to."""
        start = int(np.searchsorted(part.columns, self.model.starts[b]))
        return slice(start, start + len(self.model.blocks[b].sizes))

    def _narrow(self, parts: dict[int, Part], published: Bools) -> Iterator[frozenset[int]]:
        """Yield the counts that keep a protected count within fewer than k values."""
        members: dict[int, list[int]] = {}
        for b, part in parts.items():
            members.setdefault(id(part), []).append(b)
        for blocks in members.values():
            part = parts[blocks[0]]
            targets = [np.zeros((0, len(part.columns)))]
            for b in blocks:
                own = self._protected_in(b)
                targets.append(np.zeros((len(own), len(part.columns))))
                targets[-1][:, self._columns(part, b)] = own
            known = self._known(part)
            for target in np.concatenate(targets):
                # First within the block, which is quick and nearly always enough.
                if len(blocks) > 1:
                    b = next(b for b in blocks if target[self._columns(part, b)].any())
                    alone = self.model.alone(b, published)
                    if self._binding(part, alone, self._columns(part, b), target, known) is None:
                        continue
                used = self._binding(part, part, slice(None), target, known)
                if used is not None:
                    yield self._units_of(part.sources[used])

    def _known(self, part: Part) -> list[Floats]:
        """Return the solutions found in earlier rounds that are still solutions: most questions are answered by one."""
        found = [part.sizes]
        for solution in self.solutions:
            own = solution[part.columns]
            if np.abs(part.matrix @ own - part.values).max(initial=0.0) < TOLERANCE:
                found.append(own)
        return found

    def _binding(self, part: Part, system: Part, place: slice, target: Floats, known: list[Floats]) -> Counts | None:
        """Return the equations of `system` that keep `target` within too few values; None if it has enough.

        `system` is the part or one block of it, whose groups stand at `place`.
        """
        seen = [float(target @ solution) for solution in known]
        low, high = min(seen), max(seen)
        used: list[Counts] = []
        for sign in (1.0, -1.0):
            if self._is_hidden(low, high):
                return None
            end, binding, solution = _end(system, sign * target[place])
            if solution is None:  # no limit to this side
                return None
            whole = part.sizes.copy()
            whole[place] = solution
            known.append(whole)
            everything = self.model.sizes.astype(float)
            everything[part.columns] = whole
            self.solutions.append(everything)
            low, high = min(low, sign * end), max(high, sign * end)
            used.append(np.flatnonzero(binding))
        return None if self._is_hidden(low, high) else np.concatenate(used)

    def _is_hidden(self, low: float, high: float) -> bool:
        """Return whether a small count from `low` to `high` has k values, and two of them that are small themselves.

        The second is for a reader who guesses right that it is withheld because it is small.
        """
        return _values(low, high) >= self.k and _values(max(low, 1.0), min(high, self.k - 1.0)) > 1


def _values(low: float, high: float) -> int:
    """Return how many whole numbers lie from `low` to `high`."""
    return int(np.floor(high + TOLERANCE) - np.ceil(low - TOLERANCE)) + 1


def _hidden_changes(matrix: sparse.csr_array) -> Floats:
    """Return two random changes of the groups, as columns, that change no equation: what is left of a random vector."""
    # The same seed each time: the same results give the same release.
    drawn = np.random.default_rng(19).standard_normal((matrix.shape[1], 2))
    found = []
    for vector in drawn.T:
        left = vector
        # The second time takes out what the first, for all its rounding, has left.
        for _ in range(2):
            left = left - matrix.T @ lsqr(matrix.T, left, atol=1e-14, btol=1e-14, iter_lim=20 * sum(matrix.shape))[0]
        found.append(left)
    return np.column_stack(found)


def _combination(part: Part, target: Floats) -> Bools:
    """Return the equations of a short combination that gives `target`: the least sum of absolute factors."""
    m = len(part.values)
    transposed = sparse.hstack([part.matrix.T, -part.matrix.T], format="csr")
    found = linprog(np.ones(2 * m), A_eq=transposed, b_eq=target, bounds=(0, None), method="highs")
    if found.x is None:
        # Too hard to say which: any of the equations may be the one.
        return np.ones(m, bool)
    used: Bools = np.abs(found.x[:m] - found.x[m:]) > TOLERANCE
    return used


def _end(part: Part, objective: Floats) -> tuple[float, Bools, Floats | None]:
    """Return the least value of `objective`, the equations that keep it from being less, and a solution that has it.

    The solution is None where there is no least value.
    """
    # `linprog` takes sparse matrices (its documentation says so), scipy-stubs do not know it.
    equations: Any = part.matrix
    found = linprog(objective, A_eq=equations, b_eq=part.values, bounds=(0, None), method="highs")
    if found.x is None or found.fun is None:
        return -np.inf, np.zeros(len(part.values), bool), None
    used: Bools = np.abs(found.eqlin.marginals) > TOLERANCE
    return float(found.fun), used, found.x
