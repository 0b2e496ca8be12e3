"""The data-quality list: what was missing, unmapped, conflicting or set aside, as counts by domain and issue.

Counts are of resources of the screened patients (or of patients, domain ADSL), so that a site that is searched for
its cohort and a folder that holds more give the same list. They are made per patient, so that an incremental map
counts again only for the patients of changed resources; the published list is their sum by site. Resources without a
patient reference belong to nobody and are counted for the whole site.
"""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import facts
from mappers.cohort.adtte import FAILED
from mappers.cohort.facts import KEY, RESOURCE, RESOURCE_TYPES, Sources, attach, only

COLUMNS = ("SITEID", "DOMAIN", "ISSUE", "COUNT")
PATIENT_COLUMNS = ("USUBJID", *COLUMNS)

# Which codings of a resource must be known to some value set, and which value sets these are; DRUG is the study's
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
# Observations that ask a known question: the issue, and the concept map that must understand a coded answer
NOT_UNDERSTOOD = "value not understood: {}"
ECOG, VIABLE = (NOT_UNDERSTOOD.format(what) for what in ("ECOG performance status", "residual viable tumour"))
VALUED = {
    "ecog-code": (ECOG, "ecog"),
    "smoking-code": (NOT_UNDERSTOOD.format("smoking status"), "smoking-status"),
    "recist-code": (NOT_UNDERSTOOD.format("RECIST response"), "recist"),
    "disease-status-code": (NOT_UNDERSTOOD.format("disease status"), "disease-status"),
    "residual-tumour-code": (NOT_UNDERSTOOD.format("residual tumour status"), "residual-tumour"),
    "clinical-stage-code": (NOT_UNDERSTOOD.format("clinical stage group"), "stage-group"),
    "residual-viable-tumour-code": (VIABLE, None),
}
# Resources that say themselves that they are not to be used
_DOSE, _OBSERVATION = _["status"].isin(facts.USABLE_DOSE), _["status"].isin(facts.USABLE_OBSERVATION)
UNUSED = {
    "medication_administration": (~_DOSE.fill_null(False), "status not usable"),
    "procedure": ((_["status"] != "completed").fill_null(True), "status not usable"),
    "observation": (~_OBSERVATION.fill_null(False), "status not usable"),
    "condition": (
        (_["verification_status"] != "confirmed").fill_null(False),
        "not confirmed (refuted, unconfirmed or entered in error)",
    ),
    "adverse_event": ((_["actuality"] == "potential").fill_null(False), "potential, not actual"),
}


def _count(rows: ir.Table, domain: str, issue: str, by: tuple[str, ...] = KEY) -> ir.Table:
    counted = rows.group_by(*by).agg(COUNT=_.count())
    return counted.select(*by, DOMAIN=ibis.literal(domain), ISSUE=ibis.literal(issue), COUNT=_["COUNT"])


def _listed(patients: ir.Table, counts: Mapping[tuple[str, str], ir.Value]) -> ir.Table:
    """Return the counts above 0 of each patient as rows; `counts` are numbers or booleans by (domain, issue).

    One reading for all issues; a union of one for each takes longer to plan than to run.
    """
    issues = [
        ibis.struct({"DOMAIN": domain, "ISSUE": issue, "COUNT": count.cast("int64").fill_null(0)})
        for (domain, issue), count in counts.items()
    ]
    rows = patients.select(*KEY, found=ibis.array(issues).unnest())
    rows = rows.select(*KEY, **{name: _["found"][name] for name in ("DOMAIN", "ISSUE", "COUNT")})
    return rows.filter(_["COUNT"] > 0)


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
    dated = only(sources.resources(view), facts.candidates(sources))
    dated = dated.select(*KEY, day_=dates.day(facts.written_date(view, dated)))
    return [
        _count(dated.filter(_["day_"] > sources.cutoff), domain, "dated after the data cut"),
        _listed(counts, {(domain, issue): counts[column] for column, issue in issues.items()}),
    ]


def _counts(sources: Sources, view: str) -> ir.Table:
    """Return what is counted alike at every data cutoff, per patient, in one reading of the resources."""

    def make() -> ir.Table:
        rows = only(sources.views[view], facts.candidates(sources))
        rows = rows.select(
            *KEY,
            label_=_["test_data"].fill_null(False),
            unused_=UNUSED[view][0],
            written_=facts.written_date(view, rows),
        )
        rows = rows.mutate(day_=dates.day(_["written_"]), flag_=dates.flag(_["written_"]))
        counted = rows.group_by(*KEY).agg(
            labelled=_.count(where=_["label_"]),
            resources=_.count(where=~_["label_"]),
            undated=_.count(where=~_["label_"] & _["written_"].isnull()),
            unreadable=_.count(where=~_["label_"] & _["written_"].notnull() & _["day_"].isnull()),
            imputed=_.count(where=~_["label_"] & _["flag_"].notnull()),
            unused=_.count(where=~_["label_"] & _["unused_"]),
        )
        counted = attach(attach(counted, _uncoded(sources, view)), _understood(sources, view))
        counted = counted.mutate(uncoded=_["uncoded"].fill_null(0), understood=_["understood"].fill_null(0))
        return counted.mutate(unmapped=_["resources"] - _["uncoded"] - _["understood"])

    return sources.once(f"quality_{view}", make)


def _uncoded(sources: Sources, view: str) -> ir.Table:
    """Return the number of resources without a coding by screened patient."""
    coded = sources.codings(view).filter(_["element"] == CODED[view][0])
    rows = only(sources.resources(view), facts.candidates(sources)).anti_join(coded, list(RESOURCE))
    return rows.group_by(*KEY).agg(uncoded=_.count())


def _understood(sources: Sources, view: str) -> ir.Table:
    """Return the number of resources with a coding that their value sets know by screened patient."""
    element, declared = CODED[view]
    names = [sources.study.treatment.drug if name == DRUG else name for name in declared]
    known = ibis.union(*[sources.terminology.table(name).select("system", "code") for name in names]).distinct()
    codings = sources.known_codings(view).filter(_["element"] == element).semi_join(known, ["system", "code"])
    rows = only(only(sources.resources(view), codings, RESOURCE), facts.candidates(sources))
    return rows.group_by(*KEY).agg(understood=_.count())


def _undated_stage(sources: Sources, subjects: ir.Table) -> ir.Table:
    """Count conditions that carry a stage group (undated, so not used), of patients without a baseline stage."""
    staged = sources.coded("condition", "stage", "stage-group").select(*RESOURCE)
    conditions = facts.confirmed_conditions(sources).semi_join(staged, list(RESOURCE))
    return _count(
        only(conditions, subjects.filter(_["STAGEBL"].isnull())),
        "Condition",
        "stage given without a date, not used",
    )


def _value_issues(sources: Sources) -> ir.Table:
    """Count observations that ask a known question with an answer that is not understood."""
    asking = []
    for code, (issue, concept_map) in VALUED.items():
        rows = sources.member("observation", "code", code)
        if concept_map is not None:
            rows = rows.anti_join(sources.coded("observation", "value", concept_map), list(RESOURCE))
        asking.append(rows.select(*RESOURCE, ISSUE=ibis.literal(issue)))
    rows = facts.observations(sources).select(*KEY, "id", "value_integer", "value_quantity", "value_unit")
    rows = rows.join(ibis.union(*asking), list(RESOURCE))
    percent = _["value_quantity"].notnull() & _["value_unit"].fill_null("%").isin(["%", "{percent}", "1"])
    understood = ibis.cases(
        (_["ISSUE"] == ECOG, _["value_integer"].notnull()), (_["ISSUE"] == VIABLE, percent), else_=False
    )
    counted = rows.filter(~understood).group_by(*KEY, "ISSUE").agg(COUNT=_.count())
    return counted.select(*KEY, DOMAIN=ibis.literal("Observation"), ISSUE=_["ISSUE"], COUNT=_["COUNT"])


def _ungraded(sources: Sources) -> ir.Table:
    rows = only(sources.resources("adverse_event"), facts.candidates(sources))
    graded = sources.coded("adverse_event", "grade", "ctcae-grade")
    return _count(rows.anti_join(graded, list(RESOURCE)), "AdverseEvent", "no CTCAE grade")


def _subject_issues(sources: Sources, subjects: ir.Table, pathology: ir.Table) -> list[ir.Table]:
    """Return what is missing or conflicting for whole patients."""
    enrolled = subjects["ITTFL"] == "Y"
    baseline = {"ECOGBL": "ECOG", "SMKSTAT": "smoking status", "TSTGBL": "clinical T", "NSTGBL": "clinical N"}
    screened = {
        ("Patient", "record missing or labelled as test data"): subjects["patient_id"].isnull(),
        ("Patient", "death without a date"): (subjects["DTHFL"] == "Y") & subjects["DTHDT"].isnull(),
        ("ADSL", "conflict: ALK positive and negative"): subjects["ALKSTAT"] == "CONFLICT",
        **{
            ("ADSL", f"enrolled, no baseline {what}"): enrolled & subjects[variable].isnull()
            for variable, what in baseline.items()
        },
    }
    people = only(sources.resources("patient").rename(patient="id"), subjects)
    recorded = {
        ("Patient", "birth date partial, age imputed"): dates.flag(people["birth_date"]).notnull(),
        ("Patient", "no birth date"): people["birth_date"].isnull(),
        ("Patient", "merged into another record"): people["replaced"],
    }
    resected = pathology.filter(_["SURGFL"] == "Y")
    read = {
        ("ADRS", "resected, no reading of residual viable tumour"): resected["high"].isnull(),
        ("ADRS", "MPR not evaluable from the reading"): resected["mpr"].isnull() & resected["high"].notnull(),
        ("ADRS", "resected, no ypN"): resected["ypn"].isnull(),
        ("ADRS", "conflict: no viable tumour, but nodes with tumour"): (resected["high"] == 0)
        & (resected["ypn"] != "N0"),
        ("ADRS", "conflict: ypT0, but viable tumour"): (resected["high"] > 0) & (resected["ypt"] == "T0"),
    }
    listed = [_listed(subjects, screened), _listed(people, recorded), _listed(resected, read)]
    return [*listed, _stage_conflict(sources, subjects.filter(enrolled))]


def ajcc8_group(t: ir.Value, n: ir.Value) -> ir.StringValue:
    """Return the AJCC 8 group of lung cancer without metastasis, IIB to IIIC, else null (docs/endpoint-rules.md 16)."""
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
    """Count patients whose stage group is not that of T and N, all by AJCC 8: other editions group otherwise."""
    edition = sources.member("observation", "method", "ajcc-8-method")
    enrolled = enrolled.select(
        *KEY, *[f"{name}{end}" for name in ("STAGEBL", "TSTGBL", "NSTGBL") for end in ("", "_id")]
    )
    for variable in ("STAGEBL", "TSTGBL", "NSTGBL"):
        enrolled = enrolled.semi_join(edition.rename(**{f"{variable}_id": "id"}), ["site", f"{variable}_id"])
    derived = ajcc8_group(_["TSTGBL"], _["NSTGBL"])
    differing = enrolled.mutate(derived=derived).filter(_["derived"].notnull(), _["derived"] != _["STAGEBL"])
    return _count(differing, "ADSL", "conflict: stage group is not that of T and N (AJCC 8)")


def _worsened(assessed: ir.Table, subjects: ir.Table) -> ir.Table:
    """Count assessments that say "worsened" in patients for whom no progression or recurrence is recorded."""
    enrolled = subjects.filter(_["ITTFL"] == "Y")
    failed = assessed.filter(_["value"].isin(FAILED))
    rows = only(assessed.filter(_["value"] == "WORSENED"), enrolled).anti_join(failed, list(KEY))
    return _count(rows, "Observation", "disease status worsened without progression; not an event")


def quality(sources: Sources, subjects: ir.Table, pathology: ir.Table, assessed: ir.Table) -> ir.Table:
    """Return counts per screened patient: USUBJID, SITEID, DOMAIN, ISSUE, COUNT (above 0 only)."""
    issues = [issue for view in CODED for issue in _resource_issues(sources, view)]
    issues.append(_value_issues(sources))
    issues.append(_ungraded(sources))
    issues += _subject_issues(sources, subjects, pathology)
    issues.append(_undated_stage(sources, subjects))
    issues.append(_worsened(assessed, subjects))
    named = ibis.union(*issues).join(subjects.select(*KEY, "USUBJID", "SITEID"), list(KEY))
    return named.select(*PATIENT_COLUMNS)


def unowned(sources: Sources) -> ir.Table:
    """Return counts per site of resources that refer to no patient: SITEID, DOMAIN, ISSUE, COUNT."""
    issues = [
        _count(sources.unowned(view), RESOURCE_TYPES[view], "no usable reference to a patient", by=("site",))
        for view in CODED
    ]
    return ibis.union(*issues).rename(SITEID="site").select(*COLUMNS)
