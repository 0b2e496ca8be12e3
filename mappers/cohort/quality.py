"""The data-quality list: what was missing, unmapped, conflicting or set aside, as counts by domain and issue.

Counts are of resources of the screened patients (or of patients, domain ADSL), so that a site that is searched for
its cohort and a folder that holds more give the same list. They are made per patient, so that an incremental map
counts again only for the patients of changed resources; the published list is their sum by site. Resources without a
patient reference belong to nobody and are counted for the whole site.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import (
    adrs,
    adtte,
    answers,
    assessments,
    baseline,
    biomarkers,
    consent,
    diagnosis,
    eligibility,
    events,
    exposure,
    facts,
    pathology,
    surgery,
    vital,
)
from mappers.cohort.facts import KEY, RESOURCE, RESOURCE_TYPES, Sources, attach, only
from mappers.cohort.issues import count, listed
from mappers.cohort.people import people

COLUMNS = ("SITEID", "DOMAIN", "ISSUE", "COUNT")
PATIENT_COLUMNS = ("USUBJID", *COLUMNS)

# Which codings of a resource must be known to some value set, and which value sets these are; DRUG is the study's
DRUG = "the value set of the study drug"
CODED = {
    "condition": ("code", ("nsclc", "recurrence-condition", "alk-condition")),
    "medication_administration": ("medication", (DRUG,)),
    "medication_dispense": ("medication", (DRUG,)),
    "medication_statement": ("medication", (DRUG,)),
    "procedure": ("code", ("surgery-type",)),
    "adverse_event": ("event", ("ae-term", "meddra-term")),
    "observation": (
        "code",
        (
            "ecog-code",
            "smoking-code",
            "alk-variant-code",
            "alk-test-code",
            "histology-code",
            "residual-tumour-code",
            "residual-viable-tumour-code",
            "residual-viable-tumour-nodes-code",
            "recist-code",
            "disease-status-code",
            "clinical-stage-code",
            "pathological-stage-code",
            "tnm-category-code",
            "post-therapy-descriptor",
        ),
    ),
}
# Resources that say themselves that they are not to be used
_DOSE, _OBSERVATION = _["status"].isin(facts.USABLE_DOSE), _["status"].isin(facts.USABLE_OBSERVATION)
UNUSED = {
    "medication_administration": (~_DOSE.fill_null(False), "status not usable"),
    "medication_dispense": (~_["status"].isin(exposure.USABLE_DISPENSE).fill_null(False), "status not usable"),
    "medication_statement": (~_["status"].isin(exposure.USABLE_STATEMENT).fill_null(False), "status not usable"),
    "procedure": ((_["status"] != "completed").fill_null(True), "status not usable"),
    "observation": (~_OBSERVATION.fill_null(False), "status not usable"),
    "condition": (
        (_["verification_status"] != "confirmed").fill_null(False),
        "not confirmed (refuted, unconfirmed or entered in error)",
    ),
    "adverse_event": ((_["actuality"] == "potential").fill_null(False), "potential, not actual"),
}


def _resource_issues(sources: Sources, view: str) -> list[ir.Table]:
    """Return the issues with labels, dates, status and codes of one kind of resource."""
    domain = RESOURCE_TYPES[view]
    issues = {
        "labelled": "labelled as test data",
        "undated": "no date",
        "unreadable": "date not readable",
        "imputed": "partial date, imputed",
        "uncoded": "no coded concept",
        "unmapped": "code in no value set",
        "unused": UNUSED[view][1],
    }
    counts = _counts(sources, view)
    later = sources.days(view).filter(~_["test_data"], _["date"] > sources.cutoff)
    return [
        count(only(later, diagnosis.candidates(sources)), domain, "dated after the data cut"),
        listed(counts, {(domain, issue): counts[column] for column, issue in issues.items()}),
    ]


def _counts(sources: Sources, view: str) -> ir.Table:
    """Return what is counted alike at every data cutoff, per patient, in one reading of the resources."""

    def make() -> ir.Table:
        rows = only(sources.days(view), diagnosis.candidates(sources))
        usable = ~_["test_data"]
        counted = rows.group_by(*KEY).agg(
            labelled=_.count(where=_["test_data"]),
            resources=_.count(where=usable),
            undated=_.count(where=usable & ~_["written"]),
            unreadable=_.count(where=usable & _["written"] & _["date"].isnull()),
            imputed=_.count(where=usable & _["dtf"].notnull()),
        )
        unused = only(sources.resources(view), diagnosis.candidates(sources)).filter(UNUSED[view][0])
        counted = attach(counted, unused.group_by(*KEY).agg(unused=_.count()))
        counted = counted.mutate(unused=_["unused"].fill_null(0))
        counted = attach(attach(counted, _uncoded(sources, view)), _understood(sources, view))
        counted = counted.mutate(uncoded=_["uncoded"].fill_null(0), understood=_["understood"].fill_null(0))
        return counted.mutate(unmapped=_["resources"] - _["uncoded"] - _["understood"])

    return sources.once(f"quality_{view}", make)


def _uncoded(sources: Sources, view: str) -> ir.Table:
    """Return the number of resources without a coding and without a known text by screened patient."""
    coded = sources.codings(view).filter(_["element"] == CODED[view][0], _["code"].notnull())
    rows = only(sources.resources(view), diagnosis.candidates(sources)).anti_join(coded, list(RESOURCE))
    return rows.anti_join(_known(sources, view), list(RESOURCE)).group_by(*KEY).agg(uncoded=_.count())


def _understood(sources: Sources, view: str) -> ir.Table:
    """Return the number of resources with a coding or text that their value sets know by screened patient."""
    rows = only(only(sources.resources(view), _known(sources, view), RESOURCE), diagnosis.candidates(sources))
    return rows.group_by(*KEY).agg(understood=_.count())


def _known(sources: Sources, view: str) -> ir.Table:
    """Return the resources (site, id, part) with a coding or text that their value sets know."""
    element, declared = CODED[view]
    names = [sources.study.treatment.drug if name == DRUG else name for name in declared]
    return ibis.union(*[sources.member(view, element, name) for name in names])


def _subject_issues(sources: Sources, subjects: ir.Table) -> list[ir.Table]:
    """Return what is missing or conflicting for whole patients."""
    screened = {
        ("Patient", "record missing or labelled as test data"): subjects["patient_id"].isnull(),
        ("ADSL", "AGE not evaluable: birth after time 0, or more than 120 years before"): subjects["AGE"].isnull()
        & subjects["birth"].notnull(),
    }
    persons = only(people(sources), subjects)
    recorded = {
        ("Patient", "birth date partial, age imputed"): dates.flag(persons["birth_date"]).notnull(),
        ("Patient", "birth date not readable"): persons["birth_date"].notnull()
        & dates.day(persons["birth_date"]).isnull(),
        ("Patient", "no birth date"): persons["birth_date"].isnull(),
        ("Patient", "merged into another record"): persons["merged"],
        ("Patient", "conflict: merged records differ in sex or birth date"): persons["differing"],
    }
    return [
        listed(subjects, screened),
        listed(persons, recorded),
        _lost_links(sources, subjects),
        _modified(sources, subjects),
    ]


def _lost_links(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Count links of persons to records that are not there."""
    linked = sources.views["patient_link"].filter(_["type"].notnull(), _["related_person"].isnull())
    records = sources.all_rows("patient").select("site", other="id")
    lost = linked.select(*RESOURCE, "other").anti_join(records, ["site", "other"])
    owners = only(sources.views["patient"].select(*KEY, "id"), subjects)
    return count(owners.join(lost, list(RESOURCE)), "Patient", "link to a record that is not there")


def _modified(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Count resources that are set aside because of a modifier extension."""
    rows = only(sources.views["modified"], subjects)
    counted = rows.group_by(*KEY, "resource_type").agg(COUNT=_.count())
    issue = ibis.literal("modifier extension that is not understood, not used")
    return counted.select(*KEY, DOMAIN=_["resource_type"], ISSUE=issue, COUNT=_["COUNT"])


def quality(sources: Sources, subjects: ir.Table, read: ir.Table, assessed: ir.Table, times: ir.Table) -> ir.Table:
    """Return counts per screened patient: USUBJID, SITEID, DOMAIN, ISSUE, COUNT (above 0 only)."""
    found = {view: _resource_issues(sources, view) for view in CODED} | {
        "subjects": _subject_issues(sources, subjects),
        "diagnosis": diagnosis.issues(sources),
        "answers": answers.issues(sources),
        "biomarkers": biomarkers.issues(sources, subjects),
        "eligibility": eligibility.issues(sources, subjects),
        "baseline": baseline.issues(sources, subjects),
        "adrs": adrs.issues(sources, subjects, read),
        "pathology": pathology.issues(sources, subjects),
        "assessments": assessments.issues(sources, assessed, subjects),
        "events": events.issues(sources),
        "adtte": adtte.issues(sources, times, subjects, assessed),
        "exposure": exposure.issues(sources.kept["course"], subjects),
        "surgery": surgery.issues(sources, subjects),
        "vital": vital.issues(sources, subjects),
        "consent": consent.issues(sources, subjects),
    }
    # Kept in parts: an engine takes far longer to plan one query of all of them.
    parts = [sources.keep(f"issues_{name}", ibis.union(*issues)) for name, issues in found.items() if issues]
    named = ibis.union(*parts).join(subjects.select(*KEY, "USUBJID", "SITEID", "SCRFRS"), list(KEY))
    if sources.consent:  # of who does not consent nothing else is said
        named = named.filter((_["DOMAIN"] == consent.DOMAIN) | (_["SCRFRS"] != consent.NO_CONSENT).fill_null(True))
    return named.select(*PATIENT_COLUMNS)


def unowned(sources: Sources) -> ir.Table:
    """Return counts per site of resources that refer to nobody who is there: SITEID, DOMAIN, ISSUE, COUNT."""
    found = []
    # A denial that reaches nobody must be noticed.
    for view in (*CODED, *([consent.CONSENT] if sources.consent else [])):
        rows, people_ = sources.all_rows(view), sources.all_rows("patient")
        issue = ibis.cases(
            (rows["referred"].isnull(), "no usable reference to a patient"),
            (rows["patient"].isnull(), "logical reference without a matching identifier"),
            else_="reference to a patient that is not there",
        )
        # A reference to nobody equals no key, so it stays in the anti-join.
        lost = rows.select(*KEY, ISSUE=issue).anti_join(people_, list(KEY))
        counted = lost.group_by("site", "ISSUE").agg(COUNT=_.count())
        found.append(counted.mutate(SITEID=_["site"], DOMAIN=ibis.literal(RESOURCE_TYPES[view])).select(*COLUMNS))
    return ibis.union(*found)
