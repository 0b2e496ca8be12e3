"""Invents the patients behind hand-written results, since disclosure control looks at patients, not at numbers.

The cells of a breakdown exclude each other where they fit into the population, and breakdowns have nothing to do with
each other; the populations and the boxes of the flow diagram lie within each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from analytics.disclosure.figures import ANY_GRADE, GRADES, SEVERE_OR_NOT, SIZE
from analytics.disclosure.variable_groups import COURSE, UNKNOWN
from analytics.estimates.model import Cell, Proportion, Results


def bits(*ranges: tuple[int, int]) -> int:
    """The patients numbered within any of the ranges, the ends left out."""
    found = 0
    for start, end in ranges:
        found |= (1 << end) - (1 << start)
    return found


def with_cells(results: Results) -> Results:
    """Return `results` with invented patients behind every count."""
    sizes = results.population_sizes
    cells = [Cell(f"{SIZE}{name}", f"{SIZE}{name}", bits((0, n)), "", _of(name)) for name, n in sizes.items()]
    cells += [*_proportions(results), *_quantiles(results), *_curves(results), *_flow(results)]
    coarser = {} if results.coarser else dict(_coarser(results))
    cells += [
        Cell(f"{cell.id}{figure}", figure, by_id, f"{SIZE}{cell.population}", frozenset({cell.breakdown}))
        for figure, found in coarser.items()
        for cell, by_id in found
    ]
    coarse = {figure: tuple(cell for cell, _ in found) for figure, found in coarser.items()}
    beside = {q.id: (q.n // 4, q.n // 2, q.n // 4) for q in results.quantiles if q.n is not None}
    return replace(results, cells=tuple(cells), beside=beside, coarser=coarse or results.coarser)


def _of(population: str) -> frozenset[str]:
    return UNKNOWN if population == "enrolled" else COURSE


def _placed(results: Results) -> Iterator[tuple[Proportion, int]]:
    """Each proportion with its patients: after those of the cells before it in its breakdown, if they fit."""
    used: dict[tuple[str, str], int] = defaultdict(int)
    for p in results.proportions:
        if p.x is None or p.n is None:
            continue
        key = (p.breakdown, str(".worst_grade_" in p.id) + p.id.partition("@")[2])
        start = used[key] if used[key] + p.x <= p.n else 0
        used[key] = start + p.x
        yield p, bits((start, start + p.x))


def _proportions(results: Results) -> Iterator[Cell]:
    for p, patients in _placed(results):
        figure = f"{p.breakdown}{GRADES}" if ".worst_grade_" in p.id else p.id
        yield Cell(p.id, figure, patients, f"{SIZE}{p.population}", frozenset({p.breakdown}))


def _coarser(results: Results) -> Iterator[tuple[str, list[tuple[Proportion, int]]]]:
    found: dict[str, list[tuple[Proportion, int]]] = {}
    grades: dict[str, dict[str, tuple[Proportion, int]]] = defaultdict(dict)
    for p, patients in _placed(results):
        if ".worst_grade_" in p.id:
            grades[p.breakdown][p.id.rpartition("_")[2]] = (p, patients)
    for breakdown, cells in grades.items():
        for figure, wanted in (
            (SEVERE_OR_NOT, {"1-2": "12", "3-5": "345", "unknown": ("unknown",)}),
            (ANY_GRADE, {"any": (*"12345", "unknown")}),
        ):
            for name, parts in wanted.items():
                inside = [cells[part] for part in parts if part in cells]
                together = 0
                for _, patients in inside:
                    together |= patients
                p = next(iter(cells.values()))[0]
                made = replace(p, id=f"{breakdown}.worst_grade_{name}", x=together.bit_count())
                label = p.label.rpartition(" ")[0]
                made = replace(made, percent=100 * (made.x or 0) / (p.n or 1), label=f"{label} {name}")
                found.setdefault(f"{breakdown}{figure}", []).append((made, together))
    yield from found.items()


def _quantiles(results: Results) -> Iterator[Cell]:
    for q in results.quantiles:
        if q.n is not None:
            yield Cell(f"{q.id}.n", q.id, bits((0, q.n)), f"{SIZE}{q.population}", frozenset({q.id}))


def _curves(results: Results) -> Iterator[Cell]:
    for s in results.survival:
        if s.n is None or s.events is None:
            continue
        group = frozenset({s.id})
        yield Cell(f"{s.id}.n", s.id, bits((0, s.n)), f"{SIZE}{s.population}", group)
        # Events from the first number on, censorings from the last backwards.
        yield Cell(f"{s.id}.events", s.id, bits((0, s.events)), f"{s.id}.n", group)
        times = {float(-(-point.t // 1)) for point in s.curve} | {float(mark.t) for mark in s.landmarks}
        for t in sorted(times):
            events = sum(point.events for point in s.curve if point.t <= t)
            censored = sum(point.censored for point in s.curve if point.t <= t)
            yield Cell(f"{s.id}.events.{t:g}", s.id, bits((0, events)), f"{s.id}.events", group, t)
            left = bits((0, events), (s.n - censored, s.n))
            yield Cell(f"{s.id}.left.{t:g}", s.id, left, f"{s.id}.n", group, t)


def _flow(results: Results) -> Iterator[Cell]:
    trunk = {step.id: step.n or 0 for step in results.flow if step.kind == "main"}
    above = {step.parent: step.n or 0 for step in results.flow if step.kind == "main"}
    left: dict[str, int] = defaultdict(int)
    for step in results.flow:
        n, parent = step.n or 0, step.parent or ""
        if step.kind == "main":
            yield Cell(step.id, step.id, bits((0, n)), parent, COURSE)
        else:
            start = above.get(parent, 0) + left[parent]
            left[parent] += n
            yield Cell(step.id, step.id, bits((start, min(start + n, trunk.get(parent, start + n)))), parent, COURSE)
