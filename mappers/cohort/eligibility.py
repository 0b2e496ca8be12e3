"""Enrolment: the criteria of the study in the order of the flow diagram, and systemic treatment before time 0."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import diagnosis, exposure, facts
from mappers.cohort.consent import NO_CONSENT
from mappers.cohort.facts import DRUGS, KEY, RESOURCE, RESOURCE_TYPES, Sources, attach, dated, first_by, only
from mappers.cohort.issues import count, listed

TREATMENT = "antineoplastic"
PRIOR = "PRIOR SYSTEMIC TREATMENT"
ELSEWHERE = "COUNTED AT ANOTHER SITE"
# Why patients with the same identifier are not taken for one person (`mappers.build.linkage`)
SEVERAL_AT_ONE_SITE = "identifier of several patients of one site, not linked to other sites"
DIFFERING = "identifier of a patient of another site, not linked: sex or birth date differ"
_CODED = {**dict.fromkeys(DRUGS, "medication"), "procedure": "code"}
# A course that runs or was stopped was given at least in part.
_GIVEN = {
    "medication_administration": facts.USABLE_DOSE,
    "medication_dispense": exposure.USABLE_DISPENSE,
    "medication_statement": exposure.USABLE_STATEMENT,
    "procedure": facts.USABLE_DOSE,
}


def screen_failure(sources: Sources) -> ir.Value:
    """Return the first criterion that a patient fails, in the order of the flow diagram; null for the enrolled."""
    rule = sources.study.eligibility
    failures: list[tuple[ir.Value, str]] = [
        (_["patient_id"].isnull(), "NO USABLE PATIENT RECORD"),
        (_["condition_id"].isnull(), "NO CONFIRMED NSCLC"),
        (_["STAGEBL"].isnull(), "STAGE UNKNOWN"),
        (~_["STAGEBL"].isin(list(rule.stages)), "STAGE NOT ELIGIBLE"),
        (_["ALKSTAT"].isnull(), "ALK STATUS UNKNOWN"),
        (~_["ALKSTAT"].isin(list(rule.alk)), "ALK STATUS NOT ELIGIBLE"),
    ]
    if rule.ecog_max is not None:
        failures.append((_["ECOGBL"] > rule.ecog_max, "ECOG NOT ELIGIBLE"))
        if rule.ecog_unknown == "exclude":
            failures.append((_["ECOGBL"].isnull(), "ECOG UNKNOWN"))
    failures.append((_["TRTSDT"].isnull(), "NO DOSE OF THE STUDY DRUG"))
    if rule.prior_systemic_treatment == "excluded":
        failures.append((_["prior_ref"].notnull(), PRIOR))
    return ibis.cases(*failures, else_=ibis.null("string"))


def counted_once(sources: Sources, screened: ir.Table) -> ir.Table:
    """Return the screened with SCRFRS of those whom another site counts: a person known at several sites counts once.

    The site is the first one, in the order of the configuration, that has the person enrolled, or else screened.
    """
    if sources.linked is None:
        return screened
    screened = sources.once("screened", lambda: screened)
    linked = sources.linked.filter(_["person_key"].notnull())
    rows = linked.join(screened.select(*KEY, "SCRFRS"), list(KEY))
    counted = first_by(rows, _["SCRFRS"].notnull(), _["place"], key=("person_key",))
    others = rows.anti_join(counted, list(KEY)).select(*KEY, elsewhere=ibis.literal(True))
    table = attach(screened, others)
    # Whatever else keeps such a record out, it is no patient of its own; but a refusal is a statement about this site.
    elsewhere = _["elsewhere"] & (_["SCRFRS"] != NO_CONSENT).fill_null(True)
    return table.mutate(SCRFRS=elsewhere.ifelse(ELSEWHERE, _["SCRFRS"])).drop("elsewhere")


def other_treatments(sources: Sources) -> ir.Table:
    """Return systemic treatment of cancer other than the study drug: drugs given, dispensed or stated, and procedures.

    `until` is its last day, or its first one where no end is given.
    """
    return sources.once("other_treatments", lambda: _other_treatments(sources))


def _other_treatments(sources: Sources) -> ir.Table:
    found = []
    for view, element in _CODED.items():
        named = sources.member(view, element, TREATMENT)
        if view in DRUGS:
            named = named.anti_join(sources.member(view, element, sources.study.treatment.drug), list(RESOURCE))
        rows = dated(sources, view, named).filter(_["status"].isin(_GIVEN[view]))
        rows = only(rows, diagnosis.candidates(sources))
        end = dates.day(rows["end"]) if "end" in rows.columns else ibis.null("date")
        found.append(
            rows.select(
                *KEY,
                "id",
                "date",
                "dtf",
                until=ibis.greatest(ibis.coalesce(end, rows["date"]), rows["date"]),
                domain=ibis.literal(RESOURCE_TYPES[view]),
            )
        )
    return ibis.union(*found)


def prior_treatment(sources: Sources, treatment: ir.Table) -> ir.Table:
    """Return (site, patient, prior_ref) of the patients with systemic treatment certainly before time 0.

    It counts within `eligibility.prior_systemic_days` before time 0, or at any time where the study states no window.
    """
    rows = other_treatments(sources).join(treatment.select(*KEY, "TRTSDT"), list(KEY))
    rows = rows.filter(dates.latest(_["date"], _["dtf"]) < _["TRTSDT"], _recent(sources))
    last = first_by(rows, _["until"].desc(), _["domain"], _["id"])
    return last.select(*KEY, prior_ref=facts.typed_reference(_["domain"], _["id"]))


def _recent(sources: Sources) -> ir.BooleanValue:
    window = sources.study.eligibility.prior_systemic_days
    return ibis.literal(True) if window is None else dates.days_between(_["until"], _["TRTSDT"]) <= window


def issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Count who counts at another site, and treatments that may be before time 0, where that is a criterion."""
    return [*_linked_issues(sources, subjects), *_open_treatments(sources, subjects)]


def _linked_issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    if sources.linked is None:
        return []
    known = only(sources.linked, subjects)
    conflicts = {("Patient", issue): known["conflict"] == issue for issue in (SEVERAL_AT_ONE_SITE, DIFFERING)}
    elsewhere = {("Patient", "known at another site, counted there"): subjects["SCRFRS"] == ELSEWHERE}
    return [listed(known, conflicts), listed(subjects, elsewhere)]


def _open_treatments(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    if sources.study.eligibility.prior_systemic_treatment is None:
        return []
    rows = other_treatments(sources).join(subjects.select(*KEY, "TRTSDT"), list(KEY))
    first, last = dates.earliest(_["date"], _["dtf"]), dates.latest(_["date"], _["dtf"])
    open_ = rows.filter(first < _["TRTSDT"], last >= _["TRTSDT"], _recent(sources))
    return [
        count(
            open_.filter(_["domain"] == RESOURCE_TYPES[view]),
            RESOURCE_TYPES[view],
            "systemic treatment that may be from before the first dose, not taken as such",
        )
        for view in _CODED
    ]
