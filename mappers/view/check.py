"""All that is wrong with a view, at once, and what the profiles of SQL on FHIR miss in it.

A view is compiled again and again: what an error names is replaced by something harmless (a column by one that is
always empty), until nothing is left to say. So an error hides none that stands elsewhere; what stands below a `forEach`
that does not compile is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import ibis

from mappers.engines.base import RESOURCE
from mappers.errors import ViewError
from mappers.view.definition import NAME, ViewDefinition
from mappers.view.runner import view_table

MOST_ERRORS = 100
STEP = re.compile(r"([A-Za-z]+)(?:\[([0-9]+)\])?")
LISTS = frozenset({"select", "unionAll", "column", "where", "constant"})
NESTED = ("select", "unionAll")
# Without these a view is not published by the profile ShareableViewDefinition.
SHAREABLE = ("url", "name", "fhirVersion")


def view_errors(data: Any) -> list[ViewError]:
    """Return every error of a view, by the place of each."""
    # What is replaced must not reach the view of the caller.
    left, errors = deepcopy(data), list[ViewError]()
    while len(errors) < MOST_ERRORS:
        try:
            columns_of(ViewDefinition.load(left) if isinstance(left, Mapping) else _no_object())
        except ViewError as error:
            # What was replaced may be of another type than in the other branches, which says nothing of the view.
            if not (errors and "types of the columns differ" in error.problem):
                errors.append(error)
            if not _replaced(left, error, len(errors)):
                break
        else:
            break
    return errors


def _no_object() -> ViewDefinition:
    raise ViewError("ViewDefinition", "a JSON object is needed")


def columns_of(view: ViewDefinition) -> Mapping[str, Any]:
    """Return the columns of a view, each with its Ibis type.

    >>> view = ViewDefinition.load({"resource": "Patient", "select": [{"column": [{"name": "a", "path": "active"}]}]})
    >>> {name: str(dtype) for name, dtype in columns_of(view).items()}
    {'a': 'boolean'}

    Raises:
        ViewError: a path that does not compile.
    """
    return dict(view_table(view, ibis.table({RESOURCE: "string"}, name="resources")).schema().items())


def not_shareable(data: Mapping[str, Any], view: ViewDefinition) -> Iterator[str]:
    """Yield what the profile ShareableViewDefinition asks for and the view lacks.

    Source: https://sql-on-fhir.org/ig/StructureDefinition-ShareableViewDefinition.html
    """
    yield from (f"{name}: missing" for name in SHAREABLE if not data.get(name))
    yield from (f"{column.element}.type: missing" for column in view.columns() if column.type is None)


def not_tabular(view: ViewDefinition) -> Iterator[str]:
    """Yield the columns that are no single primitive, as the profile TabularViewDefinition asks for.

    Source: https://sql-on-fhir.org/ig/2.0.0/StructureDefinition-TabularViewDefinition.html
    """
    types = columns_of(view)
    for column in view.columns():
        if column.collection:
            yield f"{column.element}.collection: true"
        elif types[column.name].is_nested():
            yield f"{column.element}.path: gives no primitive"


def _replaced(data: Any, error: ViewError, number: int) -> bool:
    """Replace what an error names; return whether it is worth to compile again."""
    if not isinstance(data, dict):
        return False
    steps = [(name, index and int(index)) for name, index in STEP.findall(error.element)]
    parent: Any = data
    last: tuple[str, list[Any], int] | None = None
    for name, index in steps:
        if name not in LISTS or index == "" or not isinstance(parent, dict) or not isinstance(parent.get(name), list):
            break
        last = (name, parent[name], index)
        parent = parent[name][index]
    if last is None:
        return _replaced_at_the_top(data, error.element)
    kind, items, place = last
    old = items[place] if isinstance(items[place], dict) else {}
    if unknown := re.match(r"unknown key '(.*?)'", error.problem):
        return old.pop(unknown[1], None) is not None
    if "differ from the union's first branch" in error.problem:
        del items[place]
        return True
    # The same again would go on for ever.
    new = _harmless(kind, old, error, number)
    items[place], same = new, new == old
    return not same


def _replaced_at_the_top(data: dict[str, Any], element: str) -> bool:
    # Nothing can be said of paths without a known resource.
    return element in ("resourceType", "name", "fhirVersion") and data.pop(element, None) is not None


def _harmless(kind: str, old: Mapping[str, Any], error: ViewError, number: int) -> dict[str, Any]:
    if kind == "where":
        return {"path": "true"}
    if kind == "constant":
        return {"name": _name(old, error, number), "valueString": "x"}
    if kind == "column":
        declared = {} if error.element.endswith(".type") or not old.get("type") else {"type": old["type"]}
        return {"name": _name(old, error, number), "path": "{}", **declared}
    return {"column": [{"name": name, "path": "{}"} for name in _names(old)] or [{"name": "checked", "path": "{}"}]}


def _name(old: Mapping[str, Any], error: ViewError, number: int) -> str:
    name = old.get("name")
    kept = isinstance(name, str) and NAME.fullmatch(name) and not error.element.endswith(".name")
    return str(name) if kept else f"checked{number}"


def _names(select: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns of a selection, as far as they can be read; of a union, those of one branch."""
    found = [column["name"] for column in _dicts(select, "column") if isinstance(column.get("name"), str)]
    for key in NESTED:
        for nested in _dicts(select, key)[: 1 if key == "unionAll" else None]:
            found += _names(nested)
    return found


def _dicts(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = parent.get(key)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
