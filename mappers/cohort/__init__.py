"""The cohort tables: ADSL, ADRS, ADTTE, ADAE (CDISC ADaM names) and the data-quality list, one module each."""

from __future__ import annotations

from dataclasses import dataclass

import ibis.expr.types as ir

from mappers.cohort import adae, adrs, adsl, adtte, facts, quality
from mappers.cohort.facts import Sources

__all__ = ["CohortTables", "Sources", "build"]


@dataclass(frozen=True)
class CohortTables:
    """The tables of one data cut as Ibis expressions, pseudonymised, in their published column order."""

    adsl: ir.Table
    adrs: ir.Table
    adtte: ir.Table
    adae: ir.Table
    quality: ir.Table


def build(sources: Sources) -> CohortTables:
    """All cohort tables of `sources` at its data cut. Pure: reads nothing, and runs only what `sources.keep` runs."""
    keep = sources.keep
    observations = keep("observations", facts.observations(sources))
    subjects = keep("subjects", adsl.subjects(sources, observations))
    pathology = keep("pathology", adrs.pathology(sources, observations, subjects))
    assessed = keep("tumour_assessments", adtte.tumour_assessments(sources, observations))
    responses = keep("adrs", adrs.adrs(sources, observations, subjects, pathology))
    return CohortTables(
        adsl=adsl.published(subjects),
        adrs=responses,
        adtte=adtte.adtte(sources, subjects, responses, assessed),
        adae=adae.adae(sources, subjects),
        quality=quality.quality(sources, observations, subjects, pathology, assessed),
    )
