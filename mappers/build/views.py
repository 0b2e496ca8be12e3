"""The view tables between the lake and the cohort: appended to by each run, read in their current state.

A view table follows the lake as `mappers.build.incremental` says; its digest is of the compiled view and of the lake's
identity, so a changed view, or another lake in the same place, is built from the first sync on. View tables hold every
version. Current rows are those whose version is not in the list of superseded ones, which follows the lake likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis import _

from connectors.fhir.modifiers import UNDERSTOOD
from connectors.lake.current import VERSION, VERSION_TYPES
from connectors.lake.snapshot import LakeFile, Snapshot
from mappers.build.incremental import IncrementalTable
from mappers.build.versions import (
    LAKE_ROWS,
    LISTED,
    SUPERSEDED_SCHEMA,
    all_superseded,
    changed,
    newly_superseded,
    register_lake,
    with_content,
)
from mappers.cohort.facts import RESOURCE_TYPES
from mappers.engines.base import RESOURCE, Engine
from mappers.view.runner import ViewDefinition, view_table

RESOURCES = "resources"  # the name of the table that a compiled view reads
MODIFIED, PATIENT = "modified", "patient"  # columns of view tables
SUPERSEDED = ".superseded"  # the folder of the lists of superseded versions, beside those of the views
ORDER = "newest last_updated, then sync, then version_id"  # the rule of the current version; with another, another list


@dataclass(frozen=True)
class CompiledView:
    """A view as SQL over the table `resources`.

    `columns` are the names and Ibis types of its result: those that name a version (site, id, version_id, sync),
    `modified` (it has a modifier extension that is not understood), in the views of patients' resources `patient` as
    the lake has it, then those of the view. A view with a column `patient` of its own keeps it.
    """

    name: str
    resource: str
    sql: str
    columns: Mapping[str, str]

    @classmethod
    def of(cls, engine: Engine, name: str, view: ViewDefinition) -> CompiledView:
        """Compile `view` for `engine`."""
        own = {column.name for column in view.columns()}
        types = {**VERSION_TYPES, MODIFIED: "boolean"}
        if name in RESOURCE_TYPES and PATIENT not in own:
            types[PATIENT] = "string"
        table = view_table(view, ibis.table({**types, RESOURCE: "string"}, name=RESOURCES), list(types))
        columns = {column: str(dtype) for column, dtype in table.schema().items()}
        return cls(name, view.resource, engine.compile(table), columns)

    # How SQL reads what `ViewTables` registers. These are expressions, so that they compile before there are rows.

    @property
    def all_rows(self) -> ir.Table:
        """The rows of every version, as `ViewTables.register` names them."""
        return ibis.table(dict(self.columns), name=f"view_{self.name}")

    def current(self, rows: ir.Table) -> ir.Table:
        """Return those of `rows` of this view whose version is current, without the columns that name the version.

        A modifier extension may negate what the rest of a resource says, so what has one that is not understood must
        not be processed (FHIR R4 2.4.0.1).
        """
        return self._newest(rows).filter(~_[MODIFIED]).drop(MODIFIED)

    def set_aside(self, rows: ir.Table) -> ir.Table:
        """Return those of `rows` of this view that are current but for their modifier extension, as `current` does."""
        return self._newest(rows).filter(_[MODIFIED]).drop(MODIFIED)

    def _newest(self, rows: ir.Table) -> ir.Table:
        return self.newest_versions(rows).drop("version_id", "sync")

    def newest_versions(self, rows: ir.Table) -> ir.Table:
        """Return those of `rows` of this view whose version is current, with what names the version."""
        superseded = ibis.table(SUPERSEDED_SCHEMA, name=f"superseded_{self.resource}")
        return rows.anti_join(superseded, list(VERSION))

    @property
    def changed_resources(self) -> ir.Table:
        """(site, id, sync) of changed resources of this type, as `ViewTables.register_changes` names them."""
        return ibis.table({"site": "string", "id": "string", "sync": "int64"}, name=f"changed_{self.resource}")


Views = Mapping[str, CompiledView]  # by name


@dataclass(frozen=True)
class ViewReport:
    """The result of refreshing one view table: rows appended, and whether it was built from the first sync on."""

    name: str
    rows: int
    rebuilt: bool


@dataclass(frozen=True)
class ViewTables:
    """The view tables and lists of superseded versions of a data folder, up to date with the snapshot `lake`."""

    lake: Snapshot
    views: Views
    rows: Mapping[str, IncrementalTable]  # by name of the view
    superseded: Mapping[str, IncrementalTable]  # by resource type
    reports: tuple[ViewReport, ...]

    @property
    def identity(self) -> str:
        """The digests of all view tables: another lake, or another view, is another identity."""
        return "\n".join(f"{name} {self.rows[name].folder.name}" for name in sorted(self.rows))

    def register(self, engine: Engine) -> None:
        """Name the rows ``view_<view>`` and the superseded versions ``superseded_<resource type>`` for `engine`."""
        for name, table in self.rows.items():
            table.register(engine, f"view_{name}")
        listed = engine.compile(ibis.table(SUPERSEDED_SCHEMA, name=LISTED))
        for resource_type, table in self.superseded.items():
            table.register(engine, LISTED)
            engine.create_table_as(f"superseded_{resource_type}", listed)  # read by many queries

    def register_changes(self, engine: Engine, since: int) -> None:
        """Name the resources that the syncs after `since` changed ``changed_<resource type>`` for `engine`."""
        sql = engine.compile(changed(LAKE_ROWS, since))
        for resource_type in self.superseded:
            register_lake(engine, _files(self.lake, resource_type, since))
            engine.create_table_as(f"changed_{resource_type}", sql)


def refresh_views(
    folder: Path,
    lake: Snapshot,
    views: Views,
    engine: Engine,
    progress: Callable[[str], None] = lambda _: None,
) -> ViewTables:
    """Append to the view tables in `folder` what the lake has had since they were built.

    `progress` is told each view that is built from scratch; the changes of a night take no time worth telling.
    """
    rows = {
        name: IncrementalTable.of(folder, name, lake.identity, view.sql, UNDERSTOOD) for name, view in views.items()
    }
    resource_types = sorted({view.resource for view in views.values()})
    superseded = {
        resource_type: IncrementalTable.of(folder / SUPERSEDED, resource_type, lake.identity, ORDER)
        for resource_type in resource_types
    }

    # Most tables were built up to the same sync, and compiling takes longer than a small table does: once for all.
    @cache
    def resources_since(sync: int) -> str:
        return engine.compile(with_content(LAKE_ROWS, sync))

    @cache
    def superseded_since(sync: int | None) -> str:
        return engine.compile(all_superseded(LAKE_ROWS) if sync is None else newly_superseded(LAKE_ROWS, sync))

    reports = []
    for number, (name, table) in enumerate(rows.items(), 1):
        if table.built_to(lake) is None:
            progress(f"flattening {name}: view {number} of {len(rows)}")
        reports.append(_refresh_view(table, views[name], lake, engine, resources_since))
    for resource_type, table in superseded.items():
        _refresh_superseded(table, resource_type, lake, engine, superseded_since)
    return ViewTables(lake, views, rows, superseded, tuple(reports))


def _refresh_view(
    table: IncrementalTable, view: CompiledView, lake: Snapshot, engine: Engine, resources_since: Callable[[int], str]
) -> ViewReport:
    built, written = table.built_to(lake), 0
    since = built or 0
    files = _files(lake, view.resource, since)
    if built is not None and not files:  # most types, most nights: there is nothing that SQL could find
        if built < lake.sync_number:
            table.advance(lake)
    elif built is None or built < lake.sync_number:
        register_lake(engine, files)
        engine.create_view(RESOURCES, resources_since(since))
        written = table.append(engine, view.sql, ibis.schema(dict(view.columns)), lake)
    table.delete_predecessors()
    return ViewReport(view.name, written, built is None)


def _refresh_superseded(
    table: IncrementalTable,
    resource_type: str,
    lake: Snapshot,
    engine: Engine,
    superseded_since: Callable[[int | None], str],
) -> None:
    built = table.built_to(lake)
    if built is not None and not _files(lake, resource_type, built):
        if built < lake.sync_number:
            table.advance(lake)
    elif built is None or built < lake.sync_number:
        # Of all files, also after the first time: what a new version supersedes came with an earlier sync.
        register_lake(engine, _files(lake, resource_type))
        if built is not None:
            table.register(engine, LISTED)
        table.append(engine, superseded_since(built), SUPERSEDED_SCHEMA, lake)
    table.delete_predecessors()


def _files(lake: Snapshot, resource_type: str, since: int = 0) -> list[LakeFile]:
    return [file for file in lake.files if file.resource_type == resource_type and file.sync > since]


def table_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders of the view tables and of the lists of superseded versions below `folder`."""
    for parent in (folder, folder / SUPERSEDED):
        for name in sorted(parent.iterdir()) if parent.is_dir() else ():
            # Hidden folders hold other things than tables of views: compiled SQL, and the lists that come next.
            if name.is_dir() and not name.name.startswith("."):
                yield from (each for each in sorted(name.iterdir()) if each.is_dir())
