"""The shipped value sets: valid FHIR R4, verified codes, and the meanings that the endpoints need."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.conceptmap import ConceptMap
from fhir.resources.R4B.valueset import ValueSet

from mappers.terminology import load_terminology
from mappers.terminology.systems import TEXT

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "mappers" / "valuesets"
CODES = REPOSITORY / "fixtures" / "reference" / "codes.csv"
SEEN = CODES.with_name("seen_codes.csv")  # further codes, each with the public source in which it was seen
LOCAL = "http://fhir.hospital.example/"

EXPECTED_VALUE_SETS = [
    "nsclc",
    "alectinib",
    "ecog-code",
    "smoking-code",
    "alk-variant-code",
    "gene-studied-code",
    "alk-gene",
    "residual-tumour-code",
    "residual-viable-tumour-code",
    "residual-viable-tumour-nodes-code",
    "recist-code",
    "disease-status-code",
    "central-review",
    "post-therapy-descriptor",
    "clinical-stage-code",
    "death",
    "fatal-outcome",
]
EXPECTED_CONCEPT_MAPS = [
    "stage-group",
    "clinical-t",
    "clinical-n",
    "pathological-t",
    "pathological-n",
    "post-therapy-t",
    "post-therapy-n",
    "surgery-type",
    "residual-tumour",
    "recist",
    "disease-status",
    "recurrence-condition",
    "smoking-status",
    "ecog",
    "alk-condition",
    "alk-variant-value",
    "ae-term",
    "ctcae-grade",
    "ae-causality",
    "ae-seriousness",
    "no-surgery-reason",
    "resected-lobe",
]
KINDS = {file.stem: json.loads(file.read_bytes())["resourceType"] for file in sorted(FOLDER.glob("*.json"))}
VALUE_SETS = [name for name, kind in KINDS.items() if kind == "ValueSet"]
CONCEPT_MAPS = [name for name, kind in KINDS.items() if kind == "ConceptMap"]
TUMOUR = {"T0", "Tis", "T1", "T1mi", "T1a", "T1b", "T1c", "T2", "T2a", "T2b", "T3", "T4", "TX"}
NODES = {"N0", "N1", "N2", "N3", "NX"}
VOCABULARY = {
    "stage-group": {"0", "IA", "IB", "IIA", "IIB", "IIIA", "IIIB", "IIIC", "IV", "IVA", "IVB", "IVC"},
    "clinical-t": TUMOUR,
    "pathological-t": TUMOUR,
    "post-therapy-t": TUMOUR,
    "clinical-n": NODES,
    "pathological-n": NODES,
    "post-therapy-n": NODES,
    "surgery-type": {"LOBECTOMY", "PNEUMONECTOMY", "OTHER"},
    "residual-tumour": {"R0", "R1", "R2", "RX"},
    "recist": {"CR", "PR", "SD", "PD", "NE"},
    "disease-status": {"NO PROGRESSION", "WORSENED", "PROGRESSION", "RECURRENCE", "NE"},
    "recurrence-condition": {"RECURRENCE"},
    "smoking-status": {"NEVER", "FORMER", "CURRENT", "UNKNOWN"},
    "ecog": {"0", "1", "2", "3", "4", "5"},
    "alk-condition": {"POSITIVE", "NEGATIVE"},
    "alk-variant-value": {"POSITIVE", "NEGATIVE", "EQUIVOCAL"},
    "verification-status": {"confirmed", "unconfirmed", "refuted"},
    "staging-edition": {"6", "7", "8", "9"},
    "ctcae-grade": {"0", "1", "2", "3", "4", "5"},
    "ae-causality": {"RELATED", "NOT RELATED", "UNKNOWN"},
    "ae-seriousness": {"Y", "N"},
}


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def _concepts(resource: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(system, concept or element) with a code in file order; the system of an entry without one is empty."""
    includes = resource.get("compose", {}).get("include", [])
    members = [(include["system"], concept) for include in includes for concept in include.get("concept", [])]
    groups = [(group.get("source", ""), one) for group in resource.get("group", []) for one in group["element"]]
    return members + [(source, one) for source, one in groups if "code" in one]


def _meanings(name: str) -> dict[str, str]:
    """By code what it means, for the codes that are written one by one."""
    return {element["code"]: element["target"][0]["code"] for _, element in _concepts(_load(name))}


def _targets(name: str) -> set[str]:
    return {one["target"][0]["code"] for group in _load(name)["group"] for one in group["element"]}


def test_the_folder_holds_what_the_mapping_names() -> None:
    assert set(EXPECTED_VALUE_SETS) <= set(VALUE_SETS)
    assert set(EXPECTED_CONCEPT_MAPS) <= set(CONCEPT_MAPS)
    assert set(KINDS.values()) == {"ValueSet", "ConceptMap"}


@pytest.mark.parametrize("name", VALUE_SETS)
def test_a_value_set_is_valid_fhir(name: str) -> None:
    assert ValueSet.model_validate(_load(name)).url == f"https://periop.example/fhir/ValueSet/{name}"


@pytest.mark.parametrize("name", CONCEPT_MAPS)
def test_a_concept_map_is_valid_fhir(name: str) -> None:
    assert ConceptMap.model_validate(_load(name)).url == f"https://periop.example/fhir/ConceptMap/{name}"


@pytest.mark.parametrize("name", [*VALUE_SETS, *CONCEPT_MAPS])
def test_every_code_stands_once_and_every_map_has_one_target(name: str) -> None:
    concepts = _concepts(_load(name))
    assert max(Counter((system, one["code"]) for system, one in concepts).values(), default=1) == 1
    if name in CONCEPT_MAPS:
        assert {len(one["target"]) for _, one in concepts} == {1}


@pytest.mark.parametrize("name", [*VALUE_SETS, *CONCEPT_MAPS])
def test_codes_are_verified_or_marked(name: str) -> None:
    with CODES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    status = {(row["system"], row["code"]): row["status"] for row in rows}
    for row in rows:  # "lower lobe (category, has .30/.31/.32)" names three codes below C34.3
        for ending in re.findall(r"(?<=[ /]\.)\d\d", row["display"]) if "category, has" in row["display"] else ():
            status[row["system"], f"{row['code'].split('.')[0]}.{ending}"] = row["status"]
    with SEEN.open(encoding="utf-8", newline="") as file:
        seen = list(csv.DictReader(file))
    assert all(row["source"] for row in seen)
    status = {(row["system"], row["code"]): "verified" for row in seen} | status
    resource = _load(name)
    for system, one in _concepts(resource):
        if system in ("", TEXT):  # a text is its own proof, and a code without a system is that of no system
            continue
        if system.startswith(LOCAL):
            assert "No verified standard code exists" in resource["description"]
            continue
        marked = [extension["valueCode"] for extension in one.get("extension", [])]
        expected = [] if status[system, one["code"]] == "verified" else ["seen-low-authority"]
        assert status[system, one["code"]] in ("verified", "seen_low_authority"), one["code"]
        assert marked == expected, one["code"]
        assert not expected or one["code"] in resource["description"]


@pytest.mark.parametrize("name", sorted(VOCABULARY))
def test_a_map_speaks_the_analysis_vocabulary(name: str) -> None:
    assert _targets(name) <= VOCABULARY[name]


@pytest.mark.parametrize(
    ("name", "code", "meaning"),
    [
        ("stage-group", "IIIA2", "IIIA"),
        ("clinical-n", "1229981009", "N2"),  # cN2a
        ("post-therapy-n", "1229896009", "N2"),  # ypN2b
        ("post-therapy-t", "1228863001", "T0"),
        ("surgery-type", "359623004", "LOBECTOMY"),  # total lobectomy
        ("surgery-type", "359615001", "OTHER"),  # partial lobectomy
        ("surgery-type", "119746007", "OTHER"),  # lung excision
        ("surgery-type", "0BTK0ZZ", "PNEUMONECTOMY"),
        ("surgery-type", "0BTH0ZZ", "OTHER"),  # lingulectomy
        ("surgery-type", "0BBC0ZZ", "OTHER"),  # excision, not resection
        ("surgery-type", "32.49", "LOBECTOMY"),
        ("surgery-type", "5-324", "LOBECTOMY"),
        ("residual-tumour", "U", "RX"),
        ("residual-tumour", "R1(is)", "R1"),
        ("recist", "K", "SD"),
        ("disease-status", "271299001", "WORSENED"),
        ("disease-status", "268910001", "NO PROGRESSION"),
        ("recurrence-condition", "C79.31", "RECURRENCE"),
        ("smoking-status", "LA18980-5", "UNKNOWN"),
        ("ae-term", "10012727", "Diarrhoea"),
        ("ae-term", "C143267", "Alanine aminotransferase increased"),
        ("ctcae-grade", "C41340", "3"),
        ("ae-causality", "Possible", "RELATED"),
        ("ae-causality", "Unlikely", "NOT RELATED"),
        ("no-surgery-reason", "105480006", "PATIENT REFUSAL"),
        ("verification-status", "723511001", "refuted"),
        ("staging-edition", "443830009", "7"),
        ("alk-variant-value", "LA9634-2", "NEGATIVE"),
    ],
)
def test_what_a_code_means(name: str, code: str, meaning: str) -> None:
    assert _meanings(name)[code] == meaning


def test_an_unspecific_resection_yields_to_any_other_coding() -> None:
    codes = [one["code"] for system, one in _concepts(_load("surgery-type")) if system != TEXT]
    assert codes[-1] == "119746007"


@pytest.mark.parametrize(
    ("name", "system", "code", "meaning"),
    [
        ("nsclc", "http://fhir.de/CodeSystem/dimdi/icd-10-gm", "C34.1", ""),
        ("nsclc", "http://hl7.org/fhir/sid/icd-10-cm", "C3482", ""),
        ("nsclc", "http://hl7.org/fhir/sid/icd-10", "C34.9", ""),
        ("nsclc", "http://hl7.org/fhir/sid/icd-10-cm", "C33", None),
        ("nsclc", "http://snomed.info/sct", "425048006", ""),  # Synthea, stage 2
        ("nsclc", "http://snomed.info/sct", "254632001", None),  # small cell
        ("small-cell", "http://terminology.hl7.org/CodeSystem/icd-o-3", "8041/6", ""),
        ("small-cell", "http://snomed.info/sct", "67831000119107", ""),  # Synthea, stage 3
        ("small-cell", TEXT, "Kleinzelliges Bronchialkarzinom", ""),
        ("nsclc", TEXT, "Kleinzelliges Bronchialkarzinom", None),
        ("surgery-type", "http://fhir.de/CodeSystem/bfarm/ops", "5-324.b1", "LOBECTOMY"),
        ("surgery-type", "http://fhir.de/CodeSystem/bfarm/ops", "5-325.01", "LOBECTOMY"),
        ("surgery-type", "http://fhir.de/CodeSystem/bfarm/ops", "5-328.01", "PNEUMONECTOMY"),
        ("surgery-type", "http://fhir.de/CodeSystem/bfarm/ops", "5-323.43", "OTHER"),
        ("surgery-type", "http://fhir.de/CodeSystem/bfarm/ops", "5-344.0", None),  # pleurectomy
        ("surgery-type", "http://hl7.org/fhir/sid/icd-10-pcs", "0BTL4ZZ", "PNEUMONECTOMY"),
        ("surgery-type", "http://hl7.org/fhir/sid/icd-10-pcs", "0BBC4ZX", None),  # a biopsy
        ("surgery-type", TEXT, "LOBEKTOMIE", "LOBECTOMY"),
        ("alectinib", "urn:oid:2.16.840.1.113883.6.69", "50242013001", ""),
        ("alectinib", TEXT, "Alectinib 150 mg", ""),
        ("stage-group", "http://cancerstaging.org", "3B", "IIIB"),
        ("stage-group", "https://www.uicc.org/resources/tnm", "IIIA4", "IIIA"),
        ("stage-group", TEXT, "stage 3a", "IIIA"),
        ("stage-group", TEXT, "III", None),
        ("ecog", "", "0", "0"),  # obds-to-fhir writes no system
        ("ecog-code", "http://snomed.info/sct", "423740007", ""),
        ("smoking-status", "http://snomed.info/sct", "428041000124106", "CURRENT"),
        ("residual-tumour", TEXT, "r0", "R0"),
        ("recist", TEXT, "PR", None),  # a progesterone receptor, elsewhere
        ("recurrence-condition", "http://hl7.org/fhir/sid/icd-10-cm", "C78.01", "RECURRENCE"),
        ("recurrence-condition", "http://fhir.de/CodeSystem/bfarm/icd-10-gm", "C79.3", "RECURRENCE"),
        ("recurrence-condition", "http://snomed.info/sct", "94225005", "RECURRENCE"),
        ("recurrence-condition", "http://hl7.org/fhir/sid/icd-10", "C80", None),
        ("antineoplastic", "http://fhir.de/CodeSystem/bfarm/atc", "L01CD01", ""),
        ("antineoplastic", "http://www.whocc.no/atc", "L02BG04", None),
        ("antineoplastic", "http://fhir.de/CodeSystem/bfarm/ops", "8-542.11", ""),
        ("ctcae-grade", TEXT, "Grad III", "3"),
        ("ae-causality", "http://terminology.hl7.org/CodeSystem/adverse-event-causality-assess", "possible", "RELATED"),
    ],
)
def test_what_is_said_by_a_rule_or_as_text(name: str, system: str, code: str, meaning: str | None) -> None:
    assert load_terminology().target(name, system, code) == meaning


def test_a_server_is_asked_for_codes_under_any_name_of_their_system() -> None:
    tokens = load_terminology().search_tokens("nsclc")
    assert {"254637007", "C34.11", "C3411", "C34.1", "C341"} <= set(tokens)
    assert len(",".join(tokens)) < 1500  # a part of a URL, which servers limit to 2,000 characters or more


def test_severities_are_no_grades() -> None:
    systems = {system for system, _ in _concepts(_load("ctcae-grade"))}
    assert "http://terminology.hl7.org/CodeSystem/adverse-event-severity" not in systems
