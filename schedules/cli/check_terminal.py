"""What a check found, for people: one line each, a grid for the resource types, and what to send to whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analytics.report import wording
from connectors.check.findings import Diagnosis, Finding, Level

MARKS = {
    Level.OK: ("✓", "green"),
    Level.NOTE: ("–", "yellow"),
    Level.MISSING: ("✗", "bold red"),
    Level.REFUSED: ("✗", "bold red"),
}
GRID = {
    "scopes": "Scope",
    "read": "Read",
    "patient": "By patient",
    "changes": "_lastUpdated",
    "history": "_history",
}


def diagnoses(found: Sequence[Diagnosis]) -> RenderableType:
    """All sites, one after the other."""
    return Group(*(part for each in found for part in _site(each)))


def _site(found: Diagnosis) -> Iterator[RenderableType]:
    yield Text(wording.clean(f"{found.site} · {found.kind} · {found.server}"), style="bold")
    yield _lines(each for each in found.findings if not _in_grid(each))
    if any(_in_grid(each) for each in found.findings):
        yield _grid([each for each in found.findings if _in_grid(each)])
        yield _lines(each for each in found.findings if _in_grid(each) and each.level is not Level.OK)
    yield from _path(found)
    yield from _requests(found.requests)
    yield Text("")


def _in_grid(finding: Finding) -> bool:
    return bool(finding.resource_type) and finding.check in GRID


def _lines(findings: Iterable[Finding]) -> Table:
    table = Table.grid(padding=(0, 1))
    for finding in findings:
        name = f"{finding.resource_type} {finding.check}" if _in_grid(finding) else finding.check
        table.add_row(Text(" "), _mark(finding), Text(wording.clean(name)), Text(wording.clean(finding.said)))
    return table


def _grid(findings: Sequence[Finding]) -> Table:
    checks = [check for check in GRID if any(finding.check == check for finding in findings)]
    marks = {(finding.resource_type, finding.check): _mark(finding) for finding in findings}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("Type")
    for check in checks:
        table.add_column(GRID[check], justify="center")
    for kind in dict.fromkeys(finding.resource_type for finding in findings):
        table.add_row(Text(kind), *(marks.get((kind, check), Text("")) for check in checks))
    return table


def _mark(finding: Finding) -> Text:
    mark, style = MARKS[finding.level]
    return Text(mark, style=style)


def _path(found: Diagnosis) -> Iterator[RenderableType]:
    if found.path is None:
        yield Text("\nNo sync is possible yet.", style="bold red")
        return
    words = (found.path.transfer, found.path.nights, found.path.deletions)
    yield Text(f"\nThe sync takes this path: {words[0]} · {words[1]} each night · deletions {words[2]}")
    for sentence in found.path.why:
        yield Padding(Text(wording.clean(sentence)), (0, 0, 0, 2))


def _requests(requests: Sequence[str]) -> Iterator[RenderableType]:
    if requests:
        yield Text("\nTo send to the administrator of the server:")
    for number, sentence in enumerate(requests, 1):
        yield Padding(Text(wording.clean(f"{number}. {sentence}")), (0, 0, 0, 2))
