"""The cohort tables of a study at each of its data cuts: compiled once, run once a cut, put in place as one folder.

Compiling the cohort takes longer than running it on a few hundred patients, so the SQL of the first cut is run again
for the others; the cut itself is a macro of the engine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from mappers.cohort import Sources, build
from mappers.engine import DuckDBEngine
from mappers.study import Study
from mappers.terminology import Terminology
from schedules.tables import temporary

TABLES = ("adsl", "adrs", "adtte", "adae", "quality")
Cohort = dict[str, pa.Table]


@ibis.udf.scalar.builtin(name="periop_cut", signature=((), dt.date))  # type: ignore[untyped-decorator]
def _cut() -> date: ...  # type: ignore[empty-body]


@dataclass
class CohortProgram:
    """The compiled cohort: statements that fill temporary tables, in order, then one query a cohort table."""

    engine: DuckDBEngine
    statements: list[str] = field(default_factory=list)
    queries: dict[str, str] = field(default_factory=dict)

    def compile(self, views: Mapping[str, ir.Table], terminology: Terminology, study: Study) -> None:
        """Compile, and thereby fill the temporary tables for the data cut that the engine has now."""
        self.engine.con.con.register("terminology", terminology.rows)
        bound = terminology.bound(self.engine.con.table("terminology"))
        tables = build(Sources(views, bound, study, _cut(), self._keep))
        self.queries = {name: str(self.engine.con.compile(getattr(tables, name))) for name in TABLES}

    def _keep(self, name: str, table: ir.Table) -> ir.Table:
        """A temporary table with the rows of `table`."""
        statement = temporary(self.engine, name, table)
        self.engine.con.raw_sql(statement)
        self.statements.append(statement)
        return self.engine.con.table(name)

    def rerun(self) -> None:
        """Fill the temporary tables again, for another data cut."""
        for statement in self.statements:
            self.engine.con.raw_sql(statement)

    def tables(self) -> Cohort:
        """The cohort tables of the data cut that the engine has now."""
        return {name: self.engine.con.con.sql(query).to_arrow_table() for name, query in self.queries.items()}


def build_cohorts(
    engine: DuckDBEngine,
    views: Mapping[str, ir.Table],
    terminology: Terminology,
    study: Study,
    progress: Callable[[str], None],
) -> dict[str | None, Cohort]:
    """The cohort tables at every data cut of `study`; None is the main one."""
    cuts: dict[str | None, date] = {None: study.data_cut, **{cut.id: cut.date for cut in study.cuts}}
    program = CohortProgram(engine)
    cohorts: dict[str | None, Cohort] = {}
    for name, cut in cuts.items():
        progress(f"building the cohort at {cut.isoformat()}")
        engine.con.raw_sql(f"CREATE OR REPLACE MACRO periop_cut() AS DATE '{cut.isoformat()}'")
        if program.queries:
            program.rerun()
        else:
            program.compile(views, terminology, study)
        cohorts[name] = program.tables()
    return cohorts


def write_cohorts(
    cohorts: Mapping[str | None, Cohort], set_aside: Mapping[str, Mapping[tuple[str, str], int]], folder: Path
) -> None:
    """Write the cohort tables of every cut as Parquet and put the whole folder in place at once.

    The main cut (None) lies in `folder`, the others in ``cuts/<id>``. `set_aside` counts what is in quarantine by
    site, then (domain, issue); it joins the quality list. A kill leaves the old folder or the new one.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    for cut, tables in cohorts.items():
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
