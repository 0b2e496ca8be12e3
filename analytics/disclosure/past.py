"""The counts of releases that left before, in one numbering of the patients with those of a new one.

A reader keeps every release, so that all of them are one system of equations: who of the new responders had a complete
response follows from two releases each of which is safe. A patient is known again by site and pseudonym.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from analytics.disclosure.model import IN_RELEASE, Bools, Count, is_protected


@dataclass(frozen=True)
class CountedPatients:
    """The counts of one release, published and protected ones; bit i of a count is the patient `subjects[i]`.

    One row a patient, though pseudonymous: it never leaves the data folder, and is not shown in a message.
    """

    subjects: tuple[str, ...] = field(repr=False)
    counts: tuple[Count, ...] = field(repr=False)


NO_PAST: Mapping[int, CountedPatients] = MappingProxyType({})


def members(counts: Sequence[Count], patients: int) -> Bools:
    """Return which patient is in which count, by [count, patient]."""
    length = (patients + 7) // 8
    packed = np.frombuffer(b"".join(count.patients.to_bytes(length, "little") for count in counts), dtype=np.uint8)
    packed = packed.reshape(len(counts), length)
    return np.unpackbits(packed, axis=1, count=patients, bitorder="little").astype(bool)


def as_bits(inside: Bools) -> list[int]:
    """Return the rows of a matrix [count, patient] as bits."""
    packed = np.packbits(inside, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def past_counts(subjects: Sequence[str], past: Mapping[int, CountedPatients], k: int) -> tuple[Count, ...]:
    """Return the counts of all past releases in the numbering of `subjects`, each once.

    Patients who are not among `subjects` any more are numbered after them. Of what was not published only protected
    counts are taken, since nothing can be derived from the others.
    """
    numbers = {subject: number for number, subject in enumerate(subjects)}
    for release in past.values():
        for subject in release.subjects:
            numbers.setdefault(subject, len(numbers))
    kept: dict[tuple[int, int, frozenset[str]], Count] = {}
    same: dict[str, str] = {}
    for number, release in past.items():
        found = _renumbered(release, numbers)
        by_id = {count.id: patients for count, patients in zip(release.counts, found, strict=True)}
        populations = {count.population for count in release.counts}
        for count, patients in zip(release.counts, found, strict=True):
            whole = by_id.get(count.population, 0)
            small = is_protected(count.value, k) or is_protected((whole & ~patients).bit_count(), k)
            if not (count.published or small or count.id in populations):
                continue
            own = replace(
                count,
                id=_name(count.id, number),
                patients=patients,
                population=_name(count.population, number) if whole else "",
            )
            # A count that several releases have is one equation: it is known if one of them published it.
            key = (patients, whole, count.variable_groups)
            first = kept.setdefault(key, own)
            same[own.id] = first.id
            if own.published and not first.published:
                kept[key] = replace(first, published=True)
    return tuple(replace(count, population=same.get(count.population, "")) for count in kept.values())


def _name(identity: str, number: int) -> str:
    return f"{identity}{IN_RELEASE}{number}"


def _renumbered(release: CountedPatients, numbers: Mapping[str, int]) -> list[int]:
    """Return the patients of each count of a release as bits in the numbering of `numbers`."""
    if not release.counts:
        return []
    columns = np.array([numbers[subject] for subject in release.subjects], dtype=np.int64)
    inside = np.zeros((len(release.counts), len(numbers)), dtype=bool)
    inside[:, columns] = members(release.counts, len(release.subjects))
    return as_bits(inside)
