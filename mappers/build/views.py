"""The view tables between the lake and the cohort: kept up to date by appending, and read in their current state.

View tables follow the lake as `mappers.build.incremental` says, one for each view, by the hash of the compiled view and
of the lake's identity: a changed view, or another lake in the same place, is a table of its own, built anew. Current
rows are those whose version is not in the list of superseded ones, which follows the lake in the same way.

SQL reads these by name: ``view_<view>`` has all rows of a view, ``superseded_<type>`` the versions of a resource type
that are not current, ``brought_<type>`` the resources that some syncs brought.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from connectors.fhir.resource import MODIFIER
from connectors.lake.current import VERSION, VERSION_TYPES, superseded
from connectors.lake.table import SCHEMA, Lake, LakeFile, Snapshot
from connectors.lake.writer import may_be_modified
from mappers.build.incremental import Appended
from mappers.build.versions import (
    BROUGHT,
    VERSIONS_SCHEMA,
    brought_since,
    lake_parts,
    lake_table,
    several_versions,
    versions_of,
)
from mappers.engines.duckdb import RESOURCE, Engine, Result, in_turn
from mappers.view.runner import ViewDefinition, view_table

RESOURCES = "resources"  # the name of the table that a compiled view reads
LAKE = "lake"  # the name of the lake's rows of one resource type, one type after the other
VERSIONS = "versions"  # all versions of what a night brought, one type after the other
SUPERSEDED = "superseded"  # those that are not current, one type after the other
OF_ONE_TYPE = (LAKE, RESOURCES, VERSIONS, SUPERSEDED)
ORDER = "newest last_updated, then sync, then version_id"  # what makes a version current; another rule, another list


@dataclass(frozen=True)
class ViewReport:
    """What a refresh did to one view table: rows appended, and whether it was built from the first commit on."""

    name: str
    rows: int
    rebuilt: bool


@dataclass(frozen=True)
class CompiledView:
    """A view as SQL over the table `resources`; `columns` are names and Ibis types of what it gives, keys first."""

    resource: str
    sql: str
    columns: Mapping[str, str]

    @classmethod
    def of(cls, engine: Engine, view: ViewDefinition) -> CompiledView:
        """Compile `view` for `engine`, with the columns that name a version."""
        table = view_table(view, ibis.table({**VERSION_TYPES, RESOURCE: "string"}, name=RESOURCES), VERSION)
        columns = {name: str(dtype) for name, dtype in table.schema().items()}
        return cls(view.resource, engine.compile(table), columns)

    def as_json(self) -> dict[str, Any]:
        """The view as a value of JSON."""
        return asdict(self)


def all_rows(name: str, view: CompiledView) -> ir.Table:
    """The rows of the view `name` of every version, as `ViewStore.offer` offers them."""
    return ibis.table(dict(view.columns), name=f"view_{name}")


def old_versions(resource_type: str) -> ir.Table:
    """What names each version that is not current, as `ViewStore.offer` offers it."""
    return ibis.table(VERSION_TYPES, name=f"superseded_{resource_type}")


def current(rows: ir.Table, view: CompiledView) -> ir.Table:
    """Those of `rows` (of a view) that are current, without the columns that name the version."""
    return rows.anti_join(old_versions(view.resource), list(VERSION)).drop("version_id", "sync")


def brought(resource_type: str) -> ir.Table:
    """(site, id, sync) of what some syncs brought, as `ViewStore.offer_brought` offers it."""
    return ibis.table({name: VERSION_TYPES[name] for name in BROUGHT}, name=f"brought_{resource_type}")


class ViewStore:
    """The view tables of one data folder. `compiled` are the views, where they are compiled already."""

    def __init__(
        self,
        path: Path,
        engine: Engine,
        views: Mapping[str, ViewDefinition],
        compiled: Mapping[str, CompiledView] | None = None,
    ) -> None:
        self._path = path
        self.engine = engine
        self.views = compiled or {name: CompiledView.of(engine, view) for name, view in views.items()}
        self._seen: Snapshot | None = None
        self._tables: dict[str, Appended] = {}
        self._asking: dict[tuple[str, int], str] = {}
        self._compiling = Lock()

    def refresh(self, lake: Lake) -> list[ViewReport]:
        """Append to each view table what the lake has had since it was built; returns one report a view."""
        self._seen = snapshot = lake.snapshot()
        self._tables = {name: self._table(name, snapshot) for name in self.views}
        reports = self._for_each_type(partial(self._refresh_type, lake=snapshot), self._tables.values(), snapshot)
        return [report for some in reports for report in some]

    def _for_each_type(
        self, work: Callable[[Engine, str], Result], tables: Iterable[Appended], lake: Snapshot
    ) -> list[Result]:
        """Work on the resource types: several at once, but one after the other where one of `tables` is built anew.

        To build one keeps all cores busy, and takes the memory for it.
        """
        if any(table.built_to(lake) is None for table in tables):
            return in_turn(self.engine, work, self._types())
        return self.engine.each(work, self._types(), OF_ONE_TYPE)

    def _refresh_type(self, engine: Engine, resource_type: str, lake: Snapshot) -> list[ViewReport]:
        return [self._refresh_view(engine, name, lake) for name in self._of_type(resource_type)]

    def seen(self, lake: Lake) -> Snapshot:
        """The lake as the last `refresh` saw it: a sync that came since is for the next one."""
        return self._seen or lake.snapshot()

    def _types(self) -> list[str]:
        return sorted({view.resource for view in self.views.values()})

    def _of_type(self, resource_type: str) -> Iterable[str]:
        return (name for name, view in self.views.items() if view.resource == resource_type)

    def _scan_lake(self, engine: Engine, resource_type: str, lake: Snapshot, since: int = 0) -> list[LakeFile]:
        files = [file for file in lake.files if file.resource_type == resource_type and file.sync > since]
        engine.scan(LAKE, lake_parts(files), SCHEMA)
        return files

    def _refresh_view(self, engine: Engine, name: str, lake: Snapshot) -> ViewReport:
        table = self._tables[name]
        built = table.built_to(lake)
        written = 0
        if built is None or built < lake.sync_number:
            since = built or 0
            files = self._scan_lake(engine, self.views[name].resource, lake, since)
            modified = any(may_be_modified(file.path) for file in files)  # to ask is cheaper than to look
            engine.view(RESOURCES, self._sql(_not_modified if modified else _not_deleted, since))
            view = self.views[name]
            written = table.append(engine, view.sql, ibis.schema(dict(view.columns)), lake)
        table.forget_others()
        return ViewReport(name, written, built is None)

    def _table(self, name: str, lake: Snapshot) -> Appended:
        return Appended.of(self._path, name, lake.identity, self.views[name].sql, MODIFIER)

    def forget(self) -> None:
        """Delete all view tables; `refresh` builds them from the first sync on."""
        for name in (*self.views, ".superseded"):
            shutil.rmtree(self._path / name, ignore_errors=True)

    def identity(self, lake: Lake) -> str:
        """What the view tables are made of: another lake, or another view, is another identity."""
        snapshot = self.seen(lake)
        return "\n".join(f"{name} {self._table(name, snapshot).folder.name}" for name in sorted(self.views))

    def offer(self, lake: Lake) -> None:
        """Make all rows, and the versions that are superseded, what SQL reads. After `refresh`."""
        snapshot, folder = self.seen(lake), self._path / ".superseded"
        listed = {kind: Appended.of(folder, kind, snapshot.identity, ORDER) for kind in self._types()}
        self._for_each_type(partial(self._offer_type, tables=listed, lake=snapshot), listed.values(), snapshot)

    def _offer_type(self, engine: Engine, resource_type: str, tables: Mapping[str, Appended], lake: Snapshot) -> None:
        for name in self._of_type(resource_type):
            self._tables[name].scan(engine, f"view_{name}")
        table = tables[resource_type]
        built = table.built_to(lake)
        if built is None or built < lake.sync_number:
            self._scan_lake(engine, resource_type, lake, built or 0)
            if built is None:
                found = self._sql(_first_superseded)
            else:
                self._offer_versions(engine, resource_type, lake, built)
                table.scan(engine, SUPERSEDED)
                found = self._sql(_more_superseded)
            table.append(engine, found, ibis.schema(VERSION_TYPES), lake)
        table.forget_others()
        table.scan(engine, SUPERSEDED)
        engine.fill(f"superseded_{resource_type}", self._sql(_listed))

    def _offer_versions(self, engine: Engine, resource_type: str, lake: Snapshot, since: int) -> None:
        """Make all versions of the resources that the syncs after `since` brought what SQL reads."""
        ids = engine.arrow(self._sql(_brought, since))["id"].combine_chunks()
        engine.register(
            VERSIONS, versions_of(ids, (file for file in lake.files if file.resource_type == resource_type))
        )

    def rows_by_id(self, name: str, ids: pa.Array, columns: Sequence[str]) -> pa.Table:
        """These columns of the view `name`, of every version of the resources that have one of `ids`. After `offer`.

        Raises:
            MappingError: a file cannot be read.
        """
        return self._tables[name].rows_by_id(ids, columns)

    def offer_brought(self, lake: Lake, since: int) -> None:
        """Make the resources that the syncs after `since` brought what SQL reads. After `refresh`."""
        snapshot = self.seen(lake)

        def offer(engine: Engine, resource_type: str) -> None:
            self._scan_lake(engine, resource_type, snapshot, since)
            engine.fill(f"brought_{resource_type}", self._sql(_brought, since))

        self.engine.each(offer, self._types(), OF_ONE_TYPE)

    def _sql(self, asked: Callable[[int], ir.Table], since: int = 0) -> str:
        """The SQL of what is asked of the lake's rows of a type, compiled once for all types."""
        key = (asked.__name__, since)
        with self._compiling:
            if key not in self._asking:
                self._asking[key] = self.engine.compile(asked(since))
            return self._asking[key]


def _brought(since: int) -> ir.Table:
    return brought_since(lake_table(LAKE), since)


def _not_deleted(since: int) -> ir.Table:
    return lake_table(LAKE).filter(_["sync"] > since, ~_["deleted"])


def _not_modified(since: int) -> ir.Table:
    """Without what a modifier may negate (FHIR R4, 2.4.0.1): it is in the lake, and not used."""
    return _not_deleted(since).filter(~_["resource"].contains(MODIFIER))


def _first_superseded(_since: int) -> ir.Table:
    return superseded(several_versions(lake_table(LAKE)))


def _more_superseded(_since: int) -> ir.Table:
    every = ibis.table(ibis.Schema.from_pyarrow(VERSIONS_SCHEMA), name=VERSIONS)
    return superseded(every).anti_join(_listed(0), list(VERSION))


def _listed(_since: int) -> ir.Table:
    return ibis.table(VERSION_TYPES, name=SUPERSEDED)
