"""The other hospitals: reproducible, valid, closed under references, of known codes, with the facts of the answer key.

The facts are read here with small tables of words, not with periop: a fixture that says something else than the answer
key would cost whoever writes the mapping for it a day.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "fixtures"
OTHERS = FIXTURES / "other_hospitals"
HOSPITALS = ("mcode", "german", "us")
US_SERVER = "https://ehr.us-hospital.example/api/FHIR/R4/"
Resource = dict[str, Any]

STRUCTURAL = (  # codes of FHIR and HL7 themselves, units, and the hospitals' own
    "http://unitsofmeasure.org",
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "http://terminology.hl7.org/CodeSystem/condition-category",
    "http://terminology.hl7.org/CodeSystem/v2-0074",
    "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "http://fhir.cancercenter.example/",
    "http://fhir.klinikum.example/",
    "http://fhir.us-hospital.example/",
    "http://fhir.hospital.example/",
)


def _rows(path: Path) -> list[Resource]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ndjson":
        return [json.loads(line) for line in text.splitlines()]
    return [entry["resource"] for entry in json.loads(text)["entry"]]


@cache
def _resources(hospital: str) -> list[Resource]:
    """Every resource of a hospital, without its terminology."""
    return [row for path in sorted((OTHERS / hospital / "fhir").glob("*.*json")) for row in _rows(path)]


@cache
def _answers() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((FIXTURES / "alneo_answers.json").read_text(encoding="utf-8"))
    return answers


def _objects(value: Any) -> Iterator[Resource]:
    """Every JSON object within `value`."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _target(hospital: str, reference: Resource) -> str:
    """The resource that a reference leads to, as Type/id (German: the id alone)."""
    if "identifier" in reference:
        return f"Patient/{reference['identifier']['value']}"
    target: str = reference["reference"]
    return target.removeprefix("urn:uuid:").removeprefix(US_SERVER).split("/_history/")[0]


def _name(hospital: str, resource: Resource) -> str:
    identity: str = resource["id"]
    return identity if hospital == "german" else f"{resource['resourceType']}/{identity}"


@cache
def _people(hospital: str) -> dict[str, list[Resource]]:
    """The resources of each person, by the id of the answer key; resources of nobody are left out."""
    rows = _resources(hospital)
    ids = {_name(hospital, row): row["identifier"][0]["value"] for row in rows if row["resourceType"] == "Patient"}
    people: dict[str, list[Resource]] = {identity: [] for identity in ids.values()}
    for row in rows:
        owner = _target(hospital, row["subject"]) if "subject" in row else _name(hospital, row)
        if owner in ids:
            people[ids[owner]].append(row)
    return people


def test_building_again_gives_the_same_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(OTHERS / "build.py"), str(tmp_path)], check=True, cwd=tmp_path)
    built = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*json"))
    assert built == sorted(path.relative_to(OTHERS) for path in OTHERS.rglob("*.*json"))
    for name in built:
        assert (tmp_path / name).read_bytes() == (OTHERS / name).read_bytes(), name


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_every_resource_is_valid_r4(hospital: str) -> None:
    for row in _resources(hospital):
        get_fhir_model_class(row["resourceType"]).model_validate(row)
    for path in (OTHERS / hospital / "terminology").glob("*.json"):
        get_fhir_model_class("ConceptMap").model_validate_json(path.read_text(encoding="utf-8"))


def test_every_german_file_is_a_valid_transaction_of_one_person() -> None:
    files = sorted((OTHERS / "german" / "fhir").glob("*.json"))
    assert len(files) == 48
    for path in files:
        bundle = json.loads(path.read_text(encoding="utf-8"))
        get_fhir_model_class("Bundle").model_validate(bundle)
        assert bundle["type"] == "transaction"
        kinds = Counter(entry["resource"]["resourceType"] for entry in bundle["entry"])
        assert kinds["Patient"] == 1
        for entry in bundle["entry"]:
            assert entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}"
            assert entry["request"] == {"method": "POST", "url": entry["resource"]["resourceType"]}


@pytest.mark.parametrize(
    ("hospital", "counts"),
    [
        (
            "mcode",
            {
                "AdverseEvent": 49,
                "Condition": 50,
                "DiagnosticReport": 54,
                "Medication": 1,
                "MedicationAdministration": 636,
                "MedicationRequest": 89,
                "Observation": 929,
                "Patient": 48,
                "Procedure": 48,
            },
        ),
        (
            "german",
            {
                "AdverseEvent": 49,
                "Condition": 48,
                "DiagnosticReport": 41,
                "Medication": 47,
                "MedicationStatement": 90,
                "Observation": 1079,
                "Patient": 48,
                "Procedure": 177,
            },
        ),
        (
            "us",
            {
                "AdverseEvent": 49,
                "Condition": 52,
                "DiagnosticReport": 56,
                "Medication": 1,
                "MedicationDispense": 568,
                "MedicationRequest": 89,
                "Observation": 787,
                "Patient": 48,
                "Procedure": 61,
            },
        ),
    ],
)
def test_number_of_resources(hospital: str, counts: dict[str, int]) -> None:
    assert Counter(row["resourceType"] for row in _resources(hospital)) == counts


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_a_hospital_is_small(hospital: str) -> None:
    assert sum(path.stat().st_size for path in (OTHERS / hospital).rglob("*.*json")) < 1_600_000


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_everybody_is_there_once(hospital: str) -> None:
    found = Counter(row["identifier"][0]["value"] for row in _resources(hospital) if row["resourceType"] == "Patient")
    expected = {one["id"] for one in _answers()["patients"]} | set(_answers()["not_counted"])
    assert found == dict.fromkeys(expected, 1)


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_ids_are_unique_and_short(hospital: str) -> None:
    ids = Counter((row["resourceType"], row["id"]) for row in _resources(hospital))
    assert max(ids.values()) == 1
    assert max(len(identity) for _, identity in ids) <= 64


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_references_lead_to_a_resource_of_the_same_person(hospital: str) -> None:
    owner = {_name(hospital, row): person for person, rows in _people(hospital).items() for row in rows}
    shared = [row for row in _resources(hospital) if _name(hospital, row) not in owner]
    assert {row["resourceType"] for row in shared} == {"Medication"}
    nobodys = {_name(hospital, row) for row in shared}
    for person, rows in _people(hospital).items():
        for inner in _objects(rows):
            if "reference" in inner or inner.get("type") == "Patient":
                target = _target(hospital, inner)
                assert target in nobodys or owner[target] == person, inner


def test_each_hospital_has_its_own_style_of_reference() -> None:
    styles = {
        hospital: {
            inner["reference"].split("/")[0] if "reference" in inner else "logical"
            for inner in _objects(_resources(hospital))
            if "reference" in inner or inner.get("type") == "Patient"
        }
        for hospital in HOSPITALS
    }
    assert "Patient" in styles["mcode"]
    assert all(style.startswith("urn:uuid:") for style in styles["german"])
    assert styles["us"] == {"https:", "logical"}
    assert any("/_history/" in str(row) for row in _resources("us"))


def _table(heading: str) -> list[list[str]]:
    """The cells of a table of SOURCES.md below `heading`."""
    text = (OTHERS / "SOURCES.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def _known_codes() -> set[tuple[str, str]]:
    with (FIXTURES / "reference" / "codes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "verified"]
    known = {(row["system"], row["code"]) for row in rows}
    known |= {(row["system"], code) for row in rows if row["display"] == "(all codes)" for code in row["code"].split()}
    return known | {(system, code) for codes, system, *_ in _table("Codes") for code in codes.split()}


def _used_codes(hospital: str) -> set[tuple[str, str]]:
    maps = [
        json.loads(path.read_text(encoding="utf-8"))["group"]
        for path in (OTHERS / hospital / "terminology").glob("*.json")
    ]
    targets = {
        (group["target"], target["code"])
        for groups in maps
        for group in groups
        for element in group["element"]
        for target in element["target"]
    }
    codings = {
        (inner["system"], inner["code"])
        for inner in _objects(_resources(hospital))
        if "system" in inner and "code" in inner
    }
    return {pair for pair in codings | targets if not pair[0].startswith(STRUCTURAL)}


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_no_code_is_invented(hospital: str) -> None:
    names = {name: system for name, system, *_ in _table("Other names of code systems")}
    known = _known_codes()
    undotted = {(system, code.replace(".", "")) for system, code in known if system.endswith("icd-10-cm")}
    used = {(names.get(system, system), code) for system, code in _used_codes(hospital)}
    assert used - known - (undotted if hospital == "us" else set()) == set()
    assert len(used) > 50


def test_every_source_is_used() -> None:
    used = {pair for hospital in HOSPITALS for pair in _used_codes(hospital)}
    listed = {(system, code) for codes, system, *_ in _table("Codes") for code in codes.split()}
    assert listed - used == set()
    names = {name for name, *_ in _table("Other names of code systems")}
    assert names - {system for system, _ in used} == set()


# What follows reads the facts of each hospital and compares them with the answer key.

STAGE, CT, CN, PN = {"399537006", "21908-9"}, {"399504009", "21905-5"}, {"399534004", "21906-3"}, {"371494008"}
PN |= {"PATHOLOGIC N AFTER THERAPY"}
VIABLE = {"rvt-bed", "vitaler-tumor", "RESIDUAL VIABLE TUMOR (TUMOR BED)"}
CENTRAL = {"bicr", "referenz", "BLINDED CENTRAL REVIEW"}
MARGIN = {"17964000", "84892-9", "SURGICAL MARGIN STATUS"}
RESPONSE = {"recist-overall-response", "396432002", "RECIST 1.1 OVERALL RESPONSE"}
RESPONSES = {
    "C159715": "CR",
    "C159547": "PR",
    "C159546": "SD",
    "C159716": "PD",
    "V": "CR",
    "T": "PR",
    "K": "SD",
    "P": "PD",
    "Y": "PD",
    "COMPLETE RESPONSE (CR)": "CR",
    "PARTIAL RESPONSE (PR)": "PR",
    "STABLE DISEASE (SD)": "SD",
    "PROGRESSIVE DISEASE (PD)": "PD",
}
SMOKING = {
    "266919005": "NEVER",
    "8517006": "FORMER",
    "77176002": "CURRENT",
    "LA18978-9": "NEVER",
    "LA15920-4": "FORMER",
    "LA18976-3": "CURRENT",
    "NEVER SMOKER": "NEVER",
    "FORMER SMOKER": "FORMER",
    "CURRENT SMOKER": "CURRENT",
}
PROGRESSION = {"Y", "P", "1259237005", "419835002", "C159716", "PROGRESSIVE DISEASE (PD)"}
TEXTS_OF_REASONS = {
    "105480006": "PATIENT REFUSAL",
    "PATIENT DECLINED SURGERY": "PATIENT REFUSAL",
    "419835002": "PROGRESSION",
    "PROGRESSIVE DISEASE BEFORE SURGERY": "PROGRESSION",
}
DOSES = {"mcode": "MedicationAdministration", "german": "MedicationStatement", "us": "MedicationDispense"}


def _words(concept: Resource | str | None) -> set[str]:
    """The codes of a concept and its text, normalised for case and blanks."""
    if not concept:
        return set()
    if isinstance(concept, str):
        return {concept.upper()}
    return {coding["code"] for coding in concept.get("coding", [])} | {
        " ".join(concept.get("text", "").upper().split())
    }


def _value(row: Resource) -> set[str]:
    return _words(row.get("valueCodeableConcept") or row.get("valueString"))


def _day(row: Resource) -> str:
    when: str = (
        row.get("effectiveDateTime")
        or row.get("onsetDateTime")
        or row.get("performedDateTime")
        or row.get("performedPeriod", {}).get("start", "")
    )
    return when[:10]


def _observations(rows: list[Resource], codes: set[str]) -> list[Resource]:
    found = [row for row in rows if row["resourceType"] == "Observation" and _words(row["code"]) & codes]
    return sorted(found, key=_day)


def _parts(rows: list[Resource], codes: set[str]) -> list[Resource]:
    """The observations with one of `codes`, or the components that carry it."""
    inner = [part for row in rows for part in row.get("component", []) if _words(part["code"]) & codes]
    return _observations(rows, codes) or inner


def _category(words: set[str]) -> str:
    """T and N from a value: the SNOMED CT codes of the cohort by their display, else a UICC value or a text."""
    names = {word.removeprefix("YP").removeprefix("C") for word in words if re.fullmatch(r"(YP|C)?[TN]\d\w?", word)}
    return next(iter(names), "").replace("A", "a").replace("B", "b").replace("C", "c")


def _tnm(part: Resource) -> str:
    shown = [coding.get("display", "") for coding in part["valueCodeableConcept"].get("coding", [])]
    texts = {re.sub(r".* (c|yp)(?=[TN])", "", text).upper() for text in shown}
    codes = {word.upper() for word in _value(part)}
    return _category(texts | codes)


def _ecog(row: Resource) -> int:
    if "valueInteger" in row:
        return int(row["valueInteger"])
    if "valueQuantity" in row:
        return int(row["valueQuantity"]["value"])
    return int(next(iter(_value(row) & {"0", "1"})))


def _given(hospital: str, rows: list[Resource]) -> list[tuple[date, date]]:
    """(first, last) day of each interval in which the drug was taken."""
    found = []
    for row in rows:
        taken = row.get("status") in ("completed", "in-progress", "active", "stopped")
        if row["resourceType"] == DOSES[hospital] and taken:
            if hospital == "us":
                start = date.fromisoformat(row["whenHandedOver"][:10])
                end = start + timedelta(days=row["daysSupply"]["value"] - 1)
                assert row["quantity"]["value"] == 8 * row["daysSupply"]["value"]
            else:
                start = date.fromisoformat(row["effectivePeriod"]["start"])
                end = date.fromisoformat(row["effectivePeriod"].get("end", "2025-06-01"))
            found.append((start, end))
    return sorted(found)


def _surgery(rows: list[Resource]) -> str | None:
    done = [
        _day(row)
        for row in rows
        if row["resourceType"] == "Procedure" and row["status"] == "completed" and "18629005" not in str(row)
    ]
    return min(done, default=None)


def _responses(rows: list[Resource], before: str) -> list[tuple[str, str]]:
    """(day, RECIST value) of the assessments before surgery."""
    found = [
        (_day(row), RESPONSES[value]) for row in _observations(rows, RESPONSE) for value in _value(row) & {*RESPONSES}
    ]
    for row in rows:
        for concept in row.get("conclusionCode", []):
            found += [(_day(row), RESPONSES[code]) for code in _words(concept) & {*RESPONSES}]
    return sorted(one for one in found if one[0] < before)


def _best(responses: list[tuple[str, str]]) -> str:
    order = ("CR", "PR", "SD", "PD")
    kept: list[str] = []
    for _, value in responses:
        kept.append(value)
        if value == "PD":
            break
    return min(kept, key=order.index)


def _viable(rows: list[Resource]) -> float | None:
    """The central reading in percent, from a quantity, a fraction or a text."""
    for row in _observations(rows, VIABLE):
        if _words(row["method"]) & CENTRAL:
            if "valueString" in row:
                return float(row["valueString"].removesuffix(" %"))
            quantity = row["valueQuantity"]
            return round(float(quantity["value"]) * (100 if quantity["code"] == "1" else 1), 6)
    return None


def _progression(rows: list[Resource]) -> str | None:
    """The first progression or recurrence: an observation, a coded report, or a condition after the diagnosis."""
    diagnosed = min(row["recordedDate"] for row in rows if row["resourceType"] == "Condition" and "recordedDate" in row)
    days = [_day(row) for row in rows if row["resourceType"] == "Observation" and _value(row) & PROGRESSION]
    days += [_day(row) for row in rows if any(_words(one) & PROGRESSION for one in row.get("conclusionCode", []))]
    days += [_day(row) for row in rows if row["resourceType"] == "Condition" and _day(row) > diagnosed]
    return min(days, default=None)


def _death(rows: list[Resource]) -> str | None:
    said = [row["deceasedDateTime"][:10] for row in rows if "deceasedDateTime" in row]
    return min(said + [_day(row) for row in _observations(rows, {"184305005"})], default=None)


def _age(rows: list[Resource], start: str) -> set[int]:
    """The ages that a birth date allows: two where its day is missing and would matter."""
    [born] = [row["birthDate"] for row in rows if row["resourceType"] == "Patient"]
    days = [born] if len(born) == 10 else [f"{born}-01", f"{born}-28"]
    return {int(start[:4]) - int(day[:4]) - (start[5:] < day[5:]) for day in days}


def _grade(row: Resource) -> int:
    carriers = [one["valueCodeableConcept"] for one in row.get("extension", [])]
    carriers += [row[name] for name in ("severity", "seriousness") if name in row]
    words = {word.removeprefix("CTCAE GRADE ") for carrier in carriers for word in _words(carrier)}
    return int(next(iter(words & {"1", "2", "3", "4", "5"})))


def _phase(when: str, surgery: str | None, adjuvant: str | None) -> str | None:
    """The phase of a date, or of a month that lies within one; None between surgery and adjuvant treatment."""
    if surgery is None or when < surgery[: len(when)]:
        return "NEOADJUVANT"
    return "ADJUVANT" if adjuvant is not None and f"{when}-01"[:10] >= adjuvant else None


CASES = [(hospital, one["id"]) for hospital in HOSPITALS for one in _answers()["patients"]]


@pytest.mark.parametrize(("hospital", "patient"), CASES)
def test_a_hospital_says_what_the_answer_key_says(hospital: str, patient: str) -> None:
    rows = _people(hospital)[patient]
    [key] = [one for one in _answers()["patients"] if one["id"] == patient]
    adsl, adrs = key["ADSL"], key["ADRS"]
    given, surgery = _given(hospital, rows), _surgery(rows)
    [person] = [row for row in rows if row["resourceType"] == "Patient"]
    [ecog] = _observations(rows, {"89247-1", "423740007"})
    [smoking] = _observations(rows, {"72166-2"})
    [stage] = _observations(rows, STAGE)

    assert person["gender"][0].upper() == adsl["SEX"]
    assert _age(rows, adsl["TRTSDT"]) == {adsl["AGE"]}
    assert (_ecog(ecog), SMOKING[next(iter(_value(smoking) & {*SMOKING}))]) == (adsl["ECOGBL"], adsl["SMKSTAT"])
    assert max(_day(ecog), _day(smoking), _day(stage)) < adsl["TRTSDT"]
    spelled = {word.removeprefix("STAGE ").replace("3", "III") for word in _value(stage)}
    assert adsl["STAGEBL"] in spelled
    assert [_tnm(part) for part in _parts(rows, CT)] == [adsl["TSTGBL"]]
    assert [_tnm(part) for part in _parts(rows, CN)] == [adsl["NSTGBL"]]

    assert str(given[0][0]) == adsl["TRTSDT"]
    assert surgery == adsl["SURGDT"]
    after = [start for start, _ in given if surgery is not None and str(start) > surgery]
    assert (str(after[0]) if after else None) == adsl["AP02SDT"]
    before = [(start, end) for start, end in given if start not in after]
    assert sum((end - start).days + 1 for start, end in before) == 56
    taken = sum((end - start).days + 1 for start, end in given if start in after)
    assert (taken >= 24 * 28) == (adsl["ADJCMPFL"] == "Y")
    reasons = [
        _words(row["statusReason"]) for row in rows if row["resourceType"] == "Procedure" and "statusReason" in row
    ]
    named = [TEXTS_OF_REASONS.get(word) for words in reasons for word in words if word in TEXTS_OF_REASONS]
    assert (named[0] if named else None) == adsl["NOSURGRS"]

    assert _best(_responses(rows, surgery or "9999")) == adrs["BOR"]
    assert _viable(rows) == adrs["PVTPCT"]
    margins = {word for row in _observations(rows, MARGIN) for word in _value(row)}
    clear = "R0" in margins or "258254000" in margins or "MARGINS NEGATIVE (R0)" in margins
    assert (("Y" if clear else "N") if margins else None) == adrs["R0"]
    nodes = [_tnm(part) for part in _parts(rows, PN)]
    assert ("Y" if nodes and nodes[0] < adsl["NSTGBL"] else "N") == adrs["NDOWN"]

    assert _death(rows) == key["later_cut"]["DTHDT"]
    event = key["later_cut"]["EFS"]
    progressed = event["EVNTDESC"] in ("PROGRESSION", "RECURRENCE")
    assert _progression(rows) == (event["ADT"] if progressed else None)
    assessed = {_day(row) for row in _observations(rows, {*RESPONSE, "97509-4", "DISEASE STATUS"})}
    for cut in ("first_cut", "later_cut"):
        if key[cut]["EFS"]["EVNTDESC"] == "CENSORED":
            assert key[cut]["EFS"]["ADT"] in assessed
        if key[cut]["OS"]["EVNTDESC"] == "CENSORED":
            assert key[cut]["OS"]["ADT"] in assessed

    events = [row for row in rows if row["resourceType"] == "AdverseEvent"]
    toxic = [(row["event"]["text"], _grade(row), _phase(row["date"], surgery, adsl["AP02SDT"])) for row in events]
    assert sorted(toxic) == sorted((one["AETERM"], one["ATOXGRN"], one["APERIODC"]) for one in key["ADAE"])
    coded = {row["event"]["text"] for row in events if "coding" in row["event"]}
    uncoded = {one["AETERM"] for one in key["ADAE"] if one["AEDECOD"] is None}
    assert coded & uncoded == set()


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_alk_is_said_of_everybody_but_dec_13(hospital: str) -> None:
    positive = {"830151004", "LA9633-4", "M", "ALK POSITIVE"}
    negative = {"830055006", "LA9634-2", "W", "ALK NEGATIVE"}
    for patient, rows in _people(hospital).items():
        said = {word for row in rows for word in _words(row.get("code"))}
        for row in rows:
            said |= {word for one in row.get("conclusionCode", []) for word in _words(one)}
            if row["resourceType"] == "Observation" and "69548-6" in _words(row["code"]):
                said |= _value(row) | {word for one in row.get("interpretation", []) for word in _words(one)}
                assert any("ALK" in str(part["valueCodeableConcept"]) for part in row["component"])
        found = (bool(said & positive), bool(said & negative))
        expected = {"DEC-04": (False, True), "DEC-05": (False, True), "DEC-13": (False, False)}
        assert found == expected.get(patient, (True, False)), patient


def test_partial_dates_of_the_us_hospital_decide_nothing() -> None:
    partial = Counter(
        (row["resourceType"], name)
        for row in _resources("us")
        for name in ("birthDate", "onsetDateTime", "effectiveDateTime", "date", "performedDateTime")
        if len(row.get(name, "")) == 7
    )
    assert partial == {
        ("Patient", "birthDate"): 11,
        ("Condition", "onsetDateTime"): 16,
        ("Observation", "effectiveDateTime"): 37,
        ("DiagnosticReport", "effectiveDateTime"): 6,
        ("AdverseEvent", "date"): 9,
    }


def test_texts_of_the_us_hospital_are_in_its_map_but_for_one() -> None:
    content = json.loads((OTHERS / "us" / "terminology" / "local-texts.json").read_text(encoding="utf-8"))
    mapped = {" ".join(element["code"].upper().split()) for group in content["group"] for element in group["element"]}
    only_text = {
        " ".join(inner["text"].upper().split())
        for row in _resources("us")
        if row["resourceType"] in ("Observation", "AdverseEvent", "MedicationDispense")
        for inner in _objects(row)
        if "text" in inner and "coding" not in inner and isinstance(inner["text"], str) and len(inner) == 1
    }
    assert only_text - mapped == {
        "BLOOD CREATINE PHOSPHOKINASE INCREASED",
        "LOCAL PATHOLOGIST",
        "OSIMERTINIB 80 MG TABLET",
    }
