"""Tumour assessments: every dated finding that says how the tumour is, from RECIST to a recurrence as a condition.

Rules: docs/endpoint-rules.md 5 (RECIST), 8 (EFS). A metastasis is a new event only where it is new and of this cancer.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import answers, diagnosis, facts
from mappers.cohort.facts import KEY, RESOURCE, Sources, attach, only
from mappers.cohort.issues import count
from mappers.cohort.pathology import residual_status

ASSESSED = ("CR", "PR", "SD", "PD", "NO PROGRESSION", "WORSENED", "PROGRESSION", "RECURRENCE")
FAILED = ("PD", "PROGRESSION", "RECURRENCE")
RESIDUAL = ("R1", "R2")

_FINDING = (*KEY, "id", "date", "dtf", "value")
_RETURNED = ("recurrence", "relapse")  # FHIR R4 condition-clinical: the condition is there again


def tumour_assessments(sources: Sources) -> ir.Table:
    """Return all adequate tumour assessments with their findings: RECIST, disease status, recurrence as a condition."""
    found = [
        answers.valued(sources, answers.answers(sources), "recist"),
        answers.valued(
            sources,
            answers.asked(sources, answers.answers(sources), "disease-status-code"),
            "disease-status",
        ),
    ]
    if sources.study.events.r1_r2_is_event:
        found.append(residual_status(sources))
    answered = [
        rows.select(*_FINDING, domain=_["resource_type"], variable=ibis.literal("value"), source=answers.reference())
        for rows in found
    ]
    recurred = recurrences(sources).select(
        *_FINDING,
        domain=ibis.literal("Condition"),
        variable=_["variable"],
        source=facts.reference("condition", _["id"]),
    )
    return ibis.union(*answered, recurred).filter(_["value"].isin(ASSESSED + RESIDUAL))


def _conditions(sources: Sources) -> ir.Table:
    """Return the confirmed conditions with what decides whether they are news.

    `own` is true where the date is that of the condition, false where it is only that of the record; `other` where it
    belongs to another cancer.
    """
    rows = only(sources.resources("condition"), diagnosis.confirmed_conditions(sources), RESOURCE)
    own = ibis.coalesce(*[rows[column] for column in facts.DATE_COLUMNS["condition"] if column != "recorded"])
    written = facts.written_date("condition", rows)
    lung = diagnosis.lung_cancers(sources).select(*RESOURCE).distinct()
    rows = rows.mutate(
        date=dates.day(written), dtf=dates.flag(written), own=own.notnull(), primary=_["related_primary"]
    )
    rows = rows.select(*KEY, "id", "date", "dtf", "own", "clinical_status", primary=_["related_primary"])
    rows = attach(rows, lung.mutate(lung=True), RESOURCE)
    rows = attach(rows, lung.select("site", primary=_["id"], known=True), ("site", "primary"))
    return rows.mutate(other=_["primary"].notnull() & _["known"].isnull(), lung=_["lung"].fill_null(False))


def _secondaries(sources: Sources) -> ir.Table:
    """Return the conditions that say recurrence or secondary cancer, with `nodal` for the regional lymph nodes."""
    coded = sources.coded("condition", "code", "recurrence-condition")
    nodal = sources.member("condition", "code", "regional-node-metastasis").select(*RESOURCE, nodal=True)
    rows = attach(_conditions(sources).join(coded, list(RESOURCE)), nodal, RESOURCE)
    rows = rows.filter(_["date"].notnull()).mutate(nodal=_["nodal"].fill_null(False))
    # What is recorded again at a later encounter is the metastasis that was there already.
    earlier = _["date"].min().over(ibis.window(group_by=list(KEY)))
    return rows.mutate(earlier=earlier < _["date"])


def recurrences(sources: Sources) -> ir.Table:
    """Return the conditions that are a recurrence on their day (`value` RECURRENCE); `variable` is what says so.

    A secondary cancer counts from its onset. One that has only the date of its record counts where it is the first
    secondary cancer of the patient and not of the regional lymph nodes, which are the N category of the stage and are
    recorded again and again. The lung cancer itself counts where its clinical status is recurrence or relapse, from
    its own onset: that of the first diagnosis lies before time 0 and decides nothing.
    """
    rows = _secondaries(sources).filter(~_["other"])
    news = rows.filter(_["own"] | ~(_["nodal"] | _["earlier"]))
    returned = _conditions(sources).filter(_["lung"], _["own"], _["clinical_status"].isin(_RETURNED))
    returned = returned.filter(_["date"].notnull())
    return ibis.union(
        news.select(*_FINDING, variable=ibis.literal("code")),
        returned.mutate(value=ibis.literal("RECURRENCE"), variable=ibis.literal("clinicalStatus")).select(
            *_FINDING, "variable"
        ),
    )


def issues(sources: Sources, assessed: ir.Table, subjects: ir.Table) -> list[ir.Table]:
    """Return the findings that were not understood, and those that might be an event and are none, by patient."""
    enrolled = subjects.filter(_["ITTFL"] == "Y").select(*KEY, "TRTSDT")
    failed = assessed.filter(_["value"].isin(FAILED)).join(enrolled, list(KEY)).filter(_["date"] > _["TRTSDT"])
    worsened = only(assessed.filter(_["value"] == "WORSENED"), enrolled).anti_join(failed, list(KEY))
    secondary = _secondaries(sources).join(enrolled, list(KEY)).filter(_["date"] > _["TRTSDT"])
    again = ~_["own"] & (_["nodal"] | _["earlier"])
    returned = only(_conditions(sources), enrolled).filter(_["lung"], _["clinical_status"].isin(_RETURNED))
    return [
        *_not_understood(sources),
        count(worsened, "Observation", "disease status worsened without progression; not an event"),
        count(
            returned.anti_join(failed, list(KEY)),
            "Condition",
            "clinical status recurrence or relapse, not dated: no event",
        ),
        count(secondary.filter(_["other"]), "Condition", "secondary of another cancer: no event"),
        count(
            secondary.filter(~_["other"], again),
            "Condition",
            "secondary cancer without an onset, nodal or known before: no recurrence",
        ),
        count(
            secondary.filter(~_["other"], ~_["own"], ~again),
            "Condition",
            "recurrence without an onset: dated by its record",
        ),
    ]


def _not_understood(sources: Sources) -> list[ir.Table]:
    """Count the answers to a question of response or disease status that have no meaning as either."""
    found = answers.answers(sources)
    meanings = [answers.coded(sources, "value", name).select(*answers.ANSWER) for name in ("recist", "disease-status")]
    found = found.anti_join(ibis.union(*meanings), list(answers.ANSWER))
    response = answers.asked(sources, found, "recist-code")
    status = answers.asked(sources, found, "disease-status-code").anti_join(response, list(answers.ANSWER))
    return [
        count(response, "Observation", "value not understood: RECIST response"),
        count(status, "Observation", "value not understood: disease status"),
    ]
