"""Analyse cohort tables: compute every estimate that a study declares.

The results carry for each count the row numbers of the patients behind it (`Cell`), since disclosure control
must know which counts can be subtracted from each other. Nothing here may be rendered: see
`analytics.disclosure.control`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from analytics.disclosure.figures import ANY_GRADE, COARSE, GRADES, SEVERE_OR_NOT, SIZE
from analytics.disclosure.variable_groups import COURSE, UNKNOWN, VariableGroups, of_names, of_proportion, of_quantile
from analytics.errors import AnalysisError
from analytics.estimates import baseline, proportions, safety
from analytics.estimates.cohort_tables import DAYS, FLAGS, Cohort, check, load_cohort, time_in_months
from analytics.estimates.flow import Box, patient_flow
from analytics.estimates.model import Cell, Estimate, Proportion, Quantiles, Results, Survival
from analytics.estimates.quality import quality
from analytics.estimates.survival import TOLERANCE, Bools, Times, estimate_survival, merge_near_ties
from analytics.provenance import NOT_GIVEN, Provenance
from mappers.study import TIMES_TO_EVENT, ProportionSpec, QuantileSpec, Study, SurvivalSpec

__all__ = ["Cohort", "analyse", "load_cohort"]

# From all to fewest: the resected and the adjuvant are enrolled patients.
POPULATIONS = ("enrolled", "resected", "adjuvant")
NO_TABLES = "no tables at data cutoff {}"
Patients = frozenset[str]


@dataclass(frozen=True)
class PatientGroup:
    """The USUBJIDs behind one count; the other fields as in `Cell`."""

    id: str
    patients: Patients
    population: str
    variable_groups: VariableGroups = COURSE
    time: float | None = None


@dataclass(frozen=True)
class Counted:
    """One estimate, with the groups of patients that its counts stand for.

    `figure` is what the groups are shown by. `beside`: patients on the smaller side of each quartile, if it has any.
    """

    estimate: Estimate
    groups: tuple[PatientGroup, ...] = ()
    figure: str = ""
    beside: tuple[int, int, int] | None = None


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
    coarser = {figure: tuple(cells) for figure, cells in _coarser(cohort, study)}
    counted = (*props, *quants, *curves, *(c for cells in coarser.values() for c in cells))
    everyone = _everyone(cohort)
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
        cells=_cells(cohort, everyone, counted, boxes),
        coarser={name: tuple(c.estimate for c in cells) for name, cells in coarser.items()},  # type: ignore[misc]
        beside={c.estimate.id: c.beside for c in quants if c.beside is not None},
        importance=_importance(study),
        # Without the name of the study: under another one the patients of past releases are still the same.
        subjects=tuple(str(usubjid).removeprefix(f"{study.id}-") for usubjid in everyone),
    )


def _importance(study: Study) -> dict[str, float]:
    """Return what the study says of the importance of its estimates."""
    specs: tuple[ProportionSpec | QuantileSpec | SurvivalSpec, ...] = (
        *study.proportions,
        *study.quantiles,
        *study.survival,
    )
    return {spec.id: spec.importance for spec in specs if spec.importance is not None}


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
            yield _proportion(tables, spec, proportions.patients_meeting(tables, spec), spec.id)
    # The grid of adverse events is not declared by the study: its terms are those that were seen.
    for spec, patients in safety.worst_grades(cohort, study):
        yield _proportion(cohort, spec, patients, f"{spec.breakdown}{GRADES}")


def _coarser(cohort: Cohort, study: Study) -> Iterator[tuple[str, list[Counted]]]:
    """Yield the adverse events of each term and phase by coarser grades, with the figure that they make together."""
    for level, cells in ((SEVERE_OR_NOT, safety.SEVERE_OR_NOT), (ANY_GRADE, safety.ANY_GRADE)):
        found: dict[str, list[Counted]] = {}
        for spec, patients in safety.worst_grades(cohort, study, cells):
            figure = f"{spec.breakdown}{level}"
            counted = _proportion(cohort, spec, patients, figure, prefix=level)
            found.setdefault(figure, []).append(counted)
        yield from found.items()


def _at_cutoff(cohort: Cohort, cutoff: str | None) -> Cohort | None:
    return cohort if cutoff is None else cohort.other_cutoffs.get(cutoff)


def _proportion(cohort: Cohort, spec: ProportionSpec, patients: Patients, figure: str, prefix: str = "") -> Counted:
    population = cohort.population(spec.population)
    estimate = proportions.estimate_proportion(spec, len(patients), len(population))
    group = PatientGroup(f"{spec.id}{prefix}", patients, _size_of(spec.population, spec.cut), of_proportion(spec))
    return Counted(estimate, (group,), figure)


def _size_of(population: str, cutoff: str | None) -> str:
    """Return the id of the count of a population at a data cutoff."""
    return f"{SIZE}{population}" if cutoff is None else f"{SIZE}{population}@{cutoff}"


def _quantiles(cohort: Cohort, spec: QuantileSpec, study: Study) -> Counted:
    if (tables := _at_cutoff(cohort, spec.cut)) is None:
        return Counted(baseline.not_evaluable(spec, NO_TABLES.format(spec.cut)))
    population = tables.population(spec.population)
    if spec.method == "reverse_km":
        members, times = _times(tables, spec.paramcd or "", population, study)
        estimate, numbers = baseline.estimate_follow_up(spec, times, len(population)), times.months
        numbers = numbers * DAYS["months"] / DAYS[spec.unit]
    else:
        values = baseline.values(tables, spec)
        values = values[values.index.isin(population)].dropna()
        members, numbers = tuple(values.index), values.to_numpy(dtype=float)
        estimate = baseline.estimate_quantiles(spec, values, len(population))
    size = _size_of(spec.population, spec.cut)
    with_value = PatientGroup(f"{spec.id}.n", frozenset(members), size, of_quantile(spec))
    return Counted(estimate, (with_value,), spec.id, baseline.beside(estimate, numbers))


def _survival(cohort: Cohort, spec: SurvivalSpec, study: Study) -> Counted:
    """Return the estimate, with the patients who had the event, and by each month or landmark who had it or left."""
    members, times = _times(cohort, spec.paramcd, cohort.population(spec.population), study)
    usubjids = np.array(members, dtype=object)
    variable_groups = of_names([spec.paramcd])

    def group(name: str, mask: Bools, whole: str, time: float | None = None) -> PatientGroup:
        return PatientGroup(f"{spec.id}.{name}", frozenset(usubjids[mask]), whole, variable_groups, time)

    # Published of a curve: its n and its events, and then how many had the event or left by each time.
    groups = [group("n", np.ones(times.n, bool), _size_of(spec.population, None))]
    groups.append(group("events", times.event, f"{spec.id}.n"))
    # A coarsened curve has its steps at whole months and landmarks: these are all the counts that it can show.
    for at in sorted({*map(float, spec.landmarks), *np.ceil(times.months - TOLERANCE).tolist()}):
        left = times.months <= at + TOLERANCE
        groups.append(group(f"events.{at:g}", times.event & left, f"{spec.id}.events", at))
        groups.append(group(f"left.{at:g}", left, f"{spec.id}.n", at))
    return Counted(estimate_survival(spec, times), tuple(groups), spec.id)


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


def _everyone(cohort: Cohort) -> pd.Index:
    """Return the USUBJIDs of all patients at any data cutoff, the screened ones too, by row number."""
    everyone = frozenset(cohort.column("adsl", "USUBJID"))
    everyone = everyone.union(*(frozenset(c.column("adsl", "USUBJID")) for c in cohort.other_cutoffs.values()))
    found: pd.Index = pd.Index(sorted(everyone))
    return found


def _cells(
    cohort: Cohort, row_numbers: pd.Index, counted: tuple[Counted, ...], boxes: tuple[Box, ...]
) -> tuple[Cell, ...]:
    """Return the patients behind every count as bits by row number."""

    @cache
    def bits(patients: Patients) -> int:
        present = np.zeros(len(row_numbers), dtype=bool)
        present[row_numbers.get_indexer(pd.Index(list(patients), dtype=object))] = True
        # One integer for each group: it can be compared and hashed, and a hundred thousand patients take 12 kB.
        return int.from_bytes(np.packbits(present, bitorder="little").tobytes(), "little")

    cells = list(_populations(cohort))
    cells += [(c.figure, group) for c in counted for group in c.groups]
    cells += [(box.step.id, _box(box, cohort)) for box in boxes]
    found = [Cell(g.id, figure, bits(g.patients), g.population, g.variable_groups, g.time) for figure, g in cells]
    return (
        *found,
        *(Cell(g.id, "", bits(g.patients), g.population, g.variable_groups, None, False) for g in _unions(counted)),
    )


def _populations(cohort: Cohort) -> Iterator[tuple[str, PatientGroup]]:
    """Yield the size of each population at each data cutoff."""
    for cutoff, tables in (None, cohort), *cohort.other_cutoffs.items():
        for name in POPULATIONS:
            # The number of the enrolled is linked to everything: all else is counted among them.
            enrolled = name == "enrolled"
            whole = "" if enrolled else _size_of("enrolled", cutoff)
            size = _size_of(name, cutoff)
            # A study without these populations need not have their flags.
            if enrolled or FLAGS[name] in tables.adsl.columns:
                yield size, PatientGroup(size, tables.population(name), whole, UNKNOWN if enrolled else COURSE)


def _box(box: Box, cohort: Cohort) -> PatientGroup:
    """Return a box of the flow diagram; one that shows the size of a population is that count."""
    name = box.step.id.removeprefix("flow.")
    same = name in POPULATIONS and box.patients == cohort.population(name)
    whole = box.step.parent if box.step.parent is None or not same else None
    return PatientGroup(box.step.id, box.patients, whole or "", COURSE)


def _unions(counted: tuple[Counted, ...]) -> Iterator[PatientGroup]:
    """Yield the cells of each breakdown together, where they exclude each other: their sum is a count as well."""
    breakdowns: dict[tuple[str, str], list[PatientGroup]] = {}
    for c in counted:
        if isinstance(c.estimate, Proportion) and c.groups and not c.figure.endswith(COARSE):
            group = c.groups[0]
            breakdowns.setdefault((c.estimate.breakdown, group.population), []).append(group)
    for (breakdown, population), cells in breakdowns.items():
        union = frozenset[str]().union(*(cell.patients for cell in cells))
        if len(cells) > 1 and len(union) == sum(len(cell.patients) for cell in cells):
            # Linked to everything if one cell is: the union of the groups would claim less.
            groups = [cell.variable_groups for cell in cells]
            together = frozenset[str]().union(*groups) if all(groups) else UNKNOWN
            yield PatientGroup(f"{breakdown}.all", union, population, together)
