"""The cohort of a study as SQL: compiled once, run for all patients or for those of whom something changed.

No rule of the cohort looks from one patient at another (`mappers.cohort.patients`), but for those who are one person
at several sites and are derived together, so the rows derived from the views of some patients are the rows of these
patients in a cohort of all. The SQL reads ``current_<view>``, which has the
current rows of the patients that are derived, and ``all_<view>`` with those of everybody, to count what has no patient.
The data cutoff is a function of the engine (`Engine.set_data_cutoff`), so one text serves all cutoffs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
from ibis import _

from mappers.build.linkage import linked_patients, shared_identifiers, with_linked
from mappers.build.persons import IDENTIFIERS, PersonQueries, keys_of, owned, person_queries
from mappers.build.views import CompiledView, Views
from mappers.cohort import ORDER, Sources, build
from mappers.cohort.asked import Asking, Question
from mappers.cohort.consent import turned
from mappers.cohort.consent_rule import ConsentRule
from mappers.cohort.diagnosis import candidates
from mappers.cohort.facts import DRUGS, KEY, RESOURCE, RESOURCE_TYPES, subject_identifier
from mappers.cohort.patients import MODIFIED, SHARED, VIEWS, of_patients, owners
from mappers.engines.base import CUTOFF, Engine
from mappers.study import Study
from mappers.terminology import Terminology

PATIENT_TABLES = tuple(ORDER)  # the tables with rows of patients; all have USUBJID
RESOURCE_KEY = "key"  # a column of every view that the cohort does not read: site and id name the resource
AFFECTED = "affected_patients"
AFFECTED_SUBJECTS = "affected_subjects"
AFFECTED_KEYS = "affected_keys"
Keep = Callable[[str, ir.Table], ir.Table]  # of `Sources`


@dataclass(frozen=True)
class DataCutoff:
    """A data cutoff of a study; the main one has no id."""

    id: str | None
    day: date


def data_cutoffs(study: Study) -> Iterator[DataCutoff]:
    """Yield the data cutoffs of a study, the main one first."""
    yield DataCutoff(None, study.data_cut)
    for cut in study.cuts:
        yield DataCutoff(cut.id, cut.date)


@dataclass(frozen=True)
class Statement:
    """SQL whose rows are kept as `table`, because several queries read them. `by_cutoff`: they depend on the cutoff."""

    table: str
    sql: str
    by_cutoff: bool


@dataclass(frozen=True)
class CompiledCohort:
    """The SQL of the cohort tables, all of one engine.

    Attributes:
        statements: what to run before the queries, in this order.
        tables: by table of patients the query for its rows, in their published order.
        merged: the same with the rows of the other patients, from the registered table ``previous_<table>``.
        unowned: the query for the counts of resources that belong to no patient, by site.
        derived: the query for the number of patients with the condition among those that are derived.
        all_current: by view the query for the current rows of all patients.
        affected_current: by view the query for those of the registered `affected_patients`.
        affected: the query for (site, patient) of the patients to whom a changed resource belongs or belonged.
        affected_subjects: the query for USUBJID of the registered `affected_patients`.
        affected_keys: the query for the keys by which resources refer to them.
        persons: the queries by which these keys are looked up (`mappers.build.persons`).
        asked: the meanings that the rules ask for.
        linkage: the query for identifiers that several sites have; None where patients are not linked across sites.
    """

    statements: tuple[Statement, ...]
    tables: Mapping[str, str]
    merged: Mapping[str, str]
    unowned: str
    derived: str
    all_current: Mapping[str, str]
    affected_current: Mapping[str, str]
    affected: str
    affected_subjects: str
    affected_keys: str
    persons: PersonQueries
    asked: tuple[Question, ...]
    linkage: str | None = None

    @classmethod
    def from_json(cls, value: Any) -> CompiledCohort:
        """Return the cohort of which `as_json` returned `value`."""
        parts = {
            "statements": tuple(Statement(**each) for each in value["statements"]),
            "persons": PersonQueries(**value["persons"]),
            "asked": tuple((view, element, name) for view, element, name in value["asked"]),
        }
        return cls(**{**value, **parts})

    def as_json(self) -> dict[str, Any]:
        """Return the cohort as a JSON value, for the cache of compiled SQL."""
        return asdict(self)

    def prepare(self, engine: Engine, done: Callable[[], None] = lambda: None) -> None:
        """Run the statements that do not depend on the data cutoff; call `done` after each."""
        self._run(engine, done, by_cutoff=False)

    def prepare_cutoff(self, engine: Engine, day: date, done: Callable[[], None] = lambda: None) -> None:
        """Set the data cutoff, and run the statements that depend on it. After `prepare`; calls `done` as that does."""
        engine.set_data_cutoff(day)
        self._run(engine, done, by_cutoff=True)

    def statement_count(self, *, by_cutoff: bool) -> int:
        """Return how many statements depend on the data cutoff, or do not."""
        return sum(statement.by_cutoff == by_cutoff for statement in self.statements)

    def _run(self, engine: Engine, done: Callable[[], None], *, by_cutoff: bool) -> None:
        for statement in self.statements:
            if statement.by_cutoff == by_cutoff:
                engine.create_table_as(statement.table, statement.sql)
                done()


class Statements:
    """The statements of a cohort, collected while it is built, with those that depend on the data cutoff."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_cutoff: set[str] = set()
        self.found: list[Statement] = []

    def keep(self, name: str, table: ir.Table) -> ir.Table:
        """Compile `table` into a statement; return what reads its result."""
        read = {node.name for node in table.op().find(ops.UnboundTable)}
        called = {node.__func_name__ for node in table.op().find(ops.ScalarUDF)}
        by_cutoff = CUTOFF in called or not self._by_cutoff.isdisjoint(read)
        if by_cutoff:
            self._by_cutoff.add(name)
        self.found.append(Statement(name, self._engine.compile(table), by_cutoff))
        return ibis.table(table.schema(), name=name)


def compile_cohort(
    engine: Engine,
    views: Views,
    sites: Sequence[str],
    terminology: Terminology,
    study: Study,
    identifier_systems: Sequence[str] = (),
    consent: Sequence[ConsentRule] = (),
) -> CompiledCohort:
    """Compile the cohort of `study` at `sites` for views of these columns. Runs nothing.

    By identifiers of `identifier_systems` a patient who is known at several sites is found, to be counted once;
    `consent` says which sites ask for what consent.
    """
    rows = _versions(views, sites)
    everybody = _current(views, rows)
    statements = Statements(engine)
    linked = linked_patients() if identifier_systems else None
    sources = named_sources(everybody, terminology, study, statements.keep, linked, consent)
    built = build(sources)
    # Kept, because the query for all patients and that for the affected ones read the same rows.
    tables = {name: statements.keep(f"new_{name}", getattr(built, name)) for name in PATIENT_TABLES}

    patients = ibis.table({"site": "string", "patient": "string"}, name=AFFECTED)
    subjects = patients.select(USUBJID=subject_identifier(study, patients["site"], patients["patient"]))
    keys = ibis.table(patients.schema(), name=AFFECTED_KEYS)
    # First the few patients, then the current versions: the other way round every row would be compared.
    affected = _current(views, {name: of_patients(rows[name], name, keys, sources.views) for name in VIEWS})

    changed, linkage = _affected(views), None
    if identifier_systems:
        identifiers = views[IDENTIFIERS].current(rows[IDENTIFIERS])
        linkage = engine.compile(shared_identifiers(everybody["patient"], identifiers, identifier_systems))
    if consent:
        changed = ibis.union(changed, turned(everybody, consent), distinct=True)
    if identifier_systems:
        changed = with_linked(changed)

    compiled = engine.compile
    return CompiledCohort(
        statements=tuple(statements.found),
        tables={name: compiled(tables[name].order_by(*order)) for name, order in ORDER.items()},
        merged={name: compiled(merged(name, tables[name]).order_by(*order)) for name, order in ORDER.items()},
        unowned=compiled(built.unowned),
        derived=compiled(candidates(sources).aggregate(patients=_.count())),
        all_current={name: compiled(table) for name, table in everybody.items()},
        affected_current={name: compiled(table) for name, table in affected.items()},
        affected=compiled(changed),
        affected_subjects=compiled(subjects),
        affected_keys=compiled(keys_of(patients)),
        persons=person_queries(engine, views, rows),
        asked=tuple(sorted(sources.questions)),
        linkage=linkage,
    )


def current_sources(
    views: Views,
    sites: Sequence[str],
    terminology: Terminology,
    study: Study,
    keep: Keep,
) -> Sources:
    """Return the current rows that are registered for the SQL of a cohort, for other questions than its tables."""
    return named_sources(_current(views, _versions(views, sites)), terminology, study, keep)


def named_sources(
    everybody: Mapping[str, ir.Table],
    terminology: Terminology,
    study: Study,
    keep: Keep,
    linked: ir.Table | None = None,
    consent: Sequence[ConsentRule] = (),
) -> Asking:
    """Return sources that read registered names, of the columns of the views in `everybody`."""
    current = {name: ibis.table(table.schema(), name=f"current_{name}") for name, table in everybody.items()}
    of_all = {name: ibis.table(everybody[name].schema(), name=f"all_{name}") for name in RESOURCE_TYPES}
    held = {
        name: ibis.table(ibis.Schema.from_pyarrow(rows.schema), name=name) for name, rows in terminology.tables.items()
    }
    return Asking(current, terminology.bound(held), study, keep, of_all, linked, tuple(consent))


def _versions(views: Views, sites: Sequence[str]) -> dict[str, ir.Table]:
    """Return the rows of all versions at `sites` by view."""
    names = (*VIEWS, IDENTIFIERS)
    return {name: views[name].all_rows.filter(_["site"].isin(list(sites))).drop(RESOURCE_KEY) for name in names}


def _current(views: Views, rows: Mapping[str, ir.Table]) -> dict[str, ir.Table]:
    """Return what of the `rows` of each view is current and may be used, and what is set aside for its modifiers."""
    found = {name: views[name].current(rows[name]) for name in VIEWS}
    found |= {name: owned(found[name]) for name in RESOURCE_TYPES}
    modified = [
        owned(views[name].set_aside(rows[name])).select(*KEY, resource_type=ibis.literal(resource_type))
        for name, resource_type in RESOURCE_TYPES.items()
    ]
    return {**found, MODIFIED: ibis.union(*modified)}


def merged(name: str, new: ir.Table) -> ir.Table:
    """Return the rows of the table in place without those of affected patients, and their new ones."""
    previous = ibis.table(new.schema(), name=f"previous_{name}")
    subjects = ibis.table({"USUBJID": "string"}, name=AFFECTED_SUBJECTS)
    return previous.anti_join(subjects, "USUBJID").union(new)


def _affected(views: Views) -> ir.Table:
    """Return (site, patient) of all to whom any version of a changed resource belongs.

    Any version, because a reference may have moved from one patient to another, and a deletion names nobody.
    """
    changed = {
        name: views[name].all_rows.semi_join(views[name].changed_resources, list(RESOURCE)) for name in RESOURCE_TYPES
    }
    shared = views[SHARED].changed_resources.select("site", medication=_["id"]).distinct()
    # A Medication has no patient of its own: it changes the drugs that refer to it.
    drugs = {name: views[name].all_rows.semi_join(shared, ["site", "medication"]) for name in DRUGS}
    return ibis.union(*(owners(owned(rows)) for rows in (*changed.values(), *drugs.values())), distinct=True)


def columns_of(views: Mapping[str, CompiledView]) -> str:
    """Return what a compiled cohort depends on of the views, as text."""
    return "\n".join(f"{name} {views[name].resource} {dict(views[name].columns)}" for name in (*VIEWS, IDENTIFIERS))


def register_all_patients(engine: Engine, cohort: CompiledCohort, terminology: Terminology) -> None:
    """Name the current rows of all patients, for `cohort` to be derived of them all."""
    register_everybody(engine, cohort, terminology)
    for name, sql in cohort.all_current.items():
        engine.create_view(f"current_{name}", sql)


def register_affected_patients(engine: Engine, cohort: CompiledCohort, terminology: Terminology) -> pa.Array:
    """Name the current rows of affected patients, for `cohort` to be derived of them, and return their USUBJID.

    They are those of the resources that `ViewTables.register_changes` named.
    """
    register_everybody(engine, cohort, terminology)
    engine.create_table_as(AFFECTED, cohort.affected)
    engine.create_table_as(AFFECTED_SUBJECTS, cohort.affected_subjects)
    _register_affected(engine, cohort)
    return engine.arrow(f"SELECT USUBJID FROM {AFFECTED_SUBJECTS}")["USUBJID"]  # noqa: S608


def register_one_patient(
    engine: Engine, cohort: CompiledCohort, terminology: Terminology, site: str, patient: str
) -> None:
    """Name the current rows of one person: `patient` is the id of the canonical record."""
    register_everybody(engine, cohort, terminology)
    engine.register_rows(AFFECTED, pa.table({"site": [site], "patient": [patient]}))
    _register_affected(engine, cohort)


def _register_affected(engine: Engine, cohort: CompiledCohort) -> None:
    engine.create_table_as(AFFECTED_KEYS, cohort.affected_keys)
    for name, sql in cohort.affected_current.items():  # codings come after the resources by which they are found
        engine.create_table_as(f"current_{name}", sql)


def register_everybody(engine: Engine, cohort: CompiledCohort, terminology: Terminology) -> None:
    """Name the rows of everybody, by which a patient is found and what has none is counted, and the terminology."""
    for name, rows in terminology.tables.items():
        engine.register_rows(name, rows)
    for name in RESOURCE_TYPES:
        engine.create_view(f"all_{name}", cohort.all_current[name])
