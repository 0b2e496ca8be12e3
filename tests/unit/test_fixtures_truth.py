"""The ALNEO resources say what the CSV says: a slow reader of the NDJSON, with the codes written out here.

It knows the rules only as far as needed to see that no fact is wrong and no trap shows: status filters,
codes, day 0 as the first completed dose.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

ALNEO = Path(__file__).resolve().parents[2] / "fixtures" / "alneo"
KEY: dict[str, Any] = json.loads((ALNEO.parent / "alneo_answers.json").read_bytes())
PATIENTS: list[dict[str, Any]] = KEY["patients"]
CUTS = [date.fromisoformat(cut) for cut in KEY["cuts"].values()]
GIVEN = ("completed", "in-progress", "stopped")
FINAL = ("final", "amended", "corrected")
RESECTIONS = {
    **dict.fromkeys(("359623004", "0BTC0ZZ", "0BTC4ZZ", "0BTF0ZZ", "0BTG4ZZ", "32.41", "32.49", "5-324"), "LOBECTOMY"),
    **dict.fromkeys(("49795001", "91596000", "0BTK0ZZ"), "PNEUMONECTOMY"),
    **dict.fromkeys(("32.39", "32.29", "119746007", "0BTD0ZZ"), "OTHER"),
}
"""0BTD0ZZ occurs only as half of the bilobectomy."""
ALECTINIB = {"1727479", "1727485", "L01ED03", "L01XE36"}
GRADES = {"C41338": 1, "C41339": 2, "C41340": 3, "C41337": 4}

Resource = dict[str, Any]
Chart = dict[str, dict[str, list[Resource]]]


@pytest.fixture(scope="module")
def chart() -> Chart:
    """Resources by patient id and type."""
    made: Chart = defaultdict(lambda: defaultdict(list))
    for file in ALNEO.glob("*.ndjson"):
        for line in file.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            owner = one.get("subject", {}).get("reference", f"Patient/{one['id']}")
            made[owner.removeprefix("Patient/")][one["resourceType"]].append(one)
    return made


def _codes(*concepts: Resource) -> set[str]:
    return {coding["code"] for concept in concepts for coding in concept.get("coding", [])}


def _day(text: str) -> date:
    return date.fromisoformat(text[:10])


def _when(one: Resource, stem: str) -> date:
    """The day of a choice element: dateTime, instant, or the start of the period."""
    period = one.get(f"{stem}Period", {})
    return _day(one.get(f"{stem}DateTime") or one.get(f"{stem}Instant") or period["start"])


def _doses(patient: dict[str, list[Resource]]) -> list[tuple[date, date]]:
    """First and last day of each dose of alectinib, in time order; a running one ends at the later cut."""
    spans = []
    for one in patient["MedicationAdministration"]:
        drug = one.get("medicationCodeableConcept") or one["contained"][0]["code"]
        if one["status"] in GIVEN and _codes(drug) & ALECTINIB:
            first = _when(one, "effective")
            end = one.get("effectivePeriod", {}).get("end")
            running = one["status"] == "in-progress"
            spans.append((first, _day(end) if end else CUTS[1] if running else first))
    return sorted(spans)


def _observed(patient: dict[str, list[Resource]], code: str) -> Iterator[Resource]:
    return (one for one in patient["Observation"] if one["status"] in FINAL and code in _codes(one["code"]))


def _resections(patient: dict[str, list[Resource]], day0: date) -> list[tuple[date, str]]:
    made = [
        (_when(one, "performed"), RESECTIONS[code])
        for one in patient["Procedure"]
        if one["status"] == "completed"
        for code in _codes(one["code"]) & set(RESECTIONS)
    ]
    return sorted(one for one in made if one[0] > day0)


@pytest.mark.parametrize("expected", PATIENTS, ids=lambda one: one["id"])
def test_treatment_and_surgery(chart: Chart, expected: dict[str, Any]) -> None:
    patient, adsl = chart[expected["id"]], expected["ADSL"]
    doses = _doses(patient)
    day0 = doses[0][0]
    assert day0.isoformat() == adsl["TRTSDT"]
    resections = _resections(patient, day0)
    assert bool(resections) == (adsl["SURGFL"] == "Y")
    if not resections:
        assert max(last for _, last in doses) == day0 + timedelta(days=55)
        return
    kinds = {kind for _, kind in resections}
    assert resections[0][0].isoformat() == adsl["SURGDT"]
    assert ("OTHER" if "OTHER" in kinds else kinds.pop()) == adsl["SURGTYPE"]
    after = [first for first, _ in doses if first > resections[0][0]]
    assert (after[0].isoformat() if after else None) == adsl["AP02SDT"]


@pytest.mark.parametrize("cut", CUTS, ids=KEY["cuts"])
@pytest.mark.parametrize("expected", PATIENTS, ids=lambda one: one["id"])
def test_a_full_adjuvant_course_is_672_days(chart: Chart, expected: dict[str, Any], cut: date) -> None:
    """24 cycles of 28 days by either cut, for those alone who completed the course."""
    start = expected["ADSL"]["AP02SDT"]
    adjuvant = [span for span in _doses(chart[expected["id"]]) if start and span[0] >= date.fromisoformat(start)]
    given = {first + timedelta(days=n) for first, last in adjuvant for n in range((min(last, cut) - first).days + 1)}
    assert (len(given) >= 672) == (expected["ADSL"]["ADJCMPFL"] == "Y")


@pytest.mark.parametrize("expected", PATIENTS, ids=lambda one: one["id"])
def test_age_sex_and_death(chart: Chart, expected: dict[str, Any]) -> None:
    person, adsl = chart[expected["id"]]["Patient"][0], expected["ADSL"]
    start = date.fromisoformat(adsl["TRTSDT"])
    birth = date.fromisoformat(person["birthDate"] if len(person["birthDate"]) == 10 else f"{person['birthDate']}-15")
    assert start.year - birth.year - ((start.month, start.day) < (birth.month, birth.day)) == adsl["AGE"]
    assert person["gender"][0].upper() == adsl["SEX"]
    assert person.get("deceasedDateTime", "")[:10] == (expected["later_cut"]["DTHDT"] or "")


@pytest.mark.parametrize("expected", PATIENTS, ids=lambda one: one["id"])
def test_pathology(chart: Chart, expected: dict[str, Any]) -> None:
    patient, adrs = chart[expected["id"]], expected["ADRS"]
    readings = {
        one["valueQuantity"]["value"]
        for one in _observed(patient, "residual-viable-tumour")
        if _codes(one.get("method", {})) == {"central-review"}
    }
    assert readings == ({adrs["PVTPCT"]} if adrs["PVTPCT"] is not None else set())
    margins = {
        code
        for asked in ("17964000", "84892-9")
        for one in _observed(patient, asked)
        for code in _codes(one["valueCodeableConcept"])
    }
    assert (margins <= {"258254000", "R0"} if margins else None) == (None if adrs["R0"] is None else adrs["R0"] == "Y")


@pytest.mark.parametrize("expected", PATIENTS, ids=lambda one: one["id"])
def test_assessments_reach_both_cuts_and_stop_at_death(chart: Chart, expected: dict[str, Any]) -> None:
    patient = chart[expected["id"]]
    seen = {_when(one, "effective") for one in _observed(patient, "97509-4")}
    for cut, name in zip(CUTS, KEY["cuts"], strict=True):
        assert (cut in seen) == (expected[name]["DTHFL"] is None)
    death = expected["later_cut"]["DTHDT"]
    every = [_when(one, "effective") for one in patient["Observation"]]
    assert death is None or max(every) < date.fromisoformat(death)
    assert death is None or max(last for _, last in _doses(patient)) < date.fromisoformat(death)


@pytest.mark.parametrize("expected", PATIENTS, ids=lambda one: one["id"])
def test_progression_on_its_day(chart: Chart, expected: dict[str, Any]) -> None:
    """The first coded progression or recurrence up to the later cut, and none where the CSV has none."""
    patient, start = chart[expected["id"]], date.fromisoformat(expected["ADSL"]["TRTSDT"])
    coded = [
        _when(one, "effective")
        for asked in ("recist-response", "97509-4")
        for one in _observed(patient, asked)
        if _codes(one["valueCodeableConcept"]) & {"C159716", "419835002", "1259237005"}
    ]
    conditions = [one for one in patient["Condition"] if _codes(one["code"]) & {"314954002", "C79.31", "C77.1"}]
    coded += [_when(one, "onset") for one in conditions]
    coded = sorted(day for day in coded if start <= day <= CUTS[1])
    efs = expected["later_cut"]["EFS"]
    progressed = efs["EVNTDESC"] in ("PROGRESSION", "RECURRENCE")
    assert (coded[0].isoformat() if coded else None) == (efs["ADT"] if progressed else None)


def _grade(one: Resource) -> int:
    carriers = [extension["valueCodeableConcept"] for extension in one.get("extension", [])]
    codes = _codes(*(carriers or [one["severity"]]))
    return next(GRADES[code] if code in GRADES else int(code) for code in codes)


@pytest.mark.parametrize("expected", PATIENTS, ids=lambda one: one["id"])
def test_adverse_events_at_their_worst_grade(chart: Chart, expected: dict[str, Any]) -> None:
    """Events up to the first cut: neoadjuvant before surgery (or to day 85), adjuvant from its first dose."""
    patient, adsl = chart[expected["id"]], expected["ADSL"]
    start = date.fromisoformat(adsl["TRTSDT"])
    surgery = date.fromisoformat(adsl["SURGDT"]) if adsl["SURGDT"] else start + timedelta(days=86)
    adjuvant = date.fromisoformat(adsl["AP02SDT"]) if adsl["AP02SDT"] else date.max
    worst: dict[tuple[str, str], int] = {}
    for one in patient["AdverseEvent"]:
        onset = _day(one.get("date") or one["detected"])
        phase = "NEOADJUVANT" if start <= onset < surgery else "ADJUVANT" if onset >= adjuvant else ""
        if one["actuality"] == "actual" and onset <= CUTS[0] and phase:
            key = (phase, one["event"]["text"])
            worst[key] = max(_grade(one), worst.get(key, 0))
    assert worst == {(one["APERIODC"], one["AETERM"]): one["ATOXGRN"] for one in expected["ADAE"]}


def test_no_event_is_serious_and_related(chart: Chart) -> None:
    events = [one for patient in chart.values() for one in patient["AdverseEvent"]]
    serious = [one for one in events if "Serious" in _codes(one.get("seriousness", {}))]
    causes = [cause["assessment"] for one in serious for cause in one["suspectEntity"][0]["causality"]]
    assert len(serious) == 1
    assert _codes(*causes) == {"Unlikely"}


def test_everybody_else_is_there_too(chart: Chart) -> None:
    assert set(chart) == {*KEY["not_counted"], *(one["id"] for one in PATIENTS)}
    assert not _doses(chart["DEC-09"])
    assert not _doses(chart["DEC-05"])
    assert _doses(chart["DEC-10"])[0][0] > CUTS[1]
