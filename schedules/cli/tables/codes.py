"""Tables of codes in no value set, and of how much of each type is understood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

from schedules.cli.tables.base import new_table, text_cells

if TYPE_CHECKING:
    from mappers.codes.report import Share, UnknownCode


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
