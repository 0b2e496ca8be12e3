"""The data-quality list: what was missing, unmapped, conflicting or set aside, as counts by domain and issue.

Counts are of resources of the screened patients (or of patients, domain ADSL), so that a site that is searched for
its cohort and a folder that holds more give the same list. They are made per patient, so that a night counts again
only for patients of whom something changed; the published list is their sum by site. Resources without a
patient reference belong to nobody and are counted for the whole site.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import facts
from mappers.cohort.adtte import FAILED
from mappers.cohort.facts import KEY, RESOURCE, RESOURCE_TYPES, Sources, attach, only

COLUMNS = ("SITEID", "DOMAIN", "ISSUE", "COUNT")
PATIENT_COLUMNS = ("USUBJID", *COLUMNS, "DCUTDT")

# which codings of a resource must be known to some value set, and which value sets these are; DRUG is the study's
DRUG = "the value set of the study drug"
CODED = {
    "condition": ("code", ("nsclc", "recurrence-condition", "alk-condition")),
    "medication_administration": ("medication", (DRUG,)),
    "procedure": ("code", ("surgery-type",)),
    "adverse_event": ("event", ("ae-term",)),
    "observation": (
        "code",
        (
            "ecog-code",
            "smoking-code",
            "alk-variant-code",
            "residual-tumour-code",
            "residual-viable-tumour-code",
            "residual-viable-tumour-nodes-code",
            "recist-code",
            "disease-status-code",
            "clinical-stage-code",
            "tnm-category-code",
            "post-therapy-descriptor",
        ),
    ),
}
# observations that ask a known question: what it is, and the concept map that must understand the answer
VALUED = {
    "ecog-code": ("ECOG performance status", "ecog"),
    "smoking-code": ("smoking status", "smoking-status"),
    "recist-code": ("RECIST response", "recist"),
    "disease-status-code": ("disease status", "disease-status"),
    "residual-tumour-code": ("residual tumour status", "residual-tumour"),
    "clinical-stage-code": ("clinical stage group", "stage-group"),
}
STATUS = {
    "medication_administration": facts.USABLE_DOSE,
    "procedure": ("completed",),
    "observation": facts.USABLE_OBSERVATION,
}


def _count(rows: ir.Table, domain: str, issue: str, by: tuple[str, ...] = KEY) -> ir.Table:
    counted = rows.group_by(*by).agg(COUNT=_.count())
    return counted.select(*by, DOMAIN=ibis.literal(domain), ISSUE=ibis.literal(issue), COUNT=_["COUNT"])


def _resource_issues(sources: Sources, view: str) -> list[ir.Table]:
    """Date, status and code problems of one kind of resource."""
    domain = RESOURCE_TYPES[view]
    labelled = only(sources.views[view].filter(_["test_data"].fill_null(False)), facts.candidates(sources))
    counts = _counts(sources, view)
    issues = [
        _count(labelled, domain, "labelled as test data"),
        _count(_screened_rows(sources, view).filter(_["day_"] > sources.cut), domain, "dated after the data cut"),
        _counted(counts, "undated", domain, "no date"),
        _counted(counts, "unreadable", domain, "date not readable"),
        _counted(counts, "imputed", domain, "partial date, imputed"),
        _counted(counts, "uncoded", domain, "no coded concept"),
        _counted(counts, "unmapped", domain, "code in no value set"),
    ]
    if view in STATUS:
        issues.append(_counted(counts, "unusable", domain, "status not usable"))
    return issues


def _counted(counts: ir.Table, column: str, domain: str, issue: str) -> ir.Table:
    rows = counts.filter(_[column] > 0)
    return rows.select(*KEY, DOMAIN=ibis.literal(domain), ISSUE=ibis.literal(issue), COUNT=_[column])


def _screened_rows(sources: Sources, view: str) -> ir.Table:
    """Resources of the screened patients with what the issues look at: status and date, as written and as read."""
    rows = only(sources.resources(view), facts.candidates(sources))
    written = facts.written_date(view, rows)
    kept = [column for column in ("status", "actuality", "verification_status") if column in rows.columns]
    rows = rows.select(*KEY, "id", *kept, written_=written)
    return rows.mutate(day_=dates.day(_["written_"]), flag_=dates.flag(_["written_"]))


def _counts(sources: Sources, view: str) -> ir.Table:
    """What is counted at every data cut alike, per patient, in one reading of the resources."""

    def make() -> ir.Table:
        usable = _["status"].isin(STATUS[view]) if view in STATUS else _["id"].notnull()
        counted = (
            _screened_rows(sources, view)
            .group_by(*KEY)
            .agg(
                resources=_.count(),
                undated=_.count(where=_["written_"].isnull()),
                unreadable=_.count(where=_["written_"].notnull() & _["day_"].isnull()),
                imputed=_.count(where=_["flag_"].notnull()),
                unusable=_.count(where=~usable.fill_null(False)),
            )
        )
        counted = attach(attach(counted, _uncoded(sources, view)), _understood(sources, view))
        counted = counted.mutate(uncoded=_["uncoded"].fill_null(0), understood=_["understood"].fill_null(0))
        return counted.mutate(unmapped=_["resources"] - _["uncoded"] - _["understood"])

    return sources.once(f"quality_{view}", make)


def _uncoded(sources: Sources, view: str) -> ir.Table:
    """How many resources of each screened patient have no coding."""
    coded = sources.codings(view).filter(_["element"] == CODED[view][0])
    rows = only(sources.resources(view), facts.candidates(sources)).anti_join(coded, list(RESOURCE))
    return rows.group_by(*KEY).agg(uncoded=_.count())


def _understood(sources: Sources, view: str) -> ir.Table:
    """How many resources of each screened patient have a coding that their value sets know."""
    element, declared = CODED[view]
    names = [sources.study.treatment.drug if name == DRUG else name for name in declared]
    known = ibis.union(*[sources.terminology.table(name).select("system", "code") for name in names]).distinct()
    codings = sources.known_codings(view).filter(_["element"] == element).semi_join(known, ["system", "code"])
    rows = only(only(sources.resources(view), codings, RESOURCE), facts.candidates(sources))
    return rows.group_by(*KEY).agg(understood=_.count())


def _condition_issues(sources: Sources) -> list[ir.Table]:
    rows = _screened_rows(sources, "condition")
    confirmed = _["verification_status"].isnull() | (_["verification_status"] == "confirmed")
    return [_count(rows.filter(~confirmed), "Condition", "not confirmed (refuted, unconfirmed or entered in error)")]


def _undated_stage(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Conditions that carry a stage group (undated, so not used) of patients without a dated baseline stage."""
    staged = sources.coded("condition", "stage", "stage-group").select(*RESOURCE)
    conditions = facts.confirmed_conditions(sources).semi_join(staged, list(RESOURCE))
    return _count(
        only(conditions, subjects.filter(_["STAGEBL"].isnull())),
        "Condition",
        "stage given without a date, not used",
    )


def _value_issues(sources: Sources) -> list[ir.Table]:
    """Observations that ask a known question with an answer that is not understood."""
    issues = []
    for code, (what, concept_map) in VALUED.items():
        rows = facts.asked(sources, facts.observations(sources), code)
        rows = rows.anti_join(sources.coded("observation", "value", concept_map), list(RESOURCE))
        if code == "ecog-code":
            rows = rows.filter(_["value_integer"].isnull())
        issues.append(_count(rows, "Observation", f"value not understood: {what}"))
    tumour = facts.asked(sources, facts.observations(sources), "residual-viable-tumour-code")
    readable = _["value_quantity"].notnull() & _["value_unit"].fill_null("%").isin(["%", "{percent}", "1"])
    issues.append(_count(tumour.filter(~readable), "Observation", "value not understood: residual viable tumour"))
    return issues


def _event_issues(sources: Sources) -> list[ir.Table]:
    rows = _screened_rows(sources, "adverse_event")
    graded = sources.coded("adverse_event", "grade", "ctcae-grade")
    return [
        _count(rows.filter(_["actuality"] == "potential"), "AdverseEvent", "potential, not actual"),
        _count(rows.anti_join(graded, list(RESOURCE)), "AdverseEvent", "no CTCAE grade"),
    ]


def _subject_issues(sources: Sources, subjects: ir.Table, pathology: ir.Table) -> list[ir.Table]:
    """What is missing or conflicting for whole patients."""
    enrolled = subjects.filter(_["ITTFL"] == "Y")
    resected = pathology.filter(_["SURGFL"] == "Y")
    people = sources.resources("patient").rename(patient="id")
    year_only = only(people, subjects).filter(dates.flag(_["birth_date"]).notnull())
    issues = [
        _count(subjects.filter(_["patient_id"].isnull()), "Patient", "record missing or labelled as test data"),
        _count(year_only, "Patient", "birth date partial, age imputed"),
        _count(only(people, subjects).filter(_["birth_date"].isnull()), "Patient", "no birth date"),
        _count(
            only(people, subjects).filter(_["replaced"].fill_null(False)),
            "Patient",
            "merged into another record",
        ),
        _count(subjects.filter(_["DTHFL"] == "Y", _["DTHDT"].isnull()), "Patient", "death without a date"),
        _count(subjects.filter(_["ALKSTAT"] == "CONFLICT"), "ADSL", "conflict: ALK positive and negative"),
        _count(resected.filter(_["high"].isnull()), "ADRS", "resected, no reading of residual viable tumour"),
        _count(
            resected.filter(_["mpr"].isnull(), _["high"].notnull()),
            "ADRS",
            "MPR not evaluable from the reading",
        ),
        _count(resected.filter(_["ypn"].isnull()), "ADRS", "resected, no ypN"),
        _count(
            resected.filter((_["high"] == 0) & (_["ypn"] != "N0")),
            "ADRS",
            "conflict: no viable tumour, but nodes with tumour",
        ),
        _count(resected.filter((_["high"] > 0) & (_["ypt"] == "T0")), "ADRS", "conflict: ypT0, but viable tumour"),
    ]
    for variable, what in (
        ("ECOGBL", "ECOG"),
        ("SMKSTAT", "smoking status"),
        ("TSTGBL", "clinical T"),
        ("NSTGBL", "clinical N"),
    ):
        issues.append(_count(enrolled.filter(_[variable].isnull()), "ADSL", f"enrolled, no baseline {what}"))
    return [*issues, _stage_conflict(sources, enrolled)]


def ajcc8_group(t: ir.Value, n: ir.Value) -> ir.StringValue:
    """The AJCC 8 stage group of lung cancer without metastasis, where it is III or IIB (endpoints.md 16); else null."""
    size = t.substr(0, 2)
    return ibis.cases(
        (size.isin(["T3", "T4"]) & (n == "N3"), "IIIC"),
        ((size.isin(["T1", "T2"]) & (n == "N3")) | (size.isin(["T3", "T4"]) & (n == "N2")), "IIIB"),
        (
            (size.isin(["T1", "T2"]) & (n == "N2"))
            | ((size == "T3") & (n == "N1"))
            | ((size == "T4") & n.isin(["N0", "N1"])),
            "IIIA",
        ),
        (((size == "T3") & (n == "N0")) | (size.isin(["T1", "T2"]) & (n == "N1")), "IIB"),
        else_=ibis.null("string"),
    )


def _stage_conflict(sources: Sources, enrolled: ir.Table) -> ir.Table:
    """Patients whose stage group is not that of T and N, all three by AJCC 8: other editions group otherwise."""
    edition = sources.member("observation", "method", "ajcc-8-method")
    for variable in ("STAGEBL", "TSTGBL", "NSTGBL"):
        enrolled = enrolled.semi_join(edition.rename(**{f"{variable}_id": "id"}), ["site", f"{variable}_id"])
    derived = ajcc8_group(_["TSTGBL"], _["NSTGBL"])
    differing = enrolled.mutate(derived=derived).filter(_["derived"].notnull(), _["derived"] != _["STAGEBL"])
    return _count(differing, "ADSL", "conflict: stage group is not that of T and N (AJCC 8)")


def _worsened(assessed: ir.Table, subjects: ir.Table) -> ir.Table:
    """Assessments that say "worsened" in patients for whom no progression or recurrence is recorded."""
    enrolled = subjects.filter(_["ITTFL"] == "Y")
    failed = assessed.filter(_["value"].isin(FAILED))
    rows = only(assessed.filter(_["value"] == "WORSENED"), enrolled).anti_join(failed, list(KEY))
    return _count(rows, "Observation", "disease status worsened without progression; not an event")


def quality(sources: Sources, subjects: ir.Table, pathology: ir.Table, assessed: ir.Table) -> ir.Table:
    """Counts per screened patient: USUBJID, SITEID, DOMAIN, ISSUE, COUNT (above 0 only), DCUTDT."""
    issues = [issue for view in CODED for issue in _resource_issues(sources, view)]
    issues += _condition_issues(sources)
    issues += _value_issues(sources)
    issues += _event_issues(sources)
    issues += _subject_issues(sources, subjects, pathology)
    issues.append(_undated_stage(sources, subjects))
    issues.append(_worsened(assessed, subjects))
    named = ibis.union(*issues).join(subjects.select(*KEY, "USUBJID", "SITEID", "DCUTDT"), list(KEY))
    return named.select(*PATIENT_COLUMNS).order_by("USUBJID", "DOMAIN", "ISSUE")


def unowned(sources: Sources) -> ir.Table:
    """Counts per site of resources that refer to no patient: SITEID, DOMAIN, ISSUE, COUNT."""
    issues = [
        _count(sources.unowned(view), RESOURCE_TYPES[view], "no usable reference to a patient", by=("site",))
        for view in CODED
    ]
    return ibis.union(*issues).rename(SITEID="site").select(*COLUMNS)
