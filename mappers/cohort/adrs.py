"""ADRS: tumour response, one row per patient and parameter, with the assessments behind it.

Rules: docs/endpoint-rules.md 2 (viable tumour, IASLC), 3 (MPR), 4 (pCR), 5 (RECIST 1.1 best response), 6 (R0), 7 (nodal
downstaging). Who is not operated or not assessed is a non-responder among the enrolled, and DTYPE says so.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort import facts
from mappers.cohort.facts import KEY, Sources, attach, first_by

PARAMS = {
    "MPR": "Major pathological response",
    "PCR": "Pathological complete response",
    "BOR": "Best overall response before surgery (RECIST 1.1, unconfirmed)",
    "RSP": "Objective response before surgery",
    "R0": "R0 resection",
    "NDOWN": "Nodal downstaging (ypN below cN)",
    "PVTPCT": "Residual viable tumour",
    "OVR": "Overall response at one assessment",
}
PUBLISHED = [
    "STUDYID",
    "USUBJID",
    "SITEID",
    "PARAMCD",
    "PARAM",
    "AVALC",
    "AVAL",
    "ADT",
    "ADTF",
    "AVISIT",
    "ANL01FL",
    "EVALTYP",
    "DTYPE",
    "CRIT1",
    "CRIT1FL",
    "DCUTDT",
    "SRCREF",
]

_RESPONSES = ("CR", "PR", "SD", "PD", "NE")
_MARGINS = ("R2", "R1", "RX", "R0")


def _rank(value: ir.Value, order: tuple[str, ...]) -> ir.IntegerValue:
    return ibis.cases(*[(value == item, position) for position, item in enumerate(order)], else_=len(order))


def viable_tumour(sources: Sources, subjects: ir.Table, value_set: str) -> ir.Table:
    """Return readings of residual viable tumour on or after surgery, in percent, as bounds `low` and `high`.

    A comparator makes a range: "<" or "<=" reaches down to 0, ">" or ">=" up to 100. UCUM "%" and "{percent}" (or no
    unit) are percent, "1" is a fraction; another unit gives no value (counted by `quality`).
    """
    rows = facts.asked(sources, facts.observations(sources), value_set)
    rows = rows.join(subjects.filter(_["SURGFL"] == "Y").select(*KEY, "SURGDT"), list(KEY))
    rows = rows.filter(_["date"] >= _["SURGDT"], _["value_quantity"].notnull())
    # UCUM writes a percentage as "%" and a fraction as "1": 0.5 of unit 1 is 50 %.
    scale = ibis.cases(
        (_["value_unit"].fill_null("%").isin(["%", "{percent}"]), 1.0),
        (_["value_unit"] == "1", 100.0),
        else_=None,
    )
    rows = rows.mutate(percent=_["value_quantity"].cast("float64") * scale)
    rows = rows.filter(_["percent"].between(0, 100))
    below, above = _["value_comparator"].isin(["<", "<="]), _["value_comparator"].isin([">", ">="])
    central = facts.asked(sources, rows, "central-review", "method").select(*facts.RESOURCE, central=True)
    return attach(rows, central, facts.RESOURCE).mutate(
        low=below.fill_null(False).ifelse(0.0, _["percent"]),
        high=above.fill_null(False).ifelse(100.0, _["percent"]),
        EVALTYP=_["central"].fill_null(False).ifelse("BICR", "INVESTIGATOR"),
    )


def _chosen(sources: Sources, readings: ir.Table) -> ir.Table:
    """Return the one reading per patient that counts: the preferred evaluator, then the latest, then the highest."""
    # The highest of one day: where two readings disagree, the response is not overstated.
    preferred = (_["EVALTYP"] != sources.study.response.prefer_evaluator).cast("int8")
    return first_by(readings, preferred, _["date"].desc(), _["high"].desc(), _["id"])


def post_therapy(sources: Sources, subjects: ir.Table, letter: str) -> ir.Table:
    """Return the latest ypT or ypN (`letter`): a yp value, or a pathological one, dated on or after surgery.

    A pathological category found after neoadjuvant treatment is a yp category (AJCC 8, chapter 1: prefix y).
    """
    values = [
        facts.valued(sources, facts.observations(sources), f"{kind}-{letter}").select(
            *KEY, "id", "date", "value", rank=rank
        )
        for rank, kind in enumerate(("post-therapy", "pathological"))
    ]
    rows = ibis.union(*values).join(subjects.filter(_["SURGFL"] == "Y").select(*KEY, "SURGDT"), list(KEY))
    # TX and NX say that nothing could be assessed, so an assessed category of another day is taken instead.
    rows = rows.filter(_["date"] >= _["SURGDT"], ~_["value"].isin(["TX", "NX"]))
    chosen = first_by(rows, _["rank"], _["date"].desc(), _["id"])
    return chosen.select(*KEY, **{f"yp{letter}": _["value"], f"yp{letter}_id": _["id"], f"yp{letter}_date": _["date"]})


def pathology(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Return one row per enrolled patient: readings of primary and nodes, ypT, ypN, MPR and pCR (boolean or null)."""
    primary = _chosen(sources, viable_tumour(sources, subjects, "residual-viable-tumour-code"))
    nodes = _chosen(sources, viable_tumour(sources, subjects, "residual-viable-tumour-nodes-code"))
    table = subjects.filter(_["ITTFL"] == "Y").select(
        *KEY, "STUDYID", "USUBJID", "SITEID", "NSTGBL", "SURGFL", "DCUTDT"
    )
    table = attach(table, primary.select(*KEY, "low", "high", "dtf", "EVALTYP", read=_["date"], read_id=_["id"]))
    table = attach(table, nodes.select(*KEY, node_low=_["low"], node_high=_["high"], node_id=_["id"]))
    for letter in ("t", "n"):
        table = attach(table, post_therapy(sources, subjects, letter))
    table = table.mutate(mpr=_major(sources))
    return table.mutate(pcr=_complete(sources))


def _within(low: ir.Value, high: ir.Value, threshold: float) -> ir.BooleanValue:
    """Return true for a reading of at most `threshold`, and null where its bounds leave that open."""
    return ibis.cases((high <= threshold, True), (low > threshold, False), else_=ibis.null("boolean"))


def _major(sources: Sources) -> ir.Value:
    rule = sources.study.response
    primary = _within(_["low"], _["high"], rule.mpr_threshold_percent)
    if rule.mpr_scope == "primary":
        return primary
    read = _within(_["node_low"], _["node_high"], rule.mpr_threshold_percent)
    # Without a reading of the nodes, only nodes free of tumour are known to be within the threshold
    free = (_["ypn"] == "N0").ifelse(True, ibis.null("boolean"))
    return primary & _["node_high"].notnull().ifelse(read, free)


def _complete(sources: Sources) -> ir.Value:
    clean = ["T0", "Tis"] if sources.study.response.pcr_accepts_tis else ["T0"]
    # Nodes that nobody read are no obstacle, because ypN0 is required anyway (docs/endpoint-rules.md 4).
    nodes = _["node_high"].isnull() | (_["node_high"] == 0)
    return (_["high"] == 0) & _["ypt"].isin(clean) & (_["ypn"] == "N0") & nodes


def assessments(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Return RECIST 1.1 assessments after time 0, before surgery where there was one, up to the first PD."""
    rows = facts.valued(sources, facts.observations(sources), "recist")
    rows = rows.join(subjects.filter(_["ITTFL"] == "Y"), list(KEY), rname="subject_{name}")
    rows = rows.filter(_["date"] > _["TRTSDT"], _["SURGDT"].isnull() | (_["date"] < _["SURGDT"]))
    progressed = _["date"].min(where=_["value"] == "PD").over(ibis.window(group_by=list(KEY)))
    rows = rows.mutate(progressed=progressed)
    return rows.filter(_["progressed"].isnull() | (_["date"] <= _["progressed"]))


def _margin(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Return the worst residual tumour status on or after surgery, in the order R2, R1, RX, R0: RX is not R0."""
    rows = facts.valued(
        sources, facts.asked(sources, facts.observations(sources), "residual-tumour-code"), "residual-tumour"
    )
    rows = rows.join(subjects.filter(_["SURGFL"] == "Y").select(*KEY, "SURGDT"), list(KEY))
    rows = rows.filter(_["date"] >= _["SURGDT"])
    worst = first_by(rows, _rank(_["value"], _MARGINS), _["date"].desc(), _["id"])
    return worst.select(*KEY, "value", "date", "dtf", "id")


def _rows(table: ir.Table, paramcd: str, **columns: ir.Value) -> ir.Table:
    """Return `table` in the shape of ADRS; columns that `columns` does not give are null."""
    texts = ("AVALC", "ADTF", "AVISIT", "EVALTYP", "DTYPE", "CRIT1", "CRIT1FL")
    defaults = dict.fromkeys(texts, ibis.null("string")) | {
        "PARAMCD": ibis.literal(paramcd),
        "PARAM": ibis.literal(PARAMS[paramcd]),
        "AVAL": ibis.null("float64"),
        "ADT": ibis.null("date"),
        "ANL01FL": ibis.literal("Y"),
        "SRCREF": ibis.literal([], type="array<string>"),
    }
    given = defaults | columns
    return table.select(**{name: given.get(name, _[name]) for name in PUBLISHED})


def _yes_no_rows(table: ir.Table, paramcd: str, met: ir.Value, **columns: ir.Value) -> ir.Table:
    """Return one Y/N row per patient of `table`; unknown counts as N and DTYPE says NONRESP."""
    answer = facts.yes_no(met)
    unknown = met.isnull().ifelse("NONRESP", ibis.null("string"))
    given = {"AVALC": answer, "AVAL": (answer == "Y").cast("float64"), "DTYPE": unknown}
    return _rows(table, paramcd, **(given | columns))


def _observed(*names: str) -> ir.ArrayValue:
    """Return the source references of the observations whose ids are in columns ``<name>_id``."""
    return facts.references(*[facts.reference("observation", _[f"{name}_id"]) for name in names])


def _pathology_rows(sources: Sources, table: ir.Table) -> list[ir.Table]:
    threshold = f"Viable tumour <= {sources.study.response.mpr_threshold_percent:g}%"
    at_surgery: dict[str, ir.Value] = {"AVISIT": ibis.literal("SURGERY")}
    read = {"ADT": _["read"], "ADTF": _["dtf"], "EVALTYP": _["EVALTYP"]} | at_surgery
    within = _within(_["low"], _["high"], sources.study.response.mpr_threshold_percent)
    # The digit after the N; NX and a missing category compare with nothing (docs/endpoint-rules.md 7).
    lower, before = _["ypn"].substr(1, 1), _["NSTGBL"].substr(1, 1)
    staged = before.isin(["0", "1", "2", "3"]) & lower.notnull()
    down = staged.ifelse(lower < before, ibis.null("boolean"))
    return [
        _yes_no_rows(
            table,
            "MPR",
            _["mpr"],
            SRCREF=_observed("read", "node", "ypn"),
            CRIT1=ibis.literal(threshold),
            CRIT1FL=facts.yes_no(within),
            **read,
        ),
        _yes_no_rows(table, "PCR", _["pcr"], SRCREF=_observed("read", "node", "ypt", "ypn"), **read),
        _yes_no_rows(table, "NDOWN", down, SRCREF=_observed("ypn"), ADT=_["ypn_date"], **at_surgery),
    ]


def _reading_rows(sources: Sources, subjects: ir.Table, table: ir.Table) -> ir.Table:
    """Return every reading of the primary tumour; ANL01FL marks the one that counted."""
    readings = viable_tumour(sources, subjects, "residual-viable-tumour-code")
    chosen = table.select(*KEY, "STUDYID", "USUBJID", "SITEID", "DCUTDT", "read_id")
    rows = readings.drop("SURGDT").join(chosen, list(KEY))
    counted = (_["id"] == _["read_id"]).ifelse("Y", ibis.null("string"))
    return _rows(
        rows,
        "PVTPCT",
        AVAL=_["percent"],
        ADT=_["date"],
        ADTF=_["dtf"],
        EVALTYP=_["EVALTYP"],
        AVISIT=ibis.literal("SURGERY"),
        ANL01FL=counted,
        SRCREF=facts.references(facts.reference("observation", _["id"])),
    )


def adrs(sources: Sources, subjects: ir.Table, table: ir.Table) -> ir.Table:
    """Return ADRS of the enrolled patients; `table` is that of `pathology`."""
    enrolled = subjects.filter(_["ITTFL"] == "Y").select(*KEY, "STUDYID", "USUBJID", "SITEID", "SURGFL", "DCUTDT")
    assessed = sources.once("assessments", lambda: assessments(sources, subjects))
    best = first_by(assessed, _rank(_["value"], _RESPONSES), _["date"], _["id"])
    best = attach(enrolled, best.select(*KEY, "value", "date", "dtf", "id"))
    margin = attach(enrolled.filter(_["SURGFL"] == "Y"), _margin(sources, subjects))
    source: dict[str, ir.Value] = {
        "ADT": _["date"],
        "ADTF": _["dtf"],
        "SRCREF": facts.references(facts.reference("observation", _["id"])),
    }
    before: dict[str, ir.Value] = {
        "AVISIT": ibis.literal("PRE-SURGERY"),
        "EVALTYP": ibis.literal("INVESTIGATOR"),
    } | source
    responded = _["value"].isin(["CR", "PR"])
    unknown = _["value"].isnull() | (_["value"] == "NE")
    parts = [
        *_pathology_rows(sources, table),
        _reading_rows(sources, subjects, table),
        _rows(best, "BOR", AVALC=_["value"].fill_null("NE"), **before),
        _yes_no_rows(best, "RSP", unknown.ifelse(ibis.null("boolean"), responded), **before),
        _rows(assessed, "OVR", AVALC=_["value"], **(before | {"ANL01FL": ibis.null("string")})),
        _yes_no_rows(margin, "R0", _["value"] == "R0", AVISIT=ibis.literal("SURGERY"), **source),
    ]
    return ibis.union(*parts)
