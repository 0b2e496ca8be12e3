"""The table of variables says what the code does: no column without an entry, no look-up that is not made."""

from __future__ import annotations

import pytest

from mappers.build.cohort import compile_cohort
from mappers.build.views import CompiledView
from mappers.cohort.variables import COLUMNS, CRITERIA, OF_PARAMETERS, PARAMETERS, VARIABLES, Table
from mappers.engines.duckdb import DuckDBEngine
from mappers.explain.evidence import asks, every_variable
from mappers.explain.explanation import setting
from mappers.study import load_study
from mappers.terminology import load_terminology
from mappers.view.shipped import load_views

STUDY = load_study("alneo")
# These qualify what other elements say, and are no evidence by themselves.
QUALIFYING = {
    ("certainty", "verification-status"),
    ("verificationStatus", "verification-status"),
    ("method", "staging-edition"),
}


@pytest.mark.parametrize("table", sorted(VARIABLES))
def test_every_column_has_an_entry(table: Table) -> None:
    assert list(VARIABLES[table]) == COLUMNS[table] or set(VARIABLES[table]) == set(COLUMNS[table])


@pytest.mark.parametrize("table", sorted(PARAMETERS))
def test_every_parameter_has_an_entry(table: Table) -> None:
    assert set(OF_PARAMETERS[table]) == set(PARAMETERS[table])


def test_what_a_variable_names_is_there() -> None:
    names = {name for table in (VARIABLES, OF_PARAMETERS) for variables in table.values() for name in variables}
    for variable in every_variable():
        assert set(variable.of) <= names
        assert variable.flag is None or variable.flag in names
        for name in variable.settings:
            setting(STUDY, name)
    assert {variable for _, variable, _ in CRITERIA} <= set(VARIABLES["ADSL"])


def test_the_value_sets_of_the_table_are_those_that_the_rules_ask_for() -> None:
    with DuckDBEngine() as engine:
        views = {name: CompiledView.of(engine, name, view) for name, view in load_views().items()}
        cohort = compile_cohort(engine, views, ["a"], load_terminology(), STUDY)
    # An answer is looked up in observations and reports alike.
    asked = {(element, name) for _view, element, name in cohort.asked}
    said = {(element, name) for _view, element, name in asks(STUDY)}
    assert said - asked == set()
    assert asked - said == QUALIFYING
