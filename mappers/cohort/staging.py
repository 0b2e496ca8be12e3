"""Clinical stage groups and categories, and the edition by which they were staged.

Rule: docs/endpoint-rules.md 16. Editions group alike categories differently, so a group of another edition is grouped
anew by AJCC 8 where its own T and N say for certain what it would be; else it is kept, and told.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort import answers
from mappers.cohort.answers import ANSWER, DATED
from mappers.cohort.facts import Sources, attach
from mappers.cohort.issues import count

CURRENT = "8"  # the edition of the analysis values
_PARTS = ("TSTGBL", "NSTGBL")
# A T category of the 7th edition is one of these sizes of the 8th: 5 to 7 cm went from T2b to T3, more than 7 cm from
# T3 to T4, and a tumour close to the carina or with atelectasis of the whole lung from T3 to T2.
_SINCE_7 = {"T1": (1, 1), "T1a": (1, 1), "T1b": (1, 1), "T2": (2, 3), "T2a": (2, 2), "T2b": (3, 3), "T3": (2, 4)}


def groups(sources: Sources) -> ir.Table:
    """Return the clinical stage groups; `value` is null where the answer is not understood."""
    asked = answers.asked(sources, answers.answers(sources).select(*DATED), "clinical-stage-code")
    coded = answers.coded(sources, "value", "stage-group")
    return _with_edition(sources, attach(asked, coded, ANSWER))


def categories(sources: Sources, letter: str) -> ir.Table:
    """Return the clinical T or N (`letter`) categories, by codes that say c or by TNM notation.

    A category without a prefix is clinical (UICC, TNM classification: "TNM (or cTNM)"), unless it answers a question
    for a pathological one.
    """
    found = answers.answers(sources).select(*DATED)
    pathological = answers.asked(sources, found, f"pathological-{letter}-code")
    coded = answers.valued(sources, found, f"clinical-{letter}")
    tnm = answers.asked(sources, found, "tnm-category-code", "clinical-stage-code")
    tnm = tnm.anti_join(pathological, list(ANSWER)).anti_join(coded, list(ANSWER))
    name = letter.upper()
    said = answers.notations(sources).filter(_[name].notnull(), _[f"{name}_prefix"].isin(["", "c"]))
    highest = said.group_by(*ANSWER).agg(value=_[name].max())
    return _with_edition(sources, ibis.union(coded, tnm.join(highest, list(ANSWER)).select(*coded.columns)))


def _with_edition(sources: Sources, rows: ir.Table) -> ir.Table:
    """Add `edition` by the method of the resource, which counts for its components too."""
    whole = ("site", "resource_type", "id")
    methods = answers.coded(sources, "method", "staging-edition").filter(_["part"] == 0)
    return attach(rows, methods.select(*whole, edition=_["value"]), whole)


def ajcc8_group(t: ir.Value, n: ir.Value) -> ir.StringValue:
    """Return the AJCC 8 group of lung cancer without metastasis, IIB to IIIC, else null (docs/endpoint-rules.md 16)."""
    return _group(t.substr(1, 1), n)


def _group(size: ir.Value, n: ir.Value) -> ir.StringValue:
    small, large = size.isin(["1", "2"]), size.isin(["3", "4"])
    return ibis.cases(
        (large & (n == "N3"), "IIIC"),
        ((small & (n == "N3")) | (large & (n == "N2")), "IIIB"),
        ((small & (n == "N2")) | ((size == "3") & (n == "N1")) | ((size == "4") & n.isin(["N0", "N1"])), "IIIA"),
        (((size == "3") & (n == "N0")) | (small & (n == "N1")), "IIB"),
        else_=ibis.null("string"),
    )


def regrouped(table: ir.Table) -> ir.Table:
    """Return baseline values with STAGEBL by AJCC 8, and `stage_edition` where the group is of another edition.

    `stage_kept` is true where that group could not be regrouped. Only categories of the group's own edition say what
    they mean; one without an edition is the group's own where both are of one day.
    """
    same_day = {name: _[f"{name}_date"] == _["STAGEBL_date"] for name in _PARTS}
    shared = ibis.cases(
        (same_day["TSTGBL"] & same_day["NSTGBL"] & (_["TSTGBL_edition"] == _["NSTGBL_edition"]), _["TSTGBL_edition"]),
        else_=ibis.null("string"),
    )
    table = table.mutate(edition=ibis.coalesce(_["STAGEBL_edition"], shared))
    own = [
        ibis.coalesce(_[f"{name}_edition"], same_day[name].ifelse(_["edition"], ibis.null("string"))) == _["edition"]
        for name in _PARTS
    ]
    ranges = {t: tuple(str(size) for size in sizes) for t, sizes in _SINCE_7.items()}
    low, high = (
        ibis.cases(*[(_["TSTGBL"] == t, sizes[end]) for t, sizes in ranges.items()], else_=_["TSTGBL"].substr(1, 1))
        for end in (0, 1)
    )
    since_7 = _group(low, _["NSTGBL"])
    certain = ibis.cases(
        (_["edition"] == "9", ajcc8_group(_["TSTGBL"], _["NSTGBL"])),
        ((_["edition"] == "7") & (since_7 == _group(high, _["NSTGBL"])), since_7),
        else_=ibis.null("string"),
    )
    other = (_["STAGEBL"].notnull() & (_["edition"] != CURRENT)).fill_null(False)
    table = table.mutate(regrouped=(other & own[0] & own[1]).ifelse(certain, ibis.null("string")))
    return table.mutate(
        STAGEBL=ibis.coalesce(_["regrouped"], _["STAGEBL"]),
        stage_edition=other.ifelse(_["edition"], ibis.null("string")),
        stage_kept=other & _["regrouped"].isnull(),
    ).drop("edition", "regrouped")


def issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Count groups of other editions, answers that are not understood, and groups that are not that of T and N."""
    other = subjects.filter(_["stage_edition"].notnull())
    told = [
        count(
            other.filter(_["stage_edition"] == edition, kept if done == "kept" else ~kept),
            "ADSL",
            f"stage group of AJCC or UICC edition {edition}, {done}",
        )
        for edition in ("6", "7", "9")
        for done in ("kept", "regrouped by edition 8")
        for kept in (_["stage_kept"],)
    ]
    unknown = groups(sources).filter(_["value"].isnull())
    enrolled = subjects.filter(_["ITTFL"] == "Y")
    current = [enrolled[f"{name}_edition"] == CURRENT for name in ("STAGEBL", *_PARTS)]
    derived = ajcc8_group(enrolled["TSTGBL"], enrolled["NSTGBL"])
    differing = enrolled.filter(*current, derived.notnull(), derived != enrolled["STAGEBL"])
    return [
        *told,
        count(unknown, "Observation", "value not understood: clinical stage group"),
        count(differing, "ADSL", "conflict: stage group is not that of T and N (AJCC 8)"),
    ]
