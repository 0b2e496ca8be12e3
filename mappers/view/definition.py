"""The model of a SQL on FHIR v2 ViewDefinition, and the checks that need no path to be compiled.

Source: https://sql-on-fhir.org, StructureDefinition ViewDefinition
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from connectors.fhir import dates
from mappers.errors import UnsupportedError, ViewError
from mappers.fhir_model.elements import (
    INTEGERS,
    PRIMITIVES,
    Release,
    is_resource,
    is_type,
    resource_names,
    type_names,
)
from mappers.fhir_model.suggestions import did_you_mean
from mappers.fhirpath.syntax import Literal

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
SQL_TYPE = "ansi/type"
ANNOTATIONS = frozenset({"id", "extension", "modifierExtension"})
SELECT_KEYS = ANNOTATIONS | {"column", "select", "forEach", "forEachOrNull", "repeat", "unionAll"}
COLUMN_KEYS = ANNOTATIONS | {"name", "path", "description", "type", "collection", "tag"}
CONSTANT_TYPES = {f"value{name[0].upper()}{name[1:]}": name for name in (*sorted(PRIMITIVES), "integer64")}
LEXICAL = {
    "date": re.compile(dates.DATE),
    "dateTime": re.compile(dates.DATE_TIME),
    "instant": re.compile(dates.INSTANT),
    "time": re.compile(dates.TIME),
    "integer64": re.compile(r"-?[0-9]{1,19}"),
}
READ = ("4.0", "4.1", "4.3")  # R4, R4B and its ballot, whose elements are the same in what is read here
R5 = "5.0"
LEAST = {"unsignedInt": 0, "positiveInt": 1}


@dataclass(frozen=True)
class Column:
    """A column. `element` is its place in the view; `type` is a FHIR type, or None for that of the path.

    `sql_type` is what the tag `ansi/type` asks for.
    """

    element: str
    name: str
    path: str
    type: str | None = None
    collection: bool = False
    sql_type: str | None = None


@dataclass(frozen=True)
class Select:
    """One selection: its columns, and the iteration that multiplies rows (at most one of the three kinds)."""

    element: str
    columns: tuple[Column, ...] = ()
    selects: tuple[Select, ...] = ()
    unions: tuple[Select, ...] = ()
    for_each: str | None = None
    for_each_or_null: str | None = None
    repeat: tuple[str, ...] = ()

    def all_columns(self) -> Iterator[Column]:
        """Yield the columns in order: own, nested, then those of unionAll, which the first branch names."""
        yield from self.columns
        for nested in self.selects:
            yield from nested.all_columns()
        if self.unions:
            yield from self.unions[0].all_columns()


@dataclass(frozen=True)
class Where:
    """A filter of resources."""

    element: str
    path: str


@dataclass(frozen=True)
class ViewDefinition:
    """A checked ViewDefinition. Its paths are checked when it is compiled, against the elements of `release`."""

    name: str
    resource: str
    select: tuple[Select, ...]
    where: tuple[Where, ...]
    constants: Mapping[str, Literal]
    release: Release = "R4"

    @classmethod
    def load(cls, source: Path | str | Mapping[str, Any]) -> ViewDefinition:
        """Read a ViewDefinition from a JSON file, or from a mapping that was read already.

        >>> view = ViewDefinition.load(
        ...     {"resource": "Patient", "select": [{"column": [{"name": "born", "path": "birthDate"}]}]}
        ... )
        >>> [column.name for column in view.columns()]
        ['born']

        Raises:
            ViewError: the element that is wrong, and why.
        """
        if isinstance(source, Mapping):
            return _view(source)
        try:
            return _view(json.loads(Path(source).read_text("utf-8"), parse_float=Decimal))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ViewError(str(source), f"not a readable JSON file: {error}") from error

    def columns(self) -> tuple[Column, ...]:
        """Return all columns in the order of the table."""
        return tuple(column for select in self.select for column in select.all_columns())


def _view(data: Any) -> ViewDefinition:
    view = _object(data, "ViewDefinition")
    resource = _text(view, "resource", "ViewDefinition")
    release = _release(view)
    if not is_resource(resource, release):
        near = did_you_mean(resource, resource_names(release))
        raise ViewError("resource", f"{release} has no resource '{resource}'{near}")
    selects = _selects(view, "select", "")
    if not selects:
        raise ViewError("select", "missing; a view has at least one")
    checked = ViewDefinition(
        name=str(view.get("name", resource)),
        resource=resource,
        select=selects,
        where=tuple(Where(f"{place}.path", _text(item, "path", place)) for place, item in _list(view, "where", "")),
        constants=_constants(view),
        release=release,
    )
    kind = view.get("resourceType", "ViewDefinition")  # HL7's test cases leave it out
    # SQL on FHIR 2.0.0 publishes the canonical of the logical model here, and other tools write so.
    if str(kind).rpartition("/")[2] != "ViewDefinition":
        raise ViewError("resourceType", f"a ViewDefinition is needed, and this is a {kind}")
    if view.get("name") is not None:
        _name(view, "")
    if not checked.columns():
        raise ViewError("select", "no column; a view has at least one")
    seen: set[str] = set()
    for column in checked.columns():
        if column.name in seen:
            raise ViewError(f"{column.element}.name", f"a column '{column.name}' is already there")
        seen.add(column.name)
    return checked


def _release(view: Mapping[str, Any]) -> Release:
    """Return the release whose elements a view reads: R4 (and R4B) if it is for that too, or says nothing, else R5.

    Raises:
        UnsupportedError: it is for other versions of FHIR only, and elements of one name differ between them.
    """
    # Published views have a single text here too, though the standard wants a list.
    given = view.get("fhirVersion")
    versions = [given] if isinstance(given, str) else given or []
    if not isinstance(versions, list) or not all(isinstance(version, str) for version in versions):
        raise ViewError("fhirVersion", "a list of versions is needed, such as 4.0.1")
    if not versions or any(version.startswith(READ) for version in versions):
        return "R4"
    if any(version.startswith(R5) for version in versions):
        return "R5"
    problem = f"a view for FHIR {', '.join(versions)} is not supported: R4 (4.0), R4B (4.3) and R5 (5.0) are read"
    raise UnsupportedError("fhirVersion", problem)


def _constants(view: Mapping[str, Any]) -> dict[str, Literal]:
    found: dict[str, Literal] = {}
    for place, item in _list(view, "constant", ""):
        name = _name(item, place)
        if name in found:
            raise ViewError(f"{place}.name", f"'{name}' is defined twice")
        found[name] = _constant(item, place)
    return found


def _constant(item: Mapping[str, Any], place: str) -> Literal:
    keys = [key for key in item if key.startswith("value")]
    if len(keys) != 1 or keys[0] not in CONSTANT_TYPES:
        raise ViewError(place, "a constant has one value[x] of a primitive type, e.g. valueString")
    type_name, value = CONSTANT_TYPES[keys[0]], item[keys[0]]
    wanted: tuple[type, ...] = (str,)
    if type_name == "boolean":
        wanted = (bool,)
    elif type_name in INTEGERS:
        wanted = (int,)
    elif type_name == "decimal":
        wanted = (int, float, Decimal)
    # bool is a subclass of int in Python, and no number in JSON.
    if not isinstance(value, wanted) or (isinstance(value, bool) and type_name != "boolean"):
        raise ViewError(f"{place}.{keys[0]}", f"not a {type_name}")
    text = str(value).lower() if type_name == "boolean" else str(value)
    if type_name in LEXICAL and not LEXICAL[type_name].fullmatch(text):
        raise ViewError(f"{place}.{keys[0]}", f"not a {type_name}")
    if type_name in LEAST and int(text) < LEAST[type_name]:
        raise ViewError(f"{place}.{keys[0]}", f"a {type_name} is {LEAST[type_name]} or more")
    return Literal("integer" if type_name in INTEGERS | {"integer64"} else type_name, text)


def _selects(parent: Mapping[str, Any], key: str, place: str) -> tuple[Select, ...]:
    return tuple(_select(item, where) for where, item in _list(parent, key, place))


def _select(item: Mapping[str, Any], place: str) -> Select:
    _known(item, SELECT_KEYS, place)
    iterations = [key for key in ("forEach", "forEachOrNull", "repeat") if item.get(key) is not None]
    if len(iterations) > 1:
        raise ViewError(place, f"{' and '.join(iterations)} exclude each other")
    paths = item.get("repeat", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ViewError(f"{place}.repeat", "a list of paths is needed")
    select = Select(
        element=place,
        columns=tuple(_column(column, where) for where, column in _list(item, "column", place)),
        selects=_selects(item, "select", place),
        unions=_selects(item, "unionAll", place),
        for_each=_optional(item, "forEach", str, place),
        for_each_or_null=_optional(item, "forEachOrNull", str, place),
        repeat=tuple(paths),
    )
    # By order too: rows of the branches of a unionAll are put into one array.
    branches = [[column.name for column in branch.all_columns()] for branch in select.unions]
    for branch, names in zip(select.unions, branches, strict=True):
        if names != branches[0]:
            raise ViewError(
                branch.element,
                f"the columns {', '.join(names)} differ from the union's first branch: {', '.join(branches[0])}",
            )
    return select


def _column(item: Mapping[str, Any], place: str) -> Column:
    _known(item, COLUMN_KEYS, place)
    declared = _optional(item, "type", str, place)
    # A type may be a URL: http://hl7.org/fhirpath/System.String
    type_name = declared.rsplit("/", 1)[-1] if declared else None
    if type_name and type_name.startswith("System."):
        type_name = type_name.removeprefix("System.").lower().replace("datetime", "dateTime")
    if type_name == "integer64":  # of R5; integers are 64 bits wide here
        type_name = "integer"
    if type_name is not None and type_name not in PRIMITIVES and not is_type(type_name.split(".")[0]):
        raise ViewError(f"{place}.type", f"'{declared}' is not a type of R4{did_you_mean(type_name, type_names())}")
    return Column(
        element=place,
        name=_name(item, place),
        path=_text(item, "path", place),
        type=type_name,
        collection=bool(_optional(item, "collection", bool, place)),
        sql_type=_sql_type(item, place),
    )


def _sql_type(item: Mapping[str, Any], place: str) -> str | None:
    found = [tag for _, tag in _list(item, "tag", place) if tag.get("name") == SQL_TYPE]
    if len(found) > 1:
        raise ViewError(f"{place}.tag", f"{SQL_TYPE} stands there {len(found)} times")
    return _text(found[0], "value", f"{place}.tag") if found else None


def _object(data: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ViewError(place, "a JSON object is needed")
    return data


def _list(parent: Mapping[str, Any], key: str, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    where = f"{place}.{key}" if place else key
    items = parent.get(key)
    if items is None:
        return
    if not isinstance(items, list):
        raise ViewError(where, "a list is needed")
    for number, item in enumerate(items):
        yield f"{where}[{number}]", _object(item, f"{where}[{number}]")


def _optional(item: Mapping[str, Any], key: str, kind: type, place: str) -> Any:
    value = item.get(key)
    if value is not None and (not isinstance(value, kind) or value == ""):
        raise ViewError(f"{place}.{key}", f"a {'text' if kind is str else 'boolean'} is needed")
    return value


def _text(item: Mapping[str, Any], key: str, place: str) -> str:
    value = _optional(item, key, str, place)
    if value is None:
        raise ViewError(place, f"'{key}' is missing")
    return str(value)


def _name(item: Mapping[str, Any], place: str) -> str:
    name = _text(item, "name", place)
    if not NAME.fullmatch(name):
        where = f"{place}.name" if place else "name"
        raise ViewError(where, f"'{name}' is no name for a column or a view: a letter, then letters, digits and _")
    return name


def _known(item: Mapping[str, Any], keys: frozenset[str], place: str) -> None:
    for key in item:
        if key not in keys and not key.startswith("_"):
            known = ", ".join(sorted(keys - ANNOTATIONS))
            raise ViewError(place, f"unknown key '{key}'; known are {known}{did_you_mean(key, keys)}")
