"""ADAE: adverse events of the enrolled patients by CTCAE grade and phase.

Rules: docs/endpoint-rules.md 15. A phase is NEOADJUVANT (first dose to the day before surgery), POST-SURGERY (surgery
to the day before the first adjuvant dose) or ADJUVANT; the gap after surgery is a phase of its own and never merged.
An event is treatment-emergent when it begins within the phase's first dose and `window_days` after its last dose, and
is worse than the same term before time 0. AOCC01FL marks one row per patient, term and phase: the worst grade.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import facts
from mappers.cohort.events import EVENT, events
from mappers.cohort.facts import KEY, Sources, attach, first_by

PUBLISHED = [
    "STUDYID",
    "USUBJID",
    "SITEID",
    "AEDECOD",
    "AEPTCD",
    "AETERM",
    "AEBODSYS",
    "AETOXGR",
    "ATOXGR",
    "ATOXGRN",
    "AESER",
    "AREL",
    "ASTDT",
    "ASTDTF",
    "AENDT",
    "TRTEMFL",
    "APERIOD",
    "APERIODC",
    "AOCC01FL",
    "DCUTDT",
    "SRCREF",
]
PERIODS = {1: "NEOADJUVANT", 2: "ADJUVANT", 9: "POST-SURGERY"}


def _phased(rows: ir.Table) -> ir.Table:
    # The latest phase that has begun by the day of the event is its phase, so the order of the cases matters.
    started = _["date"] >= _["TRTSDT"]
    adjuvant = _["AP02SDT"].notnull() & (_["date"] >= _["AP02SDT"])
    operated = _["SURGDT"].notnull() & (_["date"] >= _["SURGDT"])
    period = ibis.cases((adjuvant, 2), (operated, 9), (started, 1), else_=ibis.null("int32")).cast("int32")
    rows = rows.mutate(APERIOD=period)
    return rows.mutate(APERIODC=_["APERIOD"].cases(*PERIODS.items(), else_=ibis.null("string")))


def _emergent(rows: ir.Table, window: int) -> ir.Table:
    """Add TRTEMFL: begun within the window of the phase and worse than at baseline (docs/endpoint-rules.md 15)."""
    by_term = ibis.window(group_by=[*KEY, "term_key"])
    rows = rows.mutate(baseline=_["ATOXGRN"].max(where=_["date"] < _["TRTSDT"]).over(by_term))
    last = ibis.cases((_["APERIOD"] == 2, _["AP02EDT"]), else_=_["AP01EDT"])
    within = _["APERIOD"].notnull() & (dates.days_between(last, _["date"]) <= window)
    # Without a grade on either side it cannot be told whether the event became worse: it counts.
    worse = _["baseline"].isnull() | _["ATOXGRN"].isnull() | (_["ATOXGRN"] > _["baseline"])
    return rows.mutate(TRTEMFL=(within & worse).ifelse("Y", ibis.null("string")))


def adae(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Return ADAE of the enrolled patients; AETERM is as reported and never published."""
    periods = ("STUDYID", "USUBJID", "SITEID", "DCUTDT", "TRTSDT", "SURGDT", "AP01EDT", "AP02SDT", "AP02EDT")
    base = subjects.filter(_["ITTFL"] == "Y").select(*KEY, *periods)
    phased = sources.once("phased_events", lambda: _phased(events(sources).join(base, list(KEY))))
    rows = sources.once("emergent_events", lambda: _emergent(phased, sources.study.safety.window_days))
    emergent = rows.filter(_["TRTEMFL"] == "Y")
    worst = first_by(
        emergent,
        _["ATOXGRN"].desc(nulls_first=False),
        _["date"],
        _["resource_type"],
        _["id"],
        _["part"],
        key=(*KEY, "term_key", "APERIOD"),
    )
    rows = attach(rows, worst.select(*EVENT, AOCC01FL=ibis.literal("Y")), EVENT)
    return rows.mutate(
        AETERM=_["term"],
        AEBODSYS=ibis.null("string"),
        AETOXGR=_["ATOXGR"],
        ASTDT=_["date"],
        ASTDTF=_["dtf"],
        AENDT=ibis.null("date"),
        SRCREF=facts.references(facts.supports("AETERM ASTDT", facts.typed_reference(_["resource_type"], _["id"]))),
    ).select(*PUBLISHED)
