"""The cohort tables of a study at each of its data cuts: SQL compiled once, run once a cut.

The data cut is a function of the engine, so the same SQL serves every cut, and what does not ask for the cut is run
once. The SQL reads tables by name: ``current_<view>`` has the current rows of the patients that are derived,
``everybody_<view>`` those of all, ``touched`` (site, patient) says who is derived.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from mappers.cohort import Sources, build
from mappers.cohort.facts import RESOURCE_TYPES, subject_identifier
from mappers.cohort.patients import VIEWS, of_patients
from mappers.engine import Engine
from mappers.study import Study
from mappers.terminology import Terminology

PATIENT_TABLES = ("adsl", "adrs", "adtte", "adae", "quality")  # rows of patients, in the order of USUBJID
QUERIES = (*PATIENT_TABLES, "unowned")
QUOTED = re.compile(r"[\"`](\w+)[\"`]")  # a name in SQL as Ibis writes it, for whatever engine
Views = Mapping[str, ir.Table]


@ibis.udf.scalar.builtin(name="periop_cut", signature=((), dt.date))  # type: ignore[untyped-decorator]
def _cut() -> date: ...  # type: ignore[empty-body]


@dataclass(frozen=True)
class CohortProgram:
    """The compiled cohort: statements (temporary table, SQL) in order, and a query for each result."""

    statements: tuple[tuple[str, str], ...]
    queries: Mapping[str, str]

    @classmethod
    def compile(cls, engine: Engine, views: Views, terminology: Terminology, study: Study) -> CohortProgram:
        """Compile for views of these columns; runs nothing."""
        statements: list[tuple[str, str]] = []

        def keep(name: str, table: ir.Table) -> ir.Table:
            statements.append((name, engine.compile(table)))
            return ibis.table(table.schema(), name=name)

        current = {name: ibis.table(views[name].schema(), name=f"current_{name}") for name in VIEWS}
        everybody = {name: ibis.table(views[name].schema(), name=f"everybody_{name}") for name in RESOURCE_TYPES}
        rows = terminology.rows.schema
        bound = terminology.bound(ibis.table(ibis.Schema.from_pyarrow(rows), name="terminology"))
        tables = build(Sources(current, bound, study, _cut(), keep, everybody))
        touched = ibis.table({"site": "string", "patient": "string"}, name="touched")
        subjects = touched.select(USUBJID=subject_identifier(study, touched["site"], touched["patient"]))
        queries = {name: engine.compile(getattr(tables, name)) for name in QUERIES}
        return cls(tuple(statements), queries | {"subjects": engine.compile(subjects)})

    @classmethod
    def from_json(cls, value: Any) -> CohortProgram:
        """The program of which `as_json` gave this."""
        return cls(tuple((name, text) for name, text in value["statements"]), value["queries"])

    def as_json(self) -> dict[str, Any]:
        """The program as a value of JSON."""
        return {"statements": [list(statement) for statement in self.statements], "queries": dict(self.queries)}

    def fill(self, engine: Engine, cut: date, first: bool) -> None:
        """Fill the temporary tables for a data cut; after the `first`, those that ask for the cut."""
        engine.define_cut(cut)
        asking = self.of_the_cut()
        for name, text in self.statements:
            if first or name in asking:
                engine.fill(name, text)

    def of_the_cut(self) -> frozenset[str]:
        """The temporary tables that ask for the data cut, or read a table that does."""
        asking: set[str] = set()
        for name, text in self.statements:
            if "periop_cut" in text.lower() or not asking.isdisjoint(QUOTED.findall(text)):
                asking.add(name)
        return frozenset(asking)


def columns_of(views: Views) -> str:
    """Names and types of the columns that a program reads, as text."""
    return "\n".join(f"{name} {dict(views[name].schema().items())}" for name in VIEWS)


def offer_everybody(engine: Engine, views: Views, terminology: Terminology) -> None:
    """Make all rows of `views` what a program reads."""
    _offer(engine, views, terminology)
    for name in VIEWS:
        engine.view(f"current_{name}", views[name])


def offer_patients(engine: Engine, views: Views, terminology: Terminology, patients: ir.Table) -> None:
    """Make the rows of some patients (site, patient) what a program reads, once in the life of an engine."""
    _offer(engine, views, terminology)
    engine.fill("touched", engine.compile(patients))
    touched = engine.table("touched")
    own: dict[str, ir.Table] = {}
    for name in VIEWS:
        engine.fill(f"current_{name}", engine.compile(of_patients(views, name, touched, own)))
        own[name] = engine.table(f"current_{name}")


def _offer(engine: Engine, views: Views, terminology: Terminology) -> None:
    engine.register("terminology", terminology.rows)
    for name in RESOURCE_TYPES:
        engine.view(f"everybody_{name}", views[name])


def data_cuts(study: Study) -> Iterator[tuple[str | None, date]]:
    """The data cuts of a study by id; the main one has none and is the first."""
    yield None, study.data_cut
    yield from ((cut.id, cut.date) for cut in study.cuts)


def at_each_cut(
    engine: Engine, program: CohortProgram, study: Study, progress: Callable[[str], None]
) -> Iterator[str | None]:
    """Fill the temporary tables for one data cut after the other; its queries are to be run before the next."""
    for cut, day in data_cuts(study):
        progress(f"building the cohort at {day.isoformat()}")
        program.fill(engine, day, first=cut is None)
        yield cut


def subjects(engine: Engine, program: CohortProgram) -> pa.Array:
    """USUBJID of everybody who is derived again, after `offer_patients`."""
    return engine.arrow(program.queries["subjects"])["USUBJID"].combine_chunks()
