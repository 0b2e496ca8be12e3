"""Everything that commands print for people: results, sites, status, checks, planned requests, rows of a view.

Figures are worded, and so rounded, by `analytics.report.wording`, as in the report. All text from outside goes through
`wording.clean`, so that a server cannot send control characters to the terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analytics.estimates.model import MedianStatus, Proportion, Quantiles, Survival
from analytics.report import wording
from analytics.report.grades import is_worst_grade
from analytics.report.tables import Missing, landmark_rows
from connectors.check.findings import FindingLevel

if TYPE_CHECKING:
    import pyarrow as pa

    from analytics.disclosure.control import Released
    from analytics.pooling.pool import Pooled
    from connectors.check.findings import Diagnosis, Finding
    from connectors.report import SyncReport
    from connectors.sources.base import PlannedRequest
    from mappers.codes.report import Share, UnknownCode
    from mappers.study import Study
    from schedules.release.differences import Difference
    from schedules.release.published import Agreement
    from schedules.release.succession import Move
    from schedules.release.withheld import WithheldCell

WIDTH = 140  # of a pipe or a file, which has none of its own
TABLE_ROWS = 1_000  # of a view: rich lays out a whole table at once, and no one reads more
TICK, CROSS, NEITHER = "✓", "✗", "–"
LEVEL_MARKS = {
    FindingLevel.OK: (TICK, "green"),
    FindingLevel.NOTE: (NEITHER, "yellow"),
    FindingLevel.MISSING: (CROSS, "bold red"),
    FindingLevel.REFUSED: (CROSS, "bold red"),
}
# Checks of single resource types, shown as columns of one grid.
GRID_COLUMNS = {
    "scopes": "Scope",
    "read": "Read",
    "patient": "By patient",
    "changes": "_lastUpdated",
    "history": "_history",
}
GRADES_ELSEWHERE = (
    "Adverse events by term and worst grade are not shown here: a release has them in report.html and results.json."
)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for the session to handle; rich would end the process


def print_table(table: RenderableType, stream: TextIO) -> None:
    """Print `table` on `stream`. No text in it is taken for the markup of rich."""
    width = None if stream.isatty() else WIDTH
    _Console(file=stream, width=width, markup=False, highlight=False, emoji=False).print(table)


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
        parts.append(_landmarks(released.survival))
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
        table.add_row(*text_cells(estimate.label, n, _median(estimate)), *_published(estimate.id, published))
    return table


def _median(estimate: Quantiles | Survival) -> str:
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


def _landmarks(estimates: Iterable[Survival]) -> Table:
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


def clock(instant: str | None) -> str:
    """Return an instant of a status as all times for people are written: in UTC, as in the log."""
    return f"{datetime.fromisoformat(instant).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if instant else "never"


def _sites(sites: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Yield the account of the sync of each site, and its messages below: in a cell they would be a narrow column."""
    numbers = ("received", "stored", "identical", "superseded", "quarantined")
    counts = tuple(name.capitalize() for name in numbers)
    table = new_table("Site", "Status", *counts, right=counts)
    for site in sites:
        counted = (str(site["counts"].get(name, "")) for name in numbers)
        table.add_row(*text_cells(site["site"], site["status"] or "", *counted))
    yield table
    yield from _messages((site["site"], _site_messages(site)) for site in sites)


def _sites_read(sites: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Yield when each site was read last, and what came. All columns fit into 80 characters; --json has the others."""
    right = ("Received", "Stored", "Quarantined")
    table = new_table("Site", "Last success", "Status", *right, right=right)
    for site in sites:
        counted = (str(site["counts"].get(name.lower(), "")) for name in right)
        table.add_row(*text_cells(site["site"], clock(site["last_success"]), site["status"] or "", *counted))
    yield table
    yield from _messages((site["site"], _site_messages(site)) for site in sites)


def _site_messages(site: Mapping[str, Any]) -> list[str]:
    # `deleted`: reported by the server. `removed`: found by comparing all ids. The reader needs only the sum.
    deleted = sum(site["deleted"].values()) + sum(site["removed"].values())
    return [
        *site["messages"],
        *site["notes"],
        *([f"{deleted} deleted on the server"] if deleted else []),
        *(f"{count} × {reason}" for reason, count in site["reasons"].items()),
    ]


def _messages(said: Iterable[tuple[str, Sequence[str]]]) -> Iterator[RenderableType]:
    """Yield a line for each message, indented where it goes on."""
    for name, messages in said:
        for message in messages:
            yield Padding(Text(wording.clean(f"{name}: {message}")), (0, 0, 0, 2))


def _runs(runs: Sequence[dict[str, Any]]) -> Iterator[RenderableType]:
    table = new_table("Run", "Started", "Ended", "Status", "Release")
    for run in runs:
        release = "" if run["release"] is None else str(run["release"])
        ended = clock(run["finished"]) if run["finished"] else ""
        table.add_row(*text_cells(run["kind"], clock(run["started"]), ended, run["status"], release))
    yield table
    yield from _messages((clock(run["started"]), [run["error"]]) for run in runs if run["error"])


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
        medians.add_row(*text_cells(curve.label, "" if curve.n is None else str(curve.n), _median(curve)))
    parts += [table, medians, _landmarks(curves)]
    without = [f"{s.estimate.label}: without {', '.join(s.suppressed_at)}" for s in pooled.survival if s.suppressed_at]
    parts += [Text(wording.clean(note)) for note in (*without, *pooled.notes)]
    return Group(*parts)


def new_table(*names: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """Return an empty table with these columns; those in `right` are aligned to the right."""
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for name in names:
        # fold: at 80 columns a day goes on in the next line; by default it would be cut off with an ellipsis.
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def text_cells(*texts: str) -> tuple[Text, ...]:
    return tuple(Text(wording.clean(text)) for text in texts)


def _equal_mark(row: Agreement) -> Text:
    if row.here == wording.WORDS["suppressed"]:  # not comparable, and a cross would tell that it differs
        return Text(NEITHER)
    return Text(TICK, style="green") if row.equal else Text(CROSS, style="bold red")


def diagnoses(found: Sequence[Diagnosis]) -> RenderableType:
    """Return the findings of `periop check` for all sites: a line each, a grid of the resource types, and what to
    request from the administrator."""
    return Group(*(part for each in found for part in _diagnosis(each)))


def _diagnosis(found: Diagnosis) -> Iterator[RenderableType]:
    yield Text(wording.clean(f"{found.site} · {found.kind} · {found.server}"), style="bold")
    yield _findings(each for each in found.findings if not _in_grid(each))
    if any(_in_grid(each) for each in found.findings):
        yield _grid([each for each in found.findings if _in_grid(each)])
        # The grid shows only marks, so what is not in order follows as a line.
        yield _findings(each for each in found.findings if _in_grid(each) and each.level is not FindingLevel.OK)
    if found.path is None:
        yield Text("\nNo sync is possible yet.", style="bold red")
    else:
        path = found.path
        yield Text(f"\nThe sync: {path.transfer} · {path.nightly} each night · deletions {path.deletions}")
        yield from (Padding(Text(wording.clean(sentence)), (0, 0, 0, 2)) for sentence in path.why)
    if found.requests:
        yield Text("\nTo send to the administrator of the server:")
    for number, sentence in enumerate(found.requests, 1):
        yield Padding(Text(wording.clean(f"{number}. {sentence}")), (0, 0, 0, 2))
    yield Text("")


def target_list(targets: Mapping[str, str | None]) -> RenderableType:
    """Return the targets of releases as a list, each with what speaks against it."""
    table = Table.grid(padding=(0, 1))
    for path, problem in targets.items():
        mark, style = LEVEL_MARKS[FindingLevel.OK if problem is None else FindingLevel.MISSING]
        table.add_row(
            Text(" "), Text(mark, style=style), *text_cells(problem or f"{path}: releases can be copied there")
        )
    return Group(Text("Targets of releases:"), table)


def _in_grid(finding: Finding) -> bool:
    return bool(finding.resource_type) and finding.check in GRID_COLUMNS


def _findings(findings: Iterable[Finding]) -> Table:
    table = Table.grid(padding=(0, 1))
    for finding in findings:
        name = f"{finding.resource_type} {finding.check}" if _in_grid(finding) else finding.check
        table.add_row(Text(" "), _level_mark(finding), Text(wording.clean(name)), Text(wording.clean(finding.message)))
    return table


def _grid(findings: Sequence[Finding]) -> Table:
    # A column only for a check that was made: an empty one would look like a failure.
    checks = [check for check in GRID_COLUMNS if any(finding.check == check for finding in findings)]
    marks = {(finding.resource_type, finding.check): _level_mark(finding) for finding in findings}
    table = new_table("Type")
    for check in checks:
        table.add_column(GRID_COLUMNS[check], justify="center")
    for kind in dict.fromkeys(finding.resource_type for finding in findings):
        # A check that does not apply to a type has no finding: an empty cell.
        table.add_row(Text(kind), *(marks.get((kind, check), Text("")) for check in checks))
    return table


def _level_mark(finding: Finding) -> Text:
    mark, style = LEVEL_MARKS[finding.level]
    return Text(mark, style=style)


def planned_requests(site: str, requests: Sequence[PlannedRequest], error: str | None) -> str:
    """Return the requests of a dry run as text and not as a table, in which a long URL would be folded."""
    count = len(requests)
    lines = [f"{site}: {count} request{'' if count == 1 else 's'}, and the next pages of their responses"]
    for request in requests:
        expected = "" if request.expected is None else f" · {request.expected} expected"
        lines += [f"  {request.what}{expected}", f"    {request.method} {request.url_shown}"]
    if error is not None:
        lines.append(f"  {error}")
    return "".join(f"{wording.clean(line)}\n" for line in lines)


def rows_table(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Table:
    """Return the first `TABLE_ROWS` rows of a view as a table; a null is an empty cell."""
    import pyarrow as pa

    from schedules.cli.view_formats import cell_text, values_of

    table = new_table()
    for field in schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_decimal(field.type)
        # fold: a long value continues on the next line; by default rich would cut it off with an ellipsis.
        table.add_column(field.name, justify="right" if numeric else "left", overflow="fold")
    for row in islice(chain.from_iterable(map(values_of, batches)), TABLE_ROWS):
        table.add_row(*text_cells(*map(cell_text, row)))
    return table


def code_tables(unknown: Sequence[UnknownCode], shares: Sequence[Share], rows: int | None) -> RenderableType:
    """Return the codes that are not understood: those that probably matter, then the others, `rows` of each at most."""
    likely = [code for code in unknown if code.likely]
    others = [code for code in unknown if not code.likely]
    parts = [_codes(likely, "Not understood: answers to known questions, and what resembles a shipped concept", rows)]
    parts += [_codes(others, "Not understood: all others", rows), share_table(shares)]
    return Group(*(part for part in parts if part.row_count))


def _codes(unknown: Sequence[UnknownCode], title: str, rows: int | None) -> Table:
    names = ("Site", "Element", "Code", "Display or text", "Resources", "Patients", "Screened", "Resembles")
    if rows is not None and len(unknown) > rows:
        title = f"{title} (the first {rows} of {len(unknown)}; --all shows all)"
    table = new_table(*names, right=names[4:7], title=title)
    table.columns[2].overflow = "fold"  # a code system must be there in full, to be copied
    for code in unknown[:rows]:
        written = f"{code.system or ''} {code.code}" if code.code is not None else ""
        numbers = map(str, (code.resources, code.patients, code.screened))
        table.add_row(*text_cells(code.site, code.element, written, code.text or "", *numbers, _resembling(code)))
    return table


def _resembling(code: UnknownCode) -> str:
    if code.resembles is None:
        return f"answers {code.question}" if code.question else ""
    concept = code.resembles.concept
    return f"{concept.name}: {concept.display or concept.code}" + (f" = {concept.target}" if concept.target else "")


def share_table(shares: Sequence[Share]) -> Table:
    """Return how many resources have each element, and in how many it is understood."""
    table = new_table("Site", "Element", "Resources", "Understood", "%", right=("Resources", "Understood", "%"))
    for share in shares:
        percent = f"{100 * share.understood / share.resources:.0f}"
        table.add_row(*text_cells(share.site, share.element, str(share.resources), str(share.understood), percent))
    return table
