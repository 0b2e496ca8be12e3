"""The cohort tables of a study at each of its data cuts: SQL compiled once, run once a cut.

The data cut is a function of the engine, so the same SQL serves every cut, and what does not ask for the cut is run
once. Of a few patients all cuts are derived at once, as if a site at each cut were a site of its own.

The SQL reads tables by name, beside those of `mappers.build.views`: ``current_<view>`` has the current rows of the
patients that are derived, ``near_<view>`` the rows of codings among which theirs are, ``everybody_<view>`` the current
rows of all patients; ``touched`` (site, patient) says who is derived, ``cuts`` (at) what is put behind the name of
their sites.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from mappers.build.steps import Step
from mappers.build.views import CompiledView, ViewStore, all_rows, brought, old_versions
from mappers.build.views import current as current_rows
from mappers.cohort import Sources, build
from mappers.cohort.facts import RESOURCE, RESOURCE_TYPES, site_identifier, subject_identifier
from mappers.cohort.patients import CODINGS, OWNER, VIEWS, of_patients, owners
from mappers.engines.duckdb import AT, Engine, in_turn
from mappers.study import Study
from mappers.terminology import Terminology

PATIENT_TABLES = ("adsl", "adrs", "adtte", "adae", "quality")  # rows of patients, in the order of USUBJID
FEW = 1_000  # patients whose rows of several kinds, and at several data cuts, may be in memory at once
QUERIES = (*PATIENT_TABLES, "unowned")
QUOTED = re.compile(r"[\"`](\w+)[\"`]")  # a name in SQL as Ibis writes it, for whatever engine
LARGEST = ("observation", "medication_administration")  # have most of the rows: what takes long is begun first
KEY = "key"  # a column of every view that nothing here reads
Views = Mapping[str, CompiledView]
DataCut = tuple[str | None, date]  # its id, which the main one does not have
Rows = dict[str, pa.Table]  # by table of patients


@dataclass(frozen=True)
class CohortProgram:
    """The compiled cohort: statements (temporary table, SQL) in order, and a query for each result.

    `everybody` and `touched` have the SQL of the current rows of each view: of all patients, and of those who are
    derived again; `near` that of all rows of the codings, of every version.
    """

    statements: tuple[tuple[str, str], ...]
    queries: Mapping[str, str]
    everybody: Mapping[str, str] = field(default_factory=dict)
    touched: Mapping[str, str] = field(default_factory=dict)
    near: Mapping[str, str] = field(default_factory=dict)

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
        rows = {name: table.drop(KEY) for name, table in rows.items()}  # site and id name the resource
        everybody = {name: current_rows(rows[name], views[name]) for name in VIEWS}
        current = {name: ibis.table(table.schema(), name=f"current_{name}") for name, table in everybody.items()}
        named = {name: ibis.table(everybody[name].schema(), name=f"everybody_{name}") for name in RESOURCE_TYPES}
        known = terminology.rows.schema
        bound = terminology.bound(ibis.table(ibis.Schema.from_pyarrow(known), name="terminology"))
        tables = build(Sources(current, bound, study, keep, named))
        touched = ibis.table({"site": "string", "patient": "string"}, name="touched")
        # First the few patients, then the versions: the other way round every row would be looked up.
        own = {name: current[name].mutate(site=site_identifier(_["site"])) for name in RESOURCE_TYPES}
        near = rows | {name: ibis.table(rows[name].schema(), name=f"near_{name}") for name in CODINGS}
        theirs = {name: current_rows(of_patients(near[name], name, touched, own), views[name]) for name in VIEWS}
        cuts = ibis.table({"at": "string"}, name="cuts")
        results = {name: getattr(tables, name) for name in QUERIES}
        results["touched"] = _touched(views)
        results["subjects"] = touched.select(USUBJID=subject_identifier(study, touched["site"], touched["patient"]))
        return cls(
            tuple(statements),
            {name: engine.compile(table) for name, table in results.items()},
            {name: engine.compile(table) for name, table in everybody.items()},
            {name: engine.compile(_at_each(cuts, table)) for name, table in theirs.items()},
            {name: engine.compile(rows[name]) for name in CODINGS},
        )

    @classmethod
    def from_json(cls, value: Any) -> CohortProgram:
        """The program of which `as_json` gave this."""
        statements = tuple((name, text) for name, text in value["statements"])
        return cls(statements, value["queries"], value["everybody"], value["touched"], value["near"])

    def as_json(self) -> dict[str, Any]:
        """The program as a value of JSON."""
        return asdict(self)

    def fill(self, engine: Engine, cut: date | None = None) -> None:
        """Fill the temporary tables that ask for the data cut, or without one those that do not."""
        if cut is not None:
            engine.define_cut(cut)
        asking = self._of_the_cut()
        for name, text in self.statements:
            if (name in asking) == (cut is not None):
                engine.fill(name, text)

    def steps(self, rows: Rows) -> dict[str, Step]:
        """A step for each temporary table, which fills it, and one for each table of patients, which puts it in `rows`.

        The latter have the name of the table, in capitals.
        """
        names = {name for name, _ in self.statements}
        steps = {
            name: Step(partial(_fill, name=name, text=text), (names & set(QUOTED.findall(text))) - {name})
            for name, text in self.statements
        }
        for table in PATIENT_TABLES:
            text = self.queries[table]
            fetch = partial(_fetch, rows=rows, table=table, text=text)
            steps[table.upper()] = Step(fetch, names & set(QUOTED.findall(text)))
        return steps

    def _of_the_cut(self) -> frozenset[str]:
        """The temporary tables that ask for the data cut, or read a table that does."""
        asking: set[str] = set()
        for name, text in self.statements:
            if "periop_cut" in text.lower() or not asking.isdisjoint(QUOTED.findall(text)):
                asking.add(name)
        return frozenset(asking)


def _fill(engine: Engine, name: str, text: str) -> None:
    engine.fill(name, text)


def _fetch(engine: Engine, rows: Rows, table: str, text: str) -> None:
    rows[table] = engine.arrow(text)


def _at_each(cuts: ir.Table, rows: ir.Table) -> ir.Table:
    """`rows` for each of `cuts`, which becomes part of the site."""
    return rows.cross_join(cuts).mutate(site=_["site"] + _["at"]).drop("at")


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


def offer_touched(
    engine: Engine, program: CohortProgram, terminology: Terminology, cuts: Sequence[DataCut], store: ViewStore
) -> pa.Array:
    """Make the rows of the patients of whom something came what a program reads, once in the life of an engine.

    What came is what `store.offer_brought` offered. Returns USUBJID of these patients, in order.
    """
    _offer(engine, program, terminology)
    engine.define_cut(None)
    engine.fill("touched", program.queries["touched"])
    subjects = engine.arrow(program.queries["subjects"])["USUBJID"].combine_chunks().sort()
    at = sorted({f"{AT}{day.isoformat()}" for _, day in cuts}) if few(subjects) else [""]
    engine.register("cuts", pa.table({"at": at}))

    def fill(beside: Engine, entity: str) -> None:
        beside.fill(f"current_{entity}", program.touched[entity])
        coding = f"{entity}_coding"
        if coding not in CODINGS:
            return
        if entity in LARGEST and few(subjects):
            ids = beside.arrow(f"SELECT id FROM current_{entity}")["id"].combine_chunks()  # noqa: S608 a name of ours
            columns = [column for column in store.views[coding].columns if column != KEY]
            beside.register(f"near_{coding}", store.rows_by_id(coding, ids, columns))
        else:
            beside.view(f"near_{coding}", program.near[coding])
        beside.fill(f"current_{coding}", program.touched[coding])

    largest_first = sorted(RESOURCE_TYPES, key=lambda entity: entity not in LARGEST)
    if few(subjects):
        engine.each(fill, largest_first, ())
    else:  # one after the other: they take the memory
        in_turn(engine, fill, largest_first)
    return subjects


def few(subjects: pa.Array) -> bool:
    """Whether the rows of so many patients may be in memory at all data cuts, and several works be done at once."""
    return len(subjects) <= FEW


def _offer(engine: Engine, program: CohortProgram, terminology: Terminology) -> None:
    engine.register("terminology", terminology.rows)
    for name in RESOURCE_TYPES:
        engine.view(f"everybody_{name}", program.everybody[name])


def data_cuts(study: Study) -> Iterator[DataCut]:
    """The data cuts of a study by id; the main one has none and is the first."""
    yield None, study.data_cut
    yield from ((cut.id, cut.date) for cut in study.cuts)
