"""Compiled paths against a slow, obvious evaluator: fhirpathpy (its faults mended), one path at a time."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mappers.engines.duckdb import DuckDBEngine
from mappers.view.runner import ViewDefinition, run_view
from tests.generative.reference_faults import PATIENT, evaluate

WORDS = st.sampled_from(["a", "b", "c", "it's", ""]).filter(bool)
USES = st.sampled_from(["official", "usual", "old"])
DATES = st.sampled_from(["1970", "1970-06", "1970-06-15", "1971-01-01", "1969-12"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of the fields, never an empty one (FHIR has none)."""
    return st.fixed_dictionaries({}, optional=fields).filter(bool)


def some(item: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(item, min_size=1, max_size=3)


NAMES = optional(use=USES, family=WORDS, given=some(WORDS))
TELECOMS = optional(system=st.sampled_from(["phone", "email"]), value=WORDS, rank=st.integers(1, 9))
# One of each url: extension() of fhirpathpy gives the first only; the specification says extension.where(url = …).
EXTENSIONS = st.lists(
    st.fixed_dictionaries({"url": st.sampled_from(["urn:x", "urn:y"]), "valueString": WORDS}),
    min_size=1,
    max_size=3,
    unique_by=lambda extension: extension["url"],
)
CHOICES = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"deceasedBoolean": st.booleans()}),
    st.fixed_dictionaries({"deceasedDateTime": DATES}),
)
BIRTHS = st.one_of(st.just({}), st.fixed_dictionaries({"multipleBirthInteger": st.integers(1, 4)}))
PATIENTS = st.tuples(
    st.fixed_dictionaries(
        {},
        optional={
            "active": st.booleans(),
            "birthDate": DATES,
            "name": some(NAMES),
            "telecom": some(TELECOMS),
            "contact": some(optional(name=NAMES, telecom=some(TELECOMS))),
            "extension": EXTENSIONS,
        },
    ),
    CHOICES,
    BIRTHS,
).map(lambda parts: {"resourceType": "Patient", **parts[0], **parts[1], **parts[2]})

OPERATORS = st.sampled_from(["=", "!=", "<", ">="])
LOGIC = st.sampled_from(["and", "or", "xor", "implies"])
COLLECTIONS = st.sampled_from(
    [
        "name",
        "name.given",
        "name.family",
        "telecom",
        "contact.name",
        "contact.telecom",
        "name.where(use = 'official')",
        "name.where(family.exists())",
        "name.where(given.empty())",
        "contact.where(name.given.exists($this = 'a')).telecom",
        "telecom.where(rank > 4 or system = 'phone')",
        "name.first()",
        "name[1]",
        "name[0].given",
        "name.first().given.last()",
        "extension('urn:x').value.ofType(string)",
        "deceased.ofType(boolean)",
        "deceased.ofType(dateTime)",
        "multipleBirth.ofType(integer)",
        "active",
    ]
)
CONDITIONS = st.one_of(
    st.builds("{}.exists()".format, COLLECTIONS),
    st.builds("{}.empty()".format, COLLECTIONS),
    st.builds("({}.count() {} {})".format, COLLECTIONS, OPERATORS, st.integers(0, 3)),
    st.sampled_from(
        [
            "active",
            "active.not()",
            "(active = true)",
            "(name.family = 'a')",
            "(name.given = contact.name.given)",
            "(name.first().family != 'a')",
            "(birthDate < @1970-06-10)",
            "(birthDate = @1970)",
            "(multipleBirth.ofType(integer) + 1 > 3)",
        ]
    ),
)
BOOLEANS = st.recursive(
    CONDITIONS,
    lambda inner: st.builds("({} {} {})".format, inner, LOGIC, inner),
    max_leaves=3,
)
PRIMITIVE_PATHS = [
    "name.given",
    "name.family",
    "name.where(use = 'official').given",
    "contact.where(name.given.exists($this = 'a')).telecom.value",
    "telecom.where(rank > 4 or system = 'phone').rank",
    "name.first().given.last()",
    "contact.telecom[1].value",
    "name[1].given[0]",
    "extension('urn:x').value.ofType(string)",
    "deceased.ofType(boolean)",
    "deceased.ofType(dateTime)",
    "multipleBirth.ofType(integer)",
    "name.where(family = 'it\\'s' or given.count() > 1).use",
]
PATHS = st.one_of(BOOLEANS, st.sampled_from(PRIMITIVE_PATHS))


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with DuckDBEngine(threads=1) as engine:
        yield engine


def plain(items: Any) -> list[Any]:
    return [float(item) if isinstance(item, Decimal) else item for item in items.tolist()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patients=st.lists(PATIENTS, min_size=1, max_size=6), paths=st.lists(PATHS, min_size=1, max_size=4))
@example(patients=[PATIENT], paths=["(name.given = contact.name.given)"])
def test_a_compiled_path_gives_what_the_evaluator_gives(
    engine: DuckDBEngine, patients: list[dict[str, Any]], paths: list[str]
) -> None:
    columns = [{"name": f"c{i}", "path": path, "collection": True} for i, path in enumerate(paths)]
    view = ViewDefinition.load({"resource": "Patient", "select": [{"column": columns}]})
    frame = run_view(view, patients, engine)
    for i, path in enumerate(paths):
        found = [plain(items) for items in frame[f"c{i}"]]
        assert found == [evaluate(patient, path) for patient in patients], path


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    patients=st.lists(PATIENTS, min_size=1, max_size=6),
    inner=st.sampled_from(["forEach", "forEachOrNull"]),
    outer=st.sampled_from(["forEach", "forEachOrNull"]),
    in_union=st.booleans(),
)
def test_rows_are_those_of_nested_loops(
    engine: DuckDBEngine, patients: list[dict[str, Any]], inner: str, outer: str, *, in_union: bool
) -> None:
    """The cross join of two iterations, one nested, by unnesting and as branches of a union."""
    select = {
        outer: "contact",
        "column": [{"name": "family", "path": "name.family"}],
        "select": [
            {inner: "telecom", "column": [{"name": "rank", "path": "rank"}]},
            {inner: "name.given", "column": [{"name": "given", "path": "$this"}]},
        ],
    }
    selects = [{"unionAll": [select, select]}] if in_union else [select]
    frame = run_view(ViewDefinition.load({"resource": "Patient", "select": selects}), patients, engine)
    found = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    loops = nested_loops(patients, or_null=(outer == "forEachOrNull", inner == "forEachOrNull"))
    assert in_any_order(found) == in_any_order(loops * (2 if in_union else 1))


def in_any_order(rows: list[list[Any]]) -> list[str]:
    return sorted(repr(row) for row in rows)


def nested_loops(patients: list[dict[str, Any]], or_null: tuple[bool, bool]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for patient in patients:
        contacts = patient.get("contact", [])
        if not contacts and or_null[0]:
            rows.append([None, None, None])
        for contact in contacts:
            name = contact.get("name", {})
            ranks = [telecom.get("rank") for telecom in contact.get("telecom", [])]
            givens = name.get("given", [])
            if or_null[1]:
                ranks, givens = ranks or [None], givens or [None]
            rows += [[name.get("family"), rank, given] for rank in ranks for given in givens]
    return rows
