"""An attacker with integer programming: random cohorts, analysed and released, and every number used as
an equation.

The unknowns are the numbers of patients of each possible kind (what the study's definitions allow). A
protected count is safe when its smallest and its largest value among all solutions differ.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from analytics.analysis import analyse
from analytics.disclosure.control import Released, release
from analytics.estimates.cohort_tables import Cohort
from mappers.study import load_study
from tests.unit.analytics_tables import CUT, LATER, cohort

STUDY = load_study("alneo")
DOSE, SURGERY, ADJUVANT = date(2024, 1, 1), date(2024, 3, 1), date(2024, 4, 1)
TYPES = ("LOBECTOMY", "PNEUMONECTOMY", "OTHER")


class Kind(NamedTuple):
    """What the study counts of one patient. `surgery` is a type or None; `dead` 0 alive, 1 by the cut, 2
    later."""

    sex: str
    surgery: str | None
    response: int
    adjuvant: bool
    progressed: bool
    dead: int


KINDS = tuple(
    Kind(*values)
    for values in product("FM", (None, *TYPES), (0, 1, 2), (False, True), (False, True), (0, 1, 2))
    if values[1] is not None or (values[2] == 0 and not values[3])
)
Count = Callable[[Kind], bool]

# What a reader knows to be behind each number: x of a proportion, events of a curve, a box, a size.
CELLS: dict[str, Count] = {
    "baseline.sex.female": lambda p: p.sex == "F",
    "baseline.sex.male": lambda p: p.sex == "M",
    "surgery.resected": lambda p: p.surgery is not None,
    "surgery.type.lobectomy": lambda p: p.surgery == "LOBECTOMY",
    "surgery.type.pneumonectomy": lambda p: p.surgery == "PNEUMONECTOMY",
    "surgery.type.other": lambda p: p.surgery == "OTHER",
    "response.mpr": lambda p: p.response >= 1,
    "response.pcr": lambda p: p.response == 2,
    "treatment.adjuvant_started": lambda p: p.adjuvant,
    "survival.alive": lambda p: p.dead != 1,
    "survival.alive@later_cut": lambda p: p.dead == 0,
    "survival.progression_or_recurrence": lambda p: p.progressed,
}
EVENTS: dict[str, Count] = {
    "survival.os": lambda p: p.dead == 1,
    "survival.efs": lambda p: p.progressed or p.dead == 1,
}
FLOW: dict[str, Count] = {
    "flow.enrolled": lambda p: True,
    "flow.resected": lambda p: p.surgery is not None,
    "flow.adjuvant": lambda p: p.adjuvant,
    "flow.resected.no_adjuvant": lambda p: p.surgery is not None and not p.adjuvant,
    "flow.enrolled.refusal": lambda p: p.surgery is None,
}
SIZES: dict[str, Count] = {
    "enrolled": lambda p: True,
    "resected": lambda p: p.surgery is not None,
    "adjuvant": lambda p: p.adjuvant,
}
DERIVED: dict[str, Count] = {
    "major but not complete response": lambda p: p.response == 1,
    "resected, no adjuvant treatment": lambda p: p.surgery is not None and not p.adjuvant,
    "resected, no major response": lambda p: p.surgery is not None and p.response == 0,
    "dead between the cuts": lambda p: p.dead == 2,
    "event but alive": lambda p: p.progressed and p.dead != 1,
    "dead without progression": lambda p: p.dead == 1 and not p.progressed,
    "dead after progression": lambda p: p.dead == 1 and p.progressed,
}


def _tables(patients: list[Kind], *, later: bool) -> Cohort:
    cut = LATER if later else CUT
    return cohort(
        adsl=[_adsl(i, p, cut, later=later) for i, p in enumerate(patients)],
        adrs=[row for i, p in enumerate(patients) for row in _adrs(i, p)],
        adtte=[row for i, p in enumerate(patients) for row in _adtte(i, p, later=later)],
        other_cutoffs={} if later else {"later_cut": _tables(patients, later=True)},
    )


def _adsl(i: int, p: Kind, cut: date, *, later: bool) -> dict[str, Any]:
    return {
        "USUBJID": f"P{i}",
        "SITEID": "s",
        "AGE": 60,
        "SEX": p.sex,
        "ITTFL": "Y",
        "SURGFL": "Y" if p.surgery else "N",
        "ADJSAFFL": "Y" if p.adjuvant else "N",
        "TRTSDT": DOSE,
        "SURGDT": SURGERY if p.surgery else None,
        "AP02SDT": ADJUVANT if p.adjuvant else None,
        "SURGTYPE": p.surgery,
        "NOSURGRS": None if p.surgery else "refusal",
        "DTHFL": "Y" if _dead(p, later=later) else None,
        "DCUTDT": cut,
    }


def _dead(p: Kind, *, later: bool) -> bool:
    return p.dead == 1 or (later and p.dead == 2)


def _adrs(i: int, p: Kind) -> list[dict[str, Any]]:
    start = {"USUBJID": f"P{i}", "ANL01FL": "Y"}
    values = {"MPR": p.response >= 1, "PCR": p.response == 2, "RSP": False, "NDOWN": False}
    return [start | {"PARAMCD": code, "AVALC": "Y" if yes else "N"} for code, yes in values.items()]


def _adtte(i: int, p: Kind, *, later: bool) -> list[dict[str, Any]]:
    start = {"USUBJID": f"P{i}", "STARTDT": DOSE}
    dead, month = _dead(p, later=later), 1.5 + i % 7
    overall = {"PARAMCD": "OS", "AVAL": month if dead else 20 + i % 5, "CNSR": 0 if dead else 1}
    event = p.progressed or dead
    kind = "PROGRESSION" if p.progressed else "DEATH" if dead else None
    free = {
        "PARAMCD": "EFS",
        "AVAL": month if event else 20 + i % 5,
        "CNSR": 0 if event else 1,
        "EVNTDESC": kind,
    }
    return [start | overall, start | free]


def _equations(released: Released) -> list[tuple[Count, int]]:
    """Every published number of patients with what it counts."""
    told = [(CELLS[p.id], p.x) for p in released.proportions if p.id in CELLS]
    told += [(EVENTS[s.id], s.events) for s in released.survival]
    told += [(FLOW[step.id], step.n) for step in released.flow if step.id in FLOW]
    told += [(SIZES[name], n) for name, n in released.population_sizes.items()]
    return [(count, value) for count, value in told if value is not None]


def _row(count: Count) -> list[int]:
    return [int(count(kind)) for kind in KINDS]


def _range(count: Count, equations: list[tuple[Count, int]], n: int) -> tuple[int, int]:
    """The smallest and the largest value of `count` among the integer solutions of `equations`."""
    matrix = np.array([_row(c) for c, _ in equations] or [[0] * len(KINDS)])
    values = np.array([v for _, v in equations] or [0])
    ends = []
    for sign in (1, -1):
        found = milp(
            sign * np.array(_row(count)),
            constraints=LinearConstraint(matrix, values, values),
            bounds=Bounds(0, n),
            integrality=np.ones(len(KINDS)),
        )
        assert found.success
        ends.append(round(sign * found.fun))
    return ends[0], ends[1]


def _protected(patients: list[Kind], k: int) -> dict[str, Count]:
    """The counts of 1 to k - 1, of those with and of those without each thing that is counted."""
    counted = CELLS | EVENTS | FLOW | DERIVED
    both = counted | {f"not {name}": _without(count) for name, count in counted.items()}
    return {name: count for name, count in both.items() if 0 < sum(map(count, patients)) < k}


def _without(count: Count) -> Count:
    return lambda kind: not count(kind)


@st.composite
def _cohorts(draw: st.DrawFn) -> list[Kind]:
    """Patients of a few kinds, so that counts are small in some places and large in others."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6, unique=True))
    sizes = draw(st.lists(st.integers(1, 12), min_size=len(kinds), max_size=len(kinds)))
    return [kind for kind, size in zip(kinds, sizes, strict=True) for _ in range(size)][:40]


@settings(max_examples=25, deadline=None)
@given(patients=_cohorts(), k=st.sampled_from([2, 3, 5, 8]))
def test_no_protected_count_is_the_only_solution(patients: list[Kind], k: int):
    equations = _equations(release(analyse(_tables(patients, later=False), STUDY), k))
    for name, count in _protected(patients, k).items():
        low, high = _range(count, equations, len(patients))
        assert low < high, f"{name} is found out"


def test_the_attacker_works_out_what_is_published_without_control():
    patients = [KINDS[0]] * 20 + [kind for kind in KINDS if kind.dead == 2][:2]
    equations = _equations(release(analyse(_tables(patients, later=False), STUDY), 0))
    assert _range(DERIVED["dead between the cuts"], equations, len(patients)) == (2, 2)
