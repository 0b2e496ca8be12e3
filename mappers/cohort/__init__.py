"""The cohort tables: ADSL, ADRS, ADTTE, ADAE (CDISC ADaM names) and the data-quality list, one module each."""

from __future__ import annotations

from dataclasses import dataclass

import ibis.expr.types as ir

from mappers.cohort import adae, adrs, adsl, adtte, assessments, quality
from mappers.cohort.facts import Sources

__all__ = ["ORDER", "CohortTables", "Sources", "build"]

# the tables with rows of patients, and the columns by which their rows are published in order
ORDER = {
    "adsl": ("USUBJID",),
    "adrs": ("USUBJID", "PARAMCD", "ADT", "SRCREF"),
    "adtte": ("USUBJID", "PARAMCD"),
    "adae": ("USUBJID", "APERIOD", "ASTDT", "AEDECOD", "SRCREF"),
    "quality": ("USUBJID", "DOMAIN", "ISSUE"),
}


@dataclass(frozen=True)
class CohortTables:
    """The tables as Ibis expressions: pseudonymised, columns in their published order, rows in none.

    `quality` counts per patient, `unowned` per site what belongs to no patient; the published list is their sum.
    """

    adsl: ir.Table
    adrs: ir.Table
    adtte: ir.Table
    adae: ir.Table
    quality: ir.Table
    unowned: ir.Table


def build(sources: Sources) -> CohortTables:
    """Return all cohort tables of `sources`. Pure: reads nothing, and runs only what `sources.keep` runs."""
    subjects = sources.once("subjects", lambda: adsl.subjects(sources))
    pathology = sources.once("pathology", lambda: adrs.pathology(sources, subjects))
    assessed = sources.once("tumour_assessments", lambda: assessments.tumour_assessments(sources))
    responses = sources.once("adrs", lambda: adrs.adrs(sources, subjects, pathology))
    times = adtte.times(sources, subjects, responses, assessed)
    return CohortTables(
        adsl=adsl.published(sources, subjects),
        adrs=responses,
        adtte=adtte.adtte(times),
        adae=adae.adae(sources, subjects),
        quality=quality.quality(sources, subjects, pathology, assessed, times),
        unowned=quality.unowned(sources),
    )
