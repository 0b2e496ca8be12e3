"""The SQL on FHIR v2 runner: a ViewDefinition over a table of resources gives an Ibis table.

All columns and iterations that stand on the resource are made in one projection from the parsed JSON; then each
`forEach` unnests its array and the same is done on its items. Siblings that iterate are unnested one after the other,
which is their cross join. A `unionAll` is one array of rows (`mappers.view.rows`), so that the JSON is read once
however many branches there are.
Source: https://sql-on-fhir.org, "Processing algorithm"
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir

from mappers.engines.base import RESOURCE, Engine
from mappers.engines.duckdb import DuckDBEngine
from mappers.engines.duckdb_sql import to_sql as duckdb_sql
from mappers.engines.spark_sql import to_sql as spark_sql
from mappers.engines.start import EngineName
from mappers.errors import ViewError
from mappers.fhir_model.shape import from_json, mark_texts
from mappers.fhirpath.arrays import Scope
from mappers.fhirpath.cardinality import stop
from mappers.fhirpath.collection import Collection, resource
from mappers.fhirpath.compiler import PathCompiler, ResourceRef
from mappers.view.definition import ViewDefinition
from mappers.view.language import LANGUAGE
from mappers.view.names import distinguished
from mappers.view.rows import Place, RowSet, compile_select

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["ViewDefinition", "run_view", "sql", "view_table"]

PARSED = "_resource"


def view_table(view: ViewDefinition, resources: ir.Table, keep: Sequence[str] = ()) -> ir.Table:
    """Return the rows of a view, lazily.

    Args:
        view: the view.
        resources: a table with the string column `resource`, the JSON of one resource a row, and the columns of `keep`.
            Resources of another type are left out.
        keep: columns of `resources` that come first in the result.

    Raises:
        ViewError: a path that does not compile; the element of the view is named.
    """
    if keep:
        _check_names(view, keep)
    view, names = distinguished(view)
    scope = Scope()
    focus = resource(view.resource, scope)
    resource_ref = ResourceRef(focus)
    # All paths are compiled before the JSON is parsed: only then is it known which elements are read.
    root = compile_select_list(view, focus, resource_ref)
    filters = [_filter(view, item.element, item.path, focus) for item in view.where]
    assert focus.shape is not None  # noqa: S101
    parsed = resources.select(*keep, **{PARSED: from_json(_read_once(resources[RESOURCE]), focus.shape)})
    holds = [parsed[PARSED]["resourceType"] == view.resource]
    holds += [condition.make({scope: parsed[PARSED]}) for condition in filters]
    table = parsed.filter(*holds)
    # A path on an item may ask for the resource; then it is carried along through every unnesting.
    kept, known = ([*keep, PARSED], {scope: PARSED}) if resource_ref.used else (list(keep), {})
    rows = _expand(table, root, {scope: PARSED}, kept, known)
    own = (rows[made].name(name) if made != name else name for name, made in names.items())
    return rows.select(*keep, *own)


def compile_select_list(view: ViewDefinition, focus: Collection, resource_ref: ResourceRef | None = None) -> RowSet:
    """Compile all selections of a view on the resource; `resource_ref` notes whether a path asks for the resource."""
    place = Place(focus, view.constants, resource_ref=resource_ref or ResourceRef(focus), release=view.release)
    return RowSet.joined([compile_select(select, place) for select in view.select])


def sql(
    view: ViewDefinition,
    keep: Sequence[str] = ("site", "id", "version_id", "sync"),
    engine: EngineName = "duckdb",
) -> str:
    """Return the SQL of a view over a table `resources`, by default with the columns that name a version in the lake.

    Raises:
        ViewError: a path that does not compile.
    """
    columns = {name: "int64" if name == "sync" else "string" for name in (*keep, RESOURCE)}
    table = view_table(view, ibis.table(columns, name="resources"), keep)
    return duckdb_sql(table) if engine == "duckdb" else spark_sql(table)


def run_view(
    view: ViewDefinition,
    resources: Sequence[Mapping[str, Any]] | Path | str,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Run a view and return its rows as a frame.

    >>> view = ViewDefinition.load(
    ...     {"resource": "Patient", "select": [{"column": [{"name": "birth_date", "path": "birthDate"}]}]}
    ... )
    >>> run_view(view, [{"resourceType": "Patient", "birthDate": "1961-07"}])["birth_date"].to_list()
    ['1961-07']

    Args:
        view: the view.
        resources: resources as dicts, or the path of an NDJSON file.
        engine: where to run; an engine for this call by default.

    Raises:
        ViewError: a path that does not compile.
        CardinalityError: several values in a resource where a column takes one.
    """
    if engine is None:
        with DuckDBEngine() as own:
            return run_view(view, resources, own)
    if isinstance(resources, (str, Path)):
        table = engine.read_ndjson(resources)
    else:
        table = engine.resources([json.dumps(item, default=str) for item in resources])
    return engine.frame(view_table(view, table))


def _check_names(view: ViewDefinition, keep: Sequence[str]) -> None:
    """Refuse a column that a table of the lake cannot hold.

    Raises:
        ViewError: a key column has this name, or names differ in case only, which Delta takes for one name.
    """
    seen = {name.casefold(): name for name in keep}
    for column in view.columns():
        other = seen.setdefault(column.name.casefold(), column.name)
        if column.name in keep:
            raise ViewError(f"{column.element}.name", f"'{column.name}' is the name of a key column of the table")
        if other != column.name:
            problem = f"'{column.name}' differs from '{other}' in case only, and a table of the lake takes one of them"
            raise ViewError(f"{column.element}.name", problem)


def _read_once(text: Any) -> ir.Value:
    """Return the text in a way that keeps DuckDB from parsing it a second time for the filters."""
    # DuckDB pushes a filter below the projection that it filters, and copies the parsing into it, which doubles the
    # time of a view. An expression that may end the query is not copied.
    return ibis.cases((text == "", stop("periop: the text of a resource is empty")), else_=mark_texts(text))


def _filter(view: ViewDefinition, element: str, path: str, focus: Collection) -> Collection:
    # A reference of its own: filters come before anything is unnested, where the resource is at hand anyway.
    compiler = PathCompiler(element, LANGUAGE, view.constants, resource_ref=ResourceRef(focus), release=view.release)
    found = compiler.path(path, focus, depth=0)
    if found.type not in ("boolean", "") or found.choice:
        raise ViewError(element, f"a filter gives a boolean, and this path gives {found.type or 'nothing'}")
    return compiler.condition(found, depth=0)


def _expand(
    table: ir.Table, rows: RowSet, scopes: Mapping[Scope, str], carried: list[str], known: Mapping[Scope, str]
) -> ir.Table:
    """Make the columns of a scope, then unnest its iterations one after the other.

    `scopes` maps each scope to the column with its value. `carried` are the columns made so far; `known` is the column
    of the resource, if it is one of them.
    """
    values = {scope: table[name] for scope, name in scopes.items()}
    made: dict[str, ir.Value] = {name: make(values) for name, make in rows.columns.items()}
    arrays = {f"_rows{len(carried)}_{number}": unnest for number, unnest in enumerate(rows.unnests)}
    made |= {name: unnest.array(values) for name, unnest in arrays.items()}
    kept = carried + list(made)
    table = table.select(*carried, **made)
    for name, unnest in arrays.items():
        kept.remove(name)
        item = f"_item{name.removeprefix('_rows')}"
        table = table.select(*kept, **{item: table[name].unnest()})
        table = _expand(table, unnest.rows, {**known, unnest.scope: item}, kept, known)
        kept = list(table.columns)
    return table
