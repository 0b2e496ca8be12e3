"""The view tables between the lake and the cohort: kept up to date by appending, and read in their current state.

View tables follow the lake as `schedules.appended` says, one for each view, by the hash of the compiled view and of
the lake's identity: a changed view, or another lake in the same place, is a table of its own, built anew. Current rows
are those whose version is not in the list of superseded ones, which follows the lake in the same way.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis import _

from connectors.store.lake import Lake
from mappers.cohort.patients import OWNER, owners
from mappers.engine import RESOURCE, Engine
from mappers.errors import ViewError
from mappers.viewdefinition import ViewDefinition, sql, view_table
from schedules.appended import BATCH, Appended
from schedules.versions import VERSION, Snapshot, resources_since, superseded

SHIPPED_VIEWS = Path(__file__).parent.parent / "mappers" / "views"
MODIFIER = '"modifierExtension"'  # may negate what a resource says (FHIR R4, 2.4.0.1): it is in the lake, and not used
RESOURCES = "resources"  # the name of the table that a compiled view reads
ORDER = "newest last_updated, then sync, then version_id"  # what makes a version current; another rule, another list


@dataclass(frozen=True)
class ViewReport:
    """What a refresh did to one view table: rows appended, and whether it was built from the first commit on."""

    name: str
    rows: int
    rebuilt: bool


def load_views(*folders: Path) -> dict[str, ViewDefinition]:
    """The ViewDefinitions of the shipped folder and of `folders`, by file name; a later folder replaces a view.

    Raises:
        ViewError: a folder is not there, a view cannot be compiled, or it lacks a column that the cohort reads.
    """
    shipped = {path.stem: ViewDefinition.load(path) for path in sorted(SHIPPED_VIEWS.glob("*.json"))}
    views = dict(shipped)
    for folder in folders:
        if not folder.is_dir():
            raise ViewError(str(folder), "no such folder; correct mapping.views in periop.toml")
        for path in sorted(folder.glob("*.json")):
            views[path.stem] = _own_view(path, shipped.get(path.stem))
    return views


def _own_view(path: Path, replaced: ViewDefinition | None) -> ViewDefinition:
    """A view of the hospital's own, compiled once to see its faults, with every column of the one it replaces."""
    try:
        view = ViewDefinition.load(path)
        sql(view, VERSION)
    except ViewError as error:
        element = error.element.removeprefix(str(path))  # a file that is not JSON names itself
        raise ViewError(f"{path}: {element}" if element else str(path), error.problem) from None
    given = {column.name for column in view.columns()}
    missing = [column.name for column in (replaced.columns() if replaced else ()) if column.name not in given]
    if missing:
        raise ViewError(str(path), f"lacks the column(s) {', '.join(missing)} that the cohort reads; add them")
    return view


def compiled_view(engine: Engine, view: ViewDefinition) -> str:
    """The SQL of a view for `engine`, over the table `resources`, with the columns that name a version."""
    columns = {name: "int64" if name == "sync" else "string" for name in (*VERSION, RESOURCE)}
    return engine.compile(view_table(view, ibis.table(columns, name=RESOURCES), VERSION))


class ViewStore:
    """The view tables of one data folder. `compiled` is the SQL of the views, where it is known already."""

    def __init__(
        self,
        path: Path,
        engine: Engine,
        views: Mapping[str, ViewDefinition],
        compiled: Mapping[str, str] | None = None,
    ) -> None:
        self._path = path
        self._engine = engine
        self._views = views
        self._compiled = compiled or {name: compiled_view(engine, view) for name, view in views.items()}
        self._seen: Snapshot | None = None
        self._modified: dict[tuple[str, int], bool] = {}

    def refresh(self, lake: Lake, done: Callable[[ViewReport], None] = lambda _report: None) -> list[ViewReport]:
        """Append to each view table what the lake has had since it was built; returns one report a view."""
        self._seen = snapshot = Snapshot.of(lake)
        self._modified = {}
        reports = []
        for name in self._views:
            report = self._refresh_view(name, snapshot)
            done(report)
            reports.append(report)
        return reports

    def seen(self, lake: Lake) -> Snapshot:
        """The lake as the last `refresh` saw it: a sync that came since is for the next one."""
        return self._seen or Snapshot.of(lake)

    def _refresh_view(self, name: str, lake: Snapshot) -> ViewReport:
        table = self._table(name, lake)
        built = table.built_to(lake.ordinal)
        written = 0
        if built is None or built < lake.ordinal:
            self._engine.view(RESOURCES, self._usable(self._views[name].resource, built or 0, lake))
            written = table.append(self._engine.reader(self._compiled[name], BATCH), lake.ordinal)
        table.forget_others()
        return ViewReport(name, written, built is None)

    def _usable(self, resource_type: str, since: int, lake: Snapshot) -> ir.Table:
        """The rows of the syncs after `since` that a view may be made of."""
        rows = lake.rows(self._engine, resource_type).filter(_["sync"] > since, ~_["deleted"])
        modified = _["resource"].contains(MODIFIER)
        if (resource_type, since) not in self._modified:  # to look is cheaper than to filter for every view
            found = self._engine.arrow(self._engine.compile(rows.filter(modified).select("sync").limit(1)))
            self._modified[resource_type, since] = found.num_rows > 0
        return rows.filter(~modified) if self._modified[resource_type, since] else rows

    def _refresh_superseded(self, resource_type: str, lake: Snapshot) -> None:
        table = self._superseded(resource_type, lake)
        built = table.built_to(lake.ordinal)
        if built is None or built < lake.ordinal:
            found = superseded(lake.rows(self._engine, resource_type), built or 0)
            if built is not None:
                found = found.anti_join(table.rows(self._engine), list(VERSION))
            table.append(self._engine.reader(self._engine.compile(found), BATCH), lake.ordinal)
        table.forget_others()

    def _table(self, name: str, lake: Snapshot) -> Appended:
        return Appended.of(self._path, name, lake.identity, self._compiled[name], MODIFIER)

    def _superseded(self, resource_type: str, lake: Snapshot) -> Appended:
        return Appended.of(self._path / ".superseded", resource_type, lake.identity, ORDER)

    def forget(self) -> None:
        """Delete all view tables; `refresh` builds them from the first sync on."""
        for name in (*self._views, ".superseded"):
            shutil.rmtree(self._path / name, ignore_errors=True)

    def identity(self, lake: Lake) -> str:
        """What the view tables are made of: another lake, or another view, is another identity."""
        snapshot = self.seen(lake)
        return "\n".join(f"{name} {self._table(name, snapshot).folder.name}" for name in sorted(self._views))

    def current(self, lake: Lake, sites: Sequence[str]) -> dict[str, ir.Table]:
        """The current rows of every view that came from `sites`, without the version columns. After `refresh`."""
        snapshot = self.seen(lake)
        types = sorted({view.resource for view in self._views.values()})
        for resource_type in types:
            self._refresh_superseded(resource_type, snapshot)
        old = {resource_type: self._old_versions(resource_type, snapshot) for resource_type in types}
        tables = {}
        for name, view in self._views.items():
            rows = self._table(name, snapshot).rows(self._engine).filter(_["site"].isin(list(sites)))
            tables[name] = rows.anti_join(old[view.resource], list(VERSION)).drop("version_id", "sync")
        return tables

    def _old_versions(self, resource_type: str, lake: Snapshot) -> ir.Table:
        name = f"superseded_{resource_type}"
        self._engine.fill(name, self._engine.compile(self._superseded(resource_type, lake).rows(self._engine)))
        return self._engine.table(name)

    def touched(self, lake: Lake, since: int) -> ir.Table:
        """(site, patient) of everybody of whom a sync after `since` brought something. After `refresh`.

        These are the patients to whom any version of a resource belonged that has a new one, a deletion included: a
        reference may have moved from one patient to another.
        """
        snapshot = self.seen(lake)
        found = []
        for name in OWNER:
            brought = resources_since(snapshot.rows(self._engine, self._views[name].resource), since)
            rows = self._table(name, snapshot).rows(self._engine)
            found.append(owners(name, rows.semi_join(brought, ["site", "id"])))
        return ibis.union(*found, distinct=True)
