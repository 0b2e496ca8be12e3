"""`periop explain`: every column of one patient of each fixture, answers worked out by hand, and the audit log."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mappers.cohort.variables import COLUMNS
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.cohorts import ALNEO, KEY, pseudonym
from tests.compiled import compiled_once

OTHERS = ALNEO.parent / "other_hospitals"
# The folder, the terminology, and the id of the same person
HOSPITALS = {
    "alneo": (ALNEO, None, "SYN-05"),
    "mcode": (OTHERS / "mcode" / "fhir", OTHERS / "mcode" / "terminology", "SYN-05"),
    "us": (OTHERS / "us" / "fhir", OTHERS / "us" / "terminology", "SYN-05"),
    "german": (OTHERS / "german" / "fhir", OTHERS / "german" / "terminology", None),
}
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Hospital:
    """A mapped hospital that can be asked."""

    def __init__(self, folder: Path, name: str) -> None:
        fhir, terminology, patient = HOSPITALS[name]
        own = f'[mapping]\nterminology = ["{terminology}"]\n' if terminology and terminology.is_dir() else ""
        self.config = folder / "periop.toml"
        self.config.write_text(
            f'data_dir = "data"\n[[sites]]\nname = "{name}"\nkind = "folder"\npath = "{fhir}"\n{own}'
        )
        self.log = folder / "data" / "explain.log"
        self.patient = patient or german_id("SYN-05")
        with compiled_once(folder / "data"):
            for command in ("sync", "map"):
                code, _, errors = self.run(command)
                assert code == 0, errors

    def run(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        session = Session(out, err, {"PERIOP_PSEUDONYM_KEY": KEY}, lambda: NOON, user=lambda: "anna")
        return main(["--config", str(self.config), *arguments], session), out.getvalue(), err.getvalue()

    def explain(self, *arguments: str) -> dict[str, Any]:
        code, out, errors = self.run("explain", "--json", *arguments)
        assert code == 0, errors
        found: dict[str, Any] = json.loads(out)
        return found


def german_id(person: str) -> str:
    """The id of the Patient in the Bundle of a person."""
    bundle = json.loads((OTHERS / "german" / "fhir" / f"{person}.json").read_bytes())
    found: str = next(
        entry["resource"]["id"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Patient"
    )
    return found


@pytest.fixture(scope="module")
def alneo(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("alneo"), "alneo")


def used(explanation: Mapping[str, Any]) -> set[str]:
    return {f"{use['type']}/{use['id']}" for use in explanation["used"]}


def reasons(explanation: Mapping[str, Any]) -> dict[str, str]:
    return {f"{use['type']}/{use['id']}": use["reason"] for use in explanation["considered"]}


def only(found: dict[str, Any], variable: str | None = None, row: str | None = None) -> dict[str, Any]:
    named = [each for each in found["variables"] if variable in (None, each["variable"]) and row in (None, each["row"])]
    (explanation,) = named
    return dict(explanation)


@pytest.fixture(scope="module")
def whole(alneo: Hospital) -> dict[str, Any]:
    """Everything of one patient, explained once."""
    return alneo.explain("--id", "SYN-05")


@pytest.mark.parametrize("name", sorted(HOSPITALS))
def test_every_column_of_a_patient_is_explained(
    name: str, tmp_path_factory: pytest.TempPathFactory, whole: dict[str, Any]
) -> None:
    if name == "alneo":
        found = whole
    else:
        hospital = Hospital(tmp_path_factory.mktemp(name), name)
        found = hospital.explain("--id", hospital.patient)
    explained = {(each["table"], each["variable"]) for each in found["variables"]}
    tables = COLUMNS if found["enrolled"] else {"ADSL": COLUMNS["ADSL"]}
    assert explained >= {(table, column) for table, columns in tables.items() for column in columns}
    assert all(each["rule"] for each in found["variables"])
    # What is not blank and rests on resources names at least one of them.
    resting = ("SEX", "STAGEBL", "ALKSTAT", "TRTSDT", "SURGDT", "SURGTYPE", "LSTALVDT", "AP01SDT", "NEOCMPFL")
    for each in found["variables"]:
        if each["variable"] in resting and each["value"] not in (None, "N"):
            assert each["used"], each["variable"]


def test_enrolment_is_explained_criterion_by_criterion(alneo: Hospital, whole: dict[str, Any]) -> None:
    assert (whole["enrolled"], whole["reason"], whole["stale"]) == (True, None, False)
    assert {each["met"] for each in whole["criteria"]} == {True}
    failed = alneo.explain("--id", "DEC-01")  # stage IIB
    assert (failed["enrolled"], failed["reason"]) == (False, "STAGE NOT ELIGIBLE")
    met = {each["variable"]: (each["value"], each["met"]) for each in failed["criteria"]}
    assert met["STAGEBL"] == ("IIB", False)
    assert met["TRTSDT"][1] is None


def test_who_is_not_screened_is_told_which_codes_were_seen(alneo: Hospital) -> None:
    found = alneo.explain("--id", "DEC-03")
    assert (found["enrolled"], found["reason"]) == (False, "NOT SCREENED")
    (reason,) = reasons(only(found)).values()
    assert reason.startswith("its code is in no value set of lung cancer: http://snomed.info/sct 1187332001")


def test_a_resource_that_was_not_used_says_why(whole: dict[str, Any]) -> None:
    surgery = only(whole, "SURGDT")
    assert surgery["value"] == "2024-09-04"
    assert used(surgery) == {"Procedure/SYN-05-surgery"}
    assert reasons(surgery) == {"Procedure/SYN-05-attempt": "status not usable"}
    assert [use["version"] for use in surgery["used"]] == ["1"]
    assert surgery["used"][0]["elements"] == ["Procedure.code", "Procedure.status", "Procedure.performed[x]"]


def test_the_doses_of_a_phase_are_those_before_surgery(whole: dict[str, Any]) -> None:
    doses = only(whole, "NEOCMPFL")
    drug = "MedicationAdministration/SYN-05"
    assert used(doses) == {f"{drug}-neoadjuvant-1", f"{drug}-neoadjuvant-2"}
    found = reasons(doses)
    assert found[f"{drug}-adjuvant-01"] == "dated after SURGDT"
    assert found[f"{drug}-adjuvant-03"] == "dated after the data cutoff"
    assert found[f"{drug}-dose-error"] == "status not usable"
    assert doses["parameters"] == {
        "treatment.neoadjuvant_cycles": 2,
        "treatment.cycle_days": 28,
        "treatment.merge_gap_days": 7,
    }


def test_a_parameter_is_asked_for_by_its_name(alneo: Hospital) -> None:
    found = alneo.explain("--id", "SYN-05", "MPR")["variables"]
    assert {each["row"] for each in found} == {"MPR"}
    assert {each["variable"] for each in found} == set(COLUMNS["ADRS"])
    value = only({"variables": found}, "AVALC")
    assert (value["value"], value["numbers"]) == ("N", [2, 3])
    assert used(value) >= {"Observation/SYN-05-rvt"}
    later = only(alneo.explain("--id", "SYN-05", "EFS.ADT", "--cut", "later_cut"))
    assert later["value"] == "2025-05-05"


def test_a_pseudonym_names_the_patient_too_and_each_use_is_in_the_audit_log(alneo: Hospital) -> None:
    subject = pseudonym("SYN-05")
    alneo.log.unlink(missing_ok=True)
    assert alneo.explain(f"alneo-alneo-{subject}", "SEX")["patient"] == f"alneo-alneo-{subject}"
    code, text, _ = alneo.run("explain", subject)
    assert (code, "SYN-05-surgery" in text, "enrolled" in text) == (0, False, True)
    entries = [json.loads(line) for line in alneo.log.read_text().splitlines()]
    same = {"when": "2026-05-01T12:00:00+00:00", "user": "anna", "patient": f"alneo-alneo-{subject}"}
    assert entries == [{**same, "variable": "SEX"}, {**same, "variable": None}]
    assert stat.S_IMODE(alneo.log.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "no patient of the lake has this pseudonym"),
        (("--id", "SYN-05", "HEIGHT"), "no row of this patient has a variable HEIGHT"),
        (("--id", "SYN-05", "SEX", "--cut", "never"), "the study has no data cutoff named never; it has later_cut"),
    ],
)
def test_what_cannot_be_explained_is_an_error(alneo: Hospital, arguments: tuple[str, ...], message: str) -> None:
    code, out, errors = alneo.run("explain", *arguments)
    assert (code, out) == (1, "")
    assert message in errors
