"""ADTTE: time to event, one row per enrolled patient and parameter (ADaM BDS for time-to-event analyses).

Rules: docs/endpoint-rules.md 8 (EFS), 9 (DFS), 10 (OS). AVAL = (ADT - STARTDT + 1) / 30.4375 months; CNSR 0 is an
event, 1 the end of what is known, 2 no assessment after time 0. Nothing dated after the data cutoff is used.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import facts
from mappers.cohort.facts import KEY, Sources, attach, first_by

MONTH = 30.4375  # days, 365.25 / 12
PARAMS = {
    "EFS": "Event-free survival",
    "OS": "Overall survival",
    "DFS": "Disease-free survival after R0 resection",
    "TTSURG": "Time to surgery",
    "TTADJ": "Time from surgery to adjuvant treatment",
}
PUBLISHED = [
    "STUDYID",
    "USUBJID",
    "SITEID",
    "PARAMCD",
    "PARAM",
    "AVAL",
    "AVALU",
    "CNSR",
    "EVNTDESC",
    "CNSDTDSC",
    "STARTDT",
    "ADT",
    "ADTF",
    "SRCDOM",
    "SRCVAR",
    "SRCSEQ",
    "SRCREF",
    "DCUTDT",
]
ASSESSED = ("CR", "PR", "SD", "PD", "NO PROGRESSION", "WORSENED", "PROGRESSION", "RECURRENCE")
FAILED = ("PD", "PROGRESSION", "RECURRENCE")
RESIDUAL = ("R1", "R2")

_FINDING = (*KEY, "id", "date", "dtf", "value")


def tumour_assessments(sources: Sources) -> ir.Table:
    """Return all adequate tumour assessments with their findings: RECIST, disease status, recurrence as a condition."""
    observed = [
        facts.valued(sources, facts.observations(sources), "recist"),
        facts.valued(
            sources,
            facts.asked(sources, facts.observations(sources), "disease-status-code"),
            "disease-status",
        ),
    ]
    if sources.study.events.r1_r2_is_event:
        margin = facts.asked(sources, facts.observations(sources), "residual-tumour-code")
        observed.append(facts.valued(sources, margin, "residual-tumour"))
    found = [*((rows, "observation", "value") for rows in observed), (facts.recurrences(sources), "condition", "code")]
    parts = [
        rows.select(
            *_FINDING,
            domain=ibis.literal(facts.RESOURCE_TYPES[view]),
            variable=ibis.literal(variable),
            source=facts.reference(view, _["id"]),
        )
        for rows, view, variable in found
    ]
    return ibis.union(*parts).filter(_["value"].isin(ASSESSED + RESIDUAL))


def _failures(sources: Sources, assessed: ir.Table) -> ir.Table:
    """Return the findings that are events; mCODE "worsened" is not RECIST progression unless the study says so.

    R1 and R2 are among the findings only where the study counts residual tumour as an event.
    """
    failed = FAILED + (("WORSENED",) if sources.study.events.worsened_is_progression else ())
    return assessed.filter(_["value"].isin(failed + RESIDUAL))


def _first_failure(sources: Sources, assessed: ir.Table, base: ir.Table, origin: str) -> ir.Table:
    """Return the first failure after `origin`: PROGRESSION before surgery, after it RECURRENCE or RESIDUAL TUMOUR."""
    rows = _failures(sources, assessed).join(base.select(*KEY, "SURGDT", origin=_[origin]), list(KEY))
    # A finding on the day of the origin is the baseline. Of one day, an observation is preferred to a condition.
    first = first_by(rows.filter(_["date"] > _["origin"]), _["date"], _["domain"].desc(), _["id"])
    after = _["SURGDT"].notnull() & (_["date"] >= _["SURGDT"])
    return first.select(
        *KEY,
        failed=_["date"],
        failed_flag=_["dtf"],
        failed_domain=_["domain"],
        failed_variable=_["variable"],
        failed_source=_["source"],
        failed_as=ibis.cases(
            (_["value"].isin(RESIDUAL), "RESIDUAL TUMOUR"), (after, "RECURRENCE"), else_="PROGRESSION"
        ),
    )


def _last_assessment(assessed: ir.Table, base: ir.Table, origin: str) -> ir.Table:
    rows = assessed.join(base.select(*KEY, origin=_[origin]), list(KEY)).filter(_["date"] > _["origin"])
    last = first_by(rows, _["date"].desc(), _["id"])
    return last.select(*KEY, last=_["date"], last_flag=_["dtf"], last_domain=_["domain"], last_source=_["source"])


def _shape(table: ir.Table, paramcd: str) -> ir.Table:
    """Return the columns of ADTTE from `STARTDT`, `ADT`, `CNSR`, `EVNTDESC` and the source of the date."""
    # The first day counts: an event on day 0 has an AVAL above 0.
    months = (dates.days_between(_["STARTDT"], _["ADT"]) + 1).cast("float64") / MONTH
    return table.mutate(
        PARAMCD=ibis.literal(paramcd),
        PARAM=ibis.literal(PARAMS[paramcd]),
        AVAL=months,
        AVALU=ibis.literal("MONTHS"),
        SRCSEQ=ibis.literal(1, type="int32"),
        SRCREF=facts.references(_["source"]),
    ).select(*PUBLISHED)


def _failure_or_death(sources: Sources, assessed: ir.Table, base: ir.Table, paramcd: str, origin: str) -> ir.Table:
    """Return the first of failure and death since `origin`, else censored at the last assessment or on day 1."""
    failure = sources.once(f"{paramcd}_failure", lambda: _first_failure(sources, assessed, base, origin))
    last = sources.once(f"{paramcd}_last", lambda: _last_assessment(assessed, base, origin))
    table = attach(attach(base, failure), last)
    # On one day the failure comes first: it names what happened better than the death.
    failed = _["failed"].notnull() & (_["DTHDT"].isnull() | (_["failed"] <= _["DTHDT"]))
    died = _["DTHDT"].notnull()
    seen = _["last"].notnull()
    null = ibis.null("string")
    return _shape(
        table.mutate(
            STARTDT=_[origin],
            ADT=ibis.cases((failed, _["failed"]), (died, _["DTHDT"]), (seen, _["last"]), else_=_[origin]),
            ADTF=ibis.cases((failed, _["failed_flag"]), (died, _["DTHDTF"]), (seen, _["last_flag"]), else_=null),
            CNSR=ibis.cases((failed | died, 0), (seen, 1), else_=2).cast("int32"),
            EVNTDESC=ibis.cases((failed, _["failed_as"]), (died, "DEATH"), else_="NO EVENT"),
            CNSDTDSC=ibis.cases(
                (failed | died, null), (seen, "LAST TUMOUR ASSESSMENT"), else_="NO ASSESSMENT AFTER TIME 0"
            ),
            SRCDOM=ibis.cases((failed, _["failed_domain"]), (died, "Patient"), (seen, _["last_domain"]), else_=null),
            SRCVAR=ibis.cases((failed, _["failed_variable"]), (died, "deceased[x]"), (seen, "value"), else_=null),
            source=ibis.cases(
                (failed, _["failed_source"]),
                (died, _["patient_source"]),
                (seen, _["last_source"]),
                else_=null,
            ),
        ),
        paramcd,
    )


def _overall_survival(base: ir.Table) -> ir.Table:
    """Return death from any cause, else censored when last known alive. A death without a date has no AVAL."""
    dead = (_["DTHFL"] == "Y").fill_null(False)
    null = ibis.null("string")
    alive_until = ibis.coalesce(_["LSTALVDT"], _["TRTSDT"])
    return _shape(
        base.mutate(
            STARTDT=_["TRTSDT"],
            ADT=dead.ifelse(_["DTHDT"], alive_until),
            ADTF=_["DTHDTF"],
            CNSR=dead.ifelse(0, 1).cast("int32"),
            EVNTDESC=dead.ifelse("DEATH", "NO EVENT"),
            CNSDTDSC=dead.ifelse(null, "LAST KNOWN ALIVE"),
            SRCDOM=ibis.literal("Patient"),
            SRCVAR=ibis.literal("deceased[x]"),
            source=_["patient_source"],
        ),
        "OS",
    )


def _reached(base: ir.Table, paramcd: str, origin: str, reached: str, view: str, identifier: str) -> ir.Table:
    """Return the time from `origin` to the day `reached`, else censored when last known alive."""
    done = _[reached].notnull()
    null = ibis.null("string")
    return _shape(
        base.mutate(
            STARTDT=_[origin],
            ADT=ibis.coalesce(_[reached], _["LSTALVDT"], _[origin]),
            ADTF=null,
            CNSR=done.ifelse(0, 1).cast("int32"),
            EVNTDESC=done.ifelse(PARAMS[paramcd].upper(), "NO EVENT"),
            CNSDTDSC=done.ifelse(null, "LAST KNOWN ALIVE"),
            SRCDOM=done.ifelse(facts.RESOURCE_TYPES[view], "Patient"),
            SRCVAR=done.ifelse("performed[x]" if view == "procedure" else "effective[x]", "deceased[x]"),
            source=facts.reference(view, _[identifier]),
        ),
        paramcd,
    )


def adtte(sources: Sources, subjects: ir.Table, responses: ir.Table, assessed: ir.Table) -> ir.Table:
    """Return ADTTE of the enrolled patients; `responses` is ADRS (for the R0 resected of DFS)."""
    enrolled = subjects.filter(_["ITTFL"] == "Y")
    base = sources.once("enrolled", lambda: enrolled.mutate(patient_source=facts.reference("patient", _["patient"])))
    resected = base.filter(_["SURGFL"] == "Y")
    complete = responses.filter(_["PARAMCD"] == "R0", _["AVALC"] == "Y").select("USUBJID")
    parts = [
        _failure_or_death(sources, assessed, base, "EFS", "TRTSDT"),
        _failure_or_death(sources, assessed, resected.semi_join(complete, "USUBJID"), "DFS", "SURGDT"),
        _overall_survival(base),
        _reached(base, "TTSURG", "TRTSDT", "SURGDT", "procedure", "surgery_id"),
        _reached(resected, "TTADJ", "SURGDT", "AP02SDT", "medication_administration", "adjuvant_id"),
    ]
    return ibis.union(*parts)
