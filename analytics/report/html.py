"""Render a release as one self-contained HTML report: it opens offline, has no script and prints to A4.

The page is a template; this module turns a `Released` into the texts in it. The same release gives the same
bytes: no clock, no random ids.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analytics.disclosure.control import REASON, Released
from analytics.estimates.model import Proportion, Survival
from analytics.provenance import day
from analytics.report import definitions, tables, wording
from analytics.report.comparison import compare
from analytics.report.figures import adverse_events, coarsened, drawable, kaplan_meier, require_released
from analytics.report.flowchart import count, flowchart
from analytics.report.grades import grade_table
from analytics.report.tables import Missing
from mappers.study import Study

TEMPLATES = Path(__file__).parent / "templates"
# The endpoints that a reader of a perioperative trial looks for first; a study may declare only some.
HEADLINES = {
    "response.mpr": "Major pathological response",
    "response.pcr": "Pathological complete response",
    "response.orr": "Objective response",
    "surgery.r0": "R0 resection",
}
HEADLINE_CURVE = "survival.efs"
UNCONTROLLED = "Counts of single patients can appear: treat this report as patient data."
ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    # A misspelt name would otherwise print nothing where a number should be.
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    # Control characters of a hospital's texts never reach the page; figures are Markup and clean already.
    finalize=lambda value: wording.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
)


@dataclass(frozen=True)
class Headline:
    """One key result: a large `value` with lines of `detail`; `words` where it is not a number."""

    label: str
    value: str
    detail: tuple[str, ...]
    words: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class CurveSection:
    """One Kaplan-Meier estimate: figure (None where no step is released), summary and data."""

    estimate: Survival
    figure: Markup | None
    missing: Missing | None
    size: str
    median: str
    landmarks: tuple[tables.TimeRow, ...]
    steps: tuple[tuple[str, ...], ...]
    more_steps: int
    level: str


def render_html(
    released: Released,
    study: Study,
    release: int,
    published: pd.DataFrame | None = None,
    published_other: pd.DataFrame | None = None,
    *,
    statement: str | None = None,
    notice: str | None = None,
) -> str:
    """Return the report of release number `release` as one HTML document.

    `notice` stands at each section and on each printed page.

    `published` and `published_other` are frames of the published figures (`analytics.report.comparison`).
    `statement` is what the caller knows of the data, e.g. that the patients are invented; without disclosure
    control it stands in place of the warning that single patients are shown. Raises `TypeError` for anything
    but a `Released`.
    """
    # At run time too: a caller without type checking must not print uncontrolled results.
    require_released(released)
    context = _page(released, study, release, statement) | _results(released)
    context["notice"] = notice
    context["comparison"] = compare(released, study, published, published_other)
    # Notes with an id stand beside their figure in the comparison.
    context["general_notes"] = tuple(note.text for note in study.notes if note.id is None)
    return ENVIRONMENT.get_template("report.html").render(context)


def _page(released: Released, study: Study, release: int, statement: str | None) -> dict[str, Any]:
    """Return the head of the page and its definitions."""
    return {
        "released": released,
        "study": study,
        "release": release,
        "data_cutoff": day(released.data_cutoff),
        "other_cutoffs": tuple((c.id.replace("_", " "), day(c.date.isoformat())) for c in study.cuts),
        "statements": statements(released, statement),
        "suppressed": suppressed(released),
        "said_above": REASON,
        "populations": definitions.populations(released, study),
        "endpoints": definitions.endpoints(study),
        "methods": definitions.methods(released),
    }


def _results(released: Released) -> dict[str, Any]:
    """Return the estimates, section by section."""
    grades = grade_table(released.proportions)
    sections = {
        name: tables.section_rows(name, released.proportions, released.quantiles)
        for name in ("baseline", "response", "survival", "safety", "other")
    }
    return {
        "headlines": headlines(released),
        "flow": flowchart(released.flow),
        "flow_rows": tuple((step, count(step)) for step in released.flow),
        "sections": sections,
        "curves": tuple(_curve_section(released, curve, i) for i, curve in enumerate(released.survival)),
        "coarsened": coarsened(released),
        "adverse_events": adverse_events(released, "ae"),
        "grade_phases": grades.phases,
        "grades": grades.headings,
        "grade_rows": tables.grade_rows(grades),
        "quality": tuple((q, wording.WORDS[q.status] if q.count is None else str(q.count)) for q in released.quality),
    }


def statements(released: Released, statement: str | None) -> tuple[str, ...]:
    """Return what disclosure control did, then what the caller says of the data."""
    said = (statement,) if statement else ()
    # The caller's statement may replace the warning, but never the sentence on what was suppressed.
    if released.min_cell > 1:
        return (released.statement, *said)
    return said or (released.statement, UNCONTROLLED)


def suppressed(released: Released) -> tuple[tuple[str, int], ...]:
    """Return (reason, number) of the estimates that are suppressed, most frequent first."""
    reasons = Counter(e.reason or "no reason given" for e in released.estimates if e.status == "suppressed")
    return tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def headlines(released: Released) -> tuple[Headline, ...]:
    """Return the key results that the release has, in a fixed order."""
    found = {estimate.id: estimate for estimate in released.proportions}
    tiles = [_proportion_headline(found[key], label) for key, label in HEADLINES.items() if key in found]
    tiles += [_curve_headline(curve) for curve in released.survival if curve.id == HEADLINE_CURVE]
    return tuple(tiles)


def _proportion_headline(estimate: Proportion, label: str) -> Headline:
    row = tables.proportion_row(estimate)
    # A word is set smaller than a number, and its reason stands below it.
    if row.missing:
        return Headline(label, row.missing.word, (estimate.population,), words=True, reason=row.missing.reason)
    limits = (f"{wording.level(estimate.ci)} {wording.percent_interval(estimate.ci)}",) if estimate.ci else ()
    return Headline(label, row.value, (f"{row.counts} {estimate.population}", *limits))


def _curve_headline(curve: Survival) -> Headline:
    label = f"Median {curve.label[:1].lower()}{curve.label[1:]}"
    if gap := tables.missing(curve):
        return Headline(label, gap.word, (curve.population,), words=True, reason=gap.reason)
    value = wording.median(curve) + (" months" if curve.median_status == "ok" else "")
    rows = tables.landmark_rows(curve)
    shares = tuple(f"{row.time}: {row.missing.word if row.missing else row.value}" for row in rows)
    return Headline(label, value, shares, words=True)


def _curve_section(released: Released, curve: Survival, number: int) -> CurveSection:
    missing = tables.missing(curve)
    events = wording.WORDS["suppressed"] if curve.events is None else str(curve.events)
    size = "n suppressed" if curve.n is None else f"n = {curve.n}, events {events}"
    interval = f" ({wording.level(curve.ci)} {wording.median_interval(curve.ci)})" if curve.ci else ""
    unit = " months" if curve.median_status == "ok" else ""
    return CurveSection(
        estimate=curve,
        figure=kaplan_meier(released, curve, f"km{number}"),
        missing=missing,
        size=size,
        median="" if missing else f"{wording.median(curve)}{unit}{interval}",
        landmarks=tables.landmark_rows(curve),
        steps=tables.step_rows(curve) if drawable(curve) else (),
        more_steps=max(0, len(curve.curve) - tables.MAX_STEPS),
        level=wording.level(curve.ci).removesuffix("CI") if curve.ci else "",
    )
