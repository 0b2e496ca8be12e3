"""Adverse events as the resources carry them: term, grade, seriousness and causality, one row a resource or component.

An event is an AdverseEvent that is not potential. Where a hospital has none, it may be a Condition whose severity is a
CTCAE grade, or an Observation of an adverse event term that is valued by one: only adverse events are graded so.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort import answers, diagnosis, facts, notation
from mappers.cohort.facts import KEY, PART, RESOURCE, RESOURCE_TYPES, Sources, attach, dated, first_by, only
from mappers.cohort.issues import count

EVENT = ("site", "resource_type", "id", "part")
MEDDRA = "http://terminology.hl7.org/CodeSystem/mdr"
# What may be suspected of a dose of a drug, by column of the suspects and view
SUSPECTS = {
    "administration": "medication_administration",
    "statement": "medication_statement",
    "medication": "medication",
}
# Where a resource says what happened
TERM = {"adverse_event": "event", "condition": "code", "observation": "code"}
# A grade may stand in any of these: the CTCAE extension, R4's severity, and seriousness, where obds-to-fhir puts it
_GRADED = ("grade", "severity", "seriousness")
_ROW = (*KEY, "resource_type", "id", "part", "date", "dtf")
# What a publisher of displays adds to a MedDRA term: its level
_LEVEL = r" *\((?:PT|LLT)\)$"
_TERM = r"^[\pL\d][\pL\d ,.;:'/()+-]+$"
_LONGEST = 100  # characters; a count in the pattern would multiply what the engine compiles


def events(sources: Sources) -> ir.Table:
    """Return the adverse events of the screened up to the cutoff, with grade 1 to 5 or none; grade 0 is no event.

    Columns: those of `_ROW`, `term` (as reported), AEDECOD, AEPTCD, `term_key` (equal for the same term of a patient),
    ATOXGR, ATOXGRN, AESER, AREL.
    """
    return sources.once("events", lambda: _events(sources))


def _events(sources: Sources) -> ir.Table:
    rows = attach(_carried(sources), _terms(sources), EVENT)
    worst = grades(sources).group_by(*EVENT).agg(ATOXGR=_["grade"].max())
    rows = attach(rows, worst, EVENT)
    serious = sources.coded("adverse_event", "seriousness", "ae-seriousness")
    rows = attach(rows, _as_event(serious, "adverse_event").rename(AESER="value"), EVENT)
    rows = attach(rows, _causality(sources).select(*EVENT, "AREL"), EVENT)
    rows = rows.mutate(ATOXGRN=_["ATOXGR"].cast("int32")).filter(_["ATOXGRN"].isnull() | (_["ATOXGRN"] > 0))
    words = notation.plain(_["term"]).nullif("")
    # An event of which nothing is known is the same as no other one.
    itself = _["resource_type"] + "/" + _["id"]
    rows = rows.mutate(nameless=_["term_key"].isnull() & words.isnull())
    return rows.mutate(term_key=ibis.coalesce(_["term_key"], words, itself))


def _as_event(rows: ir.Table, view: str) -> ir.Table:
    """Return rows of parts of resources with the key of events."""
    part = ibis.literal(0, type="int32") if view != "observation" else _["part"].cast("int32")
    return rows.mutate(resource_type=ibis.literal(RESOURCE_TYPES[view]), part=part)


# --------------------------------------------------------------------------------------------------------- carriers


def _carried(sources: Sources) -> ir.Table:
    reported = dated(sources, "adverse_event").filter(_["actuality"].isnull() | (_["actuality"] == "actual"))
    reported = only(reported, diagnosis.candidates(sources))
    found = {
        "adverse_event": reported,
        "condition": only(diagnosis.confirmed_conditions(sources), _graded_conditions(sources), RESOURCE),
        "observation": _graded_observations(sources).select(*KEY, "id", "part", "date", "dtf"),
    }
    rows = [_as_event(table.filter(_["date"].notnull()), view).select(*_ROW) for view, table in found.items()]
    said = [
        _as_event(sources.codings(view).filter(_["element"] == element), view)
        .group_by(*EVENT)
        .agg(term=_["text"].min())
        .select(*EVENT, "term")
        for view, element in TERM.items()
    ]
    return attach(ibis.union(*rows), ibis.union(*said), EVENT)


def _graded_conditions(sources: Sources) -> ir.Table:
    """Return (site, id) of the conditions with a CTCAE grade as severity, but for the cancer itself."""
    graded = sources.coded("condition", "severity", "ctcae-grade").anti_join(
        diagnosis.own_conditions(sources), list(RESOURCE)
    )
    return graded.select(*RESOURCE).distinct()


def _graded_observations(sources: Sources) -> ir.Table:
    """Return the observations and components that ask for an adverse event term and answer with a CTCAE grade."""
    found = answers.every_answer(sources).filter(_["resource_type"] == "Observation")
    asked = answers.asked(sources, found, "ae-term", "meddra-term")
    rows = attach(asked, answers.coded(sources, "value", "ctcae-grade"), answers.ANSWER)
    number = _["value_integer"].between(0, 5).ifelse(_["value_integer"].cast("string"), ibis.null("string"))
    return rows.mutate(grade=ibis.coalesce(_["value"], number)).filter(_["grade"].notnull())


# ------------------------------------------------------------------------------------------------------------ grades


def grades(sources: Sources) -> ir.Table:
    """Return every grade of every event: (site, resource_type, id, part, grade)."""
    return sources.once("grades", lambda: _grades(sources))


def _grades(sources: Sources) -> ir.Table:
    view = "adverse_event"
    coded = [sources.coded(view, element, "ctcae-grade").rename(grade="value") for element in _GRADED]
    rows = sources.views[view].filter(_["grade"].between(0, 5))
    numbers = rows.select(*RESOURCE, part=ibis.literal(0), grade=_["grade"].cast("string"))
    named = _pre_coordinated(sources).select(*PART, "grade")
    reported = [_as_event(table, view).select(*EVENT, "grade") for table in (*coded, numbers, named)]
    severity = sources.coded("condition", "severity", "ctcae-grade").rename(grade="value")
    conditions = _as_event(severity, "condition").select(*EVENT, "grade")
    return ibis.union(*reported, conditions, _graded_observations(sources).select(*EVENT, "grade"), _observed(sources))


def _pre_coordinated(sources: Sources) -> ir.Table:
    """Return (site, id, part, grade, words, coded) of events whose display or text names term and grade at once.

    That is how the NCI Thesaurus names its concepts for the grades of a CTCAE term; `words` is the term.
    """
    rows = sources.codings("adverse_event").filter(_["element"] == "event")
    said = ibis.union(
        rows.select(*PART, coded=_["code"].notnull(), text=_["display"]),
        rows.select(*PART, coded=ibis.literal(False), text=_["text"]),
    )
    number, words = notation.graded_term(_["text"])
    return said.mutate(grade=number, words=words).filter(_["grade"].notnull()).distinct()


def _observed(sources: Sources) -> ir.Table:
    """Return the grades that an observation gives whose `focus` is the adverse event."""
    graded = sources.coded("observation", "value", "ctcae-grade").filter(_["part"] == 0)
    rows = dated(sources, "observation", graded).filter(
        _["focus_event"].notnull(), _["status"].isin(facts.USABLE_OBSERVATION)
    )
    rows = rows.select("site", "id", "focus_event").join(graded, list(RESOURCE))
    rows = rows.select("site", id=_["focus_event"], grade=_["value"], part=ibis.literal(0))
    return _as_event(rows, "adverse_event").select(*EVENT, "grade")


# ------------------------------------------------------------------------------------------------------------- terms


def _terms(sources: Sources) -> ir.Table:
    """Return AEDECOD, AEPTCD and `term_key` of the events that are coded.

    AEDECOD is the preferred term by `ae-term`; else the own term of a MedDRA coding, as its display has it; else the
    CTCAE term of a concept of term and grade. What is coded otherwise is told apart by its code and has no AEDECOD.
    """
    return sources.once("event_terms", lambda: _event_terms(sources))


def _event_terms(sources: Sources) -> ir.Table:
    found = []
    for view, element in TERM.items():
        known = sources.known_codings(view).filter(_["element"] == element, _["system"] == MEDDRA)
        own = known.filter(_["code"].re_search(r"^\d{8}$")).select(*PART, AEPTCD=_["code"], display=_["display"])
        own = first_by(own, _["AEPTCD"], _["display"], key=PART)
        any_code = sources.codings(view).filter(_["element"] == element, _["code"].notnull())
        any_code = any_code.group_by(*PART).agg(coded=(_["system"].fill_null("") + "|" + _["code"]).min())
        rows = attach(any_code, sources.coded(view, element, "ae-term"), PART)
        found.append(_as_event(attach(rows, own, PART), view).select(*EVENT, "coded", "value", "AEPTCD", "display"))
        # What is known by its text alone has no code.
        texts = sources.coded(view, element, "ae-term").anti_join(any_code, list(PART))
        missing = {name: ibis.null("string") for name in ("coded", "AEPTCD", "display")}
        found.append(_as_event(texts, view).mutate(**missing).select(*EVENT, "coded", "value", "AEPTCD", "display"))
    rows = attach(ibis.union(*found), _as_event(_ctcae_terms(sources), "adverse_event"), EVENT)
    shown = _["display"].re_replace(_LEVEL, "").re_replace(r"\s+", " ").strip()
    # A display that is no term, such as a sentence, is not published; the code is.
    is_term = shown.re_search(_TERM) & (shown.length() <= _LONGEST)
    own = is_term.fill_null(False).ifelse(shown, "MedDRA " + _["AEPTCD"])
    named = ibis.coalesce(_["value"], _["ctcae"])
    by_code = _["AEPTCD"].notnull().ifelse("MedDRA|" + _["AEPTCD"], _["coded"])
    return rows.mutate(AEDECOD=ibis.coalesce(named, own), term_key=ibis.coalesce(named, by_code)).select(
        *EVENT, "AEDECOD", "AEPTCD", "term_key", mapped=_["value"].notnull()
    )


def _ctcae_terms(sources: Sources) -> ir.Table:
    """Return (site, id, part, ctcae): the term of a code for term and grade, a preferred term by `ctcae-term`."""
    rows = _pre_coordinated(sources).filter(_["coded"]).select(*PART, text=_["words"]).distinct()
    meanings = sources.terminology.text_meanings(rows).filter(_["name"] == "ctcae-term")
    rows = attach(rows, meanings.select("text", "target"), ("text",))
    own = _["text"].substr(0, 1).upper() + _["text"].substr(1)
    return first_by(rows.mutate(ctcae=ibis.coalesce(_["target"], own)), _["ctcae"], key=PART).select(*PART, "ctcae")


# --------------------------------------------------------------------------------------------------------- causality


def _causality(sources: Sources) -> ir.Table:
    """Return AREL by event, and `elsewhere` where only another suspect than the study drug is assessed.

    RELATED when the study drug is assessed possible or stronger; otherwise NOT RELATED when an assessment of it says
    so. A suspect that names nothing is the study drug, and so is a dose or drug that the lake does not have: nothing
    says that it is another one. Other drugs, procedures, and what is named without a reference are not.
    """
    return sources.once("causality", lambda: _assessed(sources))


def _assessed(sources: Sources) -> ir.Table:
    assessed = sources.every_coded("adverse_event", "causality", "ae-causality")
    suspects = sources.views["adverse_event_suspect"].mutate(part=_["part"].cast("int32"))
    drug = sources.study.treatment.drug
    studied = ~_["named"].fill_null(False)
    for column, view in SUSPECTS.items():
        given = sources.member(view, "medication", drug).select("site", **{column: _["id"], "is_drug": True})
        known = sources.views[view].select("site", **{column: _["id"], "is_known": True})
        suspects = attach(attach(suspects, given.distinct(), ("site", column)), known.distinct(), ("site", column))
        suspects = suspects.rename({f"{column}_drug": "is_drug", f"{column}_known": "is_known"})
        studied = studied | (_[column].notnull() & (_[f"{column}_drug"].notnull() | _[f"{column}_known"].isnull()))
    suspects = suspects.mutate(studied=studied).select(*PART, "studied")
    rows = assessed.mutate(part=_["part"].cast("int32")).join(suspects, list(PART))
    grouped = rows.group_by(*RESOURCE).agg(
        related=((_["value"] == "RELATED") & _["studied"]).any(),
        unrelated=((_["value"] == "NOT RELATED") & _["studied"]).any(),
        elsewhere=~_["studied"].any(),
    )
    arel = ibis.cases((_["related"], "RELATED"), (_["unrelated"], "NOT RELATED"), else_=ibis.null("string"))
    rows = grouped.mutate(AREL=arel, part=ibis.literal(0))
    return _as_event(rows, "adverse_event").select(*EVENT, "AREL", "elsewhere")


# ------------------------------------------------------------------------------------------------------ quality list


def issues(sources: Sources) -> list[ir.Table]:
    """Return what of the adverse events of the screened was not understood, uncertain or taken from elsewhere."""
    reported = only(sources.resources("adverse_event"), diagnosis.candidates(sources))
    reported = _as_event(reported, "adverse_event").select(*KEY, *EVENT[1:])
    found = grades(sources)
    differing = found.group_by(*EVENT).agg(several=_["grade"].nunique()).filter(_["several"] > 1)
    happened = events(sources)
    terms = _terms(sources)
    own = terms.filter(_["AEDECOD"].notnull(), ~_["mapped"])
    counted = [
        count(reported.anti_join(found, list(EVENT)), "AdverseEvent", "no CTCAE grade"),
        count(only(reported, differing, EVENT), "AdverseEvent", "conflict: grades differ, the worst counts"),
        count(only(reported, own, EVENT), "AdverseEvent", "term not in the map, published as coded"),
        count(
            only(reported, _causality(sources).filter(_["elsewhere"]), EVENT),
            "AdverseEvent",
            "causality of another suspect than the study drug: not used",
        ),
    ]
    taken = [
        count(happened.filter(_["resource_type"] == kind), kind, "graded by CTCAE: taken for an adverse event")
        for kind in ("Condition", "Observation")
    ]
    return [
        *counted,
        *taken,
        count(happened.filter(_["nameless"]), "AdverseEvent", "neither code nor text of the event"),
    ]
