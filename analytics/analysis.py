"""Cohort tables + Study -> Results. Every estimate is declared by the study; here they are only counted.

The results carry for each count the row numbers of the patients behind it (`Cell`), since disclosure control
must know which counts can be subtracted from each other. Nothing here may be rendered: see
`analytics.disclosure.control`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from analytics.disclosure.differencing import group_of
from analytics.disclosure.linkage import COURSE, UNKNOWN, Families, of_names, of_proportion, of_quantile
from analytics.estimates import baseline, proportions, safety
from analytics.estimates.cohort import Cohort, check, load_cohort
from analytics.estimates.flow import Box, flow
from analytics.estimates.model import Cell, Proportion, Quantiles, Results, Survival
from analytics.estimates.quality import quality
from analytics.estimates.survival import Bools, Times, survival
from mappers.study import ProportionSpec, QuantileSpec, Study, SurvivalSpec

__all__ = ["Cohort", "analyse", "load_cohort"]

POPULATIONS = ("enrolled", "resected", "adjuvant")
Patients = frozenset[str]


@dataclass(frozen=True)
class Group:
    """Patients behind one count; `families` and `time` as in `Cell`."""

    patients: Patients
    families: Families
    time: float | None = None


@dataclass(frozen=True)
class Found:
    """One estimate, with the groups of patients that its counts stand for."""

    estimate: Proportion | Quantiles | Survival
    groups: tuple[Group, ...] = ()


def analyse(cohort: Cohort, study: Study, sites_missing: tuple[str, ...] = ()) -> Results:
    """Compute everything that `study` declares. `sites_missing` are sites whose data could not be had.

    Raises `AnalysisError` naming table and column where the tables cannot be analysed.
    """
    check(cohort, study)
    props = tuple(_proportions(cohort, study))
    quants = tuple(_quantiles(cohort, spec) for spec in study.quantiles)
    curves = tuple(_survival(cohort, spec) for spec in study.survival)
    boxes = flow(cohort)
    found = (*props, *quants, *curves)
    return Results(
        study=study.id,
        study_title=study.title,
        data_cut=study.data_cut.isoformat(),
        sites=tuple(sorted({str(site) for site in cohort.column("adsl", "SITEID").dropna()})),
        study_hash=study.hash,
        population_sizes={name: len(cohort.population(name)) for name in POPULATIONS},
        proportions=tuple(f.estimate for f in props if isinstance(f.estimate, Proportion)),
        quantiles=tuple(f.estimate for f in quants if isinstance(f.estimate, Quantiles)),
        survival=tuple(f.estimate for f in curves if isinstance(f.estimate, Survival)),
        flow=tuple(box.step for box in boxes),
        quality=quality(cohort),
        sites_missing=tuple(sorted(sites_missing)),
        cells=_cells(cohort, found, boxes),
    )


def _at_cut(cohort: Cohort, cut: str | None) -> Cohort | None:
    return cohort if cut is None else cohort.cuts.get(cut)


def _no_tables(cut: str | None) -> str:
    return f"no tables at cut {cut}"


def _proportions(cohort: Cohort, study: Study) -> Iterator[Found]:
    for spec in study.proportions:
        here = _at_cut(cohort, spec.cut)
        if here is None:
            yield Found(proportions.not_evaluable(spec, _no_tables(spec.cut)))
        else:
            yield _counted(here, spec, proportions.patients_meeting(here, spec))
    for spec, patients in safety.worst_grades(cohort, study):
        yield _counted(cohort, spec, patients)


def _counted(cohort: Cohort, spec: ProportionSpec, patients: Patients) -> Found:
    population = cohort.population(spec.population)
    estimate = proportions.proportion(spec, len(patients), len(population))
    return Found(estimate, (Group(patients, of_proportion(spec)), _denominator(spec.population, population)))


def _denominator(name: str, patients: Patients) -> Group:
    """A population as the n of an estimate: part of the course of treatment, or all there are."""
    return Group(patients, UNKNOWN if name == "enrolled" else COURSE)


def _quantiles(cohort: Cohort, spec: QuantileSpec) -> Found:
    here = _at_cut(cohort, spec.cut)
    if here is None:
        return Found(baseline.not_evaluable(spec, _no_tables(spec.cut)))
    population = here.population(spec.population)
    estimate, members = _quantile(here, spec, population)
    return Found(estimate, (Group(members, of_quantile(spec)), _denominator(spec.population, population)))


def _quantile(cohort: Cohort, spec: QuantileSpec, population: Patients) -> tuple[Quantiles, Patients]:
    """The estimate and the patients who had a value."""
    if spec.method == "reverse_km":
        members, times = _times(cohort, spec.paramcd or "", population)
        return baseline.follow_up(spec, times, len(population)), frozenset(members)
    values = baseline.values(cohort, spec)
    values = values[values.index.isin(population)]
    return baseline.quantiles(spec, values, len(population)), frozenset(values.dropna().index)


def _survival(cohort: Cohort, spec: SurvivalSpec) -> Found:
    """The estimate, with the patients who had the event, and by each month or landmark who had it or left."""
    members, times = _times(cohort, spec.paramcd, cohort.population(spec.population))
    masks: list[tuple[Bools, float | None]] = [(np.ones(times.n, bool), None), (times.event, None)]
    for at in sorted({*spec.landmarks, *np.ceil(times.months).tolist()}):
        left = times.months <= at
        masks += [(times.event & left, at), (left, at)]
    families = of_names([spec.paramcd])
    groups = (Group(_chosen(members, mask), families, time) for mask, time in masks)
    return Found(survival(spec, times), tuple(groups))


def _chosen(members: tuple[str, ...], mask: Bools) -> Patients:
    return frozenset(patient for patient, chosen in zip(members, mask, strict=True) if chosen)


def _times(cohort: Cohort, paramcd: str, population: Patients) -> tuple[tuple[str, ...], Times]:
    """The patients of `population` with a time for `paramcd`, and their times, in the order of the table."""
    table = cohort.adtte
    wanted = (cohort.column("adtte", "PARAMCD") == paramcd) & cohort.column("adtte", "AVAL").notna()
    rows = table[wanted & table["USUBJID"].isin(population)]
    months = rows["AVAL"].to_numpy(dtype=float)
    return tuple(rows["USUBJID"]), Times(months, rows["CNSR"].to_numpy(dtype=float) == 0)


def _cells(cohort: Cohort, found: tuple[Found, ...], boxes: tuple[Box, ...]) -> tuple[Cell, ...]:
    """The patients behind every count, numbered; those who are never enrolled have no part in it."""
    named = [("populations", _denominator(name, cohort.population(name))) for name in POPULATIONS[1:]]
    named += [(_group(f.estimate), group) for f in found for group in f.groups]
    named += [("flow", Group(box.patients, COURSE)) for box in boxes]
    named += list(_unions(found))
    numbers = _numbers(cohort)
    cells = [Cell("enrolled", _numbered(cohort.population("enrolled"), numbers))]
    cells += [Cell(name, _numbered(g.patients, numbers), g.time, g.families) for name, g in named]
    return tuple(dict.fromkeys(cells))


def _unions(found: tuple[Found, ...]) -> Iterator[tuple[str, Group]]:
    """The cells of a breakdown together, where they exclude each other: their sum is a count as well."""
    breakdowns: dict[str, list[Group]] = {}
    for f in found:
        if isinstance(f.estimate, Proportion) and f.groups:
            breakdowns.setdefault(f.estimate.breakdown, []).append(f.groups[0])
    for breakdown, cells in breakdowns.items():
        union = frozenset[str]().union(*(cell.patients for cell in cells))
        if len(cells) > 1 and len(union) == sum(len(cell.patients) for cell in cells):
            yield group_of(breakdown), Group(union, _together(cells))


def _together(groups: list[Group]) -> Families:
    """The families of several groups; unknown if one is."""
    families = [group.families for group in groups]
    return frozenset[str]().union(*families) if all(families) else UNKNOWN


def _group(estimate: Proportion | Quantiles | Survival) -> str:
    return group_of(estimate.breakdown if isinstance(estimate, Proportion) else estimate.id)


def _numbered(patients: Patients, numbers: Mapping[str, int]) -> frozenset[int]:
    return frozenset(numbers[patient] for patient in patients if patient in numbers)


def _numbers(cohort: Cohort) -> Mapping[str, int]:
    further = (cut.population("enrolled") for cut in cohort.cuts.values())
    enrolled = cohort.population("enrolled").union(*further)
    return {patient: number for number, patient in enumerate(sorted(enrolled))}
