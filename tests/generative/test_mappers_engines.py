"""DuckDB and Spark give the same rows, of resources as FHIR has them and of resources whose elements have wrong types.

A query on Spark costs a third of a second, so an example is many resources and few views.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mappers.engines.base import Engine
from mappers.view.runner import ViewDefinition, view_table
from tests.engines import Engines
from tests.generative.test_mappers_fhirpath import PATHS, PATIENTS

NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # it would take minutes on Spark
FEW = settings(max_examples=6, deadline=None, phases=NO_SHRINKING, suppress_health_check=list(HealthCheck))

TEXTS = st.sampled_from(
    ["a", "", "é‰😀", '"', "\\", "\n", "{", "[1]", '{"system":"a"}', "null", "1.50", "true", "2024"]
)
NUMBERS = st.sampled_from(
    ["0", "1", "-1", "1.5", "1.50", "0.1234567890123456789", "12345678901234567890.5", "1e3", "2.5E-3"]
)
SHORT = st.sampled_from(["0", "12", "-1", "1.5"])  # a number where text is wanted is text, of no declared form
SCALARS = st.one_of(TEXTS.map(json.dumps), SHORT, st.sampled_from(["true", "false", "null"]))
DATES = st.sampled_from(
    ["2024", "2024-02", "2024-02-29", "2024-02-29T10:30:00Z", "2024-02-29T10:30:00.5+02:00", "2024-02-30"]
)


def array(items: list[str]) -> str:
    return f"[{','.join(items)}]"


def json_object(fields: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}: {text}" for name, text in fields.items()) + "}"


def or_scalar(right: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON texts of a primitive: mostly of the right type."""
    return st.one_of(right, right, right, SCALARS)


def or_wrong(right: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON texts of an object or array: mostly of the right type."""
    wrong = st.one_of(
        SCALARS, SCALARS.map(lambda text: f"[{text}]"), SCALARS.map(lambda text: json_object({"x": text}))
    )
    return st.one_of(right, right, right, wrong)


def objects(**fields: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.fixed_dictionaries({}, optional=fields).map(json_object)


def arrays(item: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return or_wrong(st.lists(or_wrong(item), min_size=0, max_size=3).map(array))


STRINGS = or_scalar(TEXTS.map(json.dumps))
FLAGS = or_scalar(st.sampled_from(["true", "false"]))
CODINGS = objects(system=STRINGS, code=STRINGS, userSelected=FLAGS)
CONCEPTS = objects(text=STRINGS, coding=arrays(CODINGS))
QUANTITIES = objects(value=or_scalar(NUMBERS), unit=STRINGS)
COMPONENTS = objects(
    id=STRINGS,
    code=or_wrong(CONCEPTS),
    valueQuantity=or_wrong(QUANTITIES),
    valueInteger=or_scalar(NUMBERS),
    valueString=STRINGS,
)
REFERENCES = st.sampled_from(
    ["Patient/1", "http://a.test/Patient/b/_history/2", "#p", "Group/1", "Patient/", "Patient/1\n"]
)
PATIENTS_INSIDE = objects(resourceType=st.just('"Patient"'), active=FLAGS, id=STRINGS)
OBSERVATIONS = objects(
    status=STRINGS,
    code=or_wrong(CONCEPTS),
    subject=or_wrong(objects(reference=or_scalar(REFERENCES.map(json.dumps)))),
    effectiveDateTime=or_scalar(DATES.map(json.dumps)),
    valueQuantity=or_wrong(QUANTITIES),
    component=arrays(COMPONENTS),
    category=arrays(CONCEPTS),
    contained=arrays(PATIENTS_INSIDE),
)


def column(name: str, path: str, *, collection: bool = False) -> dict[str, Any]:
    return {"name": name, "path": path, "collection": collection}


VIEWS: list[dict[str, Any]] = [
    {
        "select": [
            {
                "column": [
                    column("status", "status"),
                    column("text", "code.text"),
                    column("codes", "code.coding.code", collection=True),
                    column("chosen", "code.coding.where(userSelected = true).system.first()"),
                    column("category", "category.coding.where(system = 'a').exists()"),
                    column("several", "category.count()"),
                    column("joined", "category.coding.code.join('|')"),
                ]
            }
        ]
    },
    {
        "select": [
            {
                "column": [
                    column("value", "value.ofType(Quantity).value"),
                    column("low", "value.ofType(Quantity).value.lowBoundary()"),
                    column("high", "value.ofType(Quantity).value.highBoundary()"),
                    column("values", "component.value.ofType(Quantity).value", collection=True),
                    column("integers", "component.value.ofType(integer)", collection=True),
                    column("more", "component.first().value.ofType(Quantity).value + 0.5"),
                    column("there", "value.exists()"),
                ]
            }
        ]
    },
    {
        "select": [
            {
                "column": [
                    column("effective", "effective.ofType(dateTime)"),
                    column("low", "effective.ofType(dateTime).lowBoundary()"),
                    column("high", "effective.ofType(dateTime).highBoundary()"),
                    column("late", "effective.ofType(dateTime) > @2024-02-15"),
                    column("at", "effective.ofType(dateTime) = @2024-02-29T10:30:00Z"),
                    column("patient", "subject.getReferenceKey(Patient)"),
                    column("any", "subject.getReferenceKey()"),
                    column("contained", "contained.ofType(Patient).active", collection=True),
                ]
            }
        ]
    },
    {
        "select": [
            {
                "forEach": "component",
                "column": [
                    column("n", "%rowIndex"),
                    column("text", "code.text"),
                    column("value", "value.ofType(string)"),
                ],
                "select": [{"forEachOrNull": "code.coding", "column": [column("code", "code")]}],
            },
            {
                "unionAll": [
                    {"forEach": "category.coding", "column": [column("label", "code")]},
                    {"forEach": "category", "column": [column("label", "text")]},
                ]
            },
        ],
        "where": [{"path": "status.exists()"}],
    },
    {
        "select": [
            {
                "repeat": ["component", "category", "coding"],
                "column": [column("n", "%rowIndex"), column("id", "id"), column("more", "extension.exists()")],
            }
        ]
    },
]


@pytest.fixture(scope="module")
def duckdb_engine(engines: Engines) -> Iterator[Engine]:
    with engines.started("duckdb") as engine:
        yield engine


@pytest.fixture(scope="module")
def spark_engine(engines: Engines) -> Iterator[Engine]:
    with engines.started("spark") as engine:
        yield engine


def rows(engine: Engine, view: dict[str, Any], kind: str, texts: list[str]) -> tuple[Any, list[tuple[Any, ...]]]:
    """Types and rows; the rows of each resource stand together, in its order."""
    keyed = {"column": [column("key", "id")]}
    loaded = ViewDefinition.load({"resource": kind, **view, "select": [keyed, *view["select"]]})
    found = engine.arrow(engine.compile(view_table(loaded, engine.resources(texts))))
    made = [tuple(row.values()) for row in found.to_pylist()]
    return found.schema.types, sorted(made, key=lambda row: int(row[0]))


def compared(one: Engine, other: Engine, view: dict[str, Any], kind: str, texts: list[str]) -> None:
    """Fails with the first resource that the engines read differently."""
    types, found = rows(one, view, kind, texts)
    other_types, others = rows(other, view, kind, texts)
    assert types == other_types
    for number, text in enumerate(texts):
        key = str(number)
        assert [row for row in found if row[0] == key] == [row for row in others if row[0] == key], text


def texts_of(kind: str, objects: list[str]) -> list[str]:
    """Resources with their type and a number as id."""
    return [f'{{"resourceType": "{kind}", "id": "{n}",{text[1:]}'.replace(",}", "}") for n, text in enumerate(objects)]


@FEW
@given(observations=st.lists(OBSERVATIONS, min_size=25, max_size=60))
@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_elements_of_wrong_types_are_read_alike(
    duckdb_engine: Engine, spark_engine: Engine, number: int, observations: list[str]
) -> None:
    compared(duckdb_engine, spark_engine, VIEWS[number], "Observation", texts_of("Observation", observations))


@FEW
@given(patients=st.lists(PATIENTS, min_size=10, max_size=40), paths=st.lists(PATHS, min_size=3, max_size=6))
def test_paths_give_the_same(
    duckdb_engine: Engine, spark_engine: Engine, patients: list[dict[str, Any]], paths: list[str]
) -> None:
    columns = [column(f"c{number}", path, collection=True) for number, path in enumerate(paths)]
    texts = [json.dumps({**patient, "id": str(n)}) for n, patient in enumerate(patients)]
    compared(duckdb_engine, spark_engine, {"select": [{"column": columns}]}, "Patient", texts)
