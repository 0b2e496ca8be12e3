"""Resections of lung, and why there was none."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort.facts import KEY, RESOURCE, Sources, attach, dated, first_by, only, written_date
from mappers.cohort.issues import count, listed

# FHIR R4 event-status: a procedure that was not begun, and one that was given up
NOT_COMPLETED = ("not-done", "stopped")
PROGRESSION = "PROGRESSION"


def resections(sources: Sources) -> ir.Table:
    """Return completed resections of lung: `value` is the type of surgery, `lobe` the lobe that a code names."""
    return sources.once("resections", lambda: _resections(sources))


def _resections(sources: Sources) -> ir.Table:
    rows = dated(sources, "procedure").filter(_["status"] == "completed")
    rows = rows.join(sources.coded("procedure", "code", "surgery-type"), list(RESOURCE))
    lobes = sources.coded("procedure", "code", "resected-lobe").select(*RESOURCE, lobe=_["value"])
    return attach(rows, lobes, RESOURCE).select(*KEY, "id", "date", "dtf", "value", "lobe")


def first_resection(sources: Sources, since: ir.Table) -> ir.Table:
    """Return the first completed resection after the day `origin` of `since`; several of one day are one operation.

    Two ICD-10-PCS resections of different lobes on one day are a bilobectomy, hence OTHER. Otherwise the most
    extensive procedure names the operation: pneumonectomy, then lobectomy, then other.
    """
    # An earlier resection is not the one that the neoadjuvant treatment prepared.
    rows = resections(sources).join(since.select(*KEY, "origin"), list(KEY)).filter(_["date"] > _["origin"])
    rows = rows.mutate(first=_["date"].min().over(ibis.window(group_by=list(KEY))))
    rows = rows.filter(_["date"] == _["first"])
    day = rows.group_by(*KEY).agg(
        SURGDT=_["date"].min(),
        # A day that one of the procedures gives whole is not imputed.
        SURGDTF=_["dtf"].isnull().any().ifelse(ibis.null("string"), _["dtf"].max()),
        surgery_id=_["id"].min(),
        lobes=_["lobe"].nunique(where=_["value"] == "LOBECTOMY"),
        lungs=(_["value"] == "PNEUMONECTOMY").any(),
        lobar=(_["value"] == "LOBECTOMY").any(),
    )
    kind = ibis.cases(
        (_["lungs"], "PNEUMONECTOMY"), (_["lobes"] > 1, "OTHER"), (_["lobar"], "LOBECTOMY"), else_="OTHER"
    )
    # The days on which the operation may have been, for what must be before or after it.
    return day.mutate(
        SURGTYPE=kind,
        surgery_from=dates.earliest(_["SURGDT"], _["SURGDTF"]),
        surgery_to=dates.latest(_["SURGDT"], _["SURGDTF"]),
    ).select(*KEY, "SURGDT", "SURGDTF", "SURGTYPE", "surgery_id", "surgery_from", "surgery_to")


def prevented(sources: Sources, treatment: ir.Table) -> ir.Table:
    """Return resections that were not done or given up, with their coded reason as `value`, since time 0.

    `date` is null where none is given. Free text stays in the hospital, and what else was not done is no surgery.
    """
    return sources.once("prevented", lambda: _prevented(sources, treatment))


def _prevented(sources: Sources, treatment: ir.Table) -> ir.Table:
    rows = sources.resources("procedure").filter(_["status"].isin(NOT_COMPLETED))
    meant = sources.coded("procedure", "code", "surgery-type")
    reasons = sources.coded("procedure", "statusReason", "no-surgery-reason")
    rows = only(rows, meant, RESOURCE).join(reasons, list(RESOURCE))
    written = written_date("procedure", rows)
    rows = rows.mutate(date=dates.day(written), dtf=dates.flag(written)).join(
        treatment.select(*KEY, "TRTSDT"), list(KEY)
    )
    # A reason of the time before the study drug is not why there was no surgery after it.
    kept = _["date"].isnull() | ((_["date"] <= sources.cutoff) & (_["date"] > _["TRTSDT"]))
    return rows.filter(kept).select(*KEY, "id", "date", "dtf", "value")


def no_surgery_reason(sources: Sources, treatment: ir.Table) -> ir.Table:
    """Return `reason`, that of the latest resection which was not done or given up."""
    rows = prevented(sources, treatment)
    latest = first_by(rows, _["date"].desc(nulls_first=False), _["value"], _["id"])
    return latest.select(*KEY, reason=_["value"])


def precluded(sources: Sources, base: ir.Table) -> ir.Table:
    """Return dated progressions that precluded surgery: events of EFS (docs/endpoint-rules.md 8).

    `base` has TRTSDT and SURGDT; after a resection there is nothing left to preclude.
    """
    rows = prevented(sources, base).filter(_["value"] == PROGRESSION, _["date"].notnull())
    rows = rows.join(base.select(*KEY, "SURGDT"), list(KEY))
    return rows.filter(_["SURGDT"].isnull() | (_["date"] < _["SURGDT"])).drop("SURGDT")


def issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Return procedures that may be a resection which was not understood, and surgery at an impossible time."""
    enrolled = subjects.filter(_["ITTFL"] == "Y")
    waiting = enrolled.filter(_["SURGDT"].isnull()).select(*KEY, "TRTSDT")
    done = dated(sources, "procedure").filter(_["status"] == "completed").join(waiting, list(KEY))
    unknown = done.filter(_["date"] > _["TRTSDT"]).anti_join(
        sources.known_codings("procedure").filter(_["element"] == "code"), list(RESOURCE)
    )
    written = sources.views["condition"].select(
        "site", condition_id=_["id"], onset=ibis.coalesce(_["onset"], _["onset_start"])
    )
    found = attach(enrolled.filter(_["SURGDT"].notnull()), written, ("site", "condition_id"))
    onset = dates.earliest(dates.day(found["onset"]), dates.flag(found["onset"]))
    unclear = found["SURGDTF"].notnull() & (found["surgery_from"] <= found["TRTSDT"])
    times = {
        ("ADSL", "conflict: surgery before the onset of the cancer"): found["surgery_to"] < onset,
        ("ADSL", "surgery on a partial date, taken as after the first dose"): unclear,
    }
    return [
        count(unknown, "Procedure", "enrolled without a resection: procedure after time 0 that is not understood"),
        listed(found, times),
    ]
