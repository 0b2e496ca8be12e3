"""The views of some patients only, to derive the cohort rows of just these.

No rule of the cohort looks from one patient at another: tables are joined and grouped by (site, patient), or by
(site, id) of a resource, and a resource is about one patient. So the rows derived from the views of some patients are
the rows of these patients. Two records of one person (Patient.link) are two patients here, as they are in the cohort.
"""

from __future__ import annotations

import ibis.expr.types as ir
from ibis import _

from mappers.cohort.facts import RESOURCE_TYPES
from mappers.cohort.quality import CODED

VIEWS = (*RESOURCE_TYPES, *(f"{view}_coding" for view in CODED))


def owner(view: str) -> str:
    """The column that names the patient of a row."""
    return "id" if view == "patient" else "patient"


def owners(view: str, rows: ir.Table) -> ir.Table:
    """(site, patient) of the rows of an entity view, without those of nobody."""
    return rows.select("site", patient=rows[owner(view)]).filter(_["patient"].notnull()).distinct()


def of_patients(rows: ir.Table, view: str, patients: ir.Table) -> ir.Table:
    """Those `rows` of `view` that belong to `patients` (site, patient)."""
    return rows.semi_join(patients.rename({owner(view): "patient"}), ["site", owner(view)])
