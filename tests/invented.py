"""Invented patients, a few lines each: an eligible patient of the ALNEO kind, and what a test changes of them.

Day 0 is the first dose, 2023-01-02. Unless a test says otherwise: 56 days of alectinib, lobectomy on day 70, no
adjuvant treatment, cT2a cN2 stage IIIA, alive and assessed on day 200.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

START = date(2023, 1, 2)
SCT, LOINC = "http://snomed.info/sct", "http://loinc.org"
NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
UICC = "https://www.uicc.org/resources/tnm"
PATHOLOGY, IMAGING = (f"http://fhir.hospital.example/CodeSystem/{name}" for name in ("pathology", "imaging"))
GRADE = "http://hl7.org/fhir/us/ctcae/StructureDefinition/ctcae-grade"
GRADES = "http://hl7.org/fhir/us/ctcae/CodeSystem/ctcae-grade-code-system"

Resource = dict[str, Any]


def day(offset: int) -> str:
    return (START + timedelta(days=offset)).isoformat()


def concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


@dataclass
class Invented:
    """One patient; every method adds a resource and returns the patient."""

    id: str
    resources: list[Resource] = field(default_factory=list)

    def add(self, kind: str, **elements: Any) -> Invented:
        number = sum(resource["resourceType"] == kind for resource in self.resources)
        name = self.id if kind == "Patient" else f"{self.id}-{kind.lower()}-{number}"
        subject = {} if kind == "Patient" else {"subject": {"reference": f"Patient/{self.id}"}}
        self.resources.append({"resourceType": kind, "id": name, **subject, **elements})
        return self

    def person(self, **elements: Any) -> Invented:
        return self.add("Patient", gender="female", **({"birthDate": "1960-05-05"} | elements))

    def condition(self, code: str = "254637007", **elements: Any) -> Invented:
        status = concept("http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed")
        defaults = {"verificationStatus": status, "onsetDateTime": day(-40)}
        return self.add("Condition", code=concept(SCT, code), **(defaults | elements))

    def observation(self, code: dict[str, Any], at: int | str, **value: Any) -> Invented:
        when = day(at) if isinstance(at, int) else at
        return self.add("Observation", code=code, effectiveDateTime=when, **({"status": "final"} | value))

    def coded(self, code: tuple[str, str], value: tuple[str, str], at: int | str, **more: Any) -> Invented:
        return self.observation(concept(*code), at, valueCodeableConcept=concept(*value), **more)

    def staged(self, group: str = "IIIA", t: str = "1228931008", n: str = "1229978004", edition: str = "") -> Invented:
        """Stage, T and N; `edition` is the SNOMED CT code of the staging method."""
        method = {"method": concept(SCT, edition)} if edition else {}
        self.coded((SCT, "399537006"), (UICC, group), -20, **method)
        self.coded((SCT, "399504009"), (SCT, t), -20, **method)
        return self.coded((SCT, "399534004"), (SCT, n), -20, **method)

    def alk_positive(self) -> Invented:
        gene = {
            "code": concept(LOINC, "48018-6"),
            "valueCodeableConcept": concept("http://www.genenames.org", "HGNC:427"),
        }
        return self.coded((LOINC, "69548-6"), (LOINC, "LA9633-4"), -25, component=[gene])

    def dose(self, start: int, end: int | None = None, status: str = "completed", **more: Any) -> Invented:
        when = (
            {"effectiveDateTime": day(start)}
            if end is None
            else {"effectivePeriod": {"start": day(start), "end": day(end)}}
        )
        drug = concept(RXNORM, "1727479")
        return self.add(
            "MedicationAdministration", status=status, **({"medicationCodeableConcept": drug} | when | more)
        )

    def procedure(self, at: int, code: tuple[str, str] = (SCT, "359623004"), status: str = "completed") -> Invented:
        return self.add("Procedure", status=status, code=concept(*code), performedDateTime=day(at))

    def viable(
        self, percent: float | None = None, at: int = 75, central: bool = False, nodes: bool = False, **quantity: Any
    ) -> Invented:
        code = concept(PATHOLOGY, "residual-viable-tumour-nodes" if nodes else "residual-viable-tumour")
        method = {"method": concept(PATHOLOGY, "central-review")} if central else {}
        value = {} if percent is None else {"value": percent, "code": "%"}
        return self.observation(code, at, valueQuantity=value | quantity, **method)

    def yp(self, t: str = "1228872009", n: str = "1229878000", at: int = 75) -> Invented:
        return self.coded((SCT, "384625004"), (SCT, t), at).coded((SCT, "371494008"), (SCT, n), at)

    def recist(self, code: str, at: int) -> Invented:
        return self.coded((IMAGING, "recist-response"), (NCIT, code), at)

    def status(self, code: str, at: int) -> Invented:
        return self.coded((LOINC, "97509-4"), (SCT, code), at)

    def event(self, at: int | str, grade: str, code: str = "10012727", **more: Any) -> Invented:
        extension = [{"url": GRADE, "valueCodeableConcept": concept(GRADES, grade)}]
        when = day(at) if isinstance(at, int) else at
        mdr = concept("http://terminology.hl7.org/CodeSystem/mdr", code)
        return self.add(
            "AdverseEvent", **({"actuality": "actual", "event": mdr, "date": when, "extension": extension} | more)
        )


def eligible(identifier: str) -> Invented:
    """Enrolled, with two cycles, and nothing else."""
    return Invented(identifier).person().condition().staged().alk_positive().dose(0, 27).dose(28, 55)


def operated(identifier: str) -> Invented:
    """Enrolled and resected on day 70."""
    return eligible(identifier).procedure(70)


def write(patients: list[Invented], folder: Path) -> Path:
    """One NDJSON file of all resources."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(resource) for patient in patients for resource in patient.resources]
    (folder / "all.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
