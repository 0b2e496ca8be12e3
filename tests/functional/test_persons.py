"""Whose a resource is: linked records of one person, references of every style, and what leads nowhere."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mappers.study import load_study
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from schedules.run.pipeline import Pipeline
from tests.cohorts import KEY, Ran, pseudonym, run_folder
from tests.compiled import compiled_once
from tests.invented import Invented, operated, write

MRN = "urn:mrn"
TEST_DATA = {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
Y_SYMBOL = (
    "https://www.medizininformatik-initiative.de/fhir/ext/modul-onko/StructureDefinition/mii-ex-onko-tnm-y-praefix"
)


def link(kind: str, other: str) -> dict[str, Any]:
    return {"type": kind, "other": {"reference": f"Patient/{other}"}}


def seealso(other: str) -> dict[str, Any]:
    return {"link": [link("seealso", other)]}


def identifier(value: str) -> dict[str, str]:
    return {"system": MRN, "value": value}


def split(first: str, second: str, of_first: dict[str, Any], of_second: dict[str, Any]) -> list[Invented]:
    """One operated patient in two records: the doses and the operation belong to the second."""
    one, other = operated(first), Invented(second).person()
    one.resources[0] |= of_first
    other.resources[0] |= of_second
    for resource in one.resources:
        if resource["resourceType"] in ("MedicationAdministration", "Procedure"):
            resource["subject"] = {"reference": f"Patient/{second}"}
    return [one, other]


def referring(name: str, subject: dict[str, Any], **more: Any) -> Invented:
    """An operated patient whose operation refers in this way."""
    patient = operated(name)
    patient.resources[0]["identifier"] = [identifier(f"mrn-{name}")]
    patient.resources[-1] |= {"subject": subject, **more}
    return patient


def modified(name: str, *extensions: dict[str, Any]) -> Invented:
    patient = operated(name)
    patient.resources[-1]["modifierExtension"] = list(extensions)
    return patient


def coded_extension(url: str) -> dict[str, Any]:
    return {"url": url, "valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "421755005"}]}}


CONTAINED = {"resourceType": "Patient", "id": "p", "identifier": [{"value": "elsewhere"}, identifier("mrn-contained")]}
PATIENTS = [
    # two records, whichever of them says so and in whichever way
    *split("replaced-old", "replaced", {"link": [link("replaced-by", "replaced")]}, {}),
    *split("replaces-old", "replaces", {}, {"link": [link("replaces", "replaces-old")]}),
    *split("refer-old", "refer", {"active": False, "link": [link("refer", "refer")]}, seealso("refer-old")),
    *split("seealso", "seealso-other", {"active": True}, {"active": False, "link": [link("seealso", "seealso")]}),
    # over a third record, in a circle, and to one that is not there
    *split("chain-a", "chain-c", {"link": [link("replaced-by", "chain-b")]}, {}),
    Invented("chain-b").person(link=[link("replaced-by", "chain-c")]),
    *split("circle-a", "circle-b", *({"link": [link("replaced-by", f"circle-{other}")]} for other in "ba")),
    *split("lost", "gone", {"link": [link("replaces", "gone")]}, {}),
    # what the records say together
    *split(
        "said-old",
        "said",
        {"gender": "female", "birthDate": "1960-05-05", "deceasedDateTime": "2023-09-01"},
        {"gender": "unknown", "deceasedBoolean": False, "link": [link("replaces", "said-old")]},
    ),
    *split("differ-old", "differ", {"birthDate": "1961-01-01"}, {"link": [link("replaces", "differ-old")]}),
    # test data
    *split("test-old", "test", {"meta": TEST_DATA}, {"link": [link("replaces", "test-old")]}),
    # styles of references
    referring("relative", {"reference": "Patient/relative"}),
    referring("absolute", {"reference": "https://fhir.example/r4/Patient/absolute/_history/2"}),
    referring("logical", {"identifier": identifier("mrn-logical")}),
    referring("conditional", {"reference": f"Patient?identifier={MRN}|mrn-conditional"}),
    referring("any-system", {"reference": "Patient?identifier=mrn-any-system"}),
    referring("contained", {"reference": "#p"}, contained=[CONTAINED]),
    # references that lead nowhere
    referring("no-system", {"identifier": {"value": "mrn-no-system"}}),
    referring("unknown", {"identifier": identifier("nobody")}),
    referring("twice", {"identifier": identifier("shared")}),
    *[Invented(name).person(identifier=[identifier("shared")]) for name in ("shared-1", "shared-2")],
    referring("dangling", {"reference": "#none"}),
    referring("missing", {"reference": "Patient/not-there"}),
    # an identifier that two records of one person have
    referring("both", {"identifier": identifier("mrn-both")}),
    Invented("both-old").person(identifier=[identifier("mrn-both")], link=[link("replaced-by", "both")]),
    # modifier extensions
    modified("modified", {"url": "http://hospital.example/not-done", "valueBoolean": True}),
    modified("known-modifier", coded_extension(Y_SYMBOL)),
    modified("one-known", coded_extension(Y_SYMBOL), coded_extension("http://hospital.example/not-done")),
]
for patient in PATIENTS:  # a record that is not there
    patient.resources = [resource for resource in patient.resources if resource["id"] != "gone"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("persons")
    return run_folder(folder / "data", write(PATIENTS, folder / "fhir"), name="here")


@pytest.fixture(scope="module")
def subjects(ran: Ran) -> pd.DataFrame:
    return ran.table("adsl").set_index("SUBJID")


def told(ran: Ran, name: str) -> dict[tuple[str, str], int]:
    rows = ran.table("quality_patients")
    rows = rows[rows["USUBJID"] == f"alneo-here-{pseudonym(name)}"]
    return {(row.DOMAIN, row.ISSUE): row.COUNT for row in rows.itertuples()}


MERGED = ("Patient", "merged into another record")
LINK = ("Patient", "link to a record that is not there")
MODIFIED = ("Procedure", "modifier extension that is not understood, not used")


@pytest.mark.parametrize(
    ("name", "others", "merged"),
    [
        ("replaced", ["replaced-old"], 1),
        ("replaces", ["replaces-old"], 1),
        ("refer", ["refer-old"], 1),
        ("seealso", ["seealso-other"], 1),
        ("chain-c", ["chain-a", "chain-b"], 2),
        ("circle-a", ["circle-b"], 1),  # both are replaced, both are linked to once: the first by id
        ("lost", ["gone"], None),
        ("both", ["both-old"], 1),
    ],
)
def test_linked_records_are_one_patient_with_the_facts_of_all(
    ran: Ran, subjects: pd.DataFrame, name: str, others: list[str], merged: int | None
) -> None:
    row = subjects.loc[pseudonym(name)]
    assert (row["ITTFL"], row["SURGFL"], row["SURGDT"].isoformat()[:10]) == ("Y", "Y", "2023-03-13")
    assert not any(pseudonym(other) in subjects.index for other in others)
    assert told(ran, name).get(MERGED) == merged
    assert told(ran, name).get(LINK) == (1 if name == "lost" else None)


def test_what_the_canonical_record_does_not_say_is_taken_from_the_others(ran: Ran, subjects: pd.DataFrame) -> None:
    row = subjects.loc[pseudonym("said")]
    # born on 1960-05-05, first dose on 2023-01-02
    assert (row["SEX"], row["AGE"], row["DTHDT"].isoformat()[:10]) == ("F", 62, "2023-09-01")
    conflict = ("Patient", "conflict: merged records differ in sex or birth date")
    assert told(ran, "differ")[conflict] == 1
    assert conflict not in told(ran, "said")


def test_a_person_with_a_record_of_test_data_is_not_enrolled(ran: Ran, subjects: pd.DataFrame) -> None:
    assert subjects.loc[pseudonym("test"), "SCRFRS"] == "NO USABLE PATIENT RECORD"
    assert told(ran, "test")["Patient", "record missing or labelled as test data"] == 1


@pytest.mark.parametrize("name", ["relative", "absolute", "logical", "conditional", "any-system", "contained", "both"])
def test_the_style_of_a_reference_changes_no_endpoint(subjects: pd.DataFrame, name: str) -> None:
    same = ["AGE", "SEX", "STAGEBL", "ALKSTAT", "ITTFL", "SURGFL", "SURGDT", "SURGTYPE", "LSTALVDT", "TRTEDT"]
    assert subjects.loc[pseudonym(name), same].to_list() == subjects.loc[pseudonym("relative"), same].to_list()


@pytest.mark.parametrize("name", ["no-system", "unknown", "twice", "dangling", "missing", "modified", "one-known"])
def test_an_operation_of_nobody_is_nobodys(subjects: pd.DataFrame, name: str) -> None:
    assert (subjects.loc[pseudonym(name), ["ITTFL", "SURGFL"]] == ["Y", "N"]).all()


def test_references_that_lead_nowhere_are_counted_with_the_resource_that_made_them(ran: Ran) -> None:
    found = {issue: count for (domain, issue), count in ran.quality().items() if domain == "Procedure"}
    assert {
        "no usable reference to a patient": 1,
        "logical reference without a matching identifier": 3,
        "reference to a patient that is not there": 1,
    }.items() <= found.items()


def test_a_modifier_extension_is_told_unless_its_meaning_is_known(ran: Ran, subjects: pd.DataFrame) -> None:
    assert told(ran, "modified")[MODIFIED] == told(ran, "one-known")[MODIFIED] == 1
    assert MODIFIED not in told(ran, "known-modifier")
    assert subjects.loc[pseudonym("known-modifier"), "SURGFL"] == "Y"


# ---- the same facts in other files: each style and layout is a site of its own ----

STYLES: dict[str, dict[str, Any]] = {
    "relative": {"reference": "Patient/x"},
    "absolute": {"reference": "https://fhir.example/Patient/x/_history/1"},
    "urn": {"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"},
    "logical": {"identifier": identifier("x")},
    "conditional": {"reference": f"Patient?identifier={MRN}|x"},
}
LAYOUTS = ("transaction", "message in a collection", "lines")
SITES = {
    f"{style}-{layout.split()[0]}": (style, layout)
    for style in STYLES
    for layout in LAYOUTS
    if (style, layout) != ("urn", "lines")  # there is no Bundle in which a urn would mean anything
}


def lay_out(folder: Path, style: str, layout: str) -> Path:
    resources = deepcopy(operated("x").viable(5).yp().event(10, "3").resources)
    resources[0]["identifier"] = [identifier("x")]
    for resource in resources[1:]:
        resource["subject"] = STYLES[style]
    folder.mkdir(parents=True)
    if layout == "lines":
        (folder / "a.ndjson").write_text("\n".join(json.dumps(resource) for resource in reversed(resources)))
        return folder
    urls = [f"urn:uuid:00000000-0000-4000-8000-{number:012}" for number in range(1, len(resources) + 1)]
    entries = [{"fullUrl": url, "resource": body} for url, body in zip(urls, resources, strict=True)]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": layout.split()[0], "entry": entries}
    if layout != "transaction":
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": bundle}]}
    (folder / "a.json").write_text(json.dumps(bundle))
    return folder


def test_reference_styles_and_file_layout_change_no_table(tmp_path: Path) -> None:
    sites = [FolderSite(name=name, kind="folder", path=lay_out(tmp_path / name, *how)) for name, how in SITES.items()]
    settings = Settings(data_dir=tmp_path / "data", sites=tuple(sites))
    pipeline = Pipeline({"PERIOP_PSEUDONYM_KEY": KEY})
    for site in sites:
        pipeline.sync_site(settings, site.name, full=False, progress=lambda _: None)
    with compiled_once(settings.data_dir):
        pipeline.map_lake(settings, load_study("alneo"), progress=lambda _: None)
    for table in ("adsl", "adrs", "adtte", "adae", "quality"):
        rows = pd.read_parquet(settings.cohort_dir / f"{table}.parquet")
        by_site = {
            name: part.drop(columns=[name for name in ("SITEID", "USUBJID") if name in part]).reset_index(drop=True)
            for name, part in rows.groupby("SITEID")
        }
        assert by_site.keys() == SITES.keys(), table
        for part in by_site.values():
            pd.testing.assert_frame_equal(part, by_site["relative-lines"])
