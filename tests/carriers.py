"""Patients in each of whom one fact is carried in another way: the table `tests/functional/carriers.jsonl`.

One line is one patient: SYN-07 of `fixtures/alneo`, with what the line changes. `remove` and `change` name resources
by the end of their id (`stage` is `SYN-07-stage`, `*` all), and `change` is a JSON Merge Patch (RFC 7396). A
CodeableConcept may be written as a list of `SYSTEM#code display` and `text#...`, as FHIR Shorthand does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tests.cohorts import ALNEO

TABLE = Path(__file__).parent / "functional" / "carriers.jsonl"
ORIGIN = "SYN-07"
SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LNC": "http://loinc.org",
    "UICC": "https://www.uicc.org/resources/tnm",
    "NCIT": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
    "MDR": "http://terminology.hl7.org/CodeSystem/mdr",
    "RXN": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD10GM": "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
    "OPS": "http://fhir.de/CodeSystem/bfarm/ops",
    "PCS": "http://www.cms.gov/Medicare/Coding/ICD10",
    "HGNC": "http://www.genenames.org",
    "VER": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
    "CLIN": "http://terminology.hl7.org/CodeSystem/condition-clinical",
    "CTCAE": "http://hl7.org/fhir/us/ctcae/CodeSystem/ctcae-grade-code-system",
    "SEV": "http://terminology.hl7.org/CodeSystem/adverse-event-severity",
    "SER": "http://terminology.hl7.org/CodeSystem/adverse-event-seriousness",
    "CAUS": "http://terminology.hl7.org/CodeSystem/adverse-event-causality-assess",
    "OUT": "http://terminology.hl7.org/CodeSystem/adverse-event-outcome",
    "PATH": "http://fhir.hospital.example/CodeSystem/pathology",
    "IMG": "http://fhir.hospital.example/CodeSystem/imaging",
}
Resource = dict[str, Any]


@dataclass(frozen=True)
class Carrier:
    """One line of the table.

    expect: the columns that differ from those of the base patient. only: the columns that are compared (all).
    tell: what the quality list must say of this patient, as a regular expression; must_tell: also when all is right.
    missing: why the fact is not derived and only told (docs/carriage.md).
    """

    case: str
    what: str
    remove: list[str] = field(default_factory=list)
    change: dict[str, Any] = field(default_factory=dict)
    add: list[Resource] = field(default_factory=list)
    bundle: str | None = None
    expect: dict[str, Any] = field(default_factory=dict)
    only: list[str] | None = None
    tell: str | None = None
    must_tell: bool = False
    missing: str | None = None


def carriers() -> list[Carrier]:
    """Return the lines of the table; the first is the base patient."""
    return [Carrier(**json.loads(line)) for line in TABLE.read_text(encoding="utf-8").splitlines()]


def write(folder: Path) -> None:
    """Write the resources of all patients to `folder`, as a folder site has them."""
    base, *cases = carriers()
    start = _changed(base, _original())
    with (folder / "all.ndjson").open("w", encoding="utf-8") as lines:
        for case in (base, *cases):
            made = list(_named(case, start if case is base else _changed(case, start)))
            if case.bundle:
                (folder / f"{case.case}.json").write_text(json.dumps(_transaction(made)), encoding="utf-8")
            else:
                lines.writelines(json.dumps(resource, ensure_ascii=False) + "\n" for resource in made)


def _original() -> dict[str, Resource]:
    """Return the resources of the origin by the end of their id."""
    found = {}
    for file in sorted(ALNEO.glob("*.ndjson")):
        for line in file.read_text(encoding="utf-8").splitlines():
            resource = json.loads(line)
            if resource["id"] == ORIGIN or resource["id"].startswith(f"{ORIGIN}-"):
                found[resource["id"].removeprefix(ORIGIN).removeprefix("-") or "patient"] = resource
    return found


def _changed(case: Carrier, resources: dict[str, Resource]) -> dict[str, Resource]:
    removed = {name for name in resources for pattern in case.remove if fnmatch(name, pattern)}
    kept = {name: resource for name, resource in resources.items() if name not in removed}
    for pattern, change in case.change.items():
        matching = [name for name in kept if fnmatch(name, pattern) and (pattern == name or name != "patient")]
        assert matching, f"{case.case}: no resource is named {pattern}"
        kept |= {name: _merge(kept[name], change) for name in matching}
    for added in case.add:
        for resource in _each(added):
            kept[resource.pop("id", f"x{len(kept)}")] = resource
    return kept


def _each(added: Resource) -> Iterator[Resource]:
    """Yield the resource once a date of `each`: a list of dates, or `days` days from the first."""
    resource = {name: value for name, value in added.items() if name != "each"}
    if "each" not in added:
        yield resource
        return
    days = added["each"].get("days")
    [(element, dates)] = [item for item in added["each"].items() if item[0] != "days"]
    if days is not None:
        dates = [(date.fromisoformat(dates) + timedelta(days=n)).isoformat() for n in range(days)]
    for day in dates:
        yield {**resource, element: day}


def _named(case: Carrier, resources: dict[str, Resource]) -> Iterator[Resource]:
    """Yield the resources with ids and references of this patient."""
    for name, resource in resources.items():
        own = {"id": f"{{id}}-{name}"} | _concepts(resource)
        if own["resourceType"] not in ("Patient", "Medication") and "subject" not in own:
            own["subject"] = {"reference": "Patient/{id}"}
        text = json.dumps(own, ensure_ascii=False).replace(ORIGIN, case.case).replace("{id}", case.case)
        yield json.loads(text)


def _merge(target: Any, patch: Any) -> Any:
    """Return `target` with a JSON Merge Patch applied (RFC 7396, section 2); a concept is replaced whole."""
    if not isinstance(patch, dict) or "coding" in patch:
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _concepts(value: Any) -> Any:
    """Return `value` with every list of `SYSTEM#code display` as a CodeableConcept."""
    if isinstance(value, dict):
        return {name: _concepts(item) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    if not value or not all(isinstance(item, str) and "#" in item for item in value):
        return [_concepts(item) for item in value]
    concept: dict[str, Any] = {}
    for item in value:
        system, _, rest = item.partition("#")
        if system == "text":
            concept["text"] = rest
            continue
        code, _, display = rest.partition(" ")
        coding = {"system": SYSTEMS[system], "code": code} | ({"display": display} if display else {})
        concept.setdefault("coding", []).append(coding)
    return concept


def _transaction(resources: list[Resource]) -> Resource:
    """Return a transaction Bundle that names its resources by `urn:uuid` and has no other references."""
    names = [f"{resource['resourceType']}/{resource['id']}" for resource in resources]
    urls = {name: f"urn:uuid:00000000-0000-4000-8000-{number:012}" for number, name in enumerate(names)}
    entries = []
    for name, resource in zip(names, resources, strict=True):
        text = json.dumps(resource)
        for reference, url in urls.items():
            text = text.replace(f'"{reference}"', f'"{url}"')
        request = {"method": "POST", "url": resource["resourceType"]}
        entries.append({"fullUrl": urls[name], "resource": json.loads(text), "request": request})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}
