"""What is wrong in a view or in a resource: an error that names the place, or null; never a wrong value."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from mappers.engines.duckdb import DuckDBEngine
from mappers.errors import UnsupportedError, ViewError
from mappers.view.runner import ViewDefinition, run_view, sql


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with DuckDBEngine(threads=1) as engine:
        yield engine


def view(path: str, resource: str = "Patient", **more: Any) -> dict[str, Any]:
    return {"resource": resource, "select": [{"column": [{"name": "a", "path": path, "collection": True}]}], **more}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("name.given + 1", "'+' does not take string and integer"),
        ("name * 2", "'*' does not take HumanName and integer"),
        ("true + true", "'+' does not take boolean and boolean"),
        ("1 & 'a'", "'&' does not take integer and string"),
        ("1 | 'a'", "'|' puts integer and string together"),
        ("name < name", "'<' does not order HumanName and HumanName"),
        ("name = telecom", "'=' compares HumanName with ContactPoint"),
        ("name = 1", "'=' compares HumanName with integer"),
        ("1 'mg' = 'mg'", "a Quantity and string do not go together"),
        ("deceased = true", "'=' on 'deceased', which has a choice of types; add ofType(TYPE)"),
        ("deceased.not()", "'deceased' has a choice of types; write deceased.ofType(TYPE).not()"),
        ("(1 'mg').comparator", "a computed Quantity has value, unit, code, system, and no 'comparator'"),
        ("name['a']", "an index is an integer, not string"),
        ("name[-1]", "the index -1 is negative"),
        ("name.skip('a')", "skip() takes an integer, not string"),
        ("name.take({})", "take() takes an integer, not an empty collection"),
        ("name.allTrue()", "allTrue() and its like take booleans, not HumanName"),
        ("active.upper()", "upper() is boolean, and a string is needed"),
        ("name.first().length()", "length() is HumanName, and a string is needed"),
        ("'a'.substring('b')", "an argument of substring() is string, and an integer is needed"),
        ("'a'.indexOf(1)", "an argument of indexOf() is integer, and a string is needed"),
        ("'a'.abs()", "abs() takes a number, not string"),
        ("1.5.round(-1)", "round() takes a precision of 0 or more"),
        ("'a'.matches('(')", "matches() takes a regular expression of RE2: missing ): ("),
        ("'a'.toInteger(1)", "toInteger() takes 0 arguments, not 1"),
        ("iif(true)", "iif() takes 2 to 3 arguments, not 1"),
        ("$index", "$index stands in the argument of where(), select(), all() or exists() only"),
        ("birthDate.lowBoundary(5)", "the precision of a date is one of 4, 6, 8 digits, not 5"),
        ("name.getValue()", "getValue() takes a primitive, not HumanName"),
        ("name.ofType(Nothing)", "R4 has no type 'Nothing'"),
        ("contained.id", "a resource in a resource has no type yet; write ofType(TYPE).id"),
        ("name.select(period.starts)", "R4 has no element 'starts' in Period"),
        ("name.select(other)", "R4 has no element 'other' in HumanName"),
        ("99999999999999999999", "the number 99999999999999999999 is too large"),
        ("%resources", "unknown constant %resources; the view defines none"),
        ("@2015T", "not FHIRPath at column 6: extraneous input 'T' expecting <EOF>"),
        ("name.given..first()", "not FHIRPath at column 12: "),
    ],
)
def test_a_path_that_is_wrong_is_named(path: str, said: str) -> None:
    with pytest.raises(ViewError) as caught:
        sql(ViewDefinition.load(view(path)), keep=())
    assert str(caught.value).startswith(f"select[0].column[0].path: {said}")
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize(
    "path",
    [
        "name ~ name",
        "birthDate + 1 year",
        "(1 'mg' * 1 'mg').value",
        "'a'.matches(name.first().family)",
        "'a'.matches('(?=a)')",
        "'a'.replaceMatches('(a)', '$1')",
        "1.5.round(multipleBirth.ofType(integer))",
        "(1.5 + 1).lowBoundary()",
        "name | contact.name",
        "active is System.Boolean",
        "$total",
    ],
)
def test_a_path_that_is_right_but_not_supported_says_so(path: str) -> None:
    with pytest.raises(UnsupportedError, match=r"^select\[0\]\.column\[0\]\.path: .* is not supported"):
        sql(ViewDefinition.load(view(path)), keep=())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (view("id", name="my-view"), "name: 'my-view' is no name for a column or a view: "),
        (view("id", resourceType="Patient"), "resourceType: a ViewDefinition is needed, and this is a Patient"),
        ({"resource": "Patient", "select": [{}]}, "select: no column; a view has at least one"),
        (view("id", constant=[{"name": "d", "valueDate": "01.02.2024"}]), "constant[0].valueDate: not a date"),
        (view("id", constant=[{"name": "d", "valueDateTime": "2024-01-01T10"}]), "constant[0].valueDateTime: not a "),
        (
            view("id", constant=[{"name": "d", "valuePositiveInt": 0}]),
            "constant[0].valuePositiveInt: a positiveInt is 1",
        ),
        (view("id", constant=[{"name": "1", "valueDate": "2024"}]), "constant[0].name: '1' is no name"),
        (view("id", where=[{"path": "gender"}]), "where[0].path: a filter gives a boolean, and this path gives code"),
        (view("id", where=[{"path": "name.exists() and foo"}]), "where[0].path: R4 has no element 'foo' in Patient"),
        (
            {"resource": "Patient", "select": [{"forEach": "nam", "column": [{"name": "a", "path": "id"}]}]},
            "select[0].forEach: R4 has no element 'nam' in Patient",
        ),
        (
            {
                "resource": "Patient",
                "select": [
                    {
                        "unionAll": [
                            {"column": [{"name": "a", "path": "birthDate"}]},
                            {"column": [{"name": "a", "path": "active"}]},
                        ]
                    }
                ],
            },
            "select[0].unionAll[1]: the types of the columns differ",
        ),
        (
            {"resource": "Patient", "select": [{"column": [{"name": "a", "path": "id", "type": "boolean"}]}]},
            "select[0].column[0].type: boolean is declared, and the path gives id",
        ),
    ],
)
def test_a_view_that_is_wrong_is_named(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ViewError) as caught:
        sql(ViewDefinition.load(data), keep=())
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("yesterday", "birthDate < @2020"),
        ("yesterday", "birthDate = @2020"),
        ("yesterday", "birthDate.lowBoundary()"),
        ("2024-02-10Z", "birthDate > @2020"),
        ("10.02.2024", "birthDate.highBoundary()"),
        ("1x", "birthDate in (@2020)"),
    ],
)
def test_what_is_no_date_compares_with_nothing(engine: DuckDBEngine, value: str, path: str) -> None:
    found = run_view(ViewDefinition.load(view(path)), [{"resourceType": "Patient", "birthDate": value}], engine)
    assert found["a"][0].tolist() in ([], [False] if " in " in path else [])


def test_a_number_that_does_not_fit_is_null_and_ends_nothing(engine: DuckDBEngine, tmp_path: Any) -> None:
    path = tmp_path / "observations.ndjson"
    path.write_text(
        '{"resourceType":"Observation","valueQuantity":{"value":99999999999999999999}}\n'
        '{"resourceType":"Observation","valueQuantity":{"value":2}}\n'
    )
    value = "value.ofType(Quantity).value"
    for operation, second in (("+ {0}", "4"), ("* {0}", "4"), ("- -1 * {0}", "4"), ("/ 0.000001", "2000000")):
        found = run_view(ViewDefinition.load(view(f"{value} {operation.format(value)}", "Observation")), path, engine)
        assert [items.tolist() for items in found["a"]] == [[], [Decimal(second)]]
