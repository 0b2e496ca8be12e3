"""An attacker who knows every rule: all small cohorts, grouped by what is released of them.

If two cohorts give the same release, nobody can tell them apart. So a protected count is safe when the
cohorts that look the same do not agree in it. This covers what the suppression itself says, not only
sums of published numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations_with_replacement

import pytest

from analytics.disclosure.control import release
from analytics.disclosure.variable_groups import COURSE, EVENTS, UNKNOWN, VariableGroups
from analytics.estimates.model import Cell, CurvePoint, FlowStep, Interval, Proportion, Results, Survival

K = 3
Kind = tuple[bool, ...]
World = tuple[Results, dict[str, frozenset[int]]]


def _cohorts(kinds: tuple[Kind, ...], largest: int) -> Iterator[tuple[Kind, ...]]:
    for n in range(1, largest + 1):
        yield from combinations_with_replacement(kinds, n)


def _proportion(name: str, population: str, breakdown: str, x: int, n: int) -> Proportion:
    state = ("ok", None) if n else ("not_evaluable", "no patients")
    return Proportion(name, name, population, breakdown, x, n, 100 * x / n if n else None, None, *state)


def _results(
    patients: tuple[Kind, ...],
    populations: dict[str, int],
    cells: dict[str, tuple[int, str, str, VariableGroups]],
    curves: dict[str, int] | None = None,
) -> Results:
    """Results of patients that are tuples of facts. `populations` and `curves` name the fact that makes one,
    `cells` the fact counted, its population, breakdown and variable_groups. Fact -1 - i: those without fact i."""
    everyone = frozenset(range(len(patients)))
    member = {name: _with(patients, fact) for name, fact in populations.items()} | {"enrolled": everyone}
    found, behind = [], [_cell("n.enrolled", "n.enrolled", everyone, "", UNKNOWN)]
    behind += [_cell(f"n.{name}", f"n.{name}", member[name], "n.enrolled", COURSE) for name in populations]
    unions: dict[tuple[str, str], list[tuple[frozenset[int], VariableGroups]]] = defaultdict(list)
    for name, (fact, population, breakdown, variable_groups) in cells.items():
        counted = _with(patients, fact) & member[population]
        found.append(_proportion(name, population, breakdown, len(counted), len(member[population])))
        behind.append(_cell(name, name, counted, f"n.{population}", variable_groups))
        unions[breakdown, population].append((counted, variable_groups))
    for (breakdown, population), parts in unions.items():
        union = frozenset[int]().union(*(part for part, _ in parts))
        if len(parts) > 1 and len(union) == sum(len(part) for part, _ in parts):
            cell = _cell(f"{breakdown}.all", "", union, f"n.{population}", parts[0][1])
            behind.append(replace(cell, listed=False))
    lines = []
    for name, fact in (curves or {}).items():
        events = _with(patients, fact)
        lines.append(_curve(name, len(events), len(patients)))
        behind.append(_cell(f"{name}.n", name, everyone, "n.enrolled", EVENTS))
        behind.append(_cell(f"{name}.events", name, events, f"{name}.n", EVENTS))
        for t, left in ((1.0, events), (2.0, everyone)):
            behind.append(_cell(f"{name}.events.{t}", name, events, f"{name}.events", EVENTS, t))
            behind.append(_cell(f"{name}.left.{t}", name, left, f"{name}.n", EVENTS, t))
    steps = [FlowStep("flow.enrolled", "", "main", None, len(patients))]
    above = "flow.enrolled"
    behind.append(_cell("flow.enrolled", "flow.enrolled", everyone, "", COURSE))
    for name in populations:
        steps.append(FlowStep(f"flow.{name}", "", "main", above, len(member[name])))
        above = f"flow.{name}"
        behind.append(_cell(f"flow.{name}", f"flow.{name}", member[name], "", COURSE))
    sizes = {name: len(group) for name, group in member.items()}
    return Results(
        study="s",
        study_title="s",
        data_cutoff="2024-12-01",
        sites=(),
        study_hash="h",
        population_sizes=sizes,
        proportions=tuple(found),
        quantiles=(),
        survival=tuple(lines),
        flow=tuple(steps),
        quality=(),
        cells=tuple(behind),
    )


def _cell(
    name: str,
    figure: str,
    patients: frozenset[int],
    population: str,
    variable_groups: VariableGroups,
    time: float | None = None,
) -> Cell:
    return Cell(name, figure, sum(1 << i for i in patients), population, variable_groups, time)


def _curve(name: str, events: int, n: int) -> Survival:
    """All events at one month, all others censored later."""
    points = (
        CurvePoint(0.0, n, 0, 0, 1.0, 1.0, 1.0),
        CurvePoint(1.0, n, events, 0, 1 - events / n, None, None),
    )
    last = CurvePoint(2.0, n - events, 0, n - events, 1 - events / n, None, None)
    ci = Interval(0.95, "", None, None)
    return Survival(name, name, "enrolled", n, events, None, "not_reached", ci, (), (*points, last))


def _with(patients: tuple[Kind, ...], fact: int) -> frozenset[int]:
    """Patients with a fact; -1 - i: without fact i."""
    wanted = fact >= 0
    return frozenset(i for i, p in enumerate(patients) if p[fact if wanted else -1 - fact] is wanted)


def _shown(results: Results, k: int) -> tuple[object, ...]:
    released = release(results, k)
    return (
        tuple(sorted(released.population_sizes.items())),
        tuple((p.id, p.x, p.n, p.status) for p in released.proportions),
        tuple((step.id, step.n, step.status) for step in released.flow),
        tuple((s.id, s.events, s.n, len(s.curve), s.status) for s in released.survival),
    )


def _protected(results: Results, extra: dict[str, frozenset[int]]) -> dict[str, int]:
    """The counts that must not be found out: cells, sizes, what is left of them, and `extra` groups."""
    counts = {p.id: p.x or 0 for p in results.proportions}
    counts |= {f"not {p.id}": (p.n or 0) - (p.x or 0) for p in results.proportions}
    counts |= {s.id: s.events or 0 for s in results.survival}
    counts |= {f"not {s.id}": (s.n or 0) - (s.events or 0) for s in results.survival}
    sizes = results.population_sizes
    counts |= {f"outside {name}": sizes["enrolled"] - n for name, n in sizes.items()} | sizes
    return counts | {name: len(group) for name, group in extra.items()}


def _found_out(worlds: list[World], k: int, min_cell: int) -> set[tuple[str, int, int]]:
    """(count, value, patients) of every count of 1 to k - 1 on which all cohorts of the same release
    agree."""
    alike = defaultdict(list)
    for results, extra in worlds:
        alike[_shown(results, min_cell)].append((results.population_sizes["enrolled"], _protected(results, extra)))
    found = set()
    for same in alike.values():
        for name, value in same[0][1].items():
            if 0 < value < k and all(counts[name] == value for _, counts in same):
                found.add((name, value, same[0][0]))
    return found


SURGERY: tuple[Kind, ...] = tuple(
    (resected, clear, adjuvant)
    for resected in (False, True)
    for clear in (False, True)
    for adjuvant in (False, True)
    if resected or not (clear or adjuvant)
)


def _surgery(patients: tuple[Kind, ...]) -> World:
    cells = {
        "surgery.resected": (0, "enrolled", "surgery.resected", COURSE),
        "surgery.r0": (1, "resected", "surgery.r0", COURSE),
        "treatment.adjuvant": (2, "enrolled", "treatment.adjuvant", COURSE),
    }
    results = _results(patients, {"resected": 0, "adjuvant": 2}, cells)
    return results, {"resected, no adjuvant": _with(patients, 0) - _with(patients, 2)}


EVENT: tuple[Kind, ...] = (
    (False, False, False, False),
    (True, True, False, False),
    (True, False, True, True),
    (True, False, False, True),
    (True, True, True, True),
    (True, True, False, True),
)


def _event(patients: tuple[Kind, ...]) -> World:
    """An event is a progression or a death. Facts: event, progression, dead at the first cut, dead at
    the later."""
    cells = {
        "alive": (-3, "enrolled", "alive", EVENTS),
        "alive@later": (-4, "enrolled", "alive", EVENTS),
        "progression": (1, "enrolled", "progression", EVENTS),
    }
    results = _results(patients, {}, cells, {"efs": 0, "os": 2})
    return results, {
        "dead between the cuts": _with(patients, 3) - _with(patients, 2),
        "progression and death": _with(patients, 1) & _with(patients, 2),
        "event, alive": _with(patients, 0) - _with(patients, 2),
        "event, no progression": _with(patients, 0) - _with(patients, 1),
    }


LEVELS: tuple[Kind, ...] = ((True, False), (False, True), (False, False))


def _levels(patients: tuple[Kind, ...]) -> World:
    """A variable of three levels, of which two are in the table."""
    cells = {
        "a": (0, "enrolled", "table", frozenset({"table"})),
        "b": (1, "enrolled", "table", frozenset({"table"})),
    }
    return _results(patients, {}, cells), {"neither": _with(patients, -1) & _with(patients, -2)}


@pytest.mark.parametrize(
    ("kinds", "world", "largest"),
    [(SURGERY, _surgery, 4), (EVENT, _event, 4), (LEVELS, _levels, 7)],
    ids=["surgery", "events", "levels"],
)
@pytest.mark.parametrize("k", [2, 4])
def test_no_protected_count_follows_from_a_release_and_its_rules(kinds, world, largest, k):
    worlds = [world(patients) for patients in _cohorts(kinds, largest)]
    assert _found_out(worlds, max(k, K), k) == set()


def test_the_same_attacker_finds_what_is_not_protected():
    worlds = [_levels(patients) for patients in _cohorts(LEVELS, 5)]
    assert ("neither", 1, 5) in _found_out(worlds, K, 0)
