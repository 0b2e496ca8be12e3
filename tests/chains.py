"""Releases that follow each other over a growing cohort, and a reader who has kept them all and tries to find out more.

The reader shares no code with disclosure control. To him a patient is of a kind, which is what the study counts of one,
and first came in some release: the unknowns are how many patients of each kind came when. Every number that was ever
published is an equation, and an integer program looks for the least and the greatest value of each small count. He is
taken to know which kinds there are, those of the cohort and of others like it, and that nobody leaves. Not attacked:
adverse events, medians and how many have a value of them, the figures of the later data cutoff that are no proportion.
That a figure is suppressed tells him nothing: the reason is the same for every cause. What has nothing
to do with each other (sex and smoking) is attacked apart, which loses nothing: no number is about both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from analytics.analysis import analyse
from analytics.disclosure.control import release, release_after
from analytics.estimates.cohort_tables import Cohort, time_in_months
from analytics.estimates.flow import patient_flow
from analytics.estimates.proportions import patients_meeting
from mappers.study import Study, load_study
from schedules.release.following import Analysis, PastRelease, as_figures, follow
from schedules.release.succession import Json
from tests.resampled import resampled

# Which adverse events there are is no definition, so that they have nothing to do with each other: left out here.
FULL = load_study("alneo")
STUDY = FULL.model_copy(update={"proportions": tuple(p for p in FULL.proportions if p.dataset != "adae")})
TABLES = ("adsl", "adrs", "adtte", "adae")
APART = ("baseline.sex", "baseline.smoking", "baseline.ecog", "response.orr")
POPULATIONS = ("enrolled", "resected", "adjuvant")
EVERYBODY = "flow.screened"
Patients = frozenset[str]


@dataclass(frozen=True)
class Chain:
    """The releases of a cohort that grew; `patients[i]` are those who were there when `releases[i]` was made."""

    cohort: Cohort
    k: int
    releases: tuple[PastRelease, ...]
    patients: tuple[Patients, ...]
    nights: int


@dataclass
class Found:
    """Counts of an attack: the small counts that were looked at, and those that were found out or narrowed down.

    `narrowed`: a small count that a release lists has fewer than k possible values. `undecided`: no answer in time.
    """

    protected: int = 0
    found_out: int = 0
    narrowed: int = 0
    undecided: int = 0
    named: tuple[str, ...] = ()


def without_adverse_events(cohort: Cohort) -> Cohort:
    """Return the tables without a row of ADAE."""
    later = {name: without_adverse_events(each) for name, each in cohort.other_cutoffs.items()}
    return replace(cohort, adae=cohort.adae.iloc[:0], other_cutoffs=later)


def first(cohort: Cohort, enrolled: int) -> Cohort:
    """Return the first patients who were enrolled, and of the others as many in proportion."""
    inside = cohort.adsl.loc[cohort.adsl["ITTFL"] == "Y", "USUBJID"].tolist()
    others = cohort.adsl.loc[cohort.adsl["ITTFL"] != "Y", "USUBJID"].tolist()
    kept = {*inside[:enrolled], *others[: round(enrolled * len(others) / len(inside))]}
    return _of(cohort, kept)


def _of(cohort: Cohort, kept: set[str]) -> Cohort:
    tables = {name: cohort.table(name) for name in TABLES}
    rows = {name: table[table["USUBJID"].isin(kept)].reset_index(drop=True) for name, table in tables.items()}
    return replace(cohort, **rows, other_cutoffs={n: _of(c, kept) for n, c in cohort.other_cutoffs.items()})


def chain(draws: np.random.Generator, nights: int, k: int, least_share: float, *, alone: bool = False) -> Chain:
    """Return the releases of so many nights on each of which 1 to 5 patients are enrolled.

    `alone`: each is made as if it were the only one.
    """
    n = int(draws.integers(4 * k, 12 * k))
    sizes = n + np.concatenate([[0], np.cumsum(draws.integers(1, 6, nights))])
    cohort = without_adverse_events(resampled(int(sizes[-1]), int(draws.integers(1 << 30))))
    releases: list[PastRelease] = []
    patients: list[Patients] = []
    made: list[int] = []
    for size in map(int, sizes):
        # The number of the enrolled is always shown: such a night waits, and need not be analysed to know it.
        if any(abs(size - other) < k for other in made):
            continue
        tables = first(cohort, size)
        results = analyse(tables, STUDY)
        released, counted = release_after(results, k)
        found = Analysis(released, release(results, 0), results, counted)
        first_or_alone = alone or not releases
        following = found if first_or_alone else follow(found, releases, k, len(releases), least_share)
        if isinstance(following, Analysis) and not following.released.suppressed_entirely:
            number = len(releases) + 1
            figures = as_figures(following.released, number)
            releases.append(PastRelease(number, figures, following.counted))
            patients.append(frozenset(tables.adsl["USUBJID"]))
            made.append(size)
    return Chain(cohort, k, tuple(releases), tuple(patients), nights)


def published(figures: Json) -> dict[str, int]:
    """Return every number of patients that a release shows, by what it counts."""
    found = {p["id"]: p["x"] for p in figures["proportions"]}
    found |= {step["id"]: step["n"] for step in figures["flow"]}
    found |= {f"n.{name}": n for name, n in figures["populations"].items()}
    for s in figures["survival"]:
        found[f"{s['id']}.events"] = s["events"]
        events = left = 0
        for point in s["curve"]:
            events, left = events + point["events"], left + point["events"] + point["censored"]
            found |= {f"{s['id']}.events@{point['t']:g}": events, f"{s['id']}.left@{point['t']:g}": left}
    return {name: int(count) for name, count in found.items() if count is not None}


def facts(cohort: Cohort, study: Study, names: set[str]) -> dict[str, Patients]:
    """Return who is behind each number, by what it counts; of curves those of `names`."""
    found = {"flow.screened": frozenset(cohort.adsl["USUBJID"])}
    found |= {box.step.id: box.patients for box in patient_flow(cohort)}
    found |= {f"n.{name}": cohort.population(name) for name in POPULATIONS}
    for spec in study.proportions:
        tables = cohort if spec.cut is None else cohort.other_cutoffs[spec.cut]
        found[spec.id] = patients_meeting(tables, spec)
    months = time_in_months(cohort)
    for curve in study.survival:
        rows = (cohort.adtte["PARAMCD"] == curve.paramcd) & cohort.adtte["USUBJID"].isin(cohort.population("enrolled"))
        event = rows & (cohort.adtte["CNSR"] == 0)
        found[f"{curve.id}.events"] = frozenset(cohort.adtte.loc[event, "USUBJID"])
        for t in sorted({float(name.rpartition("@")[2]) for name in names if name.startswith(f"{curve.id}.")}):
            by = months <= t + 1e-9
            found[f"{curve.id}.events@{t:g}"] = frozenset(cohort.adtte.loc[event & by, "USUBJID"])
            found[f"{curve.id}.left@{t:g}"] = frozenset(cohort.adtte.loc[rows & by, "USUBJID"])
    return found


def attack(given: Chain, draws: np.random.Generator, most: int = 60) -> Found:
    """Return what a reader of all releases finds out, of at most `most` small counts in each group of variables."""
    told = [published(each.figures) for each in given.releases]
    steps = {name for each in told for name in each if ".events@" in name or ".left@" in name}
    behind = facts(given.cohort, STUDY, steps)
    # Kinds of patients that occur elsewhere are possible here too.
    others = facts(without_adverse_events(resampled(300, int(draws.integers(1 << 30)))), STUDY, steps)
    found = Found()
    for group in (*APART, ""):
        names = [name for name in behind if group_of(name) in {group, "n"} and name in others]
        reader = Reader(names, behind, others, given.patients, told)
        targets = list(reader.small_counts(given.k))
        chosen = draws.permutation(len(targets))[:most]
        for target in (targets[place] for place in chosen):
            reader.try_to_find(target, given.k, found)
    return found


def group_of(name: str) -> str:
    """Return the group of variables of a number: the prefix of those that are apart, "n" of a population, else ""."""
    if name.startswith("n."):
        return "n"
    return next((prefix for prefix in APART if name.startswith(prefix)), "")


@dataclass(frozen=True)
class Target:
    """A small count: how many of each unknown are part of it. `listed`: a release would show it."""

    name: str
    part: np.ndarray
    value: int
    listed: bool


class Reader:
    """The unknowns and equations of one group of variables."""

    def __init__(
        self,
        names: list[str],
        behind: Mapping[str, Patients],
        others: Mapping[str, Patients],
        patients: tuple[Patients, ...],
        told: list[dict[str, int]],
    ) -> None:
        self.names = names
        everybody, elsewhere = sorted(patients[-1]), sorted(others[EVERYBODY])
        own = np.array([[p in behind[name] for name in names] for p in everybody], dtype=bool)
        more = np.array([[p in others[name] for name in names] for p in elsewhere], dtype=bool)
        self.kinds, of = np.unique(np.concatenate([own, more]), axis=0, return_inverse=True)
        of = of.ravel()[: len(everybody)]
        came = np.array([next(i for i, there in enumerate(patients) if p in there) for p in everybody])
        self.releases = len(patients)
        self.truth = np.zeros((len(self.kinds), self.releases), dtype=int)
        np.add.at(self.truth, (of, came), 1)
        rows, values = [], []
        for number, numbers in enumerate(told):
            for name in (each for each in names if each in numbers):
                rows.append(self.part(self.kinds[:, names.index(name)], 0, number))
                values.append(numbers[name])
        self.matrix, self.values = np.array(rows, dtype=float), np.array(values, dtype=float)
        # The truth solves the equations, else the reader would attack something that was not published.
        assert (self.matrix @ self.truth.ravel() == self.values).all()

    def part(self, of_kinds: np.ndarray, since: int, until: int) -> np.ndarray:
        """Return the unknowns of patients of some kinds who first came in the releases `since` to `until`."""
        chosen = np.zeros((len(self.kinds), self.releases), dtype=bool)
        chosen[:, since : until + 1] = of_kinds[:, None]
        return chosen.ravel()

    def small_counts(self, k: int) -> Iterator[Target]:
        """Yield the counts of 1 to k - 1 patients: of a figure and its rest, of new patients, and of two figures."""
        enrolled = self.kinds[:, self.names.index("n.enrolled")]
        for until in range(self.releases):
            for place, name in enumerate(self.names):
                inside = self.kinds[:, place]
                yield from self._small(
                    f"{name} in {until + 1}", inside, 0, until, k, listed=not name.startswith("flow.")
                )
                yield from self._small(f"not {name} in {until + 1}", enrolled & ~inside, 0, until, k)
                for since in range(1, until + 1):
                    yield from self._small(f"new {name} {since}-{until + 1}", inside, since, until, k)
                    yield from self._small(f"new, not {name} {since}-{until + 1}", enrolled & ~inside, since, until, k)
        last = self.releases - 1
        for a, b in combinations(range(len(self.names)), 2):
            for since in {0, last}:
                label = f"{self.names[a]} without {self.names[b]} {since + 1}-{last + 1}"
                yield from self._small(label, self.kinds[:, a] & ~self.kinds[:, b], since, last, k)
                yield from self._small(f"not: {label}", self.kinds[:, b] & ~self.kinds[:, a], since, last, k)

    def _small(
        self, name: str, of_kinds: np.ndarray, since: int, until: int, k: int, *, listed: bool = False
    ) -> Iterator[Target]:
        part = self.part(of_kinds, since, until)
        value = int(part @ self.truth.ravel())
        if 0 < value < k:
            yield Target(name, part, value, listed and "@" not in name)

    def try_to_find(self, target: Target, k: int, found: Found) -> None:
        """Look for the least and the greatest value of a small count."""
        found.protected += 1
        ends = [self._end(target.part, sign) for sign in (1, -1)]
        if None in ends:
            found.undecided += 1
            return
        low, high = (int(each) for each in ends if each is not None)
        if low == high:
            found.found_out += 1
            found.named += (f"{target.name}: {low}",)
        elif target.listed and high - low + 1 < k:
            found.narrowed += 1
            found.named += (f"{target.name}: {low} to {high}",)

    def _end(self, part: np.ndarray, sign: int) -> float | None:
        most = float(self.truth.sum())
        answer = milp(
            sign * part.astype(float),
            constraints=LinearConstraint(self.matrix, self.values, self.values),
            bounds=Bounds(0, most),
            integrality=np.ones(len(part)),
            options={"time_limit": 10.0},
        )
        return None if answer.status != 0 else round(sign * answer.fun)
