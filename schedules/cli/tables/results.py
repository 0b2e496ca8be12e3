"""Tables of results: proportions, medians and landmarks, beside published figures where there are some.

Figures are worded, and so rounded, by `analytics.report.wording`, as in the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics.estimates.model import MedianStatus, Proportion, Quantiles, Survival
from analytics.report import wording
from analytics.report.grades import is_worst_grade
from analytics.report.tables import Missing, landmark_rows
from schedules.cli.tables.base import CROSS, NEITHER, TICK, new_table, text_cells

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from mappers.study import Study
    from schedules.release.published import Agreement

GRADES_ELSEWHERE = (
    "Adverse events by term and worst grade are not shown here: a release has them in report.html and results.json."
)


def results(released: Released, study: Study, agreed: Sequence[Agreement]) -> RenderableType:
    """Return the proportions, medians and survival that the study declares, each next to its published figure."""
    # Hundreds of rows that no terminal can show; the report has them as a grid.
    declared = [estimate for estimate in released.proportions if not is_worst_grade(estimate.id)]
    medians: tuple[Quantiles | Survival, ...] = (*released.quantiles, *released.survival)
    published = {row.id: row for row in agreed}
    sites = ", ".join(released.sites) or "none"
    parts: list[RenderableType] = [
        Text(wording.clean(study.title), style="bold"),
        Text(wording.clean(f"Data cutoff {released.data_cutoff} · sites: {sites}")),
    ]
    if released.refusal:
        parts.append(Text(f"Not for release: {released.refusal}.", style="red"))
    if released.sites_missing:
        parts.append(Text(wording.clean(f"Partial: {released.provenance.note}"), style="yellow"))
    parts += [_proportions(declared, published), _medians(medians, published)]
    if released.survival:
        parts.append(landmarks(released.survival))
    facts = [("Study rules", released.study_hash[:12]), *released.provenance.facts()]
    parts.append(Text(wording.clean(" · ".join(f"{name} {text}" for name, text in facts)), style="dim"))
    if any("suppressed" in _statuses(estimate) for estimate in (*declared, *medians)):
        parts.append(Text(released.statement))
    if len(declared) < len(released.proportions):
        parts.append(Text(GRADES_ELSEWHERE))
    return Group(*parts)


def comparison(agreed: Sequence[Agreement], title: str) -> RenderableType:
    """Return the published figures next to ours, ticked where they are equal."""
    table = new_table("Endpoint", "Published", "Here", "", title=title)
    for row in agreed:
        table.add_row(*text_cells(row.label, row.published, row.here), _equal_mark(row))
    return table


def _proportions(estimates: Iterable[Proportion], published: dict[str, Agreement]) -> Table:
    names = ("Endpoint", "Population", "x/n", "%", "Interval")
    table = new_table(*names, *_published_columns(published), right=("x/n", "%"))
    for estimate in estimates:
        named = text_cells(estimate.label, estimate.population, *_counted(estimate))
        table.add_row(*named, *_published(estimate.id, published))
    return table


def _counted(estimate: Proportion) -> tuple[str, str, str]:
    if estimate.status != "ok":
        # The reason of a suppressed figure is printed once, below the tables: it is the same for all.
        return wording.WORDS[estimate.status], "", "" if estimate.status == "suppressed" else estimate.reason or ""
    x, n = wording.counts(estimate)
    return f"{x}/{n}", wording.share(x, n), wording.interval_and_test(estimate)


def _medians(estimates: Iterable[Quantiles | Survival], published: dict[str, Agreement]) -> Table:
    table = new_table("Median", "n", "Here", *_published_columns(published), right=("n",))
    for estimate in estimates:
        n = "" if estimate.n is None else str(estimate.n)
        table.add_row(*text_cells(estimate.label, n, median_text(estimate)), *_published(estimate.id, published))
    return table


def median_text(estimate: Quantiles | Survival) -> str:
    """Return a median with quartiles or interval, or the word that stands in its place."""
    odd = next((status for status in _statuses(estimate) if status != "ok"), None)
    if isinstance(estimate, Quantiles):
        return wording.quartiles(estimate) if odd is None else wording.WORDS[odd]
    median = f"{wording.median(estimate)} months" if odd is None else wording.WORDS[odd]
    # Of a median that is not reached the lower limit is known where the band falls to one half.
    if estimate.ci is None or (odd is not None and estimate.ci.low is None):
        return median
    return f"{median} ({wording.level(estimate.ci)} {wording.median_interval(estimate.ci)})"


def _reason(missing: Missing) -> str:
    # That of a suppressed figure is printed once, below the tables.
    return "" if missing.word == wording.WORDS["suppressed"] else missing.reason or ""


def landmarks(estimates: Iterable[Survival]) -> Table:
    """Return survival at the landmarks of the study, in percent with its interval."""
    table = new_table("Survival", "At", "At risk", "%", "Interval", right=("At risk", "%"))
    for estimate in estimates:
        for row in landmark_rows(estimate):
            shown = (row.value, row.interval) if row.missing is None else (row.missing.word, _reason(row.missing))
            table.add_row(*text_cells(estimate.label, row.time, row.at_risk, *shown))
    return table


def _statuses(estimate: Proportion | Quantiles | Survival) -> tuple[MedianStatus, ...]:
    """Return the status of an estimate, and of its median where it has one."""
    return (estimate.status,) if isinstance(estimate, Proportion) else (estimate.status, estimate.median_status)


def _published_columns(published: dict[str, Agreement]) -> tuple[str, ...]:
    return ("Published", "") if published else ()


def _published(estimate: str, published: dict[str, Agreement]) -> tuple[Text, ...]:
    if not published:
        return ()
    row = published.get(estimate)
    return (Text(""), Text("")) if row is None else (*text_cells(row.published), _equal_mark(row))


def _equal_mark(row: Agreement) -> Text:
    if row.here == wording.WORDS["suppressed"]:  # not comparable, and a cross would tell that it differs
        return Text(NEITHER)
    return Text(TICK, style="green") if row.equal else Text(CROSS, style="bold red")
