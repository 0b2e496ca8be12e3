"""ALK status: tests of the gene, reports and conditions that name it; the unknown is unknown, not negative."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort import answers, diagnosis
from mappers.cohort.answers import ANSWER
from mappers.cohort.facts import KEY, RESOURCE, Sources, attach, first_by
from mappers.cohort.issues import count, listed

_NO_ANSWER = ibis.null("string")


def tests(sources: Sources) -> ir.Table:
    """Return the answers of tests for ALK: a test for it alone, or a variant assessment with ALK among its genes.

    `value` is POSITIVE, NEGATIVE, EQUIVOCAL, or null where the result is not understood. Of a variant assessment the
    result is that of the observation, and the genes are its components: absent in several genes is absent in each,
    present in several is a fusion of them.
    """
    return sources.once("alk_tests", lambda: _tests(sources))


def _tests(sources: Sources) -> ir.Table:
    found = answers.answers(sources).select(*answers.DATED, "value_boolean")
    variants = answers.asked(sources, found, "alk-variant-code")
    variants = answers.with_member(sources, variants, "alk-gene", "value")
    asked = ibis.union(variants, answers.asked(sources, found, "alk-test-code"), distinct=True)
    for element in ("value", "interpretation"):
        meaning = answers.coded(sources, element, "alk-variant-value").select(*ANSWER, **{element: _["value"]})
        asked = attach(asked, meaning, ANSWER)
    said = ibis.cases((_["value_boolean"], "POSITIVE"), (~_["value_boolean"], "NEGATIVE"), else_=_NO_ANSWER)
    return asked.mutate(value=ibis.coalesce(_["value"], _["interpretation"], said))


def alk_status(sources: Sources) -> ir.Table:
    """Return ALKSTAT of the patients of whom it is known, from tests, conclusions of reports, and conditions.

    Both POSITIVE and NEGATIVE of one patient is a conflict: reported, not guessed, and not eligible. An equivocal
    result says nothing beside a clear one, and alone it leaves the status unknown. `alk_positive` and `alk_negative`
    are the references of a resource that says so.
    """
    concluded = answers.valued(sources, answers.answers(sources), "alk-condition")
    results = [rows.select(*KEY, "value", "resource_type", "id") for rows in (tests(sources), concluded)]
    confirmed = diagnosis.confirmed_conditions(sources).mutate(resource_type=ibis.literal("Condition"))
    results += [
        confirmed.join(sources.coded("condition", element, "alk-condition"), list(RESOURCE)).select(
            *KEY, "value", "resource_type", "id"
        )
        for element in ("code", "evidence")
    ]
    found = sources.once("alk_results", lambda: ibis.union(*results).filter(_["value"].isin(["POSITIVE", "NEGATIVE"])))
    said = (_["value"].nunique() > 1).ifelse("CONFLICT", _["value"].min())
    status = found.group_by(*KEY).agg(ALKSTAT=said)
    for value in ("POSITIVE", "NEGATIVE"):
        # An observation is named before a condition.
        first = first_by(found.filter(_["value"] == value), _["resource_type"].desc(), _["id"])
        status = attach(status, first.select(*KEY, **{f"alk_{value.lower()}": answers.reference()}))
    return status


def issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Count results that are equivocal or not understood, conflicts, and patients with lung cancer without a test."""
    tested = tests(sources)
    people = attach(subjects, tested.select(*KEY, tested=True).distinct())
    unknown = people["ALKSTAT"].isnull() & people["condition_id"].notnull()
    by_patient = {
        ("ADSL", "conflict: ALK positive and negative"): people["ALKSTAT"] == "CONFLICT",
        ("ADSL", "no ALK test"): unknown & people["tested"].isnull(),
    }
    return [
        count(tested.filter(_["value"] == "EQUIVOCAL"), "Observation", "ALK result equivocal"),
        count(tested.filter(_["value"].isnull()), "Observation", "value not understood: ALK status"),
        listed(people, by_patient),
    ]
