"""docs/derivation.md: how each endpoint is derived, from study, variables, views and value sets.

`make expected` writes it anew; a test holds that it is current.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mappers.cohort.evidence import Evidence
from mappers.cohort.facts import DATE_COLUMNS, RESOURCE_TYPES
from mappers.cohort.variables import OF_PARAMETERS, VARIABLES, Variable
from mappers.explain.explanation import setting
from mappers.study import Study, load_study
from mappers.terminology import SHIPPED
from mappers.view.shipped import load_views

PAGE = Path(__file__).resolve().parents[1] / "docs" / "derivation.md"
STUDY = load_study("alneo")
HEAD = (
    "# How each endpoint is derived\n\n"
    "This page is generated (`make expected`) from the study `alneo`, the table of variables "
    "([variables.py](../mappers/cohort/variables.py)), the views and the value sets. Columns are explained in "
    "[cohort-tables.md](cohort-tables.md), the rules by number in [endpoint-rules.md](endpoint-rules.md), the settings "
    "in [study.md](study.md), the value sets in [mapping.md](mapping.md). Of one patient, "
    "[`periop explain`](commands.md#periop-explain-patient-variable) says the same with the resources that were used.\n"
)


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## Estimates\n", *estimates(STUDY)]
    for table, variables in VARIABLES.items():
        parts.append(f"## {table}\n")
        if table in OF_PARAMETERS:
            parts += rows("Parameter", OF_PARAMETERS[table], STUDY)
            parts.append("The columns of each row:\n")
        parts += rows("Variable", variables, STUDY)
    parts += ["## Dates of the resources\n", *dates()]
    parts += ["## Value sets and concept maps\n", *value_sets()]
    return "\n".join(parts)


def estimates(study: Study) -> Iterator[str]:
    """Yield the table of what the study estimates, and from which variables."""
    lines = ["| estimate | of | from |", "|---|---|---|"]
    for one in study.proportions:
        conditions = " and ".join(f"{each.column} {_condition(each)}" for each in one.where)
        lines.append(f"| {one.label} (`{one.id}`) | {one.population} | {one.dataset.upper()}: {conditions} |")
    for each in study.quantiles:
        source = each.variable or each.paramcd or f"{each.start} to {each.end}"
        lines.append(f"| {each.label} (`{each.id}`) | {each.population} | {source} |")
    lines += [f"| {each.label} (`{each.id}`) | {each.population} | ADTTE: {each.paramcd} |" for each in study.survival]
    yield "\n".join(lines) + "\n"


def _condition(where: Any) -> str:
    if where.is_in:
        return " or ".join(map(str, where.is_in))
    if where.not_in:
        return "not " + ", ".join(map(str, where.not_in))
    bounds = [f"≥ {where.minimum:g}" if where.minimum is not None else ""]
    bounds.append(f"≤ {where.maximum:g}" if where.maximum is not None else "")
    return " and ".join(filter(None, bounds))


def rows(name: str, variables: dict[str, Variable], study: Study) -> Iterator[str]:
    """Yield the table of variables."""
    lines = [
        f"| {name} | rule | no. | settings of the study | derived from | looked up | elements |",
        "|---|---|---|---|---|---|---|",
    ]
    for column, variable in variables.items():
        evidence = [each.of(study) for each in variable.evidence]
        rule = variable.rule + (f"; {variable.choice}" if variable.choice else "")
        settings = ", ".join(f"`{each}` = {_plain(setting(study, each))}" for each in variable.settings)
        cells = (
            column,
            rule,
            ", ".join(map(str, variable.numbers)),
            settings,
            ", ".join(variable.of),
            ", ".join(f"`{each}`" for each in _names(evidence)),
            ", ".join(dict.fromkeys(element for each in evidence for element in each.elements)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    yield "\n".join(lines) + "\n"


def _names(evidence: Iterable[Evidence]) -> list[str]:
    return list(dict.fromkeys(name for each in evidence for _view, _element, name in each.asks()))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "not given" if value is None else str(value)


def dates() -> Iterator[str]:
    """Yield the elements that date a resource, as the views read them."""
    views = load_views()
    lines = ["| resource | dated by the first of |", "|---|---|"]
    for view, columns in DATE_COLUMNS.items():
        paths = {column.name: column.path for column in views[view].columns()}
        lines.append(f"| {RESOURCE_TYPES[view]} | {', '.join(f'`{paths[column]}`' for column in columns)} |")
    yield "\n".join(lines) + "\n"


def value_sets() -> Iterator[str]:
    """Yield the shipped value sets with their code systems, and what the codes of a concept map mean."""
    variables = [each for group in (VARIABLES, OF_PARAMETERS) for table in group.values() for each in table.values()]
    lines = ["| name | kind | code systems | meanings |", "|---|---|---|---|"]
    for name in sorted(_names(one.of(STUDY) for each in variables for one in each.evidence)):
        resource = json.loads((SHIPPED / f"{name}.json").read_bytes())
        groups = resource.get("group", [])
        systems = [each.get("system", "imported") for each in resource.get("compose", {}).get("include", [])]
        systems += [each.get("source", "none") for each in groups]
        targets = [
            target.get("code") for group in groups for one in group["element"] for target in one.get("target", [])
        ]
        meanings = ", ".join(filter(None, dict.fromkeys(targets)))
        lines.append(f"| `{name}` | {resource['resourceType']} | {', '.join(dict.fromkeys(systems))} | {meanings} |")
    yield "\n".join(lines) + "\n"


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
