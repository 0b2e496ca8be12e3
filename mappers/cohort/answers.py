"""Answers: what was asked of a patient and found, one row per Observation, component and DiagnosticReport.

A component of an Observation is an answer like the Observation itself: T and N may be observations of their own or
components of the stage group. A DiagnosticReport answers with the codes of its conclusion. The key of an answer is
`ANSWER`; its question and its coded value are looked up in the codings with the same key.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort import diagnosis, facts, notation
from mappers.cohort.facts import KEY, PART, RESOURCE, RESOURCE_TYPES, Sources, dated, only
from mappers.cohort.issues import count

ANSWER = ("site", "resource_type", "id", "part")
DATED = (*ANSWER, "patient", "date", "dtf")  # whose answer it is, and of when
# Questions that are answered by TNM notation: a category, or a stage with its categories in words
TNM_QUESTIONS = ("tnm-category-code", "clinical-stage-code", "pathological-stage-code")
VALUES = {
    "value_quantity": "decimal(38, 9)",
    "value_comparator": "string",
    "value_unit": "string",
    "value_low": "decimal(38, 9)",
    "value_high": "decimal(38, 9)",
    "value_range_unit": "string",
    "value_numerator": "decimal(38, 9)",
    "value_denominator": "decimal(38, 9)",
    "value_integer": "int32",
    "value_string": "string",
    "value_boolean": "boolean",
}
_VIEWS = ("observation", "diagnostic_report")
_COLUMNS = (*KEY, "resource_type", "id", "part", "date", "dtf", "focus", *VALUES)


def observed(sources: Sources, among: ir.Table | None = None) -> ir.Table:
    """Return the candidates' usable observations up to the cutoff with their values: all, or those in `among`."""
    rows = dated(sources, "observation", among).filter(_["status"].isin(facts.USABLE_OBSERVATION))
    return only(rows, diagnosis.candidates(sources)).drop("status")


def answers(sources: Sources) -> ir.Table:
    """Return the answers about the lung cancer, or about no cancer in particular: those of `every_answer` but a few."""
    return sources.once("answers", lambda: every_answer(sources).anti_join(elsewhere(sources), list(ANSWER)))


def elsewhere(sources: Sources) -> ir.Table:
    """Return the answers whose `focus` is another condition than the lung cancer or a secondary cancer of it.

    What a condition that is not in the lake is, nobody knows: it is another one.
    """
    own = diagnosis.own_conditions(sources).rename(focus="id")
    rows = every_answer(sources).filter(_["focus"].notnull())
    return sources.once("answers_elsewhere", lambda: rows.anti_join(own, ["site", "focus"]))


def issues(sources: Sources) -> list[ir.Table]:
    """Count answers about another condition than the lung cancer; performance status and smoking are of the person."""
    rows = elsewhere(sources)
    for value_set in ("ecog-code", "smoking-code"):
        rows = rows.anti_join(asked(sources, rows, value_set), list(ANSWER))
    return [
        count(rows.filter(_["resource_type"] == kind), kind, "about another condition than the lung cancer, not used")
        for kind in ("Observation", "DiagnosticReport")
    ]


def every_answer(sources: Sources) -> ir.Table:
    """Return the usable answers up to the cutoff of which a coding is known to a value set or concept map."""
    return sources.once("every_answer", lambda: _every_answer(sources))


def _every_answer(sources: Sources) -> ir.Table:
    observations = sources.once("observations", lambda: observed(sources, sources.known_codings("observation")))
    parts = sources.views["observation_component"].join(observations.drop(*VALUES), list(RESOURCE))
    reports = dated(sources, "diagnostic_report", sources.known_codings("diagnostic_report"))
    reports = only(reports.filter(_["status"].isin(facts.USABLE_OBSERVATION)), diagnosis.candidates(sources))
    missing = {name: ibis.null(kind) for name, kind in VALUES.items() if name != "value_string"}
    reports = reports.mutate(**missing, value_string=_["conclusion"], focus=ibis.null("string"))
    whole = ibis.literal(0, type="int32")
    return ibis.union(
        _shaped(observations.mutate(part=whole), "observation"),
        _shaped(parts, "observation"),
        _shaped(reports.mutate(part=whole), "diagnostic_report"),
    )


def _shaped(rows: ir.Table, view: str) -> ir.Table:
    rows = rows.mutate(resource_type=ibis.literal(RESOURCE_TYPES[view]), part=_["part"].cast("int32"))
    return rows.mutate(**{name: rows[name].cast(kind) for name, kind in VALUES.items()}).select(*_COLUMNS)


def meanings(sources: Sources) -> ir.Table:
    """Return what the codings and texts of all answers mean: (site, resource_type, id, part, element, name, target).

    One meaning of an element by a name: that which counts.
    """
    found = [
        sources.meanings(view)
        .filter(_["nth"] == 0)
        .mutate(resource_type=ibis.literal(RESOURCE_TYPES[view]), part=_["part"].cast("int32"))
        for view in _VIEWS
    ]
    columns = (*ANSWER, "element", "name", "target")
    return sources.once("meanings_answers", lambda: ibis.union(*found).select(*columns))


def _meant(sources: Sources, element: str, *names: str) -> ir.Table:
    """Return what one element means by one of several value sets or concept maps."""
    known = {sources.ask(view, element, name) for view in _VIEWS for name in names}
    return meanings(sources).filter(_["element"] == element, _["name"].isin(sorted(known)))


def coded(sources: Sources, element: str, concept_map: str) -> ir.Table:
    """Return (site, resource_type, id, part, value) of the answers whose `element` `concept_map` understands."""
    return _meant(sources, element, concept_map).select(*ANSWER, value=_["target"])


def valued(sources: Sources, rows: ir.Table, concept_map: str, element: str = "value") -> ir.Table:
    """Return the columns `DATED` of those of `rows` whose `element` `concept_map` understands, and its `value`."""
    return rows.select(*DATED).join(coded(sources, element, concept_map), list(ANSWER))


def asked(sources: Sources, rows: ir.Table, *value_sets: str) -> ir.Table:
    """Return those of `rows` whose question, the code, is in one of `value_sets`."""
    return only(rows, _meant(sources, "code", *value_sets), ANSWER)


def with_member(sources: Sources, rows: ir.Table, value_set: str, element: str) -> ir.Table:
    """Return those of `rows` of whose resource `element`, wherever it stands, is in `value_set`."""
    return only(rows, _meant(sources, element, value_set), ("site", "resource_type", "id"))


def reference(rows: ir.Table | ir.Deferred = _) -> ir.Value:
    """Return the source reference of each answer: the type and the pseudonym of the id of its resource."""
    return facts.typed_reference(rows["resource_type"], rows["id"])


def texts(sources: Sources) -> ir.Table:
    """Return (site, resource_type, id, part, text) of what answers say in words: a string, or the text of a concept."""
    return sources.once("answer_texts", lambda: _texts(sources))


def _texts(sources: Sources) -> ir.Table:
    rows = answers(sources)
    found = [rows.select(*ANSWER, text=_["value_string"])]
    for view in _VIEWS:
        said = sources.codings(view).filter(_["element"] == "value", _["text"].notnull())
        said = said.mutate(resource_type=ibis.literal(RESOURCE_TYPES[view]), part=_["part"].cast("int32"))
        found.append(said.semi_join(rows, list(ANSWER)).select(*ANSWER, "text"))
    return ibis.union(*found).filter(_["text"].notnull()).distinct()


def notations(sources: Sources) -> ir.Table:
    """Return the TNM notation of answers, in words or by codes of value set `tnm-notation`.

    The codes of the UICC and the AJCC are the notation itself. Columns: site, resource_type, id, part, text, and of T
    and N the category and its prefix, null where the text says none: `T`, `T_prefix`, `N`, `N_prefix`.
    """
    return sources.once("answer_notations", lambda: _notations(sources))


def _notations(sources: Sources) -> ir.Table:
    rows = asked(sources, answers(sources), *TNM_QUESTIONS)
    notes = sources.member("observation", "value", "tnm-notation")
    codes = sources.known_codings("observation").filter(_["element"] == "value", _["code"].notnull())
    codes = codes.semi_join(notes, list(PART)).mutate(part=_["part"].cast("int32"), text=_["code"])
    codes = codes.mutate(resource_type=ibis.literal("Observation")).select(*ANSWER, "text")
    found = ibis.union(codes, texts(sources)).semi_join(rows, list(ANSWER)).distinct()
    for letter in ("T", "N"):
        parsed = {letter: notation.category(_["text"], letter), f"{letter}_prefix": notation.prefix(_["text"], letter)}
        found = found.mutate(**parsed)
    return found.filter(_["T"].notnull() | _["N"].notnull())
