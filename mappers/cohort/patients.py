"""The views of some patients only, to derive the cohort rows of just these.

No rule of the cohort looks from one patient at another: tables are joined and grouped by (site, patient), or by
(site, id) of a resource, and a resource is about one patient. So the rows derived from the views of some patients are
the rows of these patients. Two records of one person (Patient.link) are two patients here, as they are in the cohort.
"""

from __future__ import annotations

from collections.abc import Mapping

import ibis.expr.types as ir
from ibis import _

from mappers.cohort.facts import RESOURCE, RESOURCE_TYPES
from mappers.cohort.quality import CODED

OWNER = {view: "id" if view == "patient" else "patient" for view in RESOURCE_TYPES}
CODINGS = tuple(f"{view}_coding" for view in CODED)
VIEWS = (*RESOURCE_TYPES, *CODINGS)


def owners(view: str, rows: ir.Table) -> ir.Table:
    """Return (site, patient) of the rows of an entity view that belong to a patient."""
    return rows.select("site", patient=rows[OWNER[view]]).filter(_["patient"].notnull()).distinct()


def of_patients(rows: ir.Table, view: str, patients: ir.Table, own: Mapping[str, ir.Table]) -> ir.Table:
    """Return those `rows` of `view` that belong to `patients` (site, patient).

    A coding belongs to the patient of its resource: `own` holds the entity views, already narrowed.
    """
    if view in OWNER:
        return rows.semi_join(patients.rename({OWNER[view]: "patient"}), ["site", OWNER[view]])
    resources = own[view.removesuffix("_coding")].select(*RESOURCE).distinct()
    return rows.semi_join(resources, list(RESOURCE))
