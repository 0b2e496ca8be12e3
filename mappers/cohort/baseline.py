"""Baseline values: stage, T, N, ECOG and smoking, the latest up to time 0."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import answers, diagnosis, staging
from mappers.cohort.answers import ANSWER, DATED
from mappers.cohort.facts import KEY, Sources, attach, attach_all, first_by
from mappers.cohort.issues import count, listed

VARIABLES = {
    "STAGEBL": "clinical stage group",
    "TSTGBL": "clinical T",
    "NSTGBL": "clinical N",
    "ECOGBL": "ECOG",
    "SMKSTAT": "smoking status",
}
# Answers that nothing was found out: any other answer is preferred.
_UNASSESSED = ("TX", "NX", "UNKNOWN")
_ECOG_GRADES = ("0", "1", "2", "3", "4", "5")


def ecog_grades(sources: Sources) -> ir.Table:
    """Return the ECOG performance status as integer, code, quantity, text, or interpretation where there is no value.

    `value` is null where the answer is not understood. Another scale, such as the Karnofsky index, is another question.
    """
    # ECOG and smoking are of the person, whatever the observation is about.
    rows = answers.asked(sources, answers.every_answer(sources), "ecog-code")
    for element in ("value", "interpretation"):
        coded = answers.coded(sources, element, "ecog")
        rows = attach(rows, coded.select(*ANSWER, **{element: _["value"]}), ANSWER)
    whole = _["value_quantity"] == _["value_quantity"].floor()
    scored = whole & (_["value_unit"].fill_null("") != "%") & _["value_comparator"].isnull()
    number = ibis.coalesce(
        _["value_integer"].cast("int64"), scored.ifelse(_["value_quantity"].cast("int64"), ibis.null("int64"))
    )
    grade = ibis.coalesce(number.cast("string"), _["value"], _["interpretation"])
    return rows.mutate(value=grade.isin(_ECOG_GRADES).ifelse(grade, ibis.null("string")))


def smoking(sources: Sources) -> ir.Table:
    """Return the smoking status; `value` is null where the answer is not understood."""
    asked = answers.asked(sources, answers.every_answer(sources).select(*DATED), "smoking-code")
    return attach(asked, answers.coded(sources, "value", "smoking-status"), ANSWER)


def baseline_values(sources: Sources, treatment: ir.Table) -> ir.Table:
    """Return stage, T, N, ECOG and smoking: the latest value up to time 0, or up to the cutoff without a dose.

    Condition.stage.summary is not used: it is undated and the most recent one, which may be a yp stage.
    """
    wanted = {
        "STAGEBL": staging.groups(sources),
        "TSTGBL": staging.categories(sources, "t"),
        "NSTGBL": staging.categories(sources, "n"),
        "ECOGBL": ecog_grades(sources),
        "SMKSTAT": smoking(sources),
    }
    found = []
    for variable, rows in wanted.items():
        rows = rows.mutate(edition=ibis.null("string")) if "edition" not in rows.columns else rows
        known = rows.filter(_["value"].notnull())
        # Of several values of one day the higher one: the order of the alphabet, for smoking against it.
        higher = _["value"].asc() if variable == "SMKSTAT" else _["value"].desc()
        latest = sources.once(
            f"baseline_{variable}",
            lambda known=known, higher=higher: _latest(known, treatment, higher),  # type: ignore[misc]
        )
        names = {"value": variable} | {name: f"{variable}_{name}" for name in ("id", "ref", "date", *_TOLD)}
        found.append(latest.select(*KEY, **{new: _[old] for old, new in names.items()}))
    table = attach_all(diagnosis.candidates(sources), found)
    return staging.regrouped(table).mutate(ECOGBL=_["ECOGBL"].cast("int32"))


_TOLD = ("edition", "overlaps", "several")


def _latest(rows: ir.Table, treatment: ir.Table, higher: ir.Value) -> ir.Table:
    """Return the value that counts per patient.

    A partial date whose days reach from before time 0 to after it counts, where there is no value that is certainly
    from before (`overlaps`). Several values of the day are `several`.
    """
    rows = attach(rows.select(*DATED, "value", "edition"), treatment.select(*KEY, "TRTSDT"))
    rows = rows.filter(_["TRTSDT"].isnull() | (dates.earliest(_["date"], _["dtf"]) <= _["TRTSDT"]))
    rows = rows.mutate(
        overlaps=(dates.latest(_["date"], _["dtf"]) > _["TRTSDT"]).fill_null(False),
        unassessed=_["value"].isin(_UNASSESSED),
        ref=answers.reference(),
    )
    of_day = ibis.window(group_by=[*KEY, "date", "unassessed"])
    rows = rows.mutate(several=_["value"].min().over(of_day) != _["value"].max().over(of_day))
    return first_by(rows, _["unassessed"], _["overlaps"], _["date"].desc(), higher, _["id"], _["part"])


def issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Count what is missing, uncertain or conflicting at baseline, and answers that are not understood."""
    enrolled = subjects["ITTFL"] == "Y"
    by_patient: dict[tuple[str, str], ir.Value] = {}
    for variable, what in VARIABLES.items():
        by_patient |= {
            ("ADSL", f"enrolled, no baseline {what}"): enrolled & subjects[variable].isnull(),
            ("ADSL", f"conflict: several values of {what} on one day"): subjects[f"{variable}_several"],
            ("ADSL", f"partial date that reaches past the first dose, taken for baseline: {what}"): subjects[
                f"{variable}_overlaps"
            ],
        }
    unknown = {"ECOG performance status": ecog_grades(sources), "smoking status": smoking(sources)}
    return [
        listed(subjects, by_patient),
        *(
            count(rows.filter(_["value"].isnull()), "Observation", f"value not understood: {what}")
            for what, rows in unknown.items()
        ),
        _undated_stage(sources, subjects),
        *staging.issues(sources, subjects),
    ]


def _undated_stage(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Count conditions that carry a stage group (undated, so not used), of patients without a baseline stage."""
    staged = sources.coded("condition", "stage", "stage-group")
    rows = diagnosis.confirmed_conditions(sources).semi_join(staged, ["site", "id"])
    unstaged = subjects.filter(_["STAGEBL"].isnull())
    return count(rows.semi_join(unstaged, list(KEY)), "Condition", "stage given without a date, not used")
