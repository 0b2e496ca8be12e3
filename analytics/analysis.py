"""Analyse cohort tables: compute every estimate that a study declares.

The results carry for each count the row numbers of the patients behind it (`Cell`), since disclosure control
must know which counts can be subtracted from each other. Nothing here may be rendered: see
`analytics.disclosure.control`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analytics.disclosure.differencing import without_cutoff
from analytics.disclosure.variable_groups import COURSE, UNKNOWN, VariableGroups, of_names, of_proportion, of_quantile
from analytics.errors import AnalysisError
from analytics.estimates import baseline, proportions, safety
from analytics.estimates.cohort_tables import DAYS, Cohort, check, load_cohort, time_in_months
from analytics.estimates.flow import Box, patient_flow
from analytics.estimates.model import Cell, Estimate, Proportion, Quantiles, Results, Survival
from analytics.estimates.quality import quality
from analytics.estimates.survival import Bools, Times, estimate_survival, merge_near_ties
from analytics.provenance import NOT_GIVEN, Provenance
from mappers.study import TIMES_TO_EVENT, ProportionSpec, QuantileSpec, Study, SurvivalSpec

__all__ = ["Cohort", "analyse", "load_cohort"]

# From all to fewest: the resected and the adjuvant are enrolled patients.
POPULATIONS = ("enrolled", "resected", "adjuvant")
NO_TABLES = "no tables at data cutoff {}"
Patients = frozenset[str]


@dataclass(frozen=True)
class PatientGroup:
    """The USUBJIDs behind one count; `variable_groups` and `time` as in `Cell`."""

    patients: Patients
    variable_groups: VariableGroups
    time: float | None = None


@dataclass(frozen=True)
class Counted:
    """One estimate, with the groups of patients that its counts stand for."""

    estimate: Estimate
    groups: tuple[PatientGroup, ...] = ()


def analyse(cohort: Cohort, study: Study, provenance: Provenance = NOT_GIVEN) -> Results:
    """Compute everything that `study` declares. `provenance` is passed on to the release.

    Raises `AnalysisError` naming table and column where the tables cannot be analysed.

    >>> import pandas as pd
    >>> from mappers.study import load_study
    >>> names = ["USUBJID", "SITEID", "ITTFL", "SURGFL", "ADJSAFFL", "SEX"]
    >>> adsl = pd.DataFrame([["1", "milan", "Y", "Y", "N", "F"], ["2", "milan", "Y", "N", "N", "M"]], columns=names)
    >>> adae = pd.DataFrame(columns=["USUBJID", "APERIODC", "AEDECOD", "ATOXGRN", "TRTEMFL", "AOCC01FL"])
    >>> adtte = pd.DataFrame(columns=["USUBJID", "PARAMCD", "AVAL", "CNSR"])
    >>> cohort = Cohort(adsl, pd.DataFrame(columns=["USUBJID", "PARAMCD"]), adtte, adae)
    >>> women = [p for p in load_study("alneo").proportions if p.id == "baseline.sex.female"]
    >>> nothing = {"proportions": tuple(women), "quantiles": (), "survival": (), "cuts": ()}
    >>> found = analyse(cohort, load_study("alneo").model_copy(update=nothing))
    >>> [(p.id, p.x, p.n, p.percent) for p in found.proportions]
    [('baseline.sex.female', 1, 2, 50.0)]
    """
    # Before anything is counted: a table that contradicts itself would give a plausible wrong number.
    check(cohort, study)
    _check_parameters(cohort, study)
    props = tuple(_proportions(cohort, study))
    quants = tuple(_quantiles(cohort, spec, study) for spec in study.quantiles)
    curves = tuple(_survival(cohort, spec, study) for spec in study.survival)
    boxes = patient_flow(cohort)
    return Results(
        study=study.id,
        study_title=study.title,
        data_cutoff=study.data_cut.isoformat(),
        sites=tuple(sorted({str(site) for site in cohort.column("adsl", "SITEID").dropna()})),
        study_hash=study.hash,
        population_sizes={name: len(cohort.population(name)) for name in POPULATIONS},
        proportions=tuple(c.estimate for c in props if isinstance(c.estimate, Proportion)),
        quantiles=tuple(c.estimate for c in quants if isinstance(c.estimate, Quantiles)),
        survival=tuple(c.estimate for c in curves if isinstance(c.estimate, Survival)),
        flow=tuple(box.step for box in boxes),
        quality=quality(cohort),
        provenance=provenance,
        cells=_cells(cohort, (*props, *quants, *curves), boxes),
    )


def _check_parameters(cohort: Cohort, study: Study) -> None:
    """Raise `AnalysisError` where an estimate asks for a parameter that neither periop nor the given table has."""
    known = TIMES_TO_EVENT.keys() | set(cohort.column("adtte", "PARAMCD").dropna())
    asked = {spec.id: spec.paramcd for spec in study.survival}
    asked |= {spec.id: spec.paramcd for spec in study.quantiles if spec.paramcd is not None}
    for estimate, paramcd in asked.items():
        if paramcd not in known:
            problem = f"estimate {estimate} asks for {paramcd}, which is not there"
            raise AnalysisError("adtte", "PARAMCD", problem, f"there are {', '.join(sorted(known))}")


def _proportions(cohort: Cohort, study: Study) -> Iterator[Counted]:
    for spec in study.proportions:
        # A cohort folder that was mapped for one data cutoff alone has no tables of the others.
        if (tables := _at_cutoff(cohort, spec.cut)) is None:
            yield Counted(proportions.not_evaluable(spec, NO_TABLES.format(spec.cut)))
        else:
            yield _proportion(tables, spec, proportions.patients_meeting(tables, spec))
    # The grid of adverse events is not declared by the study: its terms are those that were seen.
    for spec, patients in safety.worst_grades(cohort, study):
        yield _proportion(cohort, spec, patients)


def _at_cutoff(cohort: Cohort, cutoff: str | None) -> Cohort | None:
    return cohort if cutoff is None else cohort.other_cutoffs.get(cutoff)


def _proportion(cohort: Cohort, spec: ProportionSpec, patients: Patients) -> Counted:
    population = cohort.population(spec.population)
    estimate = proportions.estimate_proportion(spec, len(patients), len(population))
    return Counted(estimate, (PatientGroup(patients, of_proportion(spec)), _denominator(spec.population, population)))


def _denominator(name: str, patients: Patients) -> PatientGroup:
    """Return a population as the n of an estimate."""
    # The resected and the adjuvant are part of the course of treatment; the enrolled are all patients there are.
    return PatientGroup(patients, UNKNOWN if name == "enrolled" else COURSE)


def _quantiles(cohort: Cohort, spec: QuantileSpec, study: Study) -> Counted:
    if (tables := _at_cutoff(cohort, spec.cut)) is None:
        return Counted(baseline.not_evaluable(spec, NO_TABLES.format(spec.cut)))
    population = tables.population(spec.population)
    if spec.method == "reverse_km":
        members, times = _times(tables, spec.paramcd or "", population, study)
        estimate = baseline.estimate_follow_up(spec, times, len(population))
    else:
        values = baseline.values(tables, spec)
        values = values[values.index.isin(population)]
        members = tuple(values.dropna().index)
        estimate = baseline.estimate_quantiles(spec, values, len(population))
    with_value = PatientGroup(frozenset(members), of_quantile(spec))
    return Counted(estimate, (with_value, _denominator(spec.population, population)))


def _survival(cohort: Cohort, spec: SurvivalSpec, study: Study) -> Counted:
    """Return the estimate, with the patients who had the event, and by each month or landmark who had it or left."""
    members, times = _times(cohort, spec.paramcd, cohort.population(spec.population), study)
    # Published of a curve: its n and its events, and then how many had the event or left by each time.
    masks: list[tuple[Bools, float | None]] = [(np.ones(times.n, bool), None), (times.event, None)]
    # A coarsened curve has its steps at whole months and landmarks: these are all the counts that it can show.
    for at in sorted({*spec.landmarks, *np.ceil(times.months).tolist()}):
        left = times.months <= at
        masks += [(times.event & left, at), (left, at)]
    usubjids = np.array(members, dtype=object)
    variable_groups = of_names([spec.paramcd])
    groups = (PatientGroup(frozenset(usubjids[mask]), variable_groups, time) for mask, time in masks)
    return Counted(estimate_survival(spec, times), tuple(groups))


def _times(cohort: Cohort, paramcd: str, population: Patients, study: Study) -> tuple[tuple[str, ...], Times]:
    """Return the patients of `population` with a time for `paramcd`, and their times, in the order of the table."""
    table = cohort.adtte
    rows = table[(cohort.column("adtte", "PARAMCD") == paramcd) & table["USUBJID"].isin(population)]
    months = time_in_months(cohort).loc[rows.index]
    # An event without a time is a death of which nobody gave the date.
    if study.events.undated_death == "last_contact":
        months = months.fillna(_until_last_contact(cohort, rows).where(rows["CNSR"] == 0))
    kept = months.notna()
    # ADaM: CNSR 0 is an event, and 1 or more the reasons of a censoring.
    event = rows["CNSR"].to_numpy(dtype=float)[kept] == 0
    return tuple(rows["USUBJID"][kept]), Times(merge_near_ties(np.asarray(months[kept], dtype=np.float64)), event)


def _until_last_contact(cohort: Cohort, rows: pd.DataFrame) -> pd.Series:
    """Return the months from STARTDT to the day on which each patient was last known alive; NaN where it is unknown."""
    if "STARTDT" not in rows.columns or "LSTALVDT" not in cohort.adsl.columns:
        return pd.Series(np.nan, index=rows.index)
    contact = rows["USUBJID"].map(cohort.adsl.set_index("USUBJID")["LSTALVDT"])
    # The first day counts, as in ADTTE.
    days = (pd.to_datetime(contact) - pd.to_datetime(rows["STARTDT"])).dt.days + 1
    return (days / DAYS["months"]).where(days > 0)


def _cells(cohort: Cohort, counted: tuple[Counted, ...], boxes: tuple[Box, ...]) -> tuple[Cell, ...]:
    """Return the patients behind every count as row numbers; those who are never enrolled have no part in it."""
    named = [("populations", _denominator(name, cohort.population(name))) for name in POPULATIONS[1:]]
    named += [(without_cutoff(c.estimate.breakdown), group) for c in counted for group in c.groups]
    named += [("flow", PatientGroup(box.patients, COURSE)) for box in boxes]
    named += list(_unions(counted))
    # Patients who are enrolled at any data cutoff: a reader may subtract the counts of one from those of another.
    enrolled = cohort.population("enrolled").union(*(c.population("enrolled") for c in cohort.other_cutoffs.values()))
    row_numbers = {patient: number for number, patient in enumerate(sorted(enrolled))}

    def numbered(patients: Patients) -> frozenset[int]:
        return frozenset(row_numbers[patient] for patient in patients if patient in row_numbers)

    cells = [Cell("enrolled", numbered(cohort.population("enrolled")))]
    cells += [Cell(name, numbered(g.patients), g.time, g.variable_groups) for name, g in named]
    # The same group is often counted twice in a breakdown (every n); differencing takes each once.
    return tuple(dict.fromkeys(cells))


def _unions(counted: tuple[Counted, ...]) -> Iterator[tuple[str, PatientGroup]]:
    """Yield the cells of each breakdown together, where they exclude each other: their sum is a count as well."""
    breakdowns: dict[str, list[PatientGroup]] = {}
    for c in counted:
        if isinstance(c.estimate, Proportion) and c.groups:
            breakdowns.setdefault(c.estimate.breakdown, []).append(c.groups[0])
    for breakdown, cells in breakdowns.items():
        union = frozenset[str]().union(*(cell.patients for cell in cells))
        if len(cells) > 1 and len(union) == sum(len(cell.patients) for cell in cells):
            # Linked to everything if one cell is: the union of the groups would claim less.
            groups = [cell.variable_groups for cell in cells]
            together = frozenset[str]().union(*groups) if all(groups) else UNKNOWN
            yield without_cutoff(breakdown), PatientGroup(union, together)
