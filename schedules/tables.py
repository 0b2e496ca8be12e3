"""The view tables between the lake and the cohort: kept up to date by appending, and read in their current state.

View tables are Delta tables at ``views/<name>/<hash of the compiled view and of the lake's identity>``, append-only
like the lake. A view reads only lake rows of commits that it has not seen (`sync` above the ordinal it was built to,
kept as an app transaction in the same commit as the rows), so a night appends what changed. A changed view, or another
lake in the same place, is another hash: a table of its own, built anew, and the old one is deleted. Current rows are
those whose version the lake does not call superseded; those versions are few, so leaving them out is cheap.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from ibis import _

from connectors.lake import SCHEMA, Lake, LakeFile
from mappers.engine import DuckDBEngine
from mappers.errors import ViewError
from mappers.viewdefinition import ViewDefinition, sql
from schedules.batches import Counted

SHIPPED_VIEWS = Path(__file__).parent.parent / "mappers" / "views"
BUILT = "periop.view"
VERSION = ("site", "id", "version_id", "sync")
RESOURCES = "resources"  # the name of the table that `mappers.viewdefinition.sql` reads
BATCH = 100_000


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


def lake_rows(engine: DuckDBEngine, files: Sequence[LakeFile]) -> ir.Table | None:
    """Rows of lake files, with the partition columns that are not in the files; None for no files."""
    key = lambda file: (file.site, file.resource_type)  # noqa: E731
    parts = [
        engine.read_parquet([file.path for file in group]).mutate(
            site=ibis.literal(site), resource_type=ibis.literal(kind)
        )
        for (site, kind), group in groupby(sorted(files, key=key), key=key)
    ]
    return ibis.union(*parts) if len(parts) > 1 else (parts[0] if parts else None)


@dataclass(frozen=True)
class _Snapshot:
    """The lake at one moment. `ordinal` is read first: a sync that comes meanwhile is for the next refresh."""

    ordinal: int
    identity: str
    files: tuple[LakeFile, ...]

    @classmethod
    def of(cls, lake: Lake) -> _Snapshot:
        identity = str(DeltaTable(str(lake.path)).metadata().id) if lake.exists() else ""
        return cls(lake.ordinal(), identity, lake.files())

    def of_type(self, resource_type: str) -> list[LakeFile]:
        return [file for file in self.files if file.resource_type == resource_type]


class ViewStore:
    """The view tables of one data folder."""

    def __init__(self, path: Path, engine: DuckDBEngine, views: dict[str, ViewDefinition]) -> None:
        self._path = path
        self._engine = engine
        self._views = views
        self._compiled = {name: sql(view, VERSION) for name, view in views.items()}

    def refresh(self, lake: Lake, done: Callable[[ViewReport], None] = lambda _report: None) -> list[ViewReport]:
        """Append to each view table what the lake has had since it was built; returns one report a view."""
        snapshot = _Snapshot.of(lake)
        reports = []
        for name in self._views:
            report = self._refresh_one(name, snapshot)
            done(report)
            reports.append(report)
        return reports

    def _refresh_one(self, name: str, lake: _Snapshot) -> ViewReport:
        folder = self._folder(name, lake)
        built = _built_to(folder)
        if built is not None and built > lake.ordinal:  # an older copy of the lake was put back
            shutil.rmtree(folder)
            built = None
        written = self._append(folder, name, lake, built or 0) if built is None or built < lake.ordinal else 0
        for stale in folder.parent.iterdir():
            if stale != folder:
                shutil.rmtree(stale)
        return ViewReport(name, written, built is None)

    def _append(self, folder: Path, name: str, lake: _Snapshot, built: int) -> int:
        """One commit: the rows of the syncs after `built`, and up to which sync the view is built now."""
        rows = lake_rows(self._engine, lake.of_type(self._views[name].resource))
        rows = self._empty("no_resources", SCHEMA) if rows is None else rows
        fresh = rows.filter(_["sync"] > built, _["sync"] <= lake.ordinal, ~_["deleted"])
        self._engine.con.create_view(RESOURCES, fresh, overwrite=True)
        batches = self._engine.con.con.sql(self._compiled[name]).to_arrow_reader(BATCH)
        counted = Counted(batches)
        folder.mkdir(parents=True, exist_ok=True)
        write_deltalake(
            str(folder),
            pa.RecordBatchReader.from_batches(batches.schema, counted),
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(BUILT, lake.ordinal, None)]),
        )
        return counted.rows

    def _empty(self, name: str, schema: pa.Schema) -> ir.Table:
        self._engine.con.con.register(name, schema.empty_table())
        return self._engine.con.table(name)

    def _folder(self, name: str, lake: _Snapshot) -> Path:
        digest = hashlib.sha256(f"{lake.identity}\n{self._compiled[name]}".encode()).hexdigest()
        return self._path / name / digest[:16]

    def current(self, lake: Lake, sites: Sequence[str]) -> dict[str, ir.Table]:
        """The current rows of every view that came from `sites`, without the version columns."""
        snapshot = _Snapshot.of(lake)
        superseded: dict[str, ir.Table | None] = {}
        tables = {}
        for name, view in self._views.items():
            if view.resource not in superseded:
                superseded[view.resource] = self._superseded(snapshot, view.resource)
            rows, old = self._rows(name, snapshot), superseded[view.resource]
            rows = rows.filter(_["site"].isin(list(sites)))
            tables[name] = (rows if old is None else rows.anti_join(old, list(VERSION))).drop("version_id", "sync")
        return tables

    def _rows(self, name: str, lake: _Snapshot) -> ir.Table:
        """All rows of a view table; that of a view to which no resource has come yet has no file."""
        table = DeltaTable(str(self._folder(name, lake)))
        if files := table.file_uris():
            return self._engine.read_parquet(files)
        return self._empty(f"no_{name}", pa.schema(table.schema().to_arrow()))

    def _superseded(self, lake: _Snapshot, resource_type: str) -> ir.Table | None:
        """(site, id, version_id, sync) of what is no longer current; None where there is no resource.

        A deletion is a version of which no view has rows: after one, every version with rows is superseded.
        """
        rows = lake_rows(self._engine, lake.of_type(resource_type))
        if rows is None:
            return None
        resource = ["site", "id"]
        newest_first = [
            _["last_updated"].try_cast("timestamp('UTC')").desc(nulls_first=False),
            _["sync"].desc(),
            _["version_id"].desc(),
        ]
        several = rows.group_by(resource).agg(versions=_.count()).filter(_["versions"] > 1)
        versions = rows.select(*VERSION, "last_updated", "deleted").semi_join(several, resource)
        nth = ibis.row_number().over(ibis.window(group_by=resource, order_by=newest_first))
        current = versions.mutate(nth=nth).filter(_["nth"] == 0, ~_["deleted"])
        superseded = versions.anti_join(current, list(VERSION)).select(*VERSION)
        return materialise(self._engine, f"superseded_{resource_type}", superseded)


def _built_to(folder: Path) -> int | None:
    """The lake ordinal up to which a view table was built; None where there is none."""
    if not DeltaTable.is_deltatable(str(folder)):
        return None
    return DeltaTable(str(folder)).transaction_version(BUILT)


def materialise(engine: DuckDBEngine, name: str, table: ir.Table) -> ir.Table:
    """Run `table` once into a temporary table of the engine and read from there."""
    engine.con.raw_sql(temporary(engine, name, table))
    return engine.con.table(name)


def temporary(engine: DuckDBEngine, name: str, table: ir.Table) -> str:
    """The statement that runs `table` into the temporary table `name`."""
    return f'CREATE OR REPLACE TEMP TABLE "{name}" AS {engine.con.compile(table)}'
