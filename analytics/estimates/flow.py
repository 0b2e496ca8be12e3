"""Count the patients on their way through the trial, as boxes of a CONSORT-like flow diagram.

screened -> enrolled -> resected -> adjuvant -> completed; from each box hang those who left there, by reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analytics.estimates.cohort_tables import Cohort
from analytics.estimates.model import FlowStep
from analytics.estimates.safety import distinct, slug

NO_REASON = "No reason recorded"
# Codelist terms are capitals; these words stay so in a sentence.
ACRONYMS = frozenset({"ALK", "ECOG", "NSCLC"})


@dataclass(frozen=True)
class Box:
    """A step of the flow together with the patients in it."""

    step: FlowStep
    patients: frozenset[str]


def patient_flow(cohort: Cohort) -> tuple[Box, ...]:
    """Return the boxes in reading order: a trunk box, then those who left it."""
    screened = frozenset(cohort.column("adsl", "USUBJID"))
    enrolled, resected = cohort.population("enrolled"), cohort.population("resected")
    # The diagram is a trunk: adjuvant treatment without a resection is no branch of it.
    adjuvant = cohort.population("adjuvant") & resected
    completed = frozenset[str]()
    # A study without an adjuvant course need not have this column.
    if "ADJCMPFL" in cohort.adsl:
        completed = frozenset(cohort.adsl.loc[cohort.adsl["ADJCMPFL"] == "Y", "USUBJID"]) & adjuvant
    return (
        _box("flow.screened", "Screened", "main", None, screened),
        *_leaving(cohort, "flow.screened", "SCRFRS", screened - enrolled),
        _box("flow.enrolled", "Enrolled", "main", "flow.screened", enrolled),
        *_leaving(cohort, "flow.enrolled", "NOSURGRS", enrolled - resected, "Not resected"),
        _box("flow.resected", "Resected", "main", "flow.enrolled", resected),
        *_others("flow.resected", "no_adjuvant", "No adjuvant treatment", resected - adjuvant),
        _box("flow.adjuvant", "Began adjuvant treatment", "main", "flow.resected", adjuvant),
        *_others("flow.adjuvant", "not_completed", "Adjuvant course ongoing or stopped", adjuvant - completed),
        _box("flow.completed", "Completed the adjuvant course", "main", "flow.adjuvant", completed),
    )


def _leaving(
    cohort: Cohort, parent: str, column: str, patients: frozenset[str], prefix: str | None = None
) -> Iterator[Box]:
    """Yield those who left at `parent`, one box per reason in ADSL `column`."""
    rows = cohort.adsl[cohort.adsl["USUBJID"].isin(patients)]
    reasons = rows[column] if column in rows.columns else pd.Series(None, index=rows.index, dtype=object)
    groups = rows.groupby(reasons.fillna(NO_REASON).astype(str))["USUBJID"].agg(frozenset)
    taken: set[str] = set()
    # By name: an order by size would tell of counts that are suppressed.
    for reason, members in sorted(groups.items(), key=lambda item: str(item[0])):
        # A hospital's own reason may be a paragraph; a box of the diagram holds a line or two.
        text = " ".join(str(reason).split())[:80]
        name = distinct(slug(text), taken)
        words = _words(text)
        label = words[:1].upper() + words[1:] if prefix is None else f"{prefix}: {words}"
        yield _box(f"{parent}.{name}", label, "excluded", parent, members)


def _words(codelist_term: str) -> str:
    """Return a codelist term in capitals as words of a sentence; text that is not all capitals stays as it is."""
    if not codelist_term.isupper():
        return codelist_term
    return " ".join(word if word in ACRONYMS else word.lower() for word in codelist_term.split())


def _others(parent: str, name: str, label: str, patients: frozenset[str]) -> Iterator[Box]:
    if patients:
        yield _box(f"{parent}.{name}", label, "excluded", parent, patients)


def _box(
    step_id: str, label: str, kind: Literal["main", "excluded"], parent: str | None, patients: frozenset[str]
) -> Box:
    return Box(FlowStep(step_id, label, kind, parent, len(patients)), patients)
