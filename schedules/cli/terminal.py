"""Results, comparison and status as tables on a terminal. Texts come from `analytics.report.wording`: rounded
once there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from analytics.estimates.model import MedianStatus, Proportion, Quantiles, Survival
from analytics.report import wording
from analytics.report.grades import is_worst_grade

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from connectors.report import SyncReport
    from mappers.study import Study
    from schedules.release.published import Agreement

WIDE = 140
TICK, CROSS, NEITHER = "✓", "✗", "–"
GRID = "Adverse events by term and worst grade are not shown here: a release has them in report.html and results.json."


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the caller, instead of ending the process."""
        raise BrokenPipeError


def console(stream: TextIO) -> Console:
    """A console on `stream` that takes no text for markup; a pipe or a file is `WIDE` columns wide."""
    width = None if stream.isatty() else WIDE
    return _Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def results(released: Released, study: Study, agreed: Sequence[Agreement]) -> RenderableType:
    """Proportions, medians and survival that the study declares; beside each the published figure, where
    there is one."""
    declared = [estimate for estimate in released.proportions if not is_worst_grade(estimate.id)]
    medians: tuple[Quantiles | Survival, ...] = (*released.quantiles, *released.survival)
    published = {row.id: row for row in agreed}
    sites = ", ".join(released.sites) or "none"
    parts: list[RenderableType] = [
        Text(wording.clean(study.title), style="bold"),
        Text(wording.clean(f"Data cut {released.data_cutoff} · sites: {sites}")),
    ]
    if released.sites_missing:
        parts.append(Text(f"Partial: without an up-to-date {', '.join(released.sites_missing)}.", style="yellow"))
    parts += [
        _proportions(declared, published),
        _medians(medians, published),
    ]
    if any("suppressed" in _statuses(estimate) for estimate in (*declared, *medians)):
        parts.append(Text(released.statement))
    if len(declared) < len(released.proportions):
        parts.append(Text(GRID))
    return Group(*parts)


def comparison(agreed: Sequence[Agreement], title: str) -> RenderableType:
    """The published figures beside ours, ticked where they are equal."""
    table = _table(("Endpoint", "left"), ("Published", "left"), ("Here", "left"), ("", "left"), title=title)
    for row in agreed:
        table.add_row(*_cells(row.label, row.published, row.here), _mark(row))
    return table


def _proportions(estimates: Iterable[Proportion], published: dict[str, Agreement]) -> Table:
    columns = (
        ("Endpoint", "left"),
        ("Population", "left"),
        ("x/n", "right"),
        ("%", "right"),
        ("Interval", "left"),
    )
    table = _table(*columns, *_published_columns(published))
    for estimate in estimates:
        table.add_row(
            *_cells(estimate.label, estimate.population, *_counted(estimate)),
            *_beside(estimate.id, published),
        )
    return table


def _counted(estimate: Proportion) -> tuple[str, str, str]:
    if estimate.status != "ok":
        return wording.WORDS[estimate.status], "", "" if estimate.status == "suppressed" else estimate.reason or ""
    x, n = wording.counts(estimate)
    ci = estimate.ci
    interval = f"{wording.percent_interval(ci)} ({wording.level(ci)})" if ci is not None else ""
    return f"{x}/{n}", wording.share(x, n), interval


def _medians(estimates: Iterable[Quantiles | Survival], published: dict[str, Agreement]) -> Table:
    table = _table(("Median", "left"), ("n", "right"), ("Here", "left"), *_published_columns(published))
    for estimate in estimates:
        n = "" if estimate.n is None else str(estimate.n)
        table.add_row(*_cells(estimate.label, n, _median(estimate)), *_beside(estimate.id, published))
    return table


def _median(estimate: Quantiles | Survival) -> str:
    for status in _statuses(estimate):
        if status != "ok":
            return wording.WORDS[status]
    if isinstance(estimate, Quantiles):
        return wording.quartiles(estimate)
    return f"{wording.median(estimate)} months"


def _statuses(estimate: Proportion | Quantiles | Survival) -> tuple[MedianStatus, ...]:
    """The status of an estimate, and of its median where it has one."""
    return (estimate.status,) if isinstance(estimate, Proportion) else (estimate.status, estimate.median_status)


def _published_columns(published: dict[str, Agreement]) -> tuple[tuple[str, str], ...]:
    return (("Published", "left"), ("", "left")) if published else ()


def _beside(estimate: str, published: dict[str, Agreement]) -> tuple[Text, ...]:
    if not published:
        return ()
    row = published.get(estimate)
    return (Text(""), Text("")) if row is None else (*_cells(row.published), _mark(row))


def site_reports(reports: Sequence[SyncReport]) -> RenderableType:
    """What a synchronisation of each site found."""
    rows = [
        {
            "site": report.site,
            "status": report.status,
            "counts": dataclasses.asdict(report.counts),
            "reasons": report.reasons,
            "messages": report.messages,
            "notes": report.notes,
            "deleted": report.deleted,
            "removed": report.removed,
        }
        for report in reports
    ]
    return _sites(rows, ())


def status(found: dict[str, Any]) -> RenderableType:
    """What `schedules.run.status` found, for people."""
    return Group(
        *_standing(found),
        _sites(found["sites"], ("kind", "last_sync")),
        _runs(found["runs"]),
        *_quality(found["quality"]),
    )


def _standing(found: dict[str, Any]) -> Iterable[RenderableType]:
    release = found["release"]
    yield Text(f"Release {release['number']}: {release['path']}" if release else "No release yet.")
    if found["running_pid"] is not None:
        yield Text(f"A run is in progress (process {found['running_pid']}).")
    last = found["last_good_run"]
    yield Text(f"Last good run: {last}" if last else "No good run yet: start one with `periop run`.")
    if last and found["stale"]:
        yield Text(f"STALE: it is older than {found['stale_after_hours']} h.", style="bold red")
    yield Text(f"Next night due: {found['next_due']}  (while `periop serve` is up)")
    rows = " · ".join(f"{kind} {count}" for kind, count in found["lake"].items())
    yield Text(f"Lake rows: {rows or 'none'}")


def _sites(sites: Sequence[Mapping[str, Any]], known: Sequence[str]) -> Table:
    """`known`: further keys of each site to show."""
    numbers = ("received", "stored", "identical", "superseded", "quarantined")
    columns = ("Site", *(name.replace("_", " ").capitalize() for name in known), "Status")
    table = _table(
        *((name, "left") for name in columns),
        *((name.capitalize(), "right") for name in numbers),
        ("Said", "left"),
    )
    for site in sites:
        gone = sum(site["deleted"].values()) + sum(site["removed"].values())
        said = [
            *site["messages"],
            *site["notes"],
            *([f"{gone} deleted on the server"] if gone else []),
            *(f"{count} × {reason}" for reason, count in site["reasons"].items()),
        ]
        further = (str(site[name] or "never") for name in known)
        counted = (str(site["counts"].get(name, "")) for name in numbers)
        table.add_row(*_cells(site["site"], *further, site["status"] or "", *counted, "; ".join(said)))
    return table


def _runs(runs: Sequence[dict[str, Any]]) -> Table:
    table = _table(*((name, "left") for name in ("Run", "Started", "Ended", "Status", "Release", "Said")))
    for run in runs:
        release = "" if run["release"] is None else str(run["release"])
        table.add_row(
            *_cells(run["kind"], run["started"], run["finished"] or "", run["status"], release, run["error"] or "")
        )
    return table


def _quality(rows: Sequence[dict[str, Any]]) -> Iterable[RenderableType]:
    if rows:
        table = _table(("Site", "left"), ("What", "left"), ("Missing, unmapped or set aside", "left"), ("n", "right"))
        for row in rows:
            table.add_row(*_cells(row["site"], row["domain"], row["issue"], str(row["count"])))
        yield table


def _table(*columns: tuple[str, Any], title: str | None = None) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify=justify)
    return table


def _cells(*texts: str) -> tuple[Text, ...]:
    return tuple(Text(wording.clean(text)) for text in texts)


def _mark(row: Agreement) -> Text:
    """Whether our figure is the published one; neither where ours is withheld."""
    if row.here == wording.WORDS["suppressed"]:
        return Text(NEITHER)
    return Text(TICK, style="green") if row.equal else Text(CROSS, style="bold red")
