"""Names of columns inside the SQL of a view.

DuckDB takes `id` and `ID` for one name, in a subquery and in a struct, and would read one column for the other. Names
that differ in case only are others inside the SQL, and get their own in its last projection, whose columns nothing
reads by name.
Source: https://duckdb.org/docs/stable/sql/dialect/keywords_and_identifiers, "Case sensitivity of identifiers"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from mappers.view.definition import Select, ViewDefinition


def distinguished(view: ViewDefinition) -> tuple[ViewDefinition, Mapping[str, str]]:
    """Return the view with names that differ in more than case, and the name inside the SQL of each of its columns."""
    columns = [column.name for column in view.columns()]
    alike = Counter(name.casefold() for name in columns)
    # No name of a view begins with an underscore.
    names = {
        name: name if alike[name.casefold()] == 1 else f"_column{number}_{name}" for number, name in enumerate(columns)
    }
    # Nearly every view: its SQL stays as it is written.
    if all(name == made for name, made in names.items()):
        return view, names
    return replace(view, select=tuple(_renamed(select, names) for select in view.select)), names


def _renamed(select: Select, names: Mapping[str, str]) -> Select:
    return replace(
        select,
        columns=tuple(replace(column, name=names[column.name]) for column in select.columns),
        selects=tuple(_renamed(nested, names) for nested in select.selects),
        unions=tuple(_renamed(branch, names) for branch in select.unions),
    )
