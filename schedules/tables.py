"""The tables between the lake and the results: view tables kept up to date, the current state, cohort files.

View tables are Delta tables at ``views/<name>/<hash of the compiled view>``, append-only like the lake. A view reads
only lake rows of commits that it has not seen (`sync` above the ordinal it was built to, kept as an app transaction
in the same commit as the rows), so a night appends what changed. A changed view is another hash: a table of its own,
built anew, and the old one is deleted. Current rows are those whose version the lake says is current.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from ibis import _

from connectors.lake import SCHEMA, Lake, LakeFile
from mappers.cohort import Sources, build
from mappers.engine import DuckDBEngine
from mappers.study import Study
from mappers.terminology import Terminology
from mappers.viewdefinition import ViewDefinition, sql, view_table

TABLES = ("adsl", "adrs", "adtte", "adae", "quality")
SHIPPED_VIEWS = Path(__file__).parent.parent / "mappers" / "views"
BUILT = "periop.view"
VERSION = ("site", "id", "version_id", "sync")


@dataclass(frozen=True)
class ViewReport:
    """What a refresh did to one view table: rows appended, and whether it was built from the first commit on."""

    name: str
    rows: int
    rebuilt: bool


def load_views(*folders: Path) -> dict[str, ViewDefinition]:
    """The ViewDefinitions of the shipped folder and of `folders`, by file name; a later folder replaces a view."""
    files = {path.stem: path for folder in (SHIPPED_VIEWS, *folders) for path in sorted(folder.glob("*.json"))}
    return {name: ViewDefinition.load(path) for name, path in sorted(files.items())}


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


class ViewStore:
    """The view tables of one data folder."""

    def __init__(self, path: Path, engine: DuckDBEngine, views: dict[str, ViewDefinition]) -> None:
        self._path = path
        self._engine = engine
        self._views = views
        self._current: dict[str, ir.Table] = {}

    def refresh(self, lake: Lake, done: Callable[[ViewReport], None] = lambda _report: None) -> list[ViewReport]:
        """Append to each view table what the lake has had since it was built; returns one report a view."""
        reports = []
        for name, view in self._views.items():
            report = self._refresh_one(name, view, lake)
            done(report)
            reports.append(report)
        return reports

    def _refresh_one(self, name: str, view: ViewDefinition, lake: Lake) -> ViewReport:
        folder = self._folder(name, view)
        built = _built_to(folder)
        rows = lake_rows(self._engine, lake.files(view.resource))
        written = 0
        if rows is None or built is None or built < lake.ordinal():
            written = self._append(folder, view, rows, built or 0, lake.ordinal())
        for stale in folder.parent.iterdir():
            if stale != folder:
                shutil.rmtree(stale)
        return ViewReport(name, written, built is None)

    def _append(self, folder: Path, view: ViewDefinition, rows: ir.Table | None, built: int, ordinal: int) -> int:
        fresh = self._no_rows() if rows is None else rows.filter(_["sync"] > built, ~_["deleted"])
        expression = view_table(view, fresh, keep=VERSION)
        batches = read_batches(self._engine, expression)
        counted = _Counted(batches)
        folder.mkdir(parents=True, exist_ok=True)
        write_deltalake(
            str(folder),
            pa.RecordBatchReader.from_batches(batches.schema, counted),
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(BUILT, ordinal, None)]),
        )
        return counted.rows

    def _no_rows(self) -> ir.Table:
        self._engine.con.con.register("no_rows", SCHEMA.empty_table())
        return self._engine.con.table("no_rows")

    def _folder(self, name: str, view: ViewDefinition) -> Path:
        return self._path / name / hashlib.sha256(sql(view, VERSION).encode()).hexdigest()[:16]

    def current(self, lake: Lake) -> dict[str, ir.Table]:
        """The current rows of every view, without the version columns."""
        tables = {}
        for name, view in self._views.items():
            files = DeltaTable(str(self._folder(name, view))).file_uris()
            rows = self._engine.read_parquet(files)
            keys = self._current_versions(lake, view.resource)
            tables[name] = (rows if keys is None else rows.semi_join(keys, list(VERSION))).drop("version_id", "sync")
        return tables

    def _current_versions(self, lake: Lake, resource_type: str) -> ir.Table | None:
        """(site, id, version_id, sync) of the newest version of each resource that is not deleted."""
        if resource_type not in self._current:
            rows = lake_rows(self._engine, lake.files(resource_type))
            if rows is None:
                return None
            newest = ibis.row_number().over(
                ibis.window(
                    group_by=["site", "id"],
                    order_by=[
                        _["last_updated"].try_cast("timestamp('UTC')").desc(nulls_first=False),
                        _["sync"].desc(),
                        _["version_id"].desc(),
                    ],
                )
            )
            keys = rows.select(*VERSION, "last_updated", "deleted").mutate(nth=newest)
            keys = keys.filter(_["nth"] == 0, ~_["deleted"]).select(*VERSION)
            self._current[resource_type] = materialise(self._engine, f"current_{resource_type}", keys)
        return self._current[resource_type]


class _Counted:
    """An iterator of record batches that counts the rows that went through it."""

    def __init__(self, batches: pa.RecordBatchReader) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def _built_to(folder: Path) -> int | None:
    """The lake ordinal up to which a view table was built; None where there is none."""
    if not DeltaTable.is_deltatable(str(folder)):
        return None
    return DeltaTable(str(folder)).transaction_version(BUILT)


def read_batches(engine: DuckDBEngine, table: ir.Table, rows: int = 100_000) -> pa.RecordBatchReader:
    """The rows of `table` as a stream of record batches of at most `rows`."""
    return engine.con.con.sql(str(engine.con.compile(table))).to_arrow_reader(rows)


def materialise(engine: DuckDBEngine, name: str, table: ir.Table) -> ir.Table:
    """Run `table` once into a temporary table of the engine and read from there."""
    engine.con.raw_sql(f'CREATE OR REPLACE TEMP TABLE "{name}" AS {engine.con.compile(table)}')
    return engine.con.table(name)


def build_cohort(
    engine: DuckDBEngine, views: dict[str, ir.Table], terminology: Terminology, study: Study, cut: date
) -> dict[str, pa.Table]:
    """The cohort tables at one data cut, by name. What is read several times is materialised in the engine."""

    def keep(name: str, table: ir.Table) -> ir.Table:
        return materialise(engine, f"{name}_{cut:%Y%m%d}", table)

    engine.con.con.register("terminology", terminology.rows)
    bound = terminology.bound(engine.con.table("terminology"))
    tables = build(Sources(views, bound, study, cut, keep))
    return {name: read_batches(engine, getattr(tables, name)).read_all() for name in TABLES}


def write_cohort(
    cuts: Mapping[str | None, dict[str, pa.Table]],
    set_aside: Mapping[str, Mapping[tuple[str, str], int]],
    folder: Path,
) -> None:
    """Write the cohort tables of every cut as Parquet and put the whole folder in place at once.

    The main cut (None) lies in `folder`, the others in ``cuts/<id>``. `set_aside` counts what is in quarantine by
    site, then (domain, issue); it joins the quality list. A kill leaves the old folder or the new one.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    for cut, tables in cuts.items():
        target = new if cut is None else new / "cuts" / cut
        target.mkdir(parents=True)
        for name in TABLES:
            table = with_quarantine(tables[name], set_aside) if name == "quality" else tables[name]
            pq.write_table(table, target / f"{name}.parquet")
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def with_quarantine(quality: pa.Table, set_aside: Mapping[str, Mapping[tuple[str, str], int]]) -> pa.Table:
    """The quality list with the quarantine in it, in its order."""
    rows = quality.to_pylist()
    for site, counts in set_aside.items():
        for (domain, issue), count in counts.items():
            rows.append({"SITEID": site, "DOMAIN": domain, "ISSUE": issue, "COUNT": count})
    rows.sort(key=lambda row: (row["SITEID"], row["DOMAIN"], row["ISSUE"]))
    return pa.Table.from_pylist(rows, schema=quality.schema)
