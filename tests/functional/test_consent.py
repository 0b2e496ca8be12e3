"""Patients without consent are kept out: status, root rule, exceptions by code, periods, several Consents, none."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from mappers.cohort.consent import KEPT, NO_CONSENT
from schedules.config.settings import Settings
from schedules.config.site_settings import ConsentSettings
from schedules.run.pipeline import Pipeline
from tests.cohorts import KEY, pseudonym
from tests.compiled import compiled_once
from tests.invented import Invented, eligible
from tests.nights import ALNEO, Hospital, differing, fresh, settled, tables

TODAY = date(2026, 12, 1)
HL7 = "http://terminology.hl7.org/CodeSystem/"
SCOPE = f"{HL7}consentscope"
# MII Kerndatensatz, Modul Consent: code system and codes of the policies, 8 is "MDAT wissenschaftlich nutzen"
POLICY = "urn:oid:2.16.840.1.113883.3.1937.777.24.5.3"
COLLECT, USE, TISSUE = (f"2.16.840.1.113883.3.1937.777.24.5.3.{number}" for number in (6, 8, 22))
Rule = dict[str, Any]


def rule(kind: str | None, start: str | None = None, end: str | None = None, *codes: str, **more: Any) -> Rule:
    """A rule; the codes are concepts of their own, as the examples of the MII have them."""
    period = {name: value for name, value in (("start", start), ("end", end)) if value}
    concepts = [{"coding": [{"system": POLICY, "code": code}]} for code in codes]
    parts = {"type": kind, "period": period, "code": concepts}
    return {name: value for name, value in parts.items() if value} | more


def consent(
    patient: Invented, root: Rule, status: str = "active", day: str | None = "2023-01-01", **more: Any
) -> Invented:
    """Add a Consent to research."""
    elements: dict[str, Any] = {
        "status": status,
        "provision": root,
        "scope": {"coding": [{"system": SCOPE, "code": "research"}]},
    }
    if day:
        elements["dateTime"] = day
    patient.add("Consent", **elements | more)
    body = patient.resources[-1]
    body["patient"] = body.pop("subject")  # the element of Consent in R4
    return patient


def permitted(name: str) -> Invented:
    return consent(eligible(name), rule("permit"))


def mii(patient: Invented, *rules: Rule, **more: Any) -> Invented:
    """Add a Consent of the German profile: all is denied, but for what the rules in it permit."""
    return consent(patient, rule("deny", "2020-09-01", "2050-08-31", provision=list(rules)), **more)


FUTURE, PAST = ("2020-09-01", "2050-08-31"), ("2020-09-01", "2025-08-31")
PLAIN = {  # a site without codes, where nobody is used without a consent
    "permitted": (permitted("permitted"), True),
    "none": (eligible("none"), False),
    "denied": (consent(eligible("denied"), rule("deny")), False),
    "withdrawn": (consent(eligible("withdrawn"), rule("permit"), "inactive"), False),
    "rejected": (consent(eligible("rejected"), rule("permit"), "rejected"), False),
    "draft": (consent(eligible("draft"), rule("permit"), "draft"), False),
    "test": (
        consent(eligible("test"), rule("permit"), meta={"tag": [{"system": HL7 + "v3-ActReason", "code": "HTEST"}]}),
        False,
    ),
    "expired": (consent(eligible("expired"), rule("permit", *PAST)), False),
    "last-day": (consent(eligible("last-day"), rule("permit", "2020", "2026-12-01T23:00:00+01:00")), True),
    "this-year": (consent(eligible("this-year"), rule("permit", "2020", "2026")), False),  # it may have ended
    "not-begun": (consent(eligible("not-begun"), rule("permit", "2026-12-02")), False),
    "for-ever": (consent(eligible("for-ever"), rule("permit", "2020-01-01", "3000-01-01T00:00:00+01:00")), True),
    "unreadable": (consent(eligible("unreadable"), rule("permit", "2020-01-01", "31/12/2030")), False),
    "untyped": (consent(eligible("untyped"), rule(None)), False),
    "renewed": (consent(consent(eligible("renewed"), rule("deny"), day="2022-01-01"), rule("permit")), True),
    "revoked": (consent(permitted("revoked"), rule("deny"), day="2023-02-01"), False),
    "same-day": (consent(permitted("same-day"), rule("deny"), day="2023-01-01T09:00:00Z"), False),
    "denial-ended": (consent(permitted("denial-ended"), rule("deny", *PAST), day="2024-01-01"), True),
    "undated-denial": (consent(permitted("undated-denial"), rule("deny"), day=None), False),
    "replaced": (consent(permitted("replaced"), rule("permit"), "inactive", day="2019-01-01"), True),
    "ended-later": (consent(permitted("ended-later"), rule("permit"), "inactive", day="2024-01-01"), False),
    "entered-in-error": (consent(permitted("entered-in-error"), rule("deny"), "entered-in-error", day="2024"), True),
    # a consent to something else says nothing of this use
    "treatment": (
        consent(permitted("treatment"), rule("deny"), day="2024-01-01", scope={"coding": [{"code": "treatment"}]}),
        True,
    ),
    "modified": (
        consent(
            permitted("modified"), rule("permit"), modifierExtension=[{"url": "http://h.example/x", "valueCode": "y"}]
        ),
        False,
    ),
}
CODED = {  # a site that asks for two codes, where a patient without any consent is used
    "both": (mii(eligible("both"), rule("permit", *FUTURE, COLLECT, USE)), True),
    "apart": (mii(eligible("apart"), rule("permit", *FUTURE, COLLECT), rule("permit", *FUTURE, USE)), True),
    "one": (mii(eligible("one"), rule("permit", *FUTURE, USE)), False),
    "one-expired": (mii(eligible("one-expired"), rule("permit", *PAST, COLLECT), rule("permit", *FUTURE, USE)), False),
    "one-denied": (
        mii(
            mii(eligible("one-denied"), rule("permit", *FUTURE, COLLECT, USE)),
            rule("deny", *FUTURE, USE),
            day="2024-05-05",
        ),
        False,
    ),
    "tissue-denied": (
        mii(
            mii(eligible("tissue-denied"), rule("permit", *FUTURE, COLLECT, USE)),
            rule("deny", *FUTURE, TISSUE),
            day="2024-05-05",
        ),
        True,
    ),
    "root-ended": (
        consent(eligible("root-ended"), rule("deny", *PAST, provision=[rule("permit", *FUTURE, COLLECT, USE)])),
        False,
    ),
    "ended": (mii(eligible("ended"), status="inactive"), False),
    "only-tissue": (mii(eligible("only-tissue"), rule("permit", *FUTURE, TISSUE)), True),  # nothing is said of this use
    "no-consent": (eligible("no-consent"), True),
    # the root may have the code itself
    "root": (consent(eligible("root"), rule("permit", *FUTURE, COLLECT, USE)), True),
}
ASKED = {
    "milan": ConsentSettings(),
    "rome": ConsentSettings(codes=(f"{POLICY}|{COLLECT}", f"{POLICY}|{USE}"), without="include"),
}


def asking(data: Path) -> Settings:
    settings = settled(data)
    sites = tuple(site.model_copy(update={"consent": ASKED[site.name]}) for site in settings.sites)
    return settings.model_copy(update={"sites": sites})


def mapped(settings: Settings, day: date = TODAY) -> int:
    """Map on this day; return how many patients were derived."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    pipeline = Pipeline({"PERIOP_PSEUDONYM_KEY": KEY}, clock=lambda: noon)
    with compiled_once(settings.data_dir):
        return pipeline.map_lake(settings, ALNEO, progress=lambda _: None).derived


def bodies(patients: list[Invented]) -> dict[tuple[str, str], dict[str, Any] | None]:
    return {(body["resourceType"], body["id"]): body for patient in patients for body in patient.resources}


def rows(settings: Settings, table: str = "adsl") -> dict[str, dict[str, Any]]:
    """The rows of a table by the name of the patient (one each in ADSL)."""
    names = {pseudonym(name): name for name in (*PLAIN, *CODED)}
    return {names[row["USUBJID"].rpartition("-")[2]]: row for row in tables(settings)[f"{table}.parquet"].to_pylist()}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    hospital = Hospital(tmp_path_factory.mktemp("consent") / "data")
    hospital.night("milan", bodies([patient for patient, _ in PLAIN.values()]))
    hospital.night("rome", bodies([patient for patient, _ in CODED.values()]))
    mapped(asking(hospital.data))
    return hospital


@pytest.fixture
def hospital(lake: Hospital, tmp_path: Path) -> Hospital:
    shutil.copytree(lake.data, tmp_path / "data")
    return Hospital(tmp_path / "data", dict(lake.held), lake.written)


def test_fault_144_who_does_not_consent_is_kept_out(lake: Hospital) -> None:
    found = {name: row["SCRFRS"] for name, row in rows(asking(lake.data)).items()}
    assert found == {name: None if allowed else NO_CONSENT for name, (_, allowed) in (PLAIN | CODED).items()}


def test_fault_144_nothing_is_in_the_tables_of_who_does_not_consent(lake: Hospital) -> None:
    settings = asking(lake.data)
    refused = {name for name, (_, allowed) in (PLAIN | CODED).items() if not allowed}
    for name, row in rows(settings).items():
        if name in refused:
            assert all(value is None for column, value in row.items() if column not in KEPT)
            assert (row["ITTFL"], row["SRCREF"]) == ("N", [])
        else:
            assert row["AGE"] == 62  # born on 1960-05-05, first dose on 2023-01-02
    for table in ("adrs", "adtte", "adae"):
        assert refused.isdisjoint(rows(settings, table))
    told = tables(settings)["quality_patients.parquet"].to_pylist()
    assert {row["DOMAIN"] for row in told if row["USUBJID"].endswith(pseudonym("denied"))} == {"Consent"}


def test_fault_144_who_was_kept_out_is_counted_by_reason(lake: Hospital) -> None:
    found = {
        (row["SITEID"], row["ISSUE"]): row["COUNT"]
        for row in tables(asking(lake.data))["quality.parquet"].to_pylist()
        if row["DOMAIN"] == "Consent" and "not used" in row["ISSUE"] and "modifier" not in row["ISSUE"]
    }
    denied = "denied, withdrawn, expired or not understood, patient not used"
    none = "no consent recorded, patient not used"
    # a draft is no consent yet, and one that is labelled as test data is none at all
    refused = sum(not allowed for _, allowed in PLAIN.values())
    assert found == {("milan", denied): refused - 3, ("milan", none): 3, ("rome", denied): 5}


def test_fault_145_a_consent_changes_from_night_to_night_and_with_time(hospital: Hospital, tmp_path: Path) -> None:
    settings = asking(hospital.data)
    lost = consent(Invented("nobody"), rule("deny")).resources[0] | {"id": "lost"}
    nights: list[tuple[dict[tuple[str, str], dict[str, Any] | None], date, int, dict[str, str | None]]] = [
        # the denial goes
        ({("Consent", "revoked-consent-1"): None, ("Consent", "lost"): lost}, TODAY, 1, {"revoked": None}),
        # nothing comes but the next day: a consent begins, another one ended on the day before
        ({}, date(2026, 12, 2), 2, {"revoked": None, "not-begun": None, "last-day": NO_CONSENT}),
    ]
    before = {name: row["SCRFRS"] for name, row in rows(settings).items()}
    for changes, day, derived, expected in nights:
        if changes:
            hospital.night("milan", changes)
        assert mapped(settings, day) == derived
        assert {name: row["SCRFRS"] for name, row in rows(settings).items()} == before | expected
    anew = fresh(settings, tmp_path / "anew")
    mapped(anew, day)
    assert differing(settings, anew) == []
    issue = {"SITEID": "milan", "DOMAIN": "Consent", "ISSUE": "reference to a patient that is not there", "COUNT": 1}
    assert issue in tables(settings)["quality.parquet"].to_pylist()
