"""Tables of `periop status`, and of what a sync received of each site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from analytics.report import wording
from schedules.cli.tables.base import clock, message_lines, new_table, text_cells

if TYPE_CHECKING:
    from connectors.report import SyncReport


def site_reports(reports: Sequence[SyncReport]) -> RenderableType:
    """Return a table of what the sync of each site received."""
    return Group(*_sites([report.as_json() for report in reports]))


def status_tables(found: dict[str, Any]) -> RenderableType:
    """Return the status that `schedules.run.status` read, as text and tables."""
    parts = [*_summary(found), *_sites_read(found["sites"]), *_runs(found["runs"])]
    if found["quality"]:
        table = new_table("Site", "Domain", "Missing, unmapped or quarantined", "n", right=("n",))
        for row in found["quality"]:
            table.add_row(*text_cells(row["site"], row["domain"], row["issue"], str(row["count"])))
        parts.append(table)
    return Group(*parts)


def _summary(found: dict[str, Any]) -> Iterable[RenderableType]:
    release = found["release"]
    yield Text(f"Release {release['number']}: {release['path']}" if release else "No release yet.")
    if found["release_waits"]:
        yield Text(wording.clean(found["release_waits"]))
    if found["running_pid"] is not None:
        yield Text(f"A run is in progress (process {found['running_pid']}).")
    last = found["last_good_run"]
    yield Text(f"Last good run: {clock(last)}" if last else "No good run yet: start one with `periop run`.")
    if last and found["stale"]:
        yield Text(f"STALE: {'; '.join(_reasons_of_staleness(found))}.", style="bold red")
    if found["sites_missing"]:
        named = ", ".join(f"{site['site']} (last success: {clock(site['last_success'])})" for site in _missing(found))
        yield Text(wording.clean(f"Not up to date: {named}."), style="yellow")
    if found["runs_from_the_future"]:
        count = found["runs_from_the_future"]
        yield Text(f"The clock was wrong once: {count} runs of the future are not counted.", style="yellow")
    yield Text(f"Next run due: {clock(found['next_due'])}  (while `periop serve` is running)")
    rows = " · ".join(f"{kind} {count}" for kind, count in found["lake"].items())
    yield Text(f"Lake rows: {rows or 'none'}")


def _missing(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [site for site in found["sites"] if site["site"] in found["sites_missing"]]


def _reasons_of_staleness(found: Mapping[str, Any]) -> Iterator[str]:
    old = [site["site"] for site in found["sites"] if site["stale"]]
    if old:
        yield f"no sync of {wording.clean(', '.join(old))} for too long (schedule.site_days)"
    if not old or datetime.fromisoformat(found["now"]) > datetime.fromisoformat(found["stale_after"]):
        yield f"a good run was due by {clock(found['stale_after'])}"


def _sites(sites: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Yield the account of the sync of each site, and its messages below: in a cell they would be a narrow column."""
    numbers = ("received", "stored", "identical", "superseded", "quarantined")
    counts = tuple(name.capitalize() for name in numbers)
    table = new_table("Site", "Status", *counts, right=counts)
    for site in sites:
        counted = (str(site["counts"].get(name, "")) for name in numbers)
        table.add_row(*text_cells(site["site"], site["status"] or "", *counted))
    yield table
    yield from message_lines((site["site"], _site_messages(site)) for site in sites)


def _sites_read(sites: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Yield when each site was read last, and what came. All columns fit into 80 characters; --json has the others."""
    right = ("Received", "Stored", "Quarantined")
    table = new_table("Site", "Last success", "Status", *right, right=right)
    for site in sites:
        counted = (str(site["counts"].get(name.lower(), "")) for name in right)
        table.add_row(*text_cells(site["site"], clock(site["last_success"]), site["status"] or "", *counted))
    yield table
    yield from message_lines((site["site"], _site_messages(site)) for site in sites)


def _site_messages(site: Mapping[str, Any]) -> list[str]:
    # `deleted`: reported by the server. `removed`: found by comparing all ids. The reader needs only the sum.
    deleted = sum(site["deleted"].values()) + sum(site["removed"].values())
    return [
        *site["messages"],
        *site["notes"],
        *([f"{deleted} deleted on the server"] if deleted else []),
        *(f"{count} × {reason}" for reason, count in site["reasons"].items()),
    ]


def _runs(runs: Sequence[dict[str, Any]]) -> Iterator[RenderableType]:
    table = new_table("Run", "Started", "Ended", "Status", "Release")
    for run in runs:
        release = "" if run["release"] is None else str(run["release"])
        ended = clock(run["finished"]) if run["finished"] else ""
        table.add_row(*text_cells(run["kind"], clock(run["started"]), ended, run["status"], release))
    yield table
    yield from message_lines((clock(run["started"]), [run["error"]]) for run in runs if run["error"])
