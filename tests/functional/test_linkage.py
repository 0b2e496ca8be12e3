"""A patient who is known at several sites: found by the hash of an identifier, and counted once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mappers.cohort.eligibility import DIFFERING, ELSEWHERE, SEVERAL_AT_ONE_SITE
from schedules.config.settings import Persons, Settings
from tests.cohorts import pseudonym
from tests.invented import Invented, eligible, operated
from tests.nights import ALNEO, Hospital, differing, fresh, mapped, settled, tables

INSURED = "http://fhir.de/sid/gkv/kvid-10"
COUNTED_THERE = "known at another site, counted there"


def numbered(patient: Invented, value: str, system: str = INSURED, **more: Any) -> Invented:
    patient.resources[0] |= {"identifier": [{"system": system, "value": value}], **more}
    return patient


def screened(name: str) -> Invented:
    """Has the condition and no dose, so is not enrolled."""
    return Invented(name).person().condition().staged().alk_positive()


MILAN = [
    numbered(eligible("both"), "A000000001"),
    numbered(screened("moved"), "A000000002"),
    numbered(screened("nowhere"), "A000000003"),
    numbered(eligible("other-birth"), "A000000004"),
    numbered(eligible("dummy-1"), "A999999999"),
    numbered(eligible("dummy-2"), "A999999999"),
    numbered(eligible("mrn"), "7", "urn:mrn"),
    numbered(eligible("merged"), "A000000005"),
    numbered(eligible("test"), "A000000006"),
    eligible("alone"),
]
TEST_DATA = {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}
REPLACED = {"link": [{"type": "replaced-by", "other": {"reference": "Patient/r-merged"}}]}
ROME = [
    numbered(operated("r-both"), " A000000001 "),
    numbered(eligible("r-moved"), "A000000002"),
    numbered(screened("r-nowhere"), "A000000003"),
    numbered(eligible("r-other-birth"), "A000000004", birthDate="1961-01-01"),
    numbered(eligible("r-dummy"), "A999999999"),
    numbered(eligible("r-mrn"), "7", "urn:mrn"),
    # the record that has the number was merged into one that has none
    numbered(Invented("r-merged-old").person(), "A000000005", **REPLACED),
    eligible("r-merged"),
    numbered(Invented("r-test").person().condition(), "A000000006", meta=TEST_DATA),
]


def bodies(patients: list[Invented]) -> dict[tuple[str, str], dict[str, Any] | None]:
    return {(body["resourceType"], body["id"]): body for patient in patients for body in patient.resources}


def linking(settings: Settings, *systems: str) -> Settings:
    return settings.model_copy(update={"persons": Persons(identifier_systems=systems or (INSURED,))})


def reasons(settings: Settings) -> dict[str, str | None]:
    """SCRFRS by patient, for all names of this page."""
    rows = tables(settings)["adsl.parquet"].to_pylist()
    found = {row["SUBJID"]: row["SCRFRS"] for row in rows}
    assert len(found) == len(rows)
    names = [patient.id for patient in (*MILAN, *ROME)]
    return {name: found[pseudonym(name)] for name in names if pseudonym(name) in found}


def told(settings: Settings, issue: str) -> list[str]:
    rows = tables(settings)["quality_patients.parquet"].to_pylist()
    names = {pseudonym(patient.id): patient.id for patient in (*MILAN, *ROME)}
    return sorted(names[row["USUBJID"].rpartition("-")[2]] for row in rows if row["ISSUE"] == issue)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    hospital = Hospital(tmp_path_factory.mktemp("linkage") / "data")
    hospital.night("milan", bodies(MILAN))
    hospital.night("rome", bodies(ROME))
    mapped(linking(settled(hospital.data)))
    return hospital


@pytest.fixture
def hospital(lake: Hospital, tmp_path: Path) -> Hospital:
    shutil.copytree(lake.data, tmp_path / "data")
    return Hospital(tmp_path / "data", dict(lake.held), lake.written)


NO_DOSE = "NO DOSE OF THE STUDY DRUG"
EXPECTED = {
    "both": None,
    "r-both": ELSEWHERE,
    # enrolled at the second site only
    "moved": ELSEWHERE,
    "r-moved": None,
    # enrolled at neither: the first one counts, for its own reason
    "nowhere": NO_DOSE,
    "r-nowhere": ELSEWHERE,
    "merged": None,
    "r-merged": ELSEWHERE,
    # not linked
    "other-birth": None,
    "r-other-birth": None,
    "dummy-1": None,
    "dummy-2": None,
    "r-dummy": None,
    "mrn": None,
    "r-mrn": None,
    "test": None,
    "r-test": "NO USABLE PATIENT RECORD",
    "alone": None,
}


def test_fault_141_a_patient_of_two_sites_is_counted_once_at_the_first_that_has_him_enrolled(lake: Hospital) -> None:
    settings = linking(settled(lake.data))
    assert reasons(settings) == EXPECTED
    assert told(settings, COUNTED_THERE) == ["moved", "r-both", "r-merged", "r-nowhere"]
    # Nothing but the row of ADSL is left of who counts elsewhere.
    subjects = {row["USUBJID"] for name in ("adrs", "adtte") for row in tables(settings)[f"{name}.parquet"].to_pylist()}
    assert not any(subject.endswith(pseudonym("r-both")) for subject in subjects)
    assert any(subject.endswith(pseudonym("both")) for subject in subjects)


def test_fault_141_the_order_of_the_sites_decides(hospital: Hospital) -> None:
    settings = linking(settled(hospital.data, ("rome", "milan")))
    assert mapped(settings).derived == len(EXPECTED)
    turned = {"both": ELSEWHERE, "r-both": None, "merged": ELSEWHERE, "r-merged": None}
    turned |= {"nowhere": ELSEWHERE, "r-nowhere": NO_DOSE}
    assert reasons(settings) == EXPECTED | turned


def test_fault_141_no_identifier_is_in_any_cohort_table(lake: Hospital) -> None:
    for name, table in tables(settled(lake.data)).items():
        assert "A00000000" not in str(table.to_pylist()), name
    assert "A00000000" not in (settled(lake.data).cohort_dir / "map.json").read_text()


def test_fault_141_without_the_setting_each_site_counts(hospital: Hospital) -> None:
    settings = settled(hospital.data)
    mapped(settings)
    assert ELSEWHERE not in reasons(settings).values()
    assert reasons(settings)["r-both"] is None


def test_fault_142_an_identifier_of_several_or_of_another_birth_date_links_nobody_and_is_told(lake: Hospital) -> None:
    settings = linking(settled(lake.data))
    assert told(settings, SEVERAL_AT_ONE_SITE) == ["dummy-1", "dummy-2", "r-dummy"]
    assert told(settings, DIFFERING) == ["other-birth", "r-other-birth"]


def test_fault_143_who_is_one_person_changes_from_night_to_night(hospital: Hospital, tmp_path: Path) -> None:
    settings = linking(settled(hospital.data))
    dose = {("MedicationAdministration", f"moved-medicationadministration-{n}"): None for n in range(2)}
    given = {key: body for key, body in bodies([eligible("moved")]).items() if key in dose}
    came = bodies([numbered(eligible("r-alone"), "A000000007")])
    everybody = len(EXPECTED)
    nights: list[tuple[str, dict[tuple[str, str], dict[str, Any] | None], int, dict[str, str | None]]] = [
        # A dose at the first site takes the person there: both of his records are derived, and nobody else.
        ("milan", dict(given), 2, {"moved": None, "r-moved": ELSEWHERE}),
        # A patient comes to the second site, then the first one learns the number.
        ("rome", came, 1, {"moved": None, "r-moved": ELSEWHERE}),
        (
            "milan",
            bodies([numbered(eligible("alone"), "A000000007")]),
            everybody + 1,
            {"moved": None, "r-moved": ELSEWHERE},
        ),
    ]
    for night, (site, changes, derived, expected) in enumerate(nights):
        hospital.night(site, changes)
        assert mapped(settings).derived == derived
        assert reasons(settings) == EXPECTED | expected
        subjects = {row["SUBJID"]: row["SCRFRS"] for row in tables(settings)["adsl.parquet"].to_pylist()}
        assert subjects.get(pseudonym("r-alone")) == (ELSEWHERE if night == 2 else None)
    anew = fresh(settings, tmp_path / "anew")
    mapped(anew, ALNEO)
    assert differing(settings, anew) == []
    # The number is corrected.
    hospital.night("milan", bodies([numbered(eligible("alone"), "A000000008")]))
    assert mapped(settings).derived == everybody + 1
    assert [row["SCRFRS"] for row in tables(settings)["adsl.parquet"].to_pylist()].count(ELSEWHERE) == 4
