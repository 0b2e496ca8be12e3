"""The compiled cohort: which statements run again at each data cutoff, and rows of patients that replace old ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import ibis
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ibis import _

from mappers.build.cohort import CompiledCohort, Statement, Statements, merged
from mappers.build.persons import PersonQueries
from mappers.cohort.facts import Sources
from mappers.engines.base import Engine
from mappers.engines.duckdb import DuckDBEngine
from mappers.study import load_study
from mappers.terminology import load_terminology


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with DuckDBEngine(threads=1) as engine:
        yield engine


def test_what_depends_on_the_cutoff_is_known_from_the_expressions(engine: Engine) -> None:
    statements = Statements(engine)
    sources = Sources({}, load_terminology(), load_study("alneo"), statements.keep)
    doses = ibis.table({"patient": "string", "date": "date"}, name="current_dose")
    given = sources.once("doses", lambda: doses.filter(_["date"] <= sources.cutoff))
    sources.once("first", lambda: given.group_by("patient").agg(first=_["date"].min()))
    # the name of another table, or of the function, as a text is no dependency
    sources.once("people", lambda: doses.mutate(text=ibis.literal('"doses" periop_cutoff()')))
    sources.once("all", lambda: doses.semi_join(sources.kept["first"], "patient"))
    assert {each.table: each.by_cutoff for each in statements.found} == {
        "doses": True,
        "first": True,
        "people": False,
        "all": True,
    }


COHORT = CompiledCohort(
    statements=(
        Statement("numbers", "SELECT 1 AS n", by_cutoff=False),
        Statement("cutoff", "SELECT n, periop_cutoff() AS day FROM numbers", by_cutoff=True),
    ),
    tables={},
    merged={},
    unowned="",
    derived="",
    all_current={},
    affected_current={},
    affected="",
    affected_subjects="",
    affected_keys="",
    persons=PersonQueries("", ""),
    asked=(("observation", "code", "ecog-code"),),
)


def test_statements_of_a_cutoff_run_again_at_the_next(engine: Engine) -> None:
    COHORT.prepare(engine)
    for day in (date(2024, 12, 1), date(2025, 5, 5)):
        COHORT.prepare_cutoff(engine, day)
        assert engine.arrow("SELECT * FROM cutoff").to_pylist() == [{"n": 1, "day": day}]


def test_each_statement_is_told_when_it_is_done(engine: Engine) -> None:
    done: list[str] = []
    COHORT.prepare(engine, lambda: done.append("once"))
    COHORT.prepare_cutoff(engine, date(2024, 12, 1), lambda: done.append("cutoff"))
    assert done == ["once", "cutoff"]
    assert [COHORT.statement_count(by_cutoff=each) for each in (False, True)] == [1, 1]


def test_a_compiled_cohort_comes_back_from_its_json() -> None:
    assert CompiledCohort.from_json(COHORT.as_json()) == COHORT


ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3)), max_size=20)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=ROWS, new=ROWS, subjects=st.sets(st.sampled_from("abcdefgh")))
@example(old=[("b", 1), ("b", 2), ("d", 3)], new=[("a", 5), ("g", 6)], subjects={"a", "c", "g"})  # only new patients
@example(old=[("b", 1), ("d", 3)], new=[], subjects={"b", "d"})  # all are gone
@example(old=[], new=[("a", 1)], subjects={"a"})  # nobody was there
def test_rows_of_affected_patients_replace_their_old_ones(
    old: list[tuple[str, int]], new: list[tuple[str, int]], subjects: set[str], engine: Engine
) -> None:
    new = [row for row in new if row[0] in subjects]
    engine.register_rows("previous_adsl", as_table(old))
    engine.register_rows("affected_subjects", pa.table({"USUBJID": pa.array(sorted(subjects), pa.string())}))
    rows = merged("adsl", engine.register_rows("new", as_table(new)))
    found = engine.arrow(engine.compile(rows.order_by("USUBJID", "AVAL")))
    expected = sorted([row for row in old if row[0] not in subjects] + new)
    assert [(row["USUBJID"], row["AVAL"]) for row in found.to_pylist()] == expected


def as_table(rows: list[tuple[str, int]]) -> pa.Table:
    columns = {"USUBJID": [subject for subject, _ in rows], "AVAL": [value for _, value in rows]}
    return pa.table(columns, schema=pa.schema({"USUBJID": pa.string(), "AVAL": pa.int64()}))
