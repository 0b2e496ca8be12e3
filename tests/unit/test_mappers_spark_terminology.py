"""Codings and texts get the meaning in SQL, on both engines, that the rules give one by one in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mappers.cohort.facts import Sources
from mappers.engines.base import Engine
from mappers.study import load_study
from mappers.terminology import Terminology, load_terminology
from mappers.terminology.systems import TEXT
from tests.engines import ENGINES, Engines
from tests.unit.test_mappers_terminology import concept_map, filtered, loaded, value_set

COLUMNS = ("site", "id", "part", "element", "system", "code", "display", "text")
NDC, CM = "http://hl7.org/fhir/sid/ndc", "http://hl7.org/fhir/sid/icd-10-cm"
SYSTEMS = [
    *(
        CM,
        "https://hl7.org/fhir/sid/icd-10-cm/",
        "urn:oid:2.16.840.1.113883.6.90",
        "2.16.840.1.113883.6.90",
        f"{CM}|2024",
    ),
    *("http://snomed.info/sct", "http://snomed.info/sct/900000000000207008/version/20240101", "HTTP://SNOMED.INFO/sct"),
    *(NDC, "http://loinc.org", "http://www.genenames.org/geneId", "https://rome.example/lab", "", None),
]
CODES = [
    *("C50", "C50.1", "c501", "C50.19", "C509", "C50.-", "D05.1", "D051+", "C34.11", " c3411", "254637007", "25463700"),
    *("50242-130-01", "50242013001", "0242-130-01", "50242-130", "HGNC:427", "427", "hgnc:427", "89247-1", "LA9622-7"),
    *("la9622-7", "1", "x", "X", "s.1", ""),
]
TEXTS = ["R0", " r0 ", "Mäßig", "MAESSIG", "ma\u0308ßig", "r\u00a00", "r 0", "r1", "", None]


@pytest.fixture(scope="module")
def terminology(tmp_path_factory: pytest.TempPathFactory) -> Terminology:
    texts = concept_map({"R0": "R0", "mäßig": "R1", "r 0": "R2"}, source=TEXT)
    texts["group"] += concept_map({"1": "RX", "x": "R1"})["group"] + concept_map({"1": "R0"}, source=None)["group"]
    below = value_set(filtered(("code", "regex", r"C50\.1.?|D05\.[0-9]")), {"system": "https://rome.example/lab"})
    below["compose"]["exclude"] = [filtered(("concept", "is-a", "C50.19"))]
    return loaded(tmp_path_factory.mktemp("terms"), residual_tumour=texts, drug=below)


@pytest.fixture(params=ENGINES, scope="module")
def engine(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Engine]:
    with engines.started(request.param) as started:
        yield started


def sources(engine: Engine, terminology: Terminology, rows: list[tuple[object, ...]]) -> Sources:
    def table(columns: tuple[str, ...], found: list[tuple[object, ...]]) -> pa.Table:
        types = {name: pa.int32() if name == "part" else pa.string() for name in columns}
        values = {name: [row[number] for row in found] for number, name in enumerate(columns)}
        return pa.table({name: pa.array(values[name], kind) for name, kind in types.items()})

    held = {name: engine.register_rows(name, made) for name, made in terminology.tables.items()}
    views = {
        "observation_coding": engine.register_rows("codings", table(COLUMNS, rows)),
        "observation": engine.register_rows(
            "observations", table(("site", "id", "value_string"), [("s", "said", "r0")])
        ),
        "observation_component": engine.register_rows(
            "components", table(("site", "id", "part", "value_string"), [("s", "said", 2, "Mäßig")])
        ),
    }
    return Sources(views, terminology.bound(held), load_study("alneo"))


def found(engine: Engine, table: object) -> set[tuple[object, ...]]:
    return {tuple(row.values()) for row in engine.arrow(engine.compile(table)).to_pylist()}  # type: ignore[arg-type]


@settings(max_examples=2, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(SYSTEMS), st.sampled_from(CODES), st.sampled_from(TEXTS)), min_size=150, max_size=200
    )
)
def test_sql_and_python_agree(
    engine: Engine, terminology: Terminology, concepts: list[tuple[str | None, str, str | None]]
) -> None:
    rows = [
        ("s", str(number), 0, "value", system, code or None, None, text)
        for number, (system, code, text) in enumerate(concepts)
    ]
    given_sources = sources(engine, terminology, rows)
    for name in ("drug", "nsclc", "alectinib", "ecog-code", "alk-gene"):
        known = given_sources.member("observation", "value", name)
        expected = {
            ("s", str(number), 0)
            for number, (system, code, text) in enumerate(concepts)
            if (code and _target(terminology, name, system, code) is not None)
            or (text is not None and terminology.target(name, TEXT, text) is not None)
        }
        assert found(engine, known) == expected, name
    mapped = given_sources.coded("observation", "value", "residual-tumour")
    expected_values = {("s", "said", 0, "R0"), ("s", "said", 2, "R1")}
    for number, (system, code, text) in enumerate(concepts):
        value = _target(terminology, "residual-tumour", system, code) if code else None
        value = value or (terminology.target("residual-tumour", TEXT, text) if text is not None else None)
        if value:
            expected_values.add(("s", str(number), 0, value))
    assert found(engine, mapped) == expected_values


def _target(terminology: Terminology, name: str, system: str | None, code: str) -> str | None:
    """The meaning of a coding; one without a system may be of the only public system with its code."""
    known = terminology.target(name, system or "", code)
    if known is not None or system:
        return known
    alone = {row["code"]: row for row in terminology.rows.to_pylist() if row["name"] == name and row["system"] == ""}
    row = alone.get(code.strip())
    return None if row is None else row["target"] or ""


def test_of_several_codings_the_first_of_the_map_counts(engine: Engine) -> None:
    sct = "http://snomed.info/sct"
    rows = [
        ("s", "1", 0, "value", sct, "119746007", None, None),  # lung excision, unspecific, last in the map
        ("s", "1", 0, "value", sct, "49795001", None, None),  # total pneumonectomy
        ("s", "2", 0, "value", sct, "119746007", None, None),
    ]
    given_sources = sources(engine, load_terminology(), rows)
    assert found(engine, given_sources.coded("observation", "value", "surgery-type")) == {
        ("s", "1", 0, "PNEUMONECTOMY"),
        ("s", "2", 0, "OTHER"),
    }


def test_the_codings_that_are_understood_are_canonical(engine: Engine, tmp_path: Path) -> None:
    rows = [
        ("s", "1", 0, "code", "urn:oid:2.16.840.1.113883.6.90", "c3411", None, None),
        ("s", "2", 0, "code", CM, "Z00", None, None),
    ]
    known = sources(engine, loaded(tmp_path), rows).known_codings("observation")
    assert found(engine, known.select("id", "system", "code")) == {("1", CM, "C34.11"), ("said", "", None)}
