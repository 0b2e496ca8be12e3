"""Pathology after surgery: residual viable tumour, the post-therapy T and N, and residual tumour at the margins.

Rules: docs/endpoint-rules.md 2 (viable tumour), 4 (ypT, ypN), 6 (margins). What an answer says may be a code, a number,
a range, a ratio, or a formal notation in text (`mappers.cohort.notation`); prose is never read.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import answers, diagnosis, facts, notation
from mappers.cohort.answers import ANSWER, DATED
from mappers.cohort.facts import KEY, Sources, attach, dated, first_by, only
from mappers.cohort.issues import count

VIABLE, VIABLE_NODES = "residual-viable-tumour-code", "residual-viable-tumour-nodes-code"
# UCUM writes a percentage as % and an annotation in braces; the rest is how people write it.
PERCENT = ("%", "{percent}", "percent", "prozent", "pct")
FRACTION = ("1", "{fraction}", "fraction")
MARGINS = ("R2", "R1", "RX", "R0")
_RESIDUAL = (*KEY, "resource_type", "id", "date", "dtf", "value")


def after_surgery(rows: ir.Table, subjects: ir.Table) -> ir.Table:
    """Return the rows of the resected that may be dated on or after surgery: a partial date by its last day."""
    resected = subjects.filter(_["SURGFL"] == "Y").select(*KEY, "SURGDT", "surgery_from")
    # A report dated by the month of the operation is that of the operation: there was no specimen before.
    rows = rows.join(resected, list(KEY)).filter(dates.latest(_["date"], _["dtf"]) >= _["surgery_from"])
    return rows.drop("surgery_from")


# ------------------------------------------------------------------------------------------- residual viable tumour


def _numbers(sources: Sources, rows: ir.Table) -> ir.Table:
    """Return `rows` with what their value says: `number` as written, `lowest` of a range, `comparator` and `unit`.

    Of a range `number` is the upper end. The first form that is there counts: quantity, integer, range, ratio, text.
    """
    said = notation.percentage(_["text"])
    texts = only(answers.texts(sources), rows, ANSWER).select(*ANSWER, "text", said=said)
    texts = first_by(texts.filter(_["said"]["high"].notnull()), _["text"], key=ANSWER).drop("text")
    rows = attach(rows, texts, ANSWER)
    ranged = ibis.coalesce(_["value_high"], _["value_low"])
    ratio = _["value_numerator"].cast("float64") / _["value_denominator"].nullif(0).cast("float64") * 100
    nothing, said = ibis.null("string"), _["said"]
    at_least = _["value_high"].isnull().ifelse(">=", nothing)
    # (is there, number, lowest, comparator, unit)
    forms = (
        (_["value_quantity"].notnull(), _["value_quantity"], nothing, _["value_comparator"], _["value_unit"]),
        (_["value_integer"].notnull(), _["value_integer"], nothing, nothing, nothing),
        (ranged.notnull(), ranged, _["value_low"], at_least, _["value_range_unit"]),
        (ratio.notnull(), ratio, nothing, nothing, ibis.literal("%")),
        (said.notnull(), said["high"], said["low"], said["comparator"], said["unit"]),
    )

    def first(position: int, kind: str) -> ir.Value:
        return ibis.cases(*[(form[0], form[position].cast(kind)) for form in forms], else_=ibis.null(kind))

    return rows.mutate(
        number=first(1, "float64"), lowest=first(2, "float64"), comparator=first(3, "string"), unit=first(4, "string")
    )


def readings(sources: Sources, value_set: str) -> ir.Table:
    """Return all answers to the question of `value_set` in percent, with the bounds `low` and `high`.

    `percent` is the number as written. A comparator makes a range: "<" and "<=" reach down to 0, ">" and ">=" up to
    100; `beyond` says that `low` itself is not meant. `ambiguous` are numbers up to 1 without a unit, which may be a
    fraction or a percentage; these and what is no percentage have no `percent`.
    """
    return answers.asked(sources, sources.once("readings", lambda: _readings(sources)), value_set)


def _readings(sources: Sources) -> ir.Table:
    rows = _numbers(sources, answers.asked(sources, answers.answers(sources), VIABLE, VIABLE_NODES))
    unit = notation.plain(_["unit"])
    # Zero is zero in any unit, and above 1 there is no fraction.
    unitless = _["unit"].isnull() & ((_["number"] == 0) | (_["number"] > 1))
    scale = ibis.cases((unit.isin(PERCENT) | unitless, 1.0), (unit.isin(FRACTION), 100.0), else_=ibis.null("float64"))
    # Rounded, because 0.07 * 100 is not 7 in binary.
    rows = rows.mutate(
        percent=(_["number"] * scale).round(6),
        lowest=(_["lowest"] * scale).round(6),
        ambiguous=(_["unit"].isnull() & (_["number"] > 0) & (_["number"] <= 1)).fill_null(False),
    )
    possible = _["percent"].between(0, 100) & (_["lowest"].isnull() | _["lowest"].between(0, _["percent"]))
    rows = rows.mutate(percent=possible.fill_null(False).ifelse(_["percent"], ibis.null("float64")))
    below = _["comparator"].isin(["<", "<="]).fill_null(False)
    above = _["comparator"].isin([">", ">="]).fill_null(False)
    central = answers.with_member(sources, rows, "central-review", "method").select(*ANSWER, central=True)
    rows = attach(rows, central, ANSWER)
    low = ibis.cases((below, 0.0), (_["lowest"].notnull(), _["lowest"]), else_=_["percent"])
    return rows.select(
        *DATED,
        "percent",
        "ambiguous",
        low=low,
        high=above.ifelse(100.0, _["percent"]),
        beyond=(_["comparator"] == ">").fill_null(False),
        EVALTYP=_["central"].fill_null(False).ifelse("BICR", "INVESTIGATOR"),
    )


def viable_tumour(sources: Sources, subjects: ir.Table, value_set: str) -> ir.Table:
    """Return the readings of the resected that may be dated on or after surgery and give a percentage."""
    return after_surgery(readings(sources, value_set).filter(_["percent"].notnull()), subjects)


# ----------------------------------------------------------------------------------------------- post-therapy T and N


def post_therapy(sources: Sources, subjects: ir.Table, letter: str) -> ir.Table:
    """Return the latest ypT or ypN (`letter`): a yp value, or a pathological one, dated on or after surgery.

    A pathological category found after neoadjuvant treatment is a yp category (AJCC 8, chapter 1: prefix y).
    """
    found = answers.answers(sources)
    values = [
        answers.valued(sources, found, f"{kind}-{letter}").select(
            *KEY, "id", "date", "dtf", "value", rank=rank, ref=answers.reference()
        )
        for rank, kind in enumerate(("post-therapy", "pathological"))
    ]
    rows = after_surgery(ibis.union(*values, _noted(sources, letter)), subjects)
    # TX and NX say that nothing could be assessed, so an assessed category of another day is taken instead.
    rows = rows.filter(~_["value"].isin(["TX", "NX"]))
    chosen = first_by(rows, _["rank"], _["date"].desc(), _["value"].desc(), _["id"])
    return chosen.select(
        *KEY, **{f"yp{letter}": _["value"], f"yp{letter}_ref": _["ref"], f"yp{letter}_date": _["date"]}
    )


def _noted(sources: Sources, letter: str) -> ir.Table:
    """Return the pathological categories that stand in TNM notation: ``ypT1a``, or ``T1a`` as the answer to pT.

    The codes of the UICC and the AJCC are such notations too.
    """
    found = answers.answers(sources).select(*DATED)
    tnm = answers.asked(sources, found, "tnm-category-code", "pathological-stage-code")
    asked = answers.asked(sources, found, f"pathological-{letter}-code").select(*ANSWER, asked=True)
    name = letter.upper()
    written = answers.notations(sources).select(*ANSWER, value=_[name], prefix=_[f"{name}_prefix"])
    rows = attach(tnm.join(written, list(ANSWER)), asked, ANSWER)
    # c is clinical, r is that of a recurrence, a is found at autopsy.
    pathological = _["prefix"].isin(["p", "yp"]) | ((_["prefix"] == "") & _["asked"].fill_null(False))
    rank = (_["prefix"] == "yp").ifelse(0, 1).cast("int8")
    kept = rows.filter(_["value"].notnull(), pathological)
    return kept.select(*KEY, "id", "date", "dtf", "value", rank=rank, ref=answers.reference()).distinct()


# ------------------------------------------------------------------------------------------------- residual tumour


def residual_status(sources: Sources) -> ir.Table:
    """Return every residual tumour status: of observations, and of completed procedures as their `outcome`."""
    return sources.once("residual_status", lambda: _residual_status(sources))


def _residual_status(sources: Sources) -> ir.Table:
    asked = answers.asked(sources, answers.answers(sources).select(*DATED), "residual-tumour-code")
    rows = attach(asked, answers.coded(sources, "value", "residual-tumour"), ANSWER)
    said = only(answers.texts(sources), asked, ANSWER).select(*ANSWER, said=notation.residual(_["text"]))
    said = first_by(said.filter(_["said"].notnull()), _["said"].desc(), key=ANSWER)
    rows = attach(rows, said, ANSWER).mutate(value=ibis.coalesce(_["value"], _["said"]))
    outcomes = sources.coded("procedure", "outcome", "residual-tumour")
    done = dated(sources, "procedure", outcomes).filter(_["status"] == "completed")
    done = only(done, diagnosis.candidates(sources)).join(outcomes, list(facts.RESOURCE))
    done = done.mutate(resource_type=ibis.literal("Procedure"))
    return ibis.union(rows.filter(_["value"].notnull()).select(*_RESIDUAL), done.select(*_RESIDUAL))


def margin(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Return the worst residual tumour status on or after surgery, in the order R2, R1, RX, R0: RX is not R0."""
    rows = after_surgery(residual_status(sources), subjects)
    rank = ibis.cases(*[(_["value"] == item, position) for position, item in enumerate(MARGINS)], else_=len(MARGINS))
    return first_by(rows, rank, _["date"].desc(), _["id"]).select(*_RESIDUAL)


# ------------------------------------------------------------------------------------------------------- quality list


def issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Return what pathology said that was not understood or contradicts itself, by patient."""
    found = []
    for value_set, what in ((VIABLE, "residual viable tumour"), (VIABLE_NODES, "residual viable tumour in the nodes")):
        unread = readings(sources, value_set).filter(_["percent"].isnull())
        found += [
            count(unread.filter(~_["ambiguous"]), "Observation", f"value not understood: {what}"),
            count(unread.filter(_["ambiguous"]), "Observation", f"{what} without a unit: fraction or percentage?"),
        ]
    status = residual_status(sources)
    asked = answers.asked(sources, answers.answers(sources), "residual-tumour-code")
    unread = asked.anti_join(status, ["site", "resource_type", "id"])
    found.append(count(unread, "Observation", "value not understood: residual tumour status"))
    days = after_surgery(status, subjects).group_by(*KEY, "date").agg(values=_["value"].nunique())
    differing = days.filter(_["values"] > 1)
    found.append(count(differing, "ADRS", "conflict: residual tumour status differs on one day"))
    return found
