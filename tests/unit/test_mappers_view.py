"""The view runner: what a view gives, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import pytest

from mappers.engines.duckdb import DuckDBEngine
from mappers.errors import CardinalityError, UnsupportedError, ViewError
from mappers.view.runner import ViewDefinition, run_view, sql, view_table

VIEWS = sorted((Path(__file__).parents[2] / "mappers" / "views").glob("*.json"))


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with DuckDBEngine(threads=1) as engine:
        yield engine


def view(*columns: tuple[str, str], resource: str = "Patient", **more: Any) -> ViewDefinition:
    """A view of one select, its columns given as (name, path)."""
    column = [{"name": name, "path": path} for name, path in columns]
    return ViewDefinition.load({"resource": resource, "select": [{"column": column}], **more})


def one(engine: DuckDBEngine, path: str, resource: dict[str, Any]) -> Any:
    """The value of a path in one resource."""
    frame = run_view(view(("v", path), resource=resource["resourceType"]), [resource], engine)
    return frame["v"].astype(object).where(frame["v"].notna(), None).item()


def problem(data: dict[str, Any]) -> str:
    with pytest.raises(ViewError) as caught:
        sql(ViewDefinition.load(data), keep=())
    return str(caught.value)


@pytest.mark.parametrize("path", VIEWS, ids=lambda path: path.stem)
def test_every_shipped_view_compiles_to_the_same_sql_each_time(path: Path) -> None:
    assert sql(ViewDefinition.load(path)) == sql(ViewDefinition.load(path))


def test_key_columns_come_first_and_are_repeated_with_the_rows(engine: DuckDBEngine) -> None:
    names = ViewDefinition.load(
        {"resource": "Patient", "select": [{"forEach": "name", "column": [{"name": "family", "path": "family"}]}]}
    )
    rows = [
        ("s1", '{"resourceType":"Patient","id":"a","name":[{"family":"A"},{"family":"B"}]}'),
        ("s2", '{"resourceType":"Patient","id":"b"}'),
        ("s3", '{"resourceType":"Group","id":"c","name":"no list"}'),
    ]
    resources = ibis.memtable(rows, schema={"site": "string", "resource": "string"})
    frame = engine.frame(view_table(names, resources, keep=("site",)))
    assert list(frame.columns) == ["site", "family"]
    assert frame.to_numpy().tolist() == [["s1", "A"], ["s1", "B"]]


def test_a_null_resource_is_no_row(engine: DuckDBEngine) -> None:
    schema = {"resource": "string"}
    table = view_table(view(("id", "id")), ibis.memtable([(None,)], schema=schema))
    assert len(engine.frame(table)) == 0


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("Patient/p1", "p1"),
        ("Patient/p1/_history/3", "p1"),
        ("https://server.example/fhir/Patient/p1", "p1"),
        ("https://server.example/fhir/Patient/p1/_history/3", "p1"),
        ("Group/p1", None),
        ("#p1", None),
        ("urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7", None),
        ("Patient?identifier=1", None),
        ("Patient/p1?x=1", None),
        ("Patient/", None),
        ("OtherPatient/p1", None),
    ],
)
def test_the_key_in_a_reference(engine: DuckDBEngine, reference: str, key: str | None) -> None:
    observation = {"resourceType": "Observation", "subject": {"reference": reference}}
    assert one(engine, "subject.getReferenceKey(Patient)", observation) == key


def test_the_key_in_a_reference_of_any_type(engine: DuckDBEngine) -> None:
    observation = {"resourceType": "Observation", "subject": {"reference": "Group/g1"}}
    assert one(engine, "subject.getReferenceKey()", observation) == "g1"
    display = {"resourceType": "Observation", "subject": {"display": "somebody"}}
    assert one(engine, "subject.getReferenceKey()", display) is None


def test_decimals_keep_their_digits(engine: DuckDBEngine, tmp_path: Path) -> None:
    path = tmp_path / "observations.ndjson"
    path.write_text(
        '{"resourceType":"Observation","valueQuantity":{"value":12345678901234567890.123456789012345678}}\n'
        '{"resourceType":"Observation","valueQuantity":{"value":0.1}}\n'
        '{"resourceType":"Observation","valueQuantity":{"value":"many"}}\n'
    )
    frame = run_view(view(("v", "value.ofType(Quantity).value"), resource="Observation"), path, engine)
    assert frame["v"].tolist() == [Decimal("12345678901234567890.123456789012345678"), Decimal("0.1"), None]


@pytest.mark.parametrize(
    ("digits", "low", "high"),
    [("1.5", "1.45", "1.55"), ("1.50", "1.495", "1.505"), ("2", "1.5", "2.5"), ("-1.0", "-1.05", "-0.95")],
)
def test_a_decimal_boundary_heeds_the_digits_written(
    engine: DuckDBEngine, tmp_path: Path, digits: str, low: str, high: str
) -> None:
    path = tmp_path / "observation.ndjson"
    path.write_text(f'{{"resourceType":"Observation","valueQuantity":{{"value":{digits}}}}}\n')
    value = "value.ofType(Quantity).value"
    columns = [("low", f"{value}.lowBoundary()"), ("high", f"{value}.highBoundary()"), ("value", value)]
    frame = run_view(view(*columns, resource="Observation"), path, engine)
    assert frame.iloc[0].tolist() == [Decimal(low), Decimal(high), Decimal(digits)]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2024", "2024-01-01T00:00:00.000+14:00", "2024-12-31T23:59:59.999-12:00"),
        ("2024-02", "2024-02-01T00:00:00.000+14:00", "2024-02-29T23:59:59.999-12:00"),
        ("2024-02-10T10:00:00+01:00", "2024-02-10T10:00:00.000+01:00", "2024-02-10T10:00:00.999+01:00"),
        ("2024-02-10T10:00:00.5Z", "2024-02-10T10:00:00.500Z", "2024-02-10T10:00:00.599Z"),
    ],
)
def test_a_boundary_of_a_time(engine: DuckDBEngine, text: str, low: str, high: str) -> None:
    observation = {"resourceType": "Observation", "effectiveDateTime": text}
    assert one(engine, "effective.ofType(dateTime).lowBoundary()", observation) == low
    assert one(engine, "effective.ofType(dateTime).highBoundary()", observation) == high


@pytest.mark.parametrize("wrong", [1.5, True, "x", {"a": 1}, [1], 99999999999999999999])
def test_an_integer_that_is_none_is_null(engine: DuckDBEngine, wrong: object) -> None:
    assert one(engine, "value.ofType(integer)", {"resourceType": "Observation", "valueInteger": wrong}) is None


@pytest.mark.parametrize("wrong", [1, 0, "x", {"a": 1}, [True]])
def test_a_boolean_that_is_none_is_null(engine: DuckDBEngine, wrong: object) -> None:
    assert one(engine, "active", {"resourceType": "Patient", "active": wrong}) is None


def test_a_list_where_r4_has_an_object_is_null(engine: DuckDBEngine) -> None:
    assert one(engine, "subject.display", {"resourceType": "Observation", "subject": [{"display": "x"}]}) is None


def test_extensions_of_a_primitive(engine: DuckDBEngine) -> None:
    patient = {
        "resourceType": "Patient",
        "_birthDate": {"extension": [{"url": "urn:reason", "valueCode": "unknown"}]},
        "name": [{"given": ["a", None], "_given": [None, {"extension": [{"url": "urn:x", "valueString": "b"}]}]}],
    }
    assert one(engine, "birthDate.extension('urn:reason').value.ofType(code).first()", patient) == "unknown"
    assert one(engine, "name.given.extension('urn:x').value.ofType(string).first()", patient) == "b"
    assert one(engine, "name.given.count()", patient) == 2


def test_resources_inside_a_resource(engine: DuckDBEngine) -> None:
    administration = {
        "resourceType": "MedicationAdministration",
        "contained": [
            {"resourceType": "Patient", "id": "p", "name": [{"family": "F"}]},
            {"resourceType": "Medication", "id": "m", "code": {"coding": [{"code": "1"}]}},
        ],
    }
    assert one(engine, "contained.ofType(Medication).code.coding.code.first()", administration) == "1"
    assert one(engine, "contained.ofType(Patient).name.family.first()", administration) == "F"
    assert one(engine, "contained.ofType(Device).exists()", administration) is False


def test_padding_of_for_each_or_null_is_all_null(engine: DuckDBEngine) -> None:
    """No item: one row in which every column is null, also those that are never empty otherwise."""
    padded = ViewDefinition.load(
        {
            "resource": "Patient",
            "select": [
                {
                    "forEachOrNull": "name",
                    "column": [{"name": "a", "path": "'text'"}, {"name": "b", "path": "given.exists()"}],
                    "select": [{"forEach": "given", "column": [{"name": "c", "path": "$this"}]}],
                }
            ],
        }
    )
    frame = run_view(padded, [{"resourceType": "Patient"}], engine)
    assert frame.astype(object).where(frame.notna(), None).to_numpy().tolist() == [[None, None, None]]


def test_several_values_for_one_column_stop_the_run_and_name_the_column(engine: DuckDBEngine) -> None:
    patient = {"resourceType": "Patient", "name": [{"family": "SECRET"}, {"family": "B"}]}
    with pytest.raises(CardinalityError) as caught:
        run_view(view(("id", "id"), ("family", "name.family")), [patient], engine)
    assert caught.value.element == "select[0].column[1].path"
    assert "SECRET" not in str(caught.value)


def test_instants_are_compared_across_time_zones(engine: DuckDBEngine) -> None:
    observation = {"resourceType": "Observation", "issued": "2024-01-01T00:30:00+01:00"}
    assert one(engine, "issued = @2023-12-31T23:30:00Z", observation) is True
    assert one(engine, "issued < @2024-01-01T00:00:00Z", observation) is True


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("foo()", "select[0].column[0].path: unknown function 'foo'"),
        ("nam", "select[0].column[0].path: R4 has no element 'nam' in Patient"),
        ("name.familly", "select[0].column[0].path: R4 has no element 'familly' in HumanName"),
        ("deceasedBoolean", "select[0].column[0].path: R4 has no element 'deceasedBoolean' in Patient; "),
        ("deceased.ofType(integer)", "select[0].column[0].path: 'deceased' of Patient is never a integer"),
        ("name.", "select[0].column[0].path: not FHIRPath at column 6"),
        ("id id", "select[0].column[0].path: not FHIRPath at column 4"),
        ("id = 1", "select[0].column[0].path: '=' compares id with integer"),
        ("name.where()", "select[0].column[0].path: where() takes 1 arguments, not 0"),
        ("%x", "select[0].column[0].path: unknown constant %x"),
    ],
)
def test_what_is_said_of_a_wrong_path(path: str, said: str) -> None:
    data = {"resource": "Patient", "select": [{"column": [{"name": "a", "path": path}]}]}
    assert problem(data).startswith(said)


ID = {"name": "a", "path": "id"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"resource": "Patiente", "select": []}, "resource: R4 has no resource 'Patiente'"),
        ({"resource": "Patient"}, "select: missing"),
        ({"resource": "Patient", "select": [{"column": [ID, ID]}]}, "select[0].column[1].name: a column 'a'"),
        ({"resource": "Patient", "select": [{"colum": [ID]}]}, "select[0]: unknown key 'colum'"),
        ({"resource": "Patient", "select": [{"column": [{"path": "id"}]}]}, "select[0].column[0]: 'name' is"),
        (
            {"resource": "Patient", "select": [{"column": [{"name": "1", "path": "id"}]}]},
            "select[0].column[0].name: '1' is no name",
        ),
        (
            {"resource": "Patient", "select": [{"column": [ID | {"type": "integer"}]}]},
            "select[0].column[0].type: integer is declared, and the path gives id",
        ),
        (
            {"resource": "Patient", "select": [{"forEach": "name", "forEachOrNull": "name", "column": [ID]}]},
            "select[0]: forEach and forEachOrNull exclude each other",
        ),
        (
            {"resource": "Patient", "select": [{"unionAll": [{"column": [ID]}, {"column": []}]}]},
            "select[0].unionAll[1]: the columns ",
        ),
        (
            {"resource": "Patient", "select": [{"column": [ID]}], "where": [{"path": "name.family"}]},
            "where[0].path: a filter gives a boolean",
        ),
        (
            {"resource": "Patient", "select": [{"column": [ID]}], "constant": [{"name": "x", "valueCode": 1}]},
            "constant[0].valueCode: not a code",
        ),
    ],
)
def test_what_is_said_of_a_wrong_view(data: dict[str, Any], said: str) -> None:
    assert problem(data).startswith(said)


def test_what_is_right_but_not_supported_says_so() -> None:
    for path in ("name ~ name", "name.repeat(given)", "birthDate + 1 year", "$total"):
        with pytest.raises(UnsupportedError, match="not supported"):
            sql(view(("a", path)), keep=())


def test_a_key_column_may_not_be_hidden() -> None:
    with pytest.raises(ViewError, match="'id' is the name of a key column"):
        sql(view(("id", "id")), keep=("id",))


def test_a_file_that_is_no_view_is_named(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    path.write_text("{")
    with pytest.raises(ViewError, match=r"view\.json: not a readable JSON file"):
        ViewDefinition.load(path)


@pytest.mark.parametrize("base", ["http://hl7.org/fhir/uv/sql-on-fhir", "https://sql-on-fhir.org/ig"])
def test_the_canonical_of_the_model_as_the_type_of_a_view(base: str) -> None:
    kind = f"{base}/StructureDefinition/ViewDefinition"
    table = run_view(view(("id", "id"), resourceType=kind), [{"resourceType": "Patient", "id": "a"}])
    assert table["id"].to_list() == ["a"]
