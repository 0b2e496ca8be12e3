"""ADTTE: time to event, one row per enrolled patient and parameter (ADaM BDS for time-to-event analyses).

Rules: docs/endpoint-rules.md 8 (EFS), 9 (DFS), 10 (OS). AVAL = (ADT - STARTDT + 1) / 30.4375 months; CNSR 0 is an
event, 1 the end of what is known, 2 no assessment after time 0. Nothing dated after the data cutoff is used.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import exposure, facts, surgery
from mappers.cohort.assessments import FAILED, RESIDUAL
from mappers.cohort.facts import KEY, Sources, attach, first_by
from mappers.cohort.issues import count
from mappers.study import TIMES_TO_EVENT

MONTH = 30.4375  # days, 365.25 / 12
LONGEST = 1200  # months: a longer time is a slip of the pen in a date
UNCLEAR = "progression on a partial date, before or after the first dose or surgery: the imputed day decides"
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
    "STARTDTF",
    "ADT",
    "ADTF",
    "SRCDOM",
    "SRCVAR",
    "SRCSEQ",
    "SRCREF",
    "DCUTDT",
]


def _failures(sources: Sources, assessed: ir.Table) -> ir.Table:
    """Return the findings that are events; mCODE "worsened" is not RECIST progression unless the study says so.

    R1 and R2 are among the findings only where the study counts residual tumour as an event.
    """
    failed = FAILED + (("WORSENED",) if sources.study.events.worsened_is_progression else ())
    return assessed.filter(_["value"].isin(failed + RESIDUAL))


def _precluded(sources: Sources, base: ir.Table) -> ir.Table:
    """Return progressions that precluded surgery, in the columns of a tumour assessment."""
    return surgery.precluded(sources, base).mutate(
        domain=ibis.literal("Procedure"),
        variable=ibis.literal("statusReason"),
        source=facts.reference("procedure", _["id"]),
    )


def _first_failure(sources: Sources, assessed: ir.Table, base: ir.Table, origin: str) -> ir.Table:
    """Return the first failure after `origin`: PROGRESSION before surgery, after it RECURRENCE or RESIDUAL TUMOUR."""
    found = _failures(sources, assessed)
    found = ibis.union(found, _precluded(sources, base).select(*found.columns))
    rows = found.join(base.select(*KEY, "SURGDT", origin=_[origin]), list(KEY))
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
        PARAM=ibis.literal(TIMES_TO_EVENT[paramcd]),
        AVAL=months,
        AVALU=ibis.literal("MONTHS"),
        SRCSEQ=ibis.literal(1, type="int32"),
        SRCREF=facts.references(facts.supports("ADT", _["source"])),
    ).select(*PUBLISHED)


def _failure_or_death(sources: Sources, assessed: ir.Table, base: ir.Table, paramcd: str, origin: str) -> ir.Table:
    """Return the first of failure and death since `origin`, else censored at the last assessment or on day 1."""
    failure = sources.once(f"{paramcd}_failure", lambda: _first_failure(sources, assessed, base, origin))
    last = sources.once(f"{paramcd}_last", lambda: _last_assessment(assessed, base, origin))
    table = attach(attach(base, failure), last)
    # On one day the failure comes first: it names what happened better than the death.
    failed = _["failed"].notnull() & (_["DTHDT"].isnull() | (_["failed"] <= _["DTHDT"]))
    # A death without a date is an event of unknown time: it has no ADT.
    died = (_["DTHFL"] == "Y").fill_null(False)
    seen = _["last"].notnull()
    null = ibis.null("string")
    return _shape(
        table.mutate(
            STARTDT=_[origin],
            STARTDTF=_[f"{origin}F"],
            ADT=ibis.cases((failed, _["failed"]), (died, _["DTHDT"]), (seen, _["last"]), else_=_[origin]),
            ADTF=ibis.cases((failed, _["failed_flag"]), (died, _["DTHDTF"]), (seen, _["last_flag"]), else_=null),
            CNSR=ibis.cases((failed | died, 0), (seen, 1), else_=2).cast("int32"),
            EVNTDESC=ibis.cases((failed, _["failed_as"]), (died, "DEATH"), else_="NO EVENT"),
            CNSDTDSC=ibis.cases(
                (failed | died, null), (seen, "LAST TUMOUR ASSESSMENT"), else_="NO ASSESSMENT AFTER TIME 0"
            ),
            SRCDOM=ibis.cases(
                (failed, _["failed_domain"]), (died, _["death_domain"]), (seen, _["last_domain"]), else_=null
            ),
            SRCVAR=ibis.cases((failed, _["failed_variable"]), (died, _["death_variable"]), (seen, "value"), else_=null),
            source=ibis.cases(
                (failed, _["failed_source"]),
                (died, _["death_source"]),
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
            STARTDTF=_["TRTSDTF"],
            ADT=dead.ifelse(_["DTHDT"], alive_until),
            ADTF=_["DTHDTF"],
            CNSR=dead.ifelse(0, 1).cast("int32"),
            EVNTDESC=dead.ifelse("DEATH", "NO EVENT"),
            CNSDTDSC=dead.ifelse(null, "LAST KNOWN ALIVE"),
            SRCDOM=_["death_domain"],
            SRCVAR=_["death_variable"],
            source=_["death_source"],
        ),
        "OS",
    )


def _reached(base: ir.Table, paramcd: str, origin: str, reached: str, domain: ir.Value, source: ir.Value) -> ir.Table:
    """Return the time from `origin` to the day `reached`, else censored when last known alive.

    `domain` is the resource type that gives the day, and `source` its reference.
    """
    done = _[reached].notnull()
    null = ibis.null("string")
    element = ibis.cases(
        (domain == "Procedure", "performed[x]"), (domain == exposure.DISPENSED, "whenHandedOver"), else_="effective[x]"
    )
    return _shape(
        base.mutate(
            STARTDT=_[origin],
            STARTDTF=_[f"{origin}F"],
            ADT=ibis.coalesce(_[reached], _["LSTALVDT"], _[origin]),
            ADTF=done.ifelse(_[f"{reached}F"], null),
            CNSR=done.ifelse(0, 1).cast("int32"),
            EVNTDESC=done.ifelse(TIMES_TO_EVENT[paramcd].upper(), "NO EVENT"),
            CNSDTDSC=done.ifelse(null, "LAST KNOWN ALIVE"),
            SRCDOM=done.ifelse(domain, "Patient"),
            SRCVAR=done.ifelse(element, "deceased[x]"),
            source=source,
        ),
        paramcd,
    )


def times(sources: Sources, subjects: ir.Table, responses: ir.Table, assessed: ir.Table) -> ir.Table:
    """Return all times to an event of the enrolled, the impossible ones too; `responses` is ADRS (for R0 of DFS)."""
    base = sources.once("enrolled", lambda: subjects.filter(_["ITTFL"] == "Y"))
    resected = base.filter(_["SURGFL"] == "Y")
    complete = responses.filter(_["PARAMCD"] == "R0", _["AVALC"] == "Y").select("USUBJID")
    operation = facts.reference("procedure", _["surgery_id"])
    dose = facts.typed_reference(_["adjuvant_type"], _["adjuvant_id"])
    parts = [
        _failure_or_death(sources, assessed, base, "EFS", "TRTSDT"),
        _failure_or_death(sources, assessed, resected.semi_join(complete, "USUBJID"), "DFS", "SURGDT"),
        _overall_survival(base),
        _reached(base, "TTSURG", "TRTSDT", "SURGDT", ibis.literal("Procedure"), operation),
        _reached(resected, "TTADJ", "SURGDT", "AP02SDT", _["adjuvant_type"], dose),
    ]
    return sources.once("times", lambda: _judged(ibis.union(*parts), base))


def _judged(table: ir.Table, base: ir.Table) -> ir.Table:
    """Add why a time cannot be: null where it can, or where it is unknown."""
    table = attach(table, base.select("USUBJID", "contradiction"), ("USUBJID",))
    wrong = (_["AVAL"] < 0) | (_["AVAL"] > LONGEST)
    reason = ibis.cases(
        (_["contradiction"].notnull(), _["contradiction"]),
        (wrong.fill_null(False), "a time below 0 or above 100 years"),
        else_=ibis.null("string"),
    )
    return table.mutate(impossible=reason).drop("contradiction")


def adtte(table: ir.Table) -> ir.Table:
    """Return ADTTE from `times`: a patient whose dates contradict each other has no row, and the others have theirs."""
    return table.filter(_["impossible"].isnull()).select(*PUBLISHED)


def issues(sources: Sources, table: ir.Table, subjects: ir.Table, assessed: ir.Table) -> list[ir.Table]:
    """Return the times of `times` that are not evaluable, each with its reason, and events whose order is not sure."""
    people = subjects.select(*KEY, "USUBJID")
    found = table.filter(_["impossible"].notnull()).join(people, "USUBJID")
    issue = _["PARAMCD"] + " not evaluable: " + _["impossible"]
    counted = found.mutate(ISSUE=issue).group_by(*KEY, "ISSUE").agg(COUNT=_.count())
    base = subjects.filter(_["ITTFL"] == "Y").select(*KEY, "TRTSDT", "surgery_from", "surgery_to")
    failed = _failures(sources, assessed).join(base, list(KEY))
    first, last = dates.earliest(_["date"], _["dtf"]), dates.latest(_["date"], _["dtf"])
    unclear = ((first <= _["TRTSDT"]) & (last > _["TRTSDT"])) | (
        (first < _["surgery_from"]) & (last >= _["surgery_to"])
    )
    return [
        counted.select(*KEY, DOMAIN=ibis.literal("ADTTE"), ISSUE=_["ISSUE"], COUNT=_["COUNT"]),
        count(failed.filter(_["dtf"].notnull(), unclear), "ADTTE", UNCLEAR),
    ]
