"""Tables about releases: what differs between two, what is withheld, what several sites give together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics.report import wording
from analytics.report.grades import is_worst_grade
from schedules.cli.tables.base import new_table, text_cells
from schedules.cli.tables.results import landmarks, median_text

if TYPE_CHECKING:
    from analytics.pooling.pool import Pooled
    from schedules.release.differences import Difference
    from schedules.release.succession import Move
    from schedules.release.withheld import WithheldCell


def release_differences(found: Sequence[Difference], a: str, b: str) -> Table:
    """Return the numbers that differ between two releases; of a curve only how many do."""
    table = new_table("Figure", "Number", a, b, "Change", right=(a, b, "Change"))
    steps: Counter[str] = Counter()
    for each in found:
        if each.statistic.startswith("curve "):
            steps[each.id] += 1
        else:
            change = "" if each.change is None else f"{each.change:+g}"
            table.add_row(*text_cells(each.label, each.statistic, str(each.a), str(each.b), change))
    for identity, count in steps.items():
        table.add_row(*text_cells(identity, f"{count} numbers of the curve (--json lists them)", "", "", ""))
    return table


def withheld(cells: Sequence[WithheldCell], moves: Sequence[Move], notice: str) -> RenderableType:
    """Return cell by cell what is not released as it is, and what moved by too few since past releases."""
    table = new_table("Figure", "Inside", "Release", "Why", title=notice)
    for cell in cells:
        name = cell.label if cell.section != "quality" else f"{cell.id}: {cell.label}"
        table.add_row(*text_cells(name, cell.internal, cell.effect, cell.why))
    if not moves:
        return table
    moved = new_table("Moved by too few since release", "Figure", "Number", "Then", "Now", title=notice)
    for move in moves:
        moved.add_row(*text_cells(str(move.release), move.id, move.statistic, f"{move.before:g}", f"{move.after:g}"))
    return Group(table, moved)


def pooled_tables(pooled: Pooled) -> RenderableType:
    """Return the pooled proportions, medians and survival, with the notes on the sites."""
    from analytics.pooling.page import heterogeneity_text, pooled_row, quantile_text

    sites = ", ".join(site.name for site in pooled.sites)
    parts: list[RenderableType] = [
        Text(wording.clean(pooled.study.title), style="bold"),
        Text(wording.clean(f"Data cutoff {pooled.study.data_cut} · pooled from {len(pooled.sites)} releases: {sites}")),
    ]
    table = new_table("Endpoint", "Population", "x/n", "%", "Interval", "Between sites", right=("x/n", "%"))
    for p in (each for each in pooled.proportions if not is_worst_grade(each.id)):
        row, between = pooled_row(p), heterogeneity_text(p.heterogeneity) if pooled.by_site else ""
        counted = (row.counts, row.value, row.interval, between)
        shown = (row.missing.word, "", row.missing.reason or "", "") if row.missing else counted
        table.add_row(*text_cells(row.label, row.population, *shown))
    medians = new_table("Median", "n", "Pooled", right=("n",))
    for quantity in pooled.quantiles:
        medians.add_row(*text_cells(*quantile_text(quantity)))
    curves = [each.estimate for each in pooled.survival]
    for curve in curves:
        medians.add_row(*text_cells(curve.label, "" if curve.n is None else str(curve.n), median_text(curve)))
    parts += [table, medians, landmarks(curves)]
    without = [f"{s.estimate.label}: without {', '.join(s.suppressed_at)}" for s in pooled.survival if s.suppressed_at]
    parts += [Text(wording.clean(note)) for note in (*without, *pooled.notes)]
    return Group(*parts)
