"""Codings that were seen and are not understood, and the share of each element that is, in SQL over the views.

A concept (a CodeableConcept of a resource or of a component) is understood where one of its codings, or its text, has a
meaning in a value set or concept map that the rules ask of its element. The codings of the others are counted. All
patients count, not only the screened: who has a code of lung cancer that nobody knows is screened by no rule.
"""

from __future__ import annotations

from collections.abc import Iterator

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort import diagnosis
from mappers.cohort.asked import Asked
from mappers.cohort.facts import KEY, PART, RESOURCE, RESOURCE_TYPES, Sources, attach
from mappers.terminology.systems import normal_text_sql

CONCEPT = (*PART, "element")
COUNTS = ("resources", "patients", "screened")
QUESTIONS = "code"  # the element of an Observation or DiagnosticReport that says what is answered
ANSWERS = "value"
# Code systems with a required binding, whose codes the views read as they are
READ_BY_VIEWS = ["http://terminology.hl7.org/CodeSystem/condition-ver-status"]


def names_of(asked: Asked, view: str) -> dict[str, frozenset[str]]:
    """Return what is asked of each element of one kind of resource."""
    return {element: names for (kind, element), names in sorted(asked.items()) if kind == view}


def _views(asked: Asked) -> list[str]:
    """Return the kinds of resource of patients that are asked of; what a Medication says is among its drugs'."""
    return [view for view in dict.fromkeys(view for view, _element in sorted(asked)) if view in RESOURCE_TYPES]


def _concepts(sources: Sources, view: str, elements: list[str]) -> ir.Table:
    """Return the codings of `elements` with the patient of their resource."""
    # What belongs to nobody is counted in the quality list, as the fault of its reference.
    owned = sources.resources(view).filter(_["patient"].notnull()).select(*KEY, "id")
    codings = sources.codings(view).filter(_["element"].isin(elements))
    return codings.join(owned, list(RESOURCE))


def _asked(sources: Sources, view: str, names: dict[str, frozenset[str]]) -> ir.Table:
    """Return (site, id, part, element, name) of what is understood by a name that is asked of the element."""
    wanted = [(_["element"] == element) & _["name"].isin(sorted(each)) for element, each in names.items()]
    return sources.meanings(view).filter(ibis.or_(*wanted))


def _questions(meanings: ir.Table, names: dict[str, frozenset[str]]) -> ir.Table | None:
    """Return the question (the name of a value set) of each answer whose question is known."""
    if ANSWERS not in names or QUESTIONS not in names:
        return None
    # Of several questions one is named: which of them is the same for all codes.
    known = meanings.filter(_["element"] == QUESTIONS).group_by(*PART).agg(question=_["name"].min())
    return known.mutate(element=ibis.literal(ANSWERS))


def _spoken(sources: Sources, view: str, questions: ir.Table) -> ir.Table:
    """Return answers to known questions that are a text instead of a concept, in the shape of codings."""
    whole = sources.views[view].select(*RESOURCE, "value_string", part=ibis.literal(0, type="int32"))
    parts = sources.views[f"{view}_component"].select(*RESOURCE, "value_string", part=_["part"].cast("int32"))
    rows = whole.select(*PART, "value_string").union(parts.select(*PART, "value_string"))
    rows = rows.filter(_["value_string"].notnull()).semi_join(questions, list(PART))
    null = ibis.null("string")
    return rows.select(*PART, element=ibis.literal(ANSWERS), system=null, code=null, display=null, text="value_string")


def _seen(sources: Sources, view: str, asked: Asked) -> tuple[ir.Table, ir.Table, ir.Table | None]:
    """Return the concepts of one kind of resource, those of them that are understood, and the questions of answers."""
    names = names_of(asked, view)
    columns = [*KEY, "id", "part", "element", "system", "code", "display", "text"]
    concepts = sources.once(f"seen_{view}", lambda: _concepts(sources, view, sorted(names)).select(*columns))
    meanings = sources.once(f"asked_{view}", lambda: _asked(sources, view, names))
    read = concepts.filter(_["system"].isin(READ_BY_VIEWS)).select(*CONCEPT)
    understood = ibis.union(meanings.select(*CONCEPT), read, distinct=True)
    return concepts, understood, _questions(meanings, names)


def shares(sources: Sources, asked: Asked) -> Iterator[ir.Table]:
    """Yield (site, view, element, resources, understood) of each kind of resource.

    Of answers only those to known questions count: what the others mean is asked by no rule.
    """
    for view in _views(asked):
        concepts, understood, questions = _seen(sources, view, asked)
        if questions is not None:
            answers = concepts.semi_join(questions, list(CONCEPT))
            concepts = concepts.filter(_["element"] != ANSWERS).union(answers)
        rows = attach(concepts.select(*CONCEPT).distinct(), understood.mutate(known=True), CONCEPT)
        grouped = rows.group_by("site", "element").agg(
            resources=_["id"].nunique(), understood=_["id"].nunique(where=_["known"])
        )
        yield grouped.select("site", "element", "resources", "understood", view=ibis.literal(view))


def unknown(sources: Sources, asked: Asked) -> Iterator[ir.Table]:
    """Yield what is not understood of each kind of resource: one row a code, or a text that has none.

    Columns: site, view, element, system, code, text (display, or text of the concept), question (the value set of the
    known question that it answers) and the numbers of resources, patients and screened patients.
    """
    null = ibis.null("string")
    screened = diagnosis.candidates(sources).mutate(screened=True)
    for view in _views(asked):
        concepts, understood, questions = _seen(sources, view, asked)
        if questions is not None and view == "observation":
            owned = sources.resources(view).filter(_["patient"].notnull()).select(*KEY, "id")
            spoken = _spoken(sources, view, questions).join(owned, list(RESOURCE))
            concepts = concepts.union(spoken.select(*concepts.columns).cast(concepts.schema()))
        rows = concepts.anti_join(understood, list(CONCEPT))
        rows = rows.mutate(question=null) if questions is None else attach(rows, questions, CONCEPT)
        rows = attach(rows, screened)
        said = ibis.coalesce(_["display"], _["text"])
        # A code is one row whatever its displays are; texts without a code are one where they are compared as one.
        rows = rows.mutate(said=said, only_text=_["code"].isnull().ifelse(normal_text_sql(_["text"]), null))
        grouped = rows.group_by("site", "element", "system", "code", "only_text", "question").agg(
            text=_["said"].max(),
            resources=_["id"].nunique(),
            patients=_["patient"].nunique(),
            screened=_["patient"].nunique(where=_["screened"]),
        )
        columns = ("site", "element", "system", "code", "text", "question", *COUNTS)
        yield grouped.filter(_["code"].notnull() | _["text"].notnull()).select(*columns, view=ibis.literal(view))
