"""Whose a row is, by the SQL of both engines; what is expected is worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pytest

from connectors.fhir.modifiers import KNOWN, is_modified
from mappers.build import versions
from mappers.build.persons import MERGED, PERSONS, SCHEMA, identified, keys_of, owned
from mappers.cohort.facts import RESOURCE_TYPES
from mappers.engines.base import Engine
from tests.engines import ENGINES, Engines

IDENTIFIERS = [
    ("a", "p1", "urn:mrn", "7"),
    ("a", "p1", None, "1"),
    ("a", "old", "urn:mrn", "8"),
    ("a", "new", "urn:mrn", "8"),
    ("a", "p2", "urn:mrn", "9"),
    ("a", "p3", "urn:mrn", "9"),
    ("b", "p4", "urn:mrn", "7|x&y"),
]
# whose each reference is: None where no one person has the identifier
TOKENS = {
    ("a", "?identifier=urn:mrn|7"): "p1",
    ("a", "?identifier=|1"): "p1",
    ("a", "?identifier=7"): "p1",  # any system
    ("a", "?identifier=|7"): None,  # no system
    ("a", "?identifier=urn:mrn|8"): "new",  # two records of one person
    ("a", "?identifier=urn:mrn|9"): None,  # two persons
    ("a", "?identifier=elsewhere|1&identifier=urn:mrn|7"): "p1",
    ("a", "?identifier=urn:mrn|7&identifier=urn:mrn|9"): None,
    ("b", "?identifier=urn:mrn|7"): None,  # at the other site
    ("b", "?identifier=urn:mrn|7|x&y"): "p4",
    ("a", "?identifier=nobody|0"): None,
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Engine]:
    with engines.started(request.param, b"key") as engine:
        yield engine


def test_identifiers_are_looked_up_and_records_are_those_of_their_person(engine: Engine) -> None:
    merged = pa.Table.from_pylist([{"site": "a", "patient": "old", "person": "new"}], schema=SCHEMA)
    engine.register_rows(MERGED, merged)
    columns = zip(*IDENTIFIERS, strict=True)
    names = ("site", "id", "system", "value")
    known = engine.register_rows("identifiers", pa.table(dict(zip(names, map(list, columns), strict=True))))
    ids = [("a", "old"), ("a", "p1"), ("a", None)]
    sites, patients = zip(*TOKENS, *ids, strict=True)
    rows = engine.register_rows("rows", pa.table({"site": list(sites), "patient": list(patients)}))
    found = engine.arrow(engine.compile(identified(known, dict.fromkeys(RESOURCE_TYPES, rows)))).cast(SCHEMA)
    persons = pa.concat_tables([merged, found])
    assert {(row["site"], row["patient"]): row["person"] for row in found.to_pylist()} == {
        key: person for key, person in TOKENS.items() if person
    }
    engine.register_rows(PERSONS, persons)
    whose = {
        (row["site"], row["referred"]): row["patient"] for row in engine.arrow(engine.compile(owned(rows))).to_pylist()
    }
    assert whose == {**TOKENS, ("a", "old"): "new", ("a", "p1"): "p1", ("a", None): None}
    asked = engine.register_rows("asked", pa.table({"site": ["a"], "patient": ["new"]}))
    keys = engine.arrow(engine.compile(keys_of(asked))).to_pylist()
    assert sorted(row["patient"] for row in keys) == ["?identifier=urn:mrn|8", "new", "old"]


def test_modifier_extensions_are_judged_alike(engine: Engine) -> None:
    coded = {"valueCodeableConcept": {"coding": [{"code": "y"}]}}
    bodies = [
        {"status": "final"},
        {"modifierExtension": [{"url": KNOWN[0], **coded}]},
        {"modifierExtension": [{"url": "http://x.example", **coded}]},
        {"modifierExtension": [{"url": KNOWN[0], **coded}, {"url": "http://x.example", **coded}]},
    ]
    texts = [json.dumps(body, indent=indent) for body in bodies for indent in (None, 1)]
    rows = engine.register_rows("texts", pa.table({"text": texts}))
    found = engine.arrow(engine.compile(rows.select("text", modified=versions.is_modified(rows["text"]))))
    assert {row["text"]: row["modified"] for row in found.to_pylist()} == {text: is_modified(text) for text in texts}
