"""Conditions: who is screened, and which of a patient's conditions is the lung cancer and not another one."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers import dates
from mappers.cohort import facts
from mappers.cohort.facts import KEY, RESOURCE, Sources, attach, dated, first_by, only, written_date
from mappers.cohort.issues import count

# Where a condition may say what the tumour is, beside its code: mCODE and MII extensions, evidence.code
_HISTOLOGY = ("code", "morphology", "evidence")


def candidates(sources: Sources) -> ir.Table:
    """Return (site, patient) of the screened: all with a condition of lung cancer, of whatever status."""
    return sources.once("candidates", lambda: lung_conditions(sources).select(*KEY).distinct())


def lung_conditions(sources: Sources) -> ir.Table:
    """Return (site, patient, id) of the conditions of value set `nsclc`, or of a histology of it in the lung."""
    return sources.once("lung_conditions", lambda: _lung_conditions(sources))


def _lung_conditions(sources: Sources) -> ir.Table:
    conditions = sources.views["condition"].filter(_["patient"].notnull())
    # A tumour registry codes site and histology: neither alone says lung cancer.
    in_lung = _coded_as(sources, ("code", "bodySite"), "lung-site")
    histology = _coded_as(sources, _HISTOLOGY, "nsclc-histology", "small-cell")
    named = _coded_as(sources, ("code",), "nsclc")
    found = named.union(in_lung.semi_join(histology, list(RESOURCE)), distinct=True)
    return only(conditions, found, RESOURCE).select(*KEY, "id")


def _coded_as(sources: Sources, elements: tuple[str, ...], *value_sets: str) -> ir.Table:
    """Return (site, id) of the conditions with a code of a value set in one of `elements`."""
    members = [sources.member("condition", element, name) for element in elements for name in value_sets]
    return ibis.union(*(table.select(*RESOURCE) for table in members), distinct=True)


def confirmed_conditions(sources: Sources) -> ir.Table:
    """Return the conditions that may be used: confirmed or without a status, and not dated after the cutoff.

    Refuted, entered-in-error and unconfirmed ones (with provisional and differential) are no diagnosis.
    """
    return sources.once("confirmed_conditions", lambda: _confirmed_conditions(sources))


def _confirmed_conditions(sources: Sources) -> ir.Table:
    rows = only(sources.resources("condition"), sources.known_codings("condition"), RESOURCE)
    written = written_date("condition", rows)
    rows = rows.mutate(date=dates.day(written), dtf=dates.flag(written))
    rows = attach(rows, statuses(sources), RESOURCE)
    usable = (_["status"] == "confirmed") | _["status"].isnull()
    rows = rows.filter(usable, _["date"].isnull() | (_["date"] <= sources.cutoff))
    return rows.select(*KEY, "id", "date", "dtf", "related_primary")


def statuses(sources: Sources) -> ir.Table:
    """Return (site, id, status) of the conditions that state a verification status, a code of condition-ver-status.

    The coding of the required system counts, then one of another system, then the certainty of an ICD-10-GM code.
    A status that is given and not understood is `unknown`: the element is a modifier, so it must not be ignored.
    """
    rows = only(sources.resources("condition"), sources.known_codings("condition"), RESOURCE)
    given = only(rows, sources.codings("condition").filter(_["element"] == "verificationStatus"), RESOURCE)
    rows = attach(rows.select(*RESOURCE, "verification_status"), given.select(*RESOURCE, given=True), RESOURCE)
    for element in ("verificationStatus", "certainty"):
        said = sources.coded("condition", element, "verification-status").select(*RESOURCE, **{element: _["value"]})
        rows = attach(rows, said, RESOURCE)
    unknown = _["given"].ifelse("unknown", ibis.null("string"))
    status = ibis.coalesce(_["verification_status"], _["verificationStatus"], unknown, _["certainty"])
    return rows.select(*RESOURCE, status=status)


def small_cell(sources: Sources) -> ir.Table:
    """Return (site, patient, id) of lung conditions whose histology is small cell carcinoma, whatever their code.

    Histology stands in the condition or in an Observation: about the condition in `focus`, else about the patient.
    """
    return sources.once("small_cell", lambda: _small_cell(sources))


def _small_cell(sources: Sources) -> ir.Table:
    lung = lung_conditions(sources)
    named = only(lung, _coded_as(sources, _HISTOLOGY, "small-cell"), RESOURCE)
    found = only(
        sources.member("observation", "code", "histology-code"),
        sources.member("observation", "value", "small-cell"),
        facts.PART,
    )
    seen = dated(sources, "observation", found).filter(_["status"].isin(facts.USABLE_OBSERVATION))
    of_condition = seen.filter(_["focus"].notnull()).select("site", id=_["focus"])
    of_patient = seen.filter(_["focus"].isnull())
    return ibis.union(named, only(lung, of_condition, RESOURCE), only(lung, of_patient), distinct=True)


def lung_cancers(sources: Sources) -> ir.Table:
    """Return (site, patient, id) of the conditions that are the lung cancer by code and histology, of any status."""
    return lung_conditions(sources).anti_join(small_cell(sources), list(RESOURCE))


def lung_cancer(sources: Sources) -> ir.Table:
    """Return the condition that makes a patient one with lung cancer: its id as `condition_id`."""
    conditions = only(confirmed_conditions(sources), lung_cancers(sources), RESOURCE)
    # The earliest one; an undated one only where there is no other.
    chosen = first_by(conditions, _["date"].asc(nulls_first=False), _["id"])
    return chosen.select(*KEY, condition_id=_["id"])


def own_conditions(sources: Sources) -> ir.Table:
    """Return (site, id) of the lung cancers and of their secondary cancers: what a finding of this cancer is about."""
    return sources.once("own_conditions", lambda: _own_conditions(sources))


def _own_conditions(sources: Sources) -> ir.Table:
    cancers = lung_cancers(sources)
    secondary = only(
        sources.resources("condition"), sources.member("condition", "code", "recurrence-condition"), RESOURCE
    )
    stated = only(secondary, cancers.select("site", related_primary=_["id"]), ("site", "related_primary"))
    # A secondary cancer of which nobody says what it comes from is taken for one of the lung cancer.
    unstated = secondary.filter(_["related_primary"].isnull())
    return ibis.union(*(table.select(*RESOURCE) for table in (cancers, stated, unstated)), distinct=True)


def issues(sources: Sources) -> list[ir.Table]:
    """Count lung conditions that are not used for another reason than the status of the required system."""
    conditions = only(sources.resources("condition"), lung_conditions(sources), RESOURCE)
    rows = attach(conditions.filter(_["verification_status"].isnull()), statuses(sources), RESOURCE)
    return [
        count(only(conditions, small_cell(sources), RESOURCE), "Condition", "small cell carcinoma, not NSCLC"),
        count(
            rows.filter(_["status"] == "unknown"), "Condition", "verification status not understood, condition not used"
        ),
        count(
            rows.filter(_["status"].isin(["refuted", "unconfirmed"])),
            "Condition",
            "not confirmed by a status of another code system",
        ),
    ]
