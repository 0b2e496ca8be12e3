"""The SQL on FHIR v2 runner: a ViewDefinition over a table of resources gives an Ibis table.

How rows come about. All columns and iterations that stand on the resource are made in one projection from
the parsed JSON; then each `forEach` unnests its array and the same is done on its items. Siblings that
iterate are unnested one after the other, which is their cross join. A `unionAll` is one array of rows
(`mappers.view.rows`), so that the JSON is read once however many branches there are.
Source: https://sql-on-fhir.org, "Processing algorithm"
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
import ibis
import ibis.expr.types as ir

from mappers.engines.duckdb import RESOURCE, DuckDBEngine, Engine
from mappers.engines.duckdb_sql import to_sql as duckdb_sql
from mappers.engines.spark_sql import to_sql as spark_sql
from mappers.engines.start import EngineName
from mappers.errors import ViewError
from mappers.fhir_model.shape import Shape, from_json
from mappers.fhirpath.arrays import Scope
from mappers.fhirpath.cardinality import stop
from mappers.fhirpath.collection import Collection, resource
from mappers.fhirpath.compiler import PathCompiler, ResourceRef
from mappers.view.definition import ViewDefinition
from mappers.view.language import LANGUAGE
from mappers.view.ndjson import Lines, is_unreadable
from mappers.view.rows import Level, Place, compile_select

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["ViewDefinition", "run_view", "sql", "view_table"]

T = TypeVar("T")
PARSED = "_resource"
Parsing = Callable[[Shape], ir.Table]  # gives the struct column PARSED of this shape


def view_table(view: ViewDefinition, resources: ir.Table | Parsing, keep: Sequence[str] = ()) -> ir.Table:
    """The rows of a view, lazily.

    Args:
        view: the view.
        resources: a table with the string column `resource`, the JSON of one resource a row, and those of
        `keep`; or what makes a table of parsed resources for a shape. Resources of another type are left out.
        keep: columns of `resources` that come first in the result.

    Raises:
        ViewError: a path that does not compile; the element of the view is named.
    """
    _check_keep(view, keep)
    scope = Scope()
    focus = resource(view.resource, scope)
    resource_ref = ResourceRef(focus)
    root = compile_select_list(view, focus, resource_ref)
    filters = [_filter(view, item.element, item.path, resource_ref) for item in view.where]
    assert focus.shape is not None  # noqa: S101
    parsed = parsed_texts(resources, focus.shape, keep) if isinstance(resources, ir.Table) else resources(focus.shape)
    holds = [parsed[PARSED]["resourceType"] == view.resource]
    holds += [condition.make({scope: parsed[PARSED]}) for condition in filters]
    table = parsed.filter(*holds)
    kept, known = (list(keep), {}) if not resource_ref.used else ([*keep, PARSED], {scope: PARSED})
    return _expand(table, root, {scope: PARSED}, kept, known).select(*keep, *(column.name for column in view.columns()))


def parsed_texts(resources: ir.Table, shape: Shape, keep: Sequence[str] = ()) -> ir.Table:
    """The column `resource` parsed into the struct column PARSED."""
    return resources.select(*keep, **{PARSED: from_json(_read_once(resources[RESOURCE]), shape)})


def parse_lines(engine: Engine, path: str | Path) -> Parsing:
    """How a file of NDJSON is parsed: cut into lines by `mappers.view.ndjson`, a pipe or with Spark the plain way."""
    if not (isinstance(engine, DuckDBEngine) and Path(path).is_file()):
        return parse_plainly(engine, path)
    return lambda shape: parsed_texts(engine.stream(Lines(Path(path), RESOURCE)), shape)


def parse_plainly(engine: Engine, path: str | Path) -> Parsing:
    """How a file of NDJSON is parsed: by the engine's own reader of lines."""
    return lambda shape: parsed_texts(engine.read_ndjson(path), shape)


def read_twice_if_needed(run: Callable[[Callable[[Engine, str | Path], Parsing]], T]) -> T:
    """Run something on files the short way, and again the plain way if a line cannot be parsed."""
    try:
        return run(parse_lines)
    except (duckdb.InvalidInputException, UnicodeDecodeError) as error:
        if not is_unreadable(error):
            raise
    return run(parse_plainly)


def compile_select_list(view: ViewDefinition, focus: Collection, resource_ref: ResourceRef | None = None) -> Level:
    """Compile all selections of a view as one level; `resource_ref` notes whether a path asks for the resource."""
    place = Place(focus, view.constants, resource_ref=resource_ref or ResourceRef(focus))
    return Level.joined([compile_select(select, place) for select in view.select])


def sql(
    view: ViewDefinition,
    keep: Sequence[str] = ("site", "id", "version_id", "sync"),
    engine: EngineName = "duckdb",
) -> str:
    """The SQL of a view, over a table `resources`."""
    columns = {name: "int64" if name == "sync" else "string" for name in (*keep, RESOURCE)}
    table = view_table(view, ibis.table(columns, name="resources"), keep)
    return duckdb_sql(table) if engine == "duckdb" else spark_sql(table)


def run_view(
    view: ViewDefinition,
    resources: Sequence[Mapping[str, Any]] | Path | str,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """The rows of a view as a frame.

    Args:
        view: the view.
        resources: resources as dicts, or the path of an NDJSON file.
        engine: where to run; an engine for this call by default.

    Raises:
        ViewError: a path that does not compile.
        CardinalityError: several values in a resource where a column takes one.
    """
    own = engine or DuckDBEngine()
    try:
        if isinstance(resources, (str, Path)):
            return read_twice_if_needed(lambda parse: own.frame(view_table(view, parse(own, resources))))
        texts = own.resources([json.dumps(item, default=str) for item in resources])
        return own.frame(view_table(view, texts))
    finally:
        if engine is None:
            own.close()


def _check_keep(view: ViewDefinition, keep: Sequence[str]) -> None:
    for column in view.columns():
        if column.name in keep:
            raise ViewError(f"{column.element}.name", f"'{column.name}' is the name of a key column of the table")


def _read_once(text: Any) -> ir.Value:
    """The text, in a way that keeps DuckDB from parsing it a second time for the filters.

    DuckDB pushes a filter below the projection that it filters and copies the parsing into it, which doubles
    the time of a view. An expression that may end the query is not copied.
    """
    return ibis.cases((text == "", stop("periop: the text of a resource is empty")), else_=text)


def _filter(view: ViewDefinition, element: str, path: str, resource_ref: ResourceRef) -> Collection:
    compiler = PathCompiler(element, LANGUAGE, view.constants, resource_ref=ResourceRef(resource_ref.resource))
    found = compiler.path(path, resource_ref.resource, depth=0)
    if found.type not in ("boolean", "") or found.choice:
        raise ViewError(element, f"a filter gives a boolean, and this path gives {found.type or 'nothing'}")
    return compiler.condition(found, depth=0)


def _expand(
    table: ir.Table, level: Level, scopes: Mapping[Scope, str], carried: list[str], known: Mapping[Scope, str]
) -> ir.Table:
    """Make the columns of a level, then unnest its iterations one after the other.

    `known` is the column of the resource where a path on an item asks for it, one of those carried along.
    """
    values = {scope: table[name] for scope, name in scopes.items()}
    made: dict[str, ir.Value] = {name: make(values) for name, make in level.columns.items()}
    arrays = {f"_rows{len(carried)}_{number}": each for number, each in enumerate(level.each)}
    made |= {name: each.array(values) for name, each in arrays.items()}
    kept = carried + list(made)
    table = table.select(*carried, **made)
    for name, each in arrays.items():
        kept.remove(name)
        item = f"_item{name.removeprefix('_rows')}"
        table = table.select(*kept, **{item: table[name].unnest()})
        table = _expand(table, each.level, {**known, each.scope: item}, kept, known)
        kept = list(table.columns)
    return table
