"""The cohort tables of a study at each of its data cuts: SQL compiled once, run once a cut.

The data cut is a function of the engine, so the same SQL serves every cut, and what does not ask for the cut is run
once. The SQL reads tables by name, beside those of `schedules.tables`: ``current_<view>`` has the current rows of the
patients that are derived, ``everybody_<view>`` those of all, ``touched`` (site, patient) says who is derived.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from mappers.cohort import Sources, build
from mappers.cohort.facts import RESOURCE, RESOURCE_TYPES, subject_identifier
from mappers.cohort.patients import OWNER, VIEWS, of_patients, owners
from mappers.engine import Engine, Item, Result, in_turn
from mappers.study import Study
from mappers.terminology import Terminology
from schedules.tables import CompiledView, all_rows, brought, old_versions
from schedules.tables import current as current_rows

PATIENT_TABLES = ("adsl", "adrs", "adtte", "adae", "quality")  # rows of patients, in the order of USUBJID
FEW = 1_000  # patients whose rows at several data cuts may be in memory at once
QUERIES = (*PATIENT_TABLES, "unowned")
QUOTED = re.compile(r"[\"`](\w+)[\"`]")  # a name in SQL as Ibis writes it, for whatever engine
LARGEST = ("observation", "medication_administration")  # have most of the rows: what takes long is begun first
Views = Mapping[str, CompiledView]
Statement = tuple[str, str]  # the name of a temporary table, and SQL
Each = Callable[[Engine, Callable[[Engine, Any], Any], Sequence[Any]], Any]


@ibis.udf.scalar.builtin(name="periop_cut", signature=((), dt.date))  # type: ignore[untyped-decorator]
def _cut() -> date: ...  # type: ignore[empty-body]


@dataclass(frozen=True)
class CohortProgram:
    """The compiled cohort: statements (temporary table, SQL) in order, and a query for each result.

    `everybody` and `touched` have the SQL of the current rows of each view: of all patients, and of those who are
    derived again.
    """

    statements: tuple[tuple[str, str], ...]
    queries: Mapping[str, str]
    everybody: Mapping[str, str] = field(default_factory=dict)
    touched: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def compile(
        cls, engine: Engine, views: Views, sites: Sequence[str], terminology: Terminology, study: Study
    ) -> CohortProgram:
        """Compile for views of these columns, and what came from these sites; runs nothing."""
        statements: list[tuple[str, str]] = []

        def keep(name: str, table: ir.Table) -> ir.Table:
            statements.append((name, engine.compile(table)))
            return ibis.table(table.schema(), name=name)

        rows = {name: all_rows(name, views[name]).filter(_["site"].isin(list(sites))) for name in VIEWS}
        rows = {name: table.drop("key") for name, table in rows.items()}  # site and id name the resource
        everybody = {name: current_rows(rows[name], views[name]) for name in VIEWS}
        current = {name: ibis.table(table.schema(), name=f"current_{name}") for name, table in everybody.items()}
        named = {name: ibis.table(everybody[name].schema(), name=f"everybody_{name}") for name in RESOURCE_TYPES}
        known = terminology.rows.schema
        bound = terminology.bound(ibis.table(ibis.Schema.from_pyarrow(known), name="terminology"))
        tables = build(Sources(current, bound, study, _cut(), keep, named))
        touched = ibis.table({"site": "string", "patient": "string"}, name="touched")
        # First the few patients, then the versions: the other way round every row would be looked up.
        theirs = {name: current_rows(of_patients(rows[name], name, touched, current), views[name]) for name in VIEWS}
        results = {name: getattr(tables, name) for name in QUERIES}
        results["touched"] = _touched(views)
        results["subjects"] = touched.select(USUBJID=subject_identifier(study, touched["site"], touched["patient"]))
        return cls(
            tuple(statements),
            {name: engine.compile(table) for name, table in results.items()},
            {name: engine.compile(table) for name, table in everybody.items()},
            {name: engine.compile(table) for name, table in theirs.items()},
        )

    @classmethod
    def from_json(cls, value: Any) -> CohortProgram:
        """The program of which `as_json` gave this."""
        statements = tuple((name, text) for name, text in value["statements"])
        return cls(statements, value["queries"], value["everybody"], value["touched"])

    def as_json(self) -> dict[str, Any]:
        """The program as a value of JSON."""
        return asdict(self)

    def fill(self, engine: Engine, cut: date | None = None, each: Each = in_turn) -> None:
        """Fill the temporary tables that ask for the data cut, or without one those that do not.

        `each` fills tables that do not read each other, as `Engine.each`.
        """
        if cut is not None:
            engine.define_cut(cut)
        asking = self.of_the_cut()
        wanted = [(name, text) for name, text in self.statements if (name in asking) == (cut is not None)]
        for wave in _waves(wanted):
            each(engine, _filled, [wave[::2], wave[1::2]])

    def of_the_cut(self) -> frozenset[str]:
        """The temporary tables that ask for the data cut, or read a table that does."""
        asking: set[str] = set()
        for name, text in self.statements:
            if "periop_cut" in text.lower() or not asking.isdisjoint(QUOTED.findall(text)):
                asking.add(name)
        return frozenset(asking)


def _waves(statements: Sequence[Statement]) -> list[list[Statement]]:
    """The statements in groups that can be run one after the other: each reads tables of earlier groups only."""
    waves: list[list[Statement]] = []
    wave_of: dict[str, int] = {}
    for name, text in statements:
        number = 1 + max((wave_of.get(read, -1) for read in QUOTED.findall(text)), default=-1)
        wave_of[name] = number
        waves += [[]] if number == len(waves) else []
        waves[number].append((name, text))
    return waves


def _filled(engine: Engine, statements: Iterable[Statement]) -> None:
    for name, text in statements:
        engine.fill(name, text)


def _touched(views: Views) -> ir.Table:
    """(site, patient) of everybody of whom the syncs in question brought something.

    These are the patients to whom any version of a resource belonged that has a new one, a deletion included: a
    reference may have moved from one patient to another. Of a resource with an older version one is superseded.
    """
    found = []
    for name in OWNER:
        kind = views[name].resource
        rows, new = all_rows(name, views[name]), brought(kind)
        changed = new.semi_join(old_versions(kind), list(RESOURCE))
        found.append(owners(name, rows.semi_join(new.select("sync").distinct(), "sync")))
        found.append(owners(name, rows.semi_join(changed, list(RESOURCE))))
    return ibis.union(*found, distinct=True)


def columns_of(views: Views) -> str:
    """What a program depends on of the views, as text."""
    return "\n".join(f"{name} {views[name].resource} {dict(views[name].columns)}" for name in VIEWS)


def offer_everybody(engine: Engine, program: CohortProgram, terminology: Terminology) -> None:
    """Make the rows of all patients what a program reads."""
    _offer(engine, program, terminology)
    for name in VIEWS:
        engine.view(f"current_{name}", program.everybody[name])


def offer_touched(engine: Engine, program: CohortProgram, terminology: Terminology) -> pa.Array:
    """Make the rows of the patients of whom something came what a program reads, once in the life of an engine.

    What came is what `schedules.tables.ViewStore.offer_brought` offered. Returns USUBJID of these patients, in order.
    """
    _offer(engine, program, terminology)
    engine.fill("touched", program.queries["touched"])
    subjects = engine.arrow(program.queries["subjects"])["USUBJID"].combine_chunks().sort()

    def fill(beside: Engine, entity: str) -> None:
        for name in (entity, f"{entity}_coding"):  # in this order: a coding is of the patient of its resource
            if name in VIEWS:
                beside.fill(f"current_{name}", program.touched[name])

    each(engine, fill, sorted(RESOURCE_TYPES, key=lambda entity: entity not in LARGEST), subjects)
    return subjects


def each(
    engine: Engine,
    work: Callable[[Engine, Item], Result],
    items: Sequence[Item],
    subjects: pa.Array,
    own: Collection[str] = (),
) -> list[Result]:
    """`Engine.each` where the rows are those of a few patients; of many, one after the other: they take the memory."""
    return engine.each(work, items, own) if len(subjects) <= FEW else in_turn(engine, work, items)


def _offer(engine: Engine, program: CohortProgram, terminology: Terminology) -> None:
    engine.register("terminology", terminology.rows)
    for name in RESOURCE_TYPES:
        engine.view(f"everybody_{name}", program.everybody[name])


def data_cuts(study: Study) -> Iterator[tuple[str | None, date]]:
    """The data cuts of a study by id; the main one has none and is the first."""
    yield None, study.data_cut
    yield from ((cut.id, cut.date) for cut in study.cuts)
