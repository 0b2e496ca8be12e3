"""Tables of `periop check`, and the requests that a sync would send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analytics.report import wording
from connectors.check.findings import FindingLevel
from schedules.cli.tables.base import CROSS, NEITHER, TICK, new_table, text_cells

if TYPE_CHECKING:
    from connectors.check.findings import Diagnosis, Finding
    from connectors.sources.base import PlannedRequest

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
