"""ADRS: tumour response, one row per patient and parameter, with the assessments behind it.

Rules: docs/endpoint-rules.md 2 (viable tumour, IASLC), 3 (MPR), 4 (pCR), 5 (RECIST 1.1 best response), 6 (R0), 7 (nodal
downstaging). Who is not operated or not assessed is a non-responder among the enrolled, and DTYPE says so.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import answers, facts
from mappers.cohort.facts import KEY, Sources, attach, attach_all, first_by
from mappers.cohort.issues import count, listed
from mappers.cohort.pathology import VIABLE, VIABLE_NODES, margin, post_therapy, residual_status, viable_tumour

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


def _chosen(sources: Sources, readings: ir.Table) -> ir.Table:
    """Return the one reading per patient that counts: the preferred evaluator, then the latest, then the highest."""
    # The highest of one day: where two readings disagree, the response is not overstated.
    preferred = (_["EVALTYP"] != sources.study.response.prefer_evaluator).cast("int8")
    return first_by(readings, preferred, _["date"].desc(), _["high"].desc(), _["id"])


def pathology(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Return one row per enrolled patient: readings of primary and nodes, ypT, ypN, MPR and pCR (boolean or null)."""
    primary = _chosen(sources, viable_tumour(sources, subjects, VIABLE))
    nodes = _chosen(sources, viable_tumour(sources, subjects, VIABLE_NODES))
    table = subjects.filter(_["ITTFL"] == "Y").select(
        *KEY, "STUDYID", "USUBJID", "SITEID", "NSTGBL", "SURGFL", "DCUTDT"
    )
    primary = primary.select(
        *KEY,
        "low",
        "high",
        "beyond",
        "dtf",
        "EVALTYP",
        read=_["date"],
        read_id=_["id"],
        read_part=_["part"],
        read_ref=answers.reference(),
    )
    nodes = nodes.select(
        *KEY, node_low=_["low"], node_high=_["high"], node_beyond=_["beyond"], node_ref=answers.reference()
    )
    staged = [post_therapy(sources, subjects, letter) for letter in ("t", "n")]
    table = attach_all(table, [primary, nodes, *staged])
    table = table.mutate(mpr=_major(sources))
    return table.mutate(pcr=_complete(sources))


def _within(prefix: str, threshold: float) -> ir.BooleanValue:
    """Return true for a reading of at most `threshold`, and null where its bounds leave that open."""
    low, high, beyond = (_[f"{prefix}{name}"] for name in ("low", "high", "beyond"))
    above = (low > threshold) | (beyond & (low >= threshold))
    return ibis.cases((high <= threshold, True), (above, False), else_=ibis.null("boolean"))


def _major(sources: Sources) -> ir.Value:
    rule = sources.study.response
    primary = _within("", rule.mpr_threshold_percent)
    if rule.mpr_scope == "primary":
        return primary
    read = _within("node_", rule.mpr_threshold_percent)
    # Without a reading of the nodes, only nodes free of tumour are known to be within the threshold
    free = (_["ypn"] == "N0").ifelse(True, ibis.null("boolean"))
    return primary & _["node_high"].notnull().ifelse(read, free)


def _complete(sources: Sources) -> ir.Value:
    clean = ["T0", "Tis"] if sources.study.response.pcr_accepts_tis else ["T0"]
    # Nodes that nobody read are no obstacle, because ypN0 is required anyway (docs/endpoint-rules.md 4).
    nodes = _["node_high"].isnull() | _within("node_", 0)
    return _within("", 0) & _["ypt"].isin(clean) & (_["ypn"] == "N0") & nodes


def _responses(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Return RECIST values with what bounds their time: first dose and surgery, or the first sign of an operation.

    A residual tumour status or a yp category is found in what was taken out: what comes later is no response to the
    treatment before surgery, even where no code of the operation is understood.
    """
    signs = [residual_status(sources), *_post_therapy_values(sources)]
    signs = ibis.union(*[rows.select(*KEY, "date") for rows in signs])
    enrolled = subjects.filter(_["ITTFL"] == "Y")
    signs = signs.join(enrolled.select(*KEY, "TRTSDT"), list(KEY)).filter(_["date"] > _["TRTSDT"])
    enrolled = attach(enrolled, signs.group_by(*KEY).agg(sign=_["date"].min()))
    rows = answers.valued(sources, answers.answers(sources), "recist")
    rows = rows.join(enrolled, list(KEY), rname="subject_{name}")
    return rows.mutate(operated=ibis.coalesce(_["surgery_from"], _["sign"]))


def _post_therapy_values(sources: Sources) -> list[ir.Table]:
    found = answers.answers(sources)
    return [answers.valued(sources, found, f"post-therapy-{letter}") for letter in ("t", "n")]


def assessments(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Return RECIST 1.1 assessments after time 0, before surgery where there was one, up to the first PD.

    A partial date counts where every day that it may stand for lies between.
    """
    rows = _responses(sources, subjects)
    after = dates.earliest(_["date"], _["dtf"]) > _["TRTSDT"]
    before = _["operated"].isnull() | (dates.latest(_["date"], _["dtf"]) < _["operated"])
    rows = rows.filter(after, before)
    progressed = _["date"].min(where=_["value"] == "PD").over(ibis.window(group_by=list(KEY)))
    rows = rows.mutate(progressed=progressed)
    return rows.filter(_["progressed"].isnull() | (_["date"] <= _["progressed"]))


def _rank(value: ir.Value, order: tuple[str, ...]) -> ir.IntegerValue:
    return ibis.cases(*[(value == item, position) for position, item in enumerate(order)], else_=len(order))


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


def _observed(dated: str, *names: str) -> ir.ArrayValue:
    """Return SRCREF from the columns ``<name>_ref``: all support AVALC, and `dated` the date as well."""
    values = [facts.supports("AVALC", _[f"{name}_ref"]) for name in (dated, *names)]
    return facts.references(*values, facts.supports("ADT", _[f"{dated}_ref"]))


def _pathology_rows(sources: Sources, table: ir.Table) -> list[ir.Table]:
    threshold = f"Viable tumour <= {sources.study.response.mpr_threshold_percent:g}%"
    at_surgery: dict[str, ir.Value] = {"AVISIT": ibis.literal("SURGERY")}
    read = {"ADT": _["read"], "ADTF": _["dtf"], "EVALTYP": _["EVALTYP"]} | at_surgery
    within = _within("", sources.study.response.mpr_threshold_percent)
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
    readings = viable_tumour(sources, subjects, VIABLE)
    chosen = table.select(*KEY, "STUDYID", "USUBJID", "SITEID", "DCUTDT", "read_id", "read_part")
    rows = readings.drop("SURGDT").join(chosen, list(KEY))
    counted = ((_["id"] == _["read_id"]) & (_["part"] == _["read_part"])).ifelse("Y", ibis.null("string"))
    return _rows(
        rows,
        "PVTPCT",
        AVAL=_["percent"],
        ADT=_["date"],
        ADTF=_["dtf"],
        EVALTYP=_["EVALTYP"],
        AVISIT=ibis.literal("SURGERY"),
        ANL01FL=counted,
        SRCREF=facts.references(facts.supports("AVAL ADT", answers.reference())),
    )


def adrs(sources: Sources, subjects: ir.Table, table: ir.Table) -> ir.Table:
    """Return ADRS of the enrolled patients; `table` is that of `pathology`."""
    enrolled = subjects.filter(_["ITTFL"] == "Y").select(*KEY, "STUDYID", "USUBJID", "SITEID", "SURGFL", "DCUTDT")
    assessed = sources.once("assessments", lambda: assessments(sources, subjects))
    best = first_by(assessed, _rank(_["value"], _RESPONSES), _["date"], _["id"])
    best = attach(enrolled, best.select(*KEY, "value", "date", "dtf", "id", "resource_type"))
    margins = attach(enrolled.filter(_["SURGFL"] == "Y"), margin(sources, subjects))
    source: dict[str, ir.Value] = {
        "ADT": _["date"],
        "ADTF": _["dtf"],
        "SRCREF": facts.references(facts.supports("AVALC ADT", answers.reference())),
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
        _yes_no_rows(margins, "R0", _["value"] == "R0", AVISIT=ibis.literal("SURGERY"), **source),
    ]
    return ibis.union(*parts)


def issues(sources: Sources, subjects: ir.Table, table: ir.Table) -> list[ir.Table]:
    """Return what is missing or in conflict in the pathology of the resected; `table` is that of `pathology`."""
    resected = table.filter(_["SURGFL"] == "Y")
    read = {
        ("ADRS", "resected, no reading of residual viable tumour"): resected["high"].isnull(),
        ("ADRS", "MPR not evaluable from the reading"): resected["mpr"].isnull() & resected["high"].notnull(),
        ("ADRS", "resected, no ypN"): resected["ypn"].isnull(),
        ("ADRS", "conflict: no viable tumour, but nodes with tumour"): (resected["high"] == 0)
        & (resected["ypn"] != "N0"),
        ("ADRS", "conflict: ypT0, but viable tumour"): (resected["high"] > 0) & (resected["ypt"] == "T0"),
    }
    unsure = _responses(sources, subjects)
    earliest, latest = (ends(unsure["date"], unsure["dtf"]) for ends in (dates.earliest, dates.latest))
    unsure = unsure.filter(
        _["dtf"].notnull(),
        ((earliest <= _["TRTSDT"]) & (latest > _["TRTSDT"]))
        | ((earliest < _["operated"]) & (latest >= _["operated"])).fill_null(False),
    )
    operated = _responses(sources, subjects).filter(_["SURGDT"].isnull(), _["date"] >= _["operated"])
    return [
        listed(resected, read),
        count(unsure, "ADRS", "response by partial date, not certain to lie between first dose and surgery: not used"),
        count(operated, "ADRS", "response after a pathology of surgery, but no operation understood: not used"),
    ]
