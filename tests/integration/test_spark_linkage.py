"""Persons at several sites, and consent, by the SQL of both engines; worked out by hand."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, cast

import pyarrow as pa
import pytest

from mappers.build.linkage import LINKED, linked_patients, linked_records, shared_identifiers, with_linked
from mappers.cohort import Sources
from mappers.cohort.consent import CATEGORY, CONSENT, PROVISION, decisions
from mappers.cohort.consent_rule import ConsentRule
from mappers.cohort.eligibility import ELSEWHERE, counted_once
from mappers.engines.base import Engine
from mappers.study import load_study
from mappers.terminology import Terminology
from tests.engines import ENGINES, Engines

SECRET = b"key"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> Iterator[Engine]:
    with engines.started(request.param, SECRET) as engine:
        yield engine


def named(engine: Engine, name: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> Any:
    """A table of text columns, or whatever the values of the first row are."""
    values = list(zip(*rows, strict=True))
    arrays = [pa.array(column, pa.bool_() if isinstance(column[0], bool) else pa.string()) for column in values]
    return engine.register_rows(name, pa.table(arrays, names=columns.split()))


def hashed(text: str) -> str:
    return hmac.new(SECRET, f"periop identifier\n{text}".encode(), hashlib.sha256).hexdigest()


def test_patients_are_linked_by_the_hash_of_their_identifiers_and_counted_once(engine: Engine) -> None:
    people = named(
        engine,
        "people",
        "site patient id gender birth_date test_data",
        [
            ("a", "p", "p", "male", "1960-05-05", False),
            ("a", "q", "q", None, None, False),
            ("b", "p", "p", "male", "1960", False),
            ("b", "new", "old", None, None, False),  # a record of another one, which is the person
            ("b", "test", "test", None, None, True),
        ],
    )
    identifiers = named(
        engine,
        "identifiers",
        "site id system value",
        [
            ("a", "p", "urn:n", "1"),
            ("b", "p", " urn:n", "1 "),
            ("b", "p", "urn:other", "7"),
            ("a", "q", "urn:other", "7"),  # of a system that does not count
            ("a", "q", "urn:n", "2"),
            ("b", "old", "urn:n", "2"),
            ("b", "test", "urn:n", "2"),
            ("a", "q", "urn:n", " "),
            ("b", "p", "urn:n", ""),
            ("a", "q", "urn:n", "alone"),
        ],
    )
    query = engine.compile(shared_identifiers(people, identifiers, ["urn:n"]))
    found = engine.arrow(query).to_pylist()
    assert sorted((row["site"], row["patient"], row["key"]) for row in found) == [
        ("a", "p", hashed("urn:n|1")),
        ("a", "q", hashed("urn:n|2")),
        ("b", "new", hashed("urn:n|2")),
        ("b", "p", hashed("urn:n|1")),
    ]
    engine.register_rows(LINKED, linked_records(found, ["a", "b"]))
    asked = named(engine, "asked", "site patient", [("b", "new"), ("a", "z")])
    reached = engine.arrow(engine.compile(with_linked(asked))).to_pylist()
    assert sorted((row["site"], row["patient"]) for row in reached) == [("a", "q"), ("a", "z"), ("b", "new")]

    screened = named(
        engine,
        "screened",
        "site patient SCRFRS",
        [("a", "p", None), ("b", "p", None), ("a", "q", "STAGE UNKNOWN"), ("b", "new", None), ("b", "z", None)],
    )
    sources = Sources({}, cast("Terminology", None), load_study("alneo"), linked=linked_patients())
    counted = engine.arrow(engine.compile(counted_once(sources, screened))).to_pylist()
    assert {(row["site"], row["patient"]): row["SCRFRS"] for row in counted} == {
        ("a", "p"): None,
        ("b", "p"): ELSEWHERE,
        ("a", "q"): ELSEWHERE,  # not enrolled here, but there
        ("b", "new"): None,
        ("b", "z"): None,
    }


# patient, status, date, type, start and end of the root
CONSENTS = [
    ("yes", "active", "2023-01-01", "permit", "2020", None),
    ("no", "active", "2023-01-01", "deny", None, None),
    ("revoked", "active", "2023-01-01", "permit", None, None),
    ("revoked", "active", "2023-01-02T10:00:00Z", "deny", None, None),
    ("ended", "inactive", "2023-01-01", "permit", None, None),
    ("until-today", "active", None, "permit", None, "2026-12-01T12:00:00Z"),
    ("until-yesterday", "active", None, "permit", None, "2026-11-30"),
    ("for-ever", "active", "2023", "permit", "2020-01", "3000-01-01"),
    ("unreadable", "active", "2023", "permit", "2020-01", "31/12/2030"),
    ("elsewhere", "active", "2023", "permit", None, None),
]
TODAY = {"yes": True, "no": False, "revoked": False, "ended": False, "until-today": True}
TODAY |= {"until-yesterday": False, "for-ever": True, "unreadable": False}


def test_who_consents_is_decided_alike(engine: Engine) -> None:
    rows = [("a", patient, str(number), *rest, False) for number, (patient, *rest) in enumerate(CONSENTS)]
    views = {
        CONSENT: named(engine, "consents", "site patient id status date type start end test_data", rows),
        CATEGORY: named(
            engine,
            "categories",
            "site id system code",
            [("a", row[2], "urn:scope", "treatment" if row[1] == "elsewhere" else "research") for row in rows],
        ),
        PROVISION: named(
            engine,
            "provisions",
            "site id type start end system code",
            [("a", row[2], "permit", "2020", "2024" if row[1] == "no" else None, "urn:policy", "8") for row in rows],
        ),
    }
    engine.register_rows("map_day", pa.table({"day": [date(2026, 12, 1)], "previous": [date(2026, 12, 2)]}))

    def allowed(on: Any, *codes: tuple[str, str]) -> dict[str, bool]:
        rule = ConsentRule("a", (("urn:scope", "research"),), codes, "exclude")
        found = engine.arrow(engine.compile(decisions(views, rule, on))).to_pylist()
        return {row["patient"]: row["allowed"] for row in found}

    assert allowed("day") == TODAY
    assert allowed("previous") == TODAY | {"until-today": False}
    # By the code all rules in the root permit, but for one that has ended; the root must hold too.
    by_code = dict.fromkeys(TODAY, True) | {"no": False, "ended": False, "until-yesterday": False, "unreadable": False}
    assert allowed("day", ("urn:policy", "8")) == by_code
