"""Text and tables of `periop explain`, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from analytics.report import wording
from schedules.cli.tables.base import new_table, text_cells

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mappers.explain.explanation import Explanation, Use
    from mappers.explain.patient import PatientExplanation

SHOWN = 20  # of the resources that were considered and not used; --json has all


def explanation_text(found: PatientExplanation, *, whole: bool) -> Iterator[RenderableType]:
    """Yield the explanation of a patient: enrolment and all values (`whole`), or one variable in full."""
    yield f"{found.person.usubjid} at {found.cutoff.isoformat()}: {_enrolled(found)}"
    if len(found.records) > 1:
        yield f"merged from {len(found.records)} records: {', '.join(f'Patient/{each}' for each in found.records)}"
    if found.stale:
        yield "The lake or the rules are newer than the cohort tables: run `periop map`, then explain again."
    if whole and found.criteria:
        yield from _overview(found)
    else:
        for explanation in found.explanations:
            yield from _one(explanation)
    if found.told:
        table = new_table("Domain", "In the quality list of this patient", "n", right=("n",))
        for domain, issue, count in found.told:
            table.add_row(*text_cells(domain, issue, str(count)))
        yield table


def _enrolled(found: PatientExplanation) -> str:
    return "enrolled" if found.enrolled else f"not enrolled: {found.reason}"


def _overview(found: PatientExplanation) -> Iterator[RenderableType]:
    table = new_table("Criterion", "Variable", "Value", "")
    words = {True: "met", False: "failed", None: "not looked at"}
    for each in found.criteria:
        table.add_row(*text_cells(each.criterion, each.variable, _text(each.value), words[each.met]))
    yield table
    names = ("Variable", "Row", "Value", "Used", "Not used")
    table = new_table(*names, right=names[3:])
    for one in found.explanations:
        numbers = (str(len(one.used) or ""), str(len(one.considered) or ""))
        table.add_row(*text_cells(f"{one.table}.{one.variable}", one.row or "", _text(one.value), *numbers))
    yield table


def _one(one: Explanation) -> Iterator[RenderableType]:
    row = f" of {one.row}" if one.row else ""
    yield "\n" + wording.clean(f"{one.table}.{one.variable}{row} = {_text(one.value)}")
    numbers = ", ".join(map(str, one.numbers))
    yield f"  rule: {one.rule}" + (f" (docs/endpoint-rules.md {numbers})" if numbers else "")
    for name, value in one.parameters.items():
        yield f"  setting of the study: {name} = {_text(value)}"
    for name, value in one.inputs.items():
        yield wording.clean(f"  derived from: {name} = {_text(value)}")
    for assumption in one.assumptions:
        yield wording.clean(f"  assumed: {assumption}")
    if one.used:
        yield _uses("Used", one.used)
    if one.considered:
        yield _uses("Considered and not used", one.considered[:SHOWN])
    if len(one.considered) > SHOWN:
        yield f"  and {len(one.considered) - SHOWN} more, which --json shows"


def _uses(title: str, uses: tuple[Use, ...]) -> RenderableType:
    table = new_table("Resource", "Version", "Elements", "Date", "Why not" if uses[0].reason else "", title=title)
    table.columns[0].overflow = "fold"  # an id must be there in full, to be looked up
    for use in uses:
        elements = ", ".join(each.partition(".")[2] for each in use.elements)
        table.add_row(
            *text_cells(f"{use.type}/{use.id}", use.version or "", elements, use.date or "", use.reason or "")
        )
    return table


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "blank" if value is None else str(value)
