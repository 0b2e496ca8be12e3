"""Views as other people publish them, on both engines: wrong values, and refusals of what is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from mappers.engines.base import Engine
from mappers.errors import UnsupportedError, ViewError
from mappers.view.runner import ViewDefinition, run_view, view_table
from tests.engines import ENGINES, Engines

JSON = dict[str, Any]
NAMES = {
    "resourceType": "Patient",
    "id": "p",
    "gender": "female",
    "name": [{"use": "official", "given": ["Ana", "Zoe"]}],
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Engine]:
    with engines.started(request.param) as engine:
        yield engine


def view(*select: JSON, resource: str = "Patient", **more: Any) -> ViewDefinition:
    return ViewDefinition.load({"resource": resource, "select": list(select), **more})


def columns(**paths: str) -> JSON:
    return {"column": [{"name": name, "path": path} for name, path in paths.items()]}


def rows(engine: Engine, of: ViewDefinition, *resources: JSON) -> list[JSON]:
    """Return the rows of a view, with None for every null."""
    frame = run_view(of, list(resources), engine).astype(object)
    return [dict(row) for row in frame.where(frame.notna(), None).to_dict("records")]


def values(engine: Engine, resource: JSON, *paths: str) -> list[Any]:
    """Return what each path gives on a resource."""
    named = {f"c{number}": path for number, path in enumerate(paths)}
    (row,) = rows(engine, view(columns(**named), resource=resource["resourceType"]), resource)
    return list(row.values())


# Wrong values


def test_fault_110_columns_that_differ_in_case_only(engine: Engine) -> None:
    nested = columns(ID="use") | {"forEach": "name", "select": [columns(iD="$this") | {"forEachOrNull": "given"}]}
    assert rows(engine, view(columns(Id="id"), nested), NAMES) == [
        {"Id": "p", "ID": "official", "iD": "Ana"},
        {"Id": "p", "ID": "official", "iD": "Zoe"},
    ]
    union = {"unionAll": [columns(a="id", A="gender"), columns(a="gender", A="id")]}
    assert rows(engine, view(union), NAMES) == [{"a": "p", "A": "female"}, {"a": "female", "A": "p"}]


def test_fault_110_a_table_of_the_lake_takes_one_of_such_names() -> None:
    import ibis

    resources = ibis.table({"site": "string", "resource": "string"}, name="resources")
    with pytest.raises(ViewError, match=r"column\[1\].name: 'A' differs from 'a' in case only"):
        view_table(view(columns(a="id", A="gender")), resources, keep=("site",))
    with pytest.raises(ViewError, match="'Site' differs from 'site' in case only"):
        view_table(view(columns(Site="id")), resources, keep=("site",))


def test_fault_111_join_of_nothing_is_nothing(engine: Engine) -> None:
    paths = ("name.given.join(',')", "name.prefix.join(',')", "name.where(use = 'old').given.join(',')", "{}.join()")
    assert values(engine, NAMES, *paths) == ["Ana,Zoe", None, None, None]
    assert values(engine, {"resourceType": "Patient"}, *paths) == [None] * 4


def test_fault_114_types_that_derive_from_the_one_that_is_asked_for(engine: Engine) -> None:
    url = "http://example.org/x"
    extensions: list[JSON] = [
        {"url": url, "valueCode": "renal"},
        {"url": url, "valueString": "s"},
        {"url": url, "valueCanonical": "http://c"},
        {"url": url, "valuePositiveInt": 3},
        {"url": url, "valueAge": {"value": 1.50, "unit": "a"}},
        {"url": url, "valueQuantity": {"value": 2, "code": "mg"}},
    ]
    paths = {
        "text": "value.ofType(string)",
        "code": "value.ofType(code)",
        "is_text": "value is string",
        "as_uri": "value as uri",
        "number": "value.ofType(integer)",
        "amount": "value.ofType(Quantity).value",
        "unit": "(value as Quantity).unit",
        "mg": "value.ofType(Quantity).code",
    }
    wanted: list[JSON] = [
        {"text": "renal", "code": "renal", "is_text": True},
        {"text": "s", "is_text": True},
        {"as_uri": "http://c"},
        {"number": 3},
        {"amount": 1.5, "unit": "a"},
        {"amount": 2, "mg": "mg"},
    ]
    found = rows(
        engine, view(columns(**paths) | {"forEach": "extension"}), {"resourceType": "Patient", "extension": extensions}
    )
    empty = dict.fromkeys(paths, None) | {"is_text": False}
    assert found == [empty | row for row in wanted]


def test_fault_114_the_extensions_of_a_derived_type(engine: Engine) -> None:
    masked = {"extension": [{"url": "why", "valueString": "masked"}]}
    patient = {"resourceType": "Patient", "extension": [{"url": "x", "_valueCode": masked}]}
    path = "extension.value.ofType(string).extension('why').value.ofType(string)"
    assert values(engine, patient, path) == ["masked"]


def test_fault_115_seconds_and_their_fraction_are_one_precision(engine: Engine) -> None:
    resource = {"resourceType": "Observation", "valueTime": "07:00:00.000"}
    pairs = [("@T10:30:00", "@T10:30:00.0"), ("@T10:30:00.50", "@T10:30:00.5"), ("value.ofType(time)", "@T07:00:00")]
    signs = {"=": True, "<=": True, "~": True, "<": False, "!=": False}
    paths = {f"{one} {sign} {other}": equal for one, other in pairs for sign, equal in signs.items()}
    # To the minute only, it stays open.
    wanted = paths | {"@T10:30 = @T10:30:00": None, "@T10:30 ~ @T10:30:00": False, "@T10:29 < @T10:30:00.1": True}
    assert values(engine, resource, *wanted) == list(wanted.values())


# Refusals


@pytest.mark.parametrize("base", ["https://sql-on-fhir.org/ig/StructureDefinition", "urn:x/sof", "http://h.org/2.0"])
def test_fault_117_the_canonical_of_the_model_as_the_type_of_a_view(base: str) -> None:
    assert view(columns(id="id"), resourceType=f"{base}/ViewDefinition").resource == "Patient"
    with pytest.raises(ViewError, match="resourceType: a ViewDefinition is needed, and this is a Patient"):
        view(columns(id="id"), resourceType="Patient")


def test_fault_119_a_literal_of_too_many_decimals_is_named() -> None:
    long = "1.2345678901234567890"
    for path in (f"{long} * 1", f"{long} 'mg' = 1 'mg'", f"-{long}"):
        with pytest.raises(
            ViewError, match=r"column\[0\].path: the number -?(1.2345678901234567890|1e-20) has more than 18"
        ):
            compiled(path)
    with pytest.raises(ViewError, match="has more than 18 decimals"):
        compiled("%c", constant=[{"name": "c", "valueDecimal": float("1e-20")}])


@pytest.mark.parametrize("pattern", ["x(?#c)", "x{1001}", "(", "a**", "[b-a]"])
def test_fault_119_a_pattern_that_re2_refuses_is_named(pattern: str) -> None:
    with pytest.raises(ViewError, match=r"column\[0\].path: matches\(\) takes a regular expression of RE2: "):
        compiled(f"id.matches('{pattern}')")


@pytest.mark.parametrize("pattern", ["(?=x)", "(?P<n>x)", "[[:alpha:]]", "a{,3}", "x++", "[a&&b]", r"(a)\\1"])
def test_fault_119_a_pattern_that_the_engines_read_differently_is_not_supported(pattern: str) -> None:
    with pytest.raises(UnsupportedError, match="the engines do not read it alike"):
        compiled(f"id.matches('{pattern}')")


@pytest.mark.parametrize(
    "pattern", ["^[A-Z]{2,3}$", r"\\d+", r"\\p{L}x", r"a\\{", r"[{}]", "(?i:ab)", "x{2}?", r"[^\\]]"]
)
def test_fault_119_other_patterns_are_taken(pattern: str) -> None:
    compiled(f"id.matches('{pattern}')")


def compiled(path: str, **more: Any) -> None:
    import ibis

    view_table(view(columns(x=path), **more), ibis.table({"resource": "string"}, name="resources"))


def test_fault_120_thousands_of_items_take_seconds(engine: Engine) -> None:
    # A lambda for each pair took minutes; so the number that is asked for shows it, and no clock is needed.
    number = 20_000 if engine.name == "duckdb" else 200
    given = [f"n{item % (number // 2)}" for item in range(number)]
    patient = {"resourceType": "Patient", "name": [{"given": given}]}
    paths = (
        "distinct().count()",
        "isDistinct()",
        "intersect(%resource.name.given).count()",
        "exclude(%resource.name.given).count()",
    )
    found = values(engine, patient, *(f"name.given.{path}" for path in paths), "name.given ~ name.given")
    assert found == [number // 2, False, number // 2, 0, True]


WHY = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
MASKED = {"extension": [{"url": WHY, "valueCode": "masked"}]}
MASKED_NAMES: JSON = {
    "resourceType": "Patient",
    "id": "n",
    "birthDate": "1970",
    "name": [
        {"given": ["a", None, "c"], "_given": [None, MASKED, None], "_family": MASKED},
        {"given": ["d", None], "family": "Rossi"},
        {"_given": [MASKED]},
    ],
}


def test_fault_112_items_without_a_value_keep_their_position(engine: Engine) -> None:
    wanted = {
        "name.given[1]": None,
        "name.given[2]": "c",
        "name.given[1 + 2]": "d",  # the null of the second name has nothing in the sibling
        "name.given.count()": 5,
        "name.given.last()": None,
        "name.given.tail().first()": None,
        "name.given.skip(2).first()": "c",
        "name.given.skip(2).join(',')": "c,d",
        "name.given.join(',')": "a,c,d",
        "name.family.first()": None,
        "name.family.count()": 2,
        "name.first().family.exists()": True,
        "name[1].family.exists()": True,
        "name[2].family.exists()": False,
        "name[2].given.exists()": True,
        "name[1].prefix.empty()": True,
        "birthDate.exists()": True,
        f"name.given.where($this.extension('{WHY}').exists()).count()": 0,
        f"name.given.select($this.extension('{WHY}').value.ofType(code)).join(',')": "masked,masked",
        f"name.given.where(extension('{WHY}').empty()).join(',')": "a,c,d",
    }
    assert values(engine, MASKED_NAMES, *wanted) == list(wanted.values())


def test_fault_112_an_iteration_over_items_without_a_value(engine: Engine) -> None:
    paths = columns(
        n="%rowIndex",
        v="$this",
        why=f"extension('{WHY}').value.ofType(code)",
        there="$this.exists()",
        id="%resource.id",
    )
    found = rows(engine, view(paths | {"forEach": "name.given"}), MASKED_NAMES)
    assert [tuple(row.values()) for row in found] == [
        (0, "a", None, True, "n"),
        (1, None, "masked", True, "n"),
        (2, "c", None, True, "n"),
        (3, "d", None, True, "n"),
        (4, None, "masked", True, "n"),
    ]
    nested = {"forEach": "name", "select": [columns(v="$this", id="%resource.id") | {"forEachOrNull": "family"}]}
    found = rows(engine, view(nested), MASKED_NAMES)
    assert [tuple(row.values()) for row in found] == [(None, "n"), ("Rossi", "n"), (None, None)]


def test_fault_113_a_text_that_is_json_stays_a_text(engine: Engine) -> None:
    texts = ["[1]", '{"score": 3}', '["T1"]', "[positive]", "{}", "see [1]", 'a \\ "[1]', "[[]]", "[true]", ""]
    observations = [
        {"resourceType": "Observation", "id": str(number), "valueString": text, "note": [{"text": text}, {"text": "x"}]}
        for number, text in enumerate(texts)
    ]
    paths = {
        "v": "value.ofType(string)",
        "n": "note.text.first()",
        "all": "note.text.join('|')",
        "more": "value.ofType(string) & '!'",
        "length": "value.ofType(string).length()",
        "same": "value.ofType(string) = '[1]'",
        "like": "value.ofType(string) ~ ' [1]'",
        "here": "iif(id = '0', value.ofType(string), note.text.first())",
        "upper": "note.select(text.upper()).first()",
    }
    collection = {"column": [{"name": "texts", "path": "note.text", "collection": True}]}
    found = rows(engine, view(columns(**paths), collection, resource="Observation"), *observations)
    wanted = [
        {"v": text, "n": text, "all": f"{text}|x", "more": f"{text}!", "length": len(text), "same": text == "[1]"}
        | {"like": text == "[1]", "here": text, "upper": text.upper()}
        for text in texts
    ]
    assert [{name: row[name] for name in paths} for row in found] == wanted
    assert [list(row["texts"]) for row in found] == [[text, "x"] for text in texts]


def test_fault_113_an_object_or_array_in_the_place_of_a_text_is_no_value(engine: Engine) -> None:
    wrong = {
        "resourceType": "Observation",
        "id": "[1]",
        "valueString": [1],
        "note": [{"text": {"a": "{}"}}, {"text": "[]"}],
    }
    paths = ("id", "value.ofType(string)", "note[0].text", "note[1].text")
    assert values(engine, wrong, *paths) == ["[1]", None, None, "[]"]


def test_fault_118_columns_of_complex_types(engine: Engine) -> None:
    coding = {"system": "http://loinc.org", "code": "1-8", "display": "[1]", "userSelected": True}
    observation = {
        "resourceType": "Observation",
        "code": {"coding": [coding, {"code": "x"}], "text": "t"},
        "valueQuantity": {"value": 1.50, "unit": "mg"},
        "subject": {"reference": "Patient/1", "identifier": {"value": "i", "assigner": {"display": "no end"}}},
    }
    several = {"name": "codings", "path": "code.coding", "collection": True, "type": "Coding"}
    paths = {"code": "code", "amount": "value.ofType(Quantity)", "who": "subject", "none": "effective.ofType(Period)"}
    of = view(columns(**paths), {"column": [several]}, resource="Observation")
    (row,) = rows(engine, of, observation, {"resourceType": "Patient"})
    first = coding | {"version": None}
    second = dict.fromkeys(first) | {"code": "x"}
    assert list(row["codings"]) == [first, second]
    assert row["code"]["text"] == "t"
    assert list(row["code"]["coding"]) == [first, second]
    assert row["amount"] == {"value": Decimal("1.5"), "comparator": None, "unit": "mg", "system": None, "code": None}
    assert row["who"]["identifier"]["value"] == "i"
    assert "assigner" not in row["who"]["identifier"]
    assert row["none"] is None
    padded = columns(one="$this") | {"forEachOrNull": "code.coding"}
    assert [
        row["one"] for row in rows(engine, view(padded, resource="Observation"), {"resourceType": "Observation"})
    ] == [None]


def test_fault_118_a_declared_complex_type_is_checked() -> None:
    wrong = {"column": [{"name": "x", "path": "name", "type": "Coding", "collection": True}]}
    with pytest.raises(ViewError, match=r"column\[0\].type: Coding is declared, and the path gives HumanName"):
        run_view(view(wrong), [NAMES])
    with pytest.raises(ViewError, match="'Codeing' is not a type of R4"):
        view({"column": [{"name": "x", "path": "name", "type": "Codeing"}]})
    for path in ("contained", "extension", "$this"):
        with pytest.raises(UnsupportedError, match=r"a column of .* is not supported: name its elements"):
            run_view(view({"column": [{"name": "x", "path": path, "collection": True}]}), [NAMES])


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("name.famly", "did you mean 'family'?"),
        ("Name.family", "did you mean 'name'?"),
        ("name.frist()", "did you mean 'first'?"),
        ("deceased.ofType(datetime)", "did you mean 'dateTime'?"),
        ("link.other.getReferenceKey(patient)", "did you mean 'Patient'?"),
        ("%ressource", "did you mean 'resource'?"),
    ],
)
def test_fault_125_names_that_are_nearly_right(path: str, said: str) -> None:
    with pytest.raises(ViewError) as caught:
        compiled(path)
    assert str(caught.value).endswith(said)


def test_fault_125_a_resource_a_type_or_a_key_that_is_nearly_right() -> None:
    for given, said in (
        ({"resource": "Patients"}, "did you mean 'Patient'"),
        ({"select": [{"column": [{"name": "x", "path": "id", "type": "strng"}]}]}, "did you mean 'string'"),
        ({"select": [{"colum": []}]}, "did you mean 'column'"),
    ):
        with pytest.raises(ViewError, match=said):
            ViewDefinition.load({"resource": "Patient", "select": [columns(id="id")], **given})


def tagged(**of: tuple[str, str]) -> JSON:
    tag = "ansi/type"
    return {
        "column": [
            {"name": name, "path": path, "tag": [{"name": tag, "value": sql}, {"name": "other", "value": "x"}]}
            for name, (path, sql) in of.items()
        ]
    }


def test_fault_126_the_tag_ansi_type_is_the_type_of_the_column(engine: Engine) -> None:
    patient = {"resourceType": "Patient", "birthDate": "1970-05-01", "multipleBirthInteger": 2, "active": True}
    of = tagged(
        born=("birthDate", "DATE"),
        year=("birthDate.toString().substring(0, 4)", "date"),
        at=("birthDate", "TIMESTAMP WITH TIME ZONE"),
        order=("multipleBirth.ofType(integer)", "SMALLINT"),
        exact=("multipleBirth.ofType(integer)", "DECIMAL(5, 2)"),
        text=("multipleBirth.ofType(integer)", "CHARACTER VARYING(20)"),
        active=("active", "BOOLEAN"),
    )
    table = view_table(view(of), engine.resources([json.dumps(patient)]))
    found = engine.arrow(engine.compile(table))
    assert [str(kind) for kind in found.schema.types] == [
        "date32[day]",
        "date32[day]",
        "timestamp[us, tz=UTC]",
        "int16",
        "decimal128(5, 2)",
        "string",
        "bool",
    ]
    assert [str(value) for value in found.to_pylist()[0].values()] == [
        "1970-05-01",
        "None",
        "1970-05-01 00:00:00+00:00",
        "2",
        "2.00",
        "2",
        "True",
    ]


@pytest.mark.parametrize("kind", ["INTERVAL YEAR", "DECIMAL(60)", "CLOB", "ROW(a INT)", "DATE ARRAY"])
def test_fault_126_a_type_that_is_not_supported_is_named(kind: str) -> None:
    with pytest.raises(UnsupportedError, match=r"column\[0\].tag: ansi/type .* is not supported") as caught:
        run_view(view(tagged(x=("birthDate", kind))), [NAMES])
    assert kind in str(caught.value)
    with pytest.raises(ViewError, match="DATE is asked for, and the column is boolean"):
        run_view(view(tagged(x=("active", "DATE"))), [NAMES])


def test_fault_126_the_versions_of_a_view_are_heeded() -> None:
    for versions in (["4.0.1"], ["4.3.0"], ["3.0.2", "4.0.1"], [], "4.0.1"):
        assert view(columns(id="id"), fhirVersion=versions).release == "R4"
    # Where a view is for both, it is for what periop reads from servers.
    assert view(columns(id="id"), fhirVersion=["5.0.0", "4.0.1"]).release == "R4"
    assert view(columns(id="id"), fhirVersion=["3.0.2", "5.0.0"]).release == "R5"
    with pytest.raises(UnsupportedError, match=r"fhirVersion: a view for FHIR 3\.0\.2, 6\.0\.0 is not supported"):
        view(columns(id="id"), fhirVersion=["3.0.2", "6.0.0"])


# An administration of R5 (hl7.org/fhir/R5/medicationadministration.html): the drug is a CodeableReference, the time is
# `occurence[x]` (written so), and there are several categories.
GIVEN = {
    "resourceType": "MedicationAdministration",
    "id": "g",
    "medication": {"concept": {"coding": [{"system": "urn:drugs", "code": "a"}, {"system": "urn:drugs", "code": "b"}]}},
    "occurencePeriod": {"start": "2024-05-01", "end": "2024-05-02"},
    "category": [{"text": "inpatient"}, {"text": "day"}],
    "subject": {"reference": "Patient/p"},
}


def test_fault_126_a_view_for_r5_reads_the_elements_of_r5(engine: Engine) -> None:
    found = view(
        columns(
            id="getResourceKey()",
            patient="subject.getReferenceKey(Patient)",
            start="occurence.ofType(Period).start",
            kinds="category.text.join('+')",
            dated="occurence.exists()",
        ),
        {"forEach": "medication.concept.coding", **columns(code="code", of="%resource.status.exists()")},
        resource="MedicationAdministration",
        fhirVersion=["5.0.0"],
        where=[{"path": "medication.concept.exists()"}],
    )
    same = {"id": "g", "patient": "p", "start": "2024-05-01", "kinds": "inpatient+day", "dated": True, "of": False}
    assert rows(engine, found, GIVEN) == [same | {"code": "a"}, same | {"code": "b"}]


def test_fault_126_an_element_of_another_release_is_refused_by_name() -> None:
    def refused(path: str, *versions: str, resource: str = "MedicationAdministration") -> str:
        with pytest.raises(ViewError) as caught:
            run_view(view(columns(x=path), resource=resource, fhirVersion=list(versions)), [GIVEN])
        return str(caught.value)

    assert "R5 has no element 'effective' in MedicationAdministration" in refused("effective.exists()", "5.0.0")
    assert "R4 has no element 'occurence' in MedicationAdministration" in refused("occurence.exists()", "4.0.1")
    assert "R5 has no resource 'Media'" in refused("id", "5.0.0", resource="Media")
    assert "R4 has no resource 'Transport'" in refused("id", "4.0.1", resource="Transport")
    size = refused("content.attachment.size", "5.0.0", resource="DocumentReference")
    assert "an integer64 of R5, is not supported" in size
