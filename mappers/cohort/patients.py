"""The views of some patients only, to derive the cohort rows of just these.

No rule of the cohort looks from one patient at another: tables are joined and grouped by (site, patient), or by
(site, id) of a resource, and a resource is about one patient. So the rows derived from the views of some patients are
the rows of these patients. Several records of one person (Patient.link) are one patient here, as in the cohort. Where
patients of several sites are one person, all of them are among these (`mappers.build.linkage.with_linked`).
"""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir
from ibis import _

from mappers.cohort.facts import DRUGS, KEY, RESOURCE, RESOURCE_TYPES

# The views with rows for parts of a resource, each with the view of the resource
PARTS = {f"{view}_coding": view for view in RESOURCE_TYPES if view not in ("patient", "consent")} | {
    "patient_link": "patient",
    "observation_component": "observation",
    "adverse_event_suspect": "adverse_event",
    "consent_category": "consent",
    "consent_provision": "consent",
    "medication_coding": "medication",
}
# Of no patient: a Medication is what the drug resources of several patients refer to.
SHARED = "medication"
VIEWS = (*RESOURCE_TYPES, SHARED, *PARTS)
# Of every person the counts of resources that are set aside because of a modifier extension: no view of a file
MODIFIED = "modified"


def owners(rows: ir.Table) -> ir.Table:
    """Return (site, patient) of the rows of an entity view that belong to a patient."""
    return rows.select(*KEY).filter(_["patient"].notnull()).distinct()


def of_patients(rows: ir.Table, view: str, patients: ir.Table, own: Mapping[str, ir.Table]) -> ir.Table:
    """Return those `rows` of `view` that belong to `patients` (site, patient), which name them as the rows do.

    A part belongs to the patient of its resource: `own` holds the views with one row a resource, already narrowed.
    """
    if view in RESOURCE_TYPES:
        return rows.semi_join(patients, list(KEY))
    resources = referenced(own) if view == SHARED else own[PARTS[view]].select(*RESOURCE).distinct()
    return rows.semi_join(resources, list(RESOURCE))


def referenced(drugs: Mapping[str, ir.Table]) -> ir.Table:
    """Return (site, id) of the Medications that the drug resources refer to; `drugs` are views by name."""
    named = [drugs[view].select("site", id=drugs[view]["medication"]) for view in DRUGS]
    return ibis.union(*named).filter(_["id"].notnull()).distinct()
