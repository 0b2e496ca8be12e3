"""State every count of a release as one linear equation over the same groups of patients.

A group (atom) holds the patients whom no count tells apart. Each count of a release is the sum of some groups, so that
all that is published is a system of linear equations, and what a reader can derive of any other count is what the
non-negative whole solutions of the system have in common (Willenborg and de Waal 2001, Elements of Statistical
Disclosure Control, ch. 6; Hundepool et al. 2012, Statistical Disclosure Control, ch. 4).

Only combinations that occur in the data are groups. This gives the reader everything that holds by definition (the dead
had an event, T and N make the stage) and more than he knows, which errs on the safe side. Variables that have
nothing to do with each other (`variable_groups`) share only the total: their counts are in different blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from analytics.disclosure.variable_groups import UNKNOWN, VariableGroups, belongs

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
# Between the id of a count and the number of the past release that it is of
IN_RELEASE = " in release "


@dataclass(frozen=True)
class Count:
    """One number of patients that a release shows, or could show.

    `patients` has the bit i set if patient i is counted; the numbering is the caller's, the same for all counts that
    are looked at together. `population` is the id of the count of those among whom it is counted ("" for the whole).
    A count that is not `published` is protected all the same where it is small.
    """

    id: str
    patients: int
    population: str = ""
    variable_groups: VariableGroups = UNKNOWN
    published: bool = True

    @property
    def value(self) -> int:
        """Return the number of patients."""
        return self.patients.bit_count()


@dataclass(frozen=True)
class Block:
    """The groups of patients of linked variables: `members[r, a]` says whether group a is part of count `counts[r]`.

    `group_of` has the group of each patient by number, -1 for who is in no count of the block.
    """

    counts: tuple[int, ...]
    members: Bools
    sizes: Counts
    group_of: Counts

    def patients(self, groups: Bools) -> int:
        """Return the patients of some groups as bits."""
        # -1 would be the last group, so that those outside are taken out.
        inside = groups[self.group_of] & (self.group_of >= 0)
        return int.from_bytes(np.packbits(inside, bitorder="little").tobytes(), "little")


def is_protected(count: int | None, k: int) -> bool:
    """Return whether a count is 1 to k - 1."""
    return count is not None and 0 < count < k


def blocks(counts: Sequence[Count]) -> tuple[Block, ...]:
    """Return the blocks of `counts`: one for each group of variables that is not part of a larger one."""
    places = {count.id: place for place, count in enumerate(counts)}
    names = sorted({name for count in counts for name in count.variable_groups}) or [""]
    rows: list[tuple[int, ...]] = []
    for name in names:
        inside = {i for i, count in enumerate(counts) if belongs(count.variable_groups, name)}
        # What is left of a population is a count as well, so that its size stands in the same block.
        inside |= {places[counts[i].population] for i in inside if counts[i].population in places}
        rows.append(tuple(sorted(inside)))
    largest = [row for row in dict.fromkeys(rows) if not any(set(row) < set(other) for other in rows)]
    width = max((count.patients.bit_length() for count in counts), default=0)
    if width == 0:  # no count of anybody
        return ()
    return tuple(_block(counts, row, width) for row in largest)


def _block(counts: Sequence[Count], row: tuple[int, ...], width: int) -> Block:
    length = (width + 7) // 8
    packed = np.frombuffer(
        b"".join(counts[i].patients.to_bytes(length, "little") for i in row), dtype=np.uint8
    ).reshape(len(row), length)
    # One key of bytes for each patient: the counts that he is part of.
    signatures = np.packbits(np.unpackbits(packed, axis=1, count=width, bitorder="little"), axis=0).T
    keys = np.ascontiguousarray(signatures).view(np.dtype((np.void, signatures.shape[1]))).ravel()
    _, first, inverse, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    members = np.unpackbits(signatures[first].T, axis=0, count=len(row)).astype(bool)
    # Patients who are in no count of the block are in no equation either.
    seen = members.any(axis=0)
    group_of = np.where(seen, np.cumsum(seen) - 1, -1)[inverse]
    return Block(row, members[:, seen], sizes[seen].astype(np.int64), group_of.astype(np.int64))


@dataclass(frozen=True)
class Part:
    """Blocks that have withheld counts in common, as one system: `matrix` times the groups is `values`.

    `sources[i]` is the count that equation i publishes, or -1 for one that says that a withheld count is the same in
    two blocks. `columns` are the places of the groups among all groups of the model.
    """

    matrix: sparse.csr_array
    values: Floats
    sources: Counts
    columns: Counts
    sizes: Floats


class Model:
    """All blocks of a release side by side: `sizes` of the groups, and for each count where it stands."""

    def __init__(self, counts: Iterable[Count]) -> None:
        self.counts = tuple(counts)
        self.blocks = blocks(self.counts)
        self.starts = np.cumsum([0, *(len(block.sizes) for block in self.blocks)])
        self.sizes = np.concatenate([np.zeros(0, np.int64), *(block.sizes for block in self.blocks)])
        # (block, row) of every place at which a count stands.
        self.places: list[list[tuple[int, int]]] = [[] for _ in self.counts]
        for b, block in enumerate(self.blocks):
            for r, count in enumerate(block.counts):
                self.places[count].append((b, r))

    def parts(self, published: Bools) -> dict[int, Part]:
        """Return for each block the system that it is part of, where `published` says which counts are known."""
        groups = list(range(len(self.blocks)))

        def root(b: int) -> int:
            while groups[b] != b:
                b = groups[b]
            return b

        for i, places in enumerate(self.places):
            if not published[i]:
                for b, _ in places[1:]:
                    groups[root(b)] = root(places[0][0])
        found: dict[int, list[int]] = {}
        for b in range(len(self.blocks)):
            found.setdefault(root(b), []).append(b)
        return {b: part for members in found.values() for part in [self._part(members, published)] for b in members}

    def alone(self, b: int, published: Bools) -> Part:
        """Return block b as a system of its own, in which counts that it has in common with others are kept.

        Each of its solutions is one of the whole part, with all other blocks as they are.
        """
        fixed = published | np.array([len(places) > 1 for places in self.places])
        return self._part([b], fixed)

    def _part(self, members: list[int], published: Bools) -> Part:
        columns = np.concatenate([np.arange(self.starts[b], self.starts[b + 1]) for b in members])
        offset = dict(zip(members, np.cumsum([0, *(len(self.blocks[b].sizes) for b in members)])[:-1], strict=True))
        entries: list[tuple[Counts, float, int]] = []  # columns, sign, equation
        values: list[float] = []
        sources: list[int] = []
        for i in sorted({count for b in members for count in self.blocks[b].counts}):
            here = [(b, r) for b, r in self.places[i] if b in offset]
            parts = [offset[b] + np.flatnonzero(self.blocks[b].members[r]) for b, r in here]
            if published[i]:
                for part in parts:
                    entries.append((part, 1.0, len(values)))
                    values.append(float(self.counts[i].value))
                    sources.append(i)
            else:
                for part in parts[1:]:
                    entries += [(parts[0], 1.0, len(values)), (part, -1.0, len(values))]
                    values.append(0.0)
                    sources.append(-1)
        rows = np.concatenate([np.zeros(0, np.int64), *(np.full(len(c), e) for c, _, e in entries)])
        cols = np.concatenate([np.zeros(0, np.int64), *(c for c, _, _ in entries)])
        data = np.concatenate([np.zeros(0), *(np.full(len(c), sign) for c, sign, _ in entries)])
        matrix = sparse.csr_array((data, (rows, cols)), shape=(len(values), len(columns)))
        sizes = self.sizes[columns].astype(float)
        return Part(matrix, np.array(values), np.array(sources, np.int64), columns, sizes)


def protected_groups(model: Model, k: int) -> dict[tuple[int, bytes], int]:
    """Return (block, groups as packed bits) of all small counts: each count, and what it leaves of its population."""
    found: dict[tuple[int, bytes], int] = {}
    ids = {count.id: i for i, count in enumerate(model.counts)}
    for i, count in enumerate(model.counts):
        whole = ids.get(count.population)
        for b, r in model.places[i]:
            block = model.blocks[b]
            inside = block.members[r]
            # A reader who knows the whole knows the rest as well as the count.
            both = [inside]
            if whole is not None:
                both.append(block.members[block.counts.index(whole)] & ~inside)
            for group in both:
                size = int(block.sizes[group].sum())
                if is_protected(size, k):
                    found.setdefault((b, np.packbits(group).tobytes()), size)
    return found


def derived_groups(block: Block, k: int) -> Bools:
    """Return the groups of 1 to k - 1 patients that two counts of a block define: in both, in one only, in neither.

    With them each single group of the block, which is what all counts together define.
    """
    members = block.members
    weighted = members * block.sizes
    sizes = weighted.sum(axis=1)
    both = weighted @ members.T.astype(np.int64)
    total = int(block.sizes.sum())
    found = [np.eye(len(block.sizes), dtype=bool)[block.sizes < k]]
    first, second = np.triu_indices(len(sizes), 1)
    shared = both[first, second]
    sides = (
        (shared, False, False),
        (sizes[first] - shared, False, True),
        (sizes[second] - shared, True, False),
        (total - sizes[first] - sizes[second] + shared, True, True),
    )
    for size, without_first, without_second in sides:
        small = (size > 0) & (size < k)
        # Exclusive or with True is the complement.
        found.append((members[first[small]] ^ without_first) & (members[second[small]] ^ without_second))
    return np.unique(np.concatenate(found), axis=0)


def groups_to_hide(model: Model, b: int, k: int) -> Bools:
    """Return the groups of block b of which no single value may be known: `derived_groups`, and those between releases.

    Who is left of a population now, and was not in a past release, takes four counts: the new ones who did not respond.
    """
    block = model.blocks[b]
    rests: dict[str, list[Bools]] = {}
    rows = {model.counts[i].id: r for r, i in enumerate(block.counts)}
    for r, i in enumerate(block.counts):
        count = model.counts[i]
        if count.population in rows:
            rest = block.members[rows[count.population]] & ~block.members[r]
            rests.setdefault(count.id.partition(IN_RELEASE)[0], []).append(rest)
    moved = [a & ~c for same in rests.values() for a, c in permutations(same, 2)]
    small = [group for group in moved if is_protected(int(block.sizes[group].sum()), k)]
    found = derived_groups(block, k)
    return np.unique(np.concatenate([found, np.array(small, dtype=bool)]), axis=0) if small else found
