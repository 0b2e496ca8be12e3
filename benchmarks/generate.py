"""Resources of the six types as a hospital would hold them, made up: the benchmark's input.

Patients are clones of those of the demo cohort (`fixtures/alneo`), enrolled and not, with their ids
rewritten. Around the dozens of resources that say something about a patient's cancer stand the hundreds that
do not: doses of other drugs, laboratory results, vital signs, other diagnoses and procedures. Every resource
has elements that no view touches (narrative, identifiers, performers, notes), so that most of its text is
passed over, as in a hospital.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pyarrow as pa

from connectors.fhir.resource import Resource, read_resource
from connectors.lake.spool import as_batch
from connectors.lake.table import Cursor, Lake

FIXTURES = Path(__file__).parent.parent / "fixtures" / "alneo"
SITE = "hospital"
TYPES = ("Patient", "Condition", "MedicationAdministration", "Procedure", "AdverseEvent", "Observation")
PER_PATIENT = 250
CHANGED = 50  # one resource in so many has a second version, in a later sync
BATCH = 5_000
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
EXTRACT = datetime(2025, 6, 1, 3, tzinfo=UTC)

NOISE = Random(0).randbytes(600_000).hex(" ", 3)  # 200,000 words of 6 letters

Json = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One patient of the demo cohort: the id that is to be rewritten, and (resource type, JSON text)."""

    patient: str
    resources: tuple[tuple[str, str], ...]


def charts(folder: Path = FIXTURES) -> tuple[Chart, ...]:
    """The patients of the demo cohort with everything about them, in the order of the files."""
    found: dict[str, list[tuple[str, str]]] = {}
    for kind in TYPES:
        for line in (folder / f"{kind}.ndjson").read_text(encoding="utf-8").splitlines():
            body = orjson.loads(line)
            subject = body["id"] if kind == "Patient" else body["subject"]["reference"].split("/")[1]
            found.setdefault(subject, []).append((kind, line))
    return tuple(Chart(patient, tuple(resources)) for patient, resources in found.items())


def generate(count: int, seed: int = 1) -> Iterator[Resource]:
    """Exactly `count` resources, of one patient after the other; the same seed gives the same resources."""
    return islice(_endless(Random(seed), charts()), count)


def _endless(random: Random, known: tuple[Chart, ...]) -> Iterator[Resource]:
    number = 0
    while True:
        patient = f"P{number:06d}"
        own = known[number % len(known)]
        for kind, text in own.resources:
            yield _clone(random, kind, text, own.patient, patient)
        for nth in range(PER_PATIENT - len(own.resources)):
            yield _filler(random, patient, nth)
        number += 1


def _clone(random: Random, kind: str, text: str, old: str, new: str) -> Resource:
    extra: Json = {"text": _narrative(f"{kind} {_words(random, 8)}")}
    if kind == "Patient":
        extra |= _demographics(random)
    return as_received(f"{text.replace(old, new)[:-1]},{_text(extra)[1:]}")


def _demographics(random: Random) -> Json:
    return {
        "name": [{"use": "official", "family": _words(random, 1), "given": [_words(random, 1), _words(random, 1)]}],
        "telecom": [{"system": "phone", "value": f"+39 02 {random.randrange(10**7):07d}", "use": "home"}],
        "address": [{"use": "home", "line": [_words(random, 2)], "city": "Milano", "country": "IT"}],
        "managingOrganization": {"reference": "Organization/1"},
    }


def _filler(random: Random, patient: str, nth: int) -> Resource:
    (make,) = random.choices((_dose, _laboratory, _vital_sign, _diagnosis, _procedure), (46, 40, 10, 2, 2))
    return _about(random, patient, nth, make(random))


def administrations(random: Random, per_patient: int) -> Iterator[Resource]:
    """MedicationAdministrations without end, of one patient after the other."""
    for number in numbers():
        for nth in range(per_patient):
            yield _about(random, f"P{number:06d}", nth, _dose(random))


def resource_texts(random: Random, kind: str, count: int, id_: str, patient: str) -> list[str]:
    """JSON texts of resources of one type with this id and about this patient."""
    makes = {"MedicationAdministration": _dose, "Observation": _laboratory, "Condition": _diagnosis}
    if kind == "Patient":
        head = {"resourceType": kind, "id": patient, "meta": {"versionId": "1", "lastUpdated": _instant(EXTRACT)}}
        return [_text(head | {"gender": "female", "birthDate": "1960-03-01"} | _demographics(random))] * count
    bodies = (_head(random, id_, patient, makes[kind](random)) for _ in range(count))
    return [_text(body) for body in bodies]


def _about(random: Random, patient: str, nth: int, body: Json) -> Resource:
    return as_received(_text(_head(random, f"{patient}-{nth}", patient, body)))


def _head(random: Random, id_: str, patient: str, body: Json) -> Json:
    """A resource with what stands at its beginning."""
    kind = body["resourceType"]
    number = f"{random.randrange(10**12):012d}"
    head = {
        "resourceType": kind,
        "id": id_,
        "meta": {"versionId": "1", "lastUpdated": _instant(EXTRACT), "source": "urn:hospital:ehr"},
        "identifier": [{"system": f"urn:hospital:{kind.lower()}", "value": number}],
        "subject": {"reference": f"Patient/{patient}"},
    }
    return head | body


def _dose(random: Random) -> Json:
    code, name, unit = random.choice(
        (
            ("161", "acetaminophen", "mg"),
            ("26225", "ondansetron", "mg"),
            ("40790", "pantoprazole", "mg"),
            ("3264", "dexamethasone", "mg"),
            ("67108", "enoxaparin", "mg"),
        )
    )
    start = _moment(random)
    return {
        "resourceType": "MedicationAdministration",
        "status": random.choice(("completed", "completed", "completed", "not-done")),
        "category": _concept(
            "http://terminology.hl7.org/CodeSystem/medication-admin-category", "inpatient", "Inpatient"
        ),
        "medicationCodeableConcept": _concept("http://www.nlm.nih.gov/research/umls/rxnorm", code, name),
        "context": {"reference": f"Encounter/{random.randrange(10**6)}"},
        "effectivePeriod": {"start": _instant(start), "end": _instant(start + timedelta(minutes=30))},
        "performer": [{"actor": {"reference": f"Practitioner/{random.randrange(400)}", "display": _words(random, 2)}}],
        "request": {"reference": f"MedicationRequest/{random.randrange(10**7)}"},
        "dosage": {"text": _words(random, 4), "dose": _quantity(random.randrange(1, 40) * 25, unit)},
    }


def _laboratory(random: Random) -> Json:
    code, name, low, high, unit = random.choice(
        (
            ("718-7", "Hemoglobin", 120, 160, "g/L"),
            ("6690-2", "Leukocytes", 4, 10, "10*9/L"),
            ("1742-6", "Alanine aminotransferase", 7, 56, "U/L"),
            ("1920-8", "Aspartate aminotransferase", 10, 40, "U/L"),
            ("2160-0", "Creatinine", 0.6, 1.3, "mg/dL"),
            ("2823-3", "Potassium", 3.5, 5.1, "mmol/L"),
        )
    )
    value = round(random.uniform(low * 0.8, high * 1.2), 2)
    flag = "L" if value < low else "H" if value > high else "N"
    return {
        "resourceType": "Observation",
        **_observed(random, "laboratory", code, name),
        "valueQuantity": _quantity(value, unit),
        "interpretation": [_concept("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", flag, flag)],
        "specimen": {"reference": f"Specimen/{random.randrange(10**7)}"},
        "referenceRange": [{"text": f"{low} to {high} {unit}"}],
    }


def _vital_sign(random: Random) -> Json:
    code, name, low, high, unit = random.choice(
        (
            ("29463-7", "Body weight", 45, 110, "kg"),
            ("8867-4", "Heart rate", 50, 120, "/min"),
            ("8310-5", "Body temperature", 36, 39, "Cel"),
        )
    )
    value = _quantity(round(random.uniform(low, high), 1), unit)
    device = {"reference": f"Device/{random.randrange(900)}"}
    return {
        "resourceType": "Observation",
        **_observed(random, "vital-signs", code, name),
        "valueQuantity": value,
        "device": device,
    }


def _observed(random: Random, category: str, code: str, name: str) -> Json:
    when = _moment(random)
    return {
        "status": random.choice(("final", "final", "final", "amended", "preliminary")),
        "category": [_concept("http://terminology.hl7.org/CodeSystem/observation-category", category, category)],
        "code": _concept("http://loinc.org", code, name),
        "encounter": {"reference": f"Encounter/{random.randrange(10**6)}"},
        "effectiveDateTime": _instant(when),
        "issued": _instant(when + timedelta(hours=2)),
        "performer": [{"reference": f"Practitioner/{random.randrange(400)}", "display": _words(random, 2)}],
        "note": [{"text": _words(random, random.randrange(1, 6))}],
    }


def _diagnosis(random: Random) -> Json:
    code, name = random.choice((("I10", "Essential (primary) hypertension"), ("J44.9", "COPD"), ("R05", "Cough")))
    return {
        "resourceType": "Condition",
        "clinicalStatus": _concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "Active"),
        "verificationStatus": _concept(
            "http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed", "Confirmed"
        ),
        "code": _concept("http://hl7.org/fhir/sid/icd-10-cm", code, name),
        "onsetDateTime": f"{_moment(random):%Y-%m-%d}",
        "recorder": {"reference": f"Practitioner/{random.randrange(400)}", "display": _words(random, 2)},
        "note": [{"text": _words(random, random.randrange(10, 40))}],
    }


def _procedure(random: Random) -> Json:
    code, name = random.choice((("71020", "Chest X-ray"), ("94010", "Spirometry"), ("36415", "Venipuncture")))
    return {
        "resourceType": "Procedure",
        "status": "completed",
        "code": _concept("urn:hospital:procedures", code, name),
        "performedDateTime": _instant(_moment(random)),
        "performer": [{"actor": {"reference": f"Practitioner/{random.randrange(400)}", "display": _words(random, 2)}}],
        "note": [{"text": _words(random, random.randrange(10, 40))}],
    }


def _concept(system: str, code: str, name: str) -> Json:
    return {"coding": [{"system": system, "code": code, "display": name}], "text": name}


def _quantity(value: float, unit: str) -> Json:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def _narrative(text: str) -> Json:
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{text}</p></div>'}


def _words(random: Random, count: int) -> str:
    """About `count` words that do not repeat soon, so that they do not compress to nothing."""
    start = random.randrange(len(NOISE) - 7 * count)
    return NOISE[start : start + 7 * count].strip()


def _moment(random: Random) -> datetime:
    return FIRST + timedelta(minutes=random.randrange(500 * 24 * 60))


def _instant(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _text(body: Json) -> str:
    return orjson.dumps(body).decode()


def as_received(text: str) -> Resource:
    """A row of the lake, as a sync makes it of the JSON text of a resource."""
    resource = read_resource(text.encode(), "generated")
    assert isinstance(resource, Resource)
    return resource


def second_version(first: Resource) -> Resource:
    """The same resource, changed a day later."""
    text = first.raw.replace('"versionId":"1"', '"versionId":"2"', 1)
    return as_received(text.replace(_instant(EXTRACT), _instant(EXTRACT + timedelta(days=1)), 1))


def batches(resources: Iterator[Resource]) -> Iterator[pa.RecordBatch]:
    """The resources as record batches of at most `BATCH` rows."""
    while rows := list(islice(resources, BATCH)):
        yield as_batch(rows)


def fill(lake: Lake, count: int, seed: int = 1) -> None:
    """Store `count` resource versions in two syncs: resources, then second versions of one in `CHANGED`.

    Memory: one batch of `BATCH` rows, those that change, and what the lake's writer holds.
    """
    changed = count // (CHANGED + 1)
    kept: list[Resource] = []

    def remembered(resources: Iterator[Resource]) -> Iterator[Resource]:
        for number, resource in enumerate(resources):
            if number % CHANGED == 0 and len(kept) < changed:
                kept.append(resource)
            yield resource

    cursor = Cursor(f"benchmark {seed}", complete=True)
    lake.append(SITE, batches(remembered(generate(count - changed, seed))), cursor)
    lake.append(SITE, batches(map(second_version, kept)), cursor)


def patients(count: int) -> int:
    """How many patients `fill` makes of `count` resource versions."""
    resources = count - count // (CHANGED + 1)
    return -(-resources // PER_PATIENT)


def append_night(lake: Lake, count: int, among: Sequence[int], seed: int) -> None:
    """One more sync of `count` resources about the patients of these numbers, one after the other.

    Each gets as many as the others: every tenth is of the kind that cohort tables are made of (a dose of the study
    drug, a response, an adverse event, a stage), the others surround a cancer. Part of them are new versions of
    resources that are there, the others are new.
    """
    random, known = Random(seed), charts()
    each = [among[nth * len(among) // count] for nth in range(count)]
    changed = (_night_resource(random, known, nth, number, seed) for nth, number in enumerate(each))
    newest = {(item.resource_type, item.id): item for item in map(second_version, changed)}
    lake.append(SITE, batches(iter(newest.values())), Cursor(f"night {seed}", complete=True))


def _night_resource(random: Random, known: tuple[Chart, ...], nth: int, number: int, seed: int) -> Resource:
    patient, own = f"P{number:06d}", known[number % len(known)]
    if nth % 10:
        return _filler(random, patient, random.randrange(2 * PER_PATIENT))
    kind, text = random.choice([resource for resource in own.resources if resource[0] != "Patient"])
    body = orjson.loads(_clone(random, kind, text, own.patient, patient).raw)
    head = {"id": f"{body['id']}-{seed}-{nth}", "meta": {"versionId": "1", "lastUpdated": _instant(EXTRACT)}}
    return as_received(_text(body | head))
