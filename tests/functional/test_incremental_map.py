"""What `map` derives again: the patients of a sync's resources, and everybody when a rule is another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mappers.study import Cut, Study
from mappers.terminology import SHIPPED
from mappers.terminology.rules import REPLACES
from mappers.view.shipped import SHIPPED_VIEWS, load_views
from schedules.config.credentials import KEY_MARKER
from schedules.config.settings import Settings
from schedules.run.pipeline import Pipeline
from tests.cohorts import pseudonym
from tests.nights import ALNEO, BOTH_CUTOFFS, Hospital, charts, differing, fresh, mapped, settled, tables

LATER = BOTH_CUTOFFS.cuts[0]
KEY = ("Observation", "rich-observation-0")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """Two sites with the same patients, mapped once: `rich`, `plain` and `odd` have the condition, `other` has not."""
    hospital = Hospital(tmp_path_factory.mktemp("first") / "data")
    for site in ("milan", "rome"):
        hospital.night(
            site, {(body["resourceType"], body["id"]): body for chart in charts() for body in chart.resources}
        )
    assert mapped(settled(hospital.data)).derived == 6
    return hospital


@pytest.fixture
def hospital(first: Hospital, tmp_path: Path) -> Hospital:
    shutil.copytree(first.data, tmp_path / "data")
    return Hospital(tmp_path / "data", dict(first.held), first.written)


def resource(hospital: Hospital, kind: str, name: str) -> dict[str, Any]:
    return deepcopy(hospital.held["milan", kind, name])


def is_as_if_derived_at_once(hospital: Hospital, tmp_path: Path) -> bool:
    config = settled(hospital.data)
    tmp_path.mkdir(exist_ok=True)
    anew = fresh(config, tmp_path / "anew")
    mapped(anew)
    return differing(config, anew) == []


def test_without_news_nobody_is_derived(hospital: Hospital) -> None:
    before = tables(settled(hospital.data))
    assert mapped(settled(hospital.data)).derived == 0
    assert tables(settled(hospital.data)) == before


def test_a_new_version_derives_its_patient_at_its_site(hospital: Hospital, tmp_path: Path) -> None:
    hospital.night("milan", {KEY: resource(hospital, *KEY) | {"status": "entered-in-error"}})
    assert mapped(settled(hospital.data)).derived == 1
    assert is_as_if_derived_at_once(hospital, tmp_path)


def test_a_reference_that_moves_derives_both_patients(hospital: Hospital, tmp_path: Path) -> None:
    hospital.night("milan", {KEY: resource(hospital, *KEY) | {"subject": {"reference": "Patient/plain"}}})
    assert mapped(settled(hospital.data)).derived == 2
    assert is_as_if_derived_at_once(hospital, tmp_path)


def test_a_medication_derives_the_patients_whose_drugs_refer_to_it(hospital: Hospital, tmp_path: Path) -> None:
    def first_dose() -> Any:
        rows = tables(settled(hospital.data))["adsl.parquet"].to_pylist()
        return next(row["TRTSDT"] for row in rows if row["USUBJID"] == f"alneo-milan-{pseudonym('rich')}")

    key = ("MedicationAdministration", "rich-medicationadministration-0")
    dose = resource(hospital, *key)
    first, second = date(2023, 1, 2), date(2023, 1, 30)
    assert first_dose() == first
    drug = dose.pop("medicationCodeableConcept")
    hospital.night("milan", {key: dose | {"medicationReference": {"reference": "Medication/m"}}})
    assert (mapped(settled(hospital.data)).derived, first_dose()) == (1, second)
    medication = {"resourceType": "Medication", "id": "m", "code": drug}
    for body, derived, expected in (
        (medication, 1, first),
        (medication | {"code": {"text": "another"}}, 1, second),
        (medication, 1, first),
        (None, 1, second),
    ):
        hospital.night("milan", {("Medication", "m"): body})
        hospital.night("rome", {("Medication", "m"): body or medication})  # where nothing refers to it
        assert (mapped(settled(hospital.data)).derived, first_dose()) == (derived, expected)
        assert is_as_if_derived_at_once(hospital, tmp_path)
        shutil.rmtree(tmp_path / "anew")


def test_a_deletion_derives_the_patient_that_it_does_not_name(hospital: Hospital, tmp_path: Path) -> None:
    hospital.night("rome", {KEY: None})
    assert mapped(settled(hospital.data)).derived == 1
    assert is_as_if_derived_at_once(hospital, tmp_path)
    body = next(body for chart in charts() for body in chart.resources if body["id"] == KEY[1])
    hospital.night("rome", {KEY: body})
    assert mapped(settled(hospital.data)).derived == 1
    shutil.rmtree(tmp_path / "anew")
    assert is_as_if_derived_at_once(hospital, tmp_path)


def test_a_condition_that_goes_takes_its_patient_out(hospital: Hospital, tmp_path: Path) -> None:
    hospital.night("milan", {("Condition", "odd-condition-0"): None})
    assert mapped(settled(hospital.data)).patients == 5
    subjects = tables(settled(hospital.data))["adsl.parquet"]["USUBJID"].to_pylist()
    assert f"alneo-milan-{pseudonym('odd')}" not in subjects
    assert f"alneo-rome-{pseudonym('odd')}" in subjects
    assert is_as_if_derived_at_once(hospital, tmp_path)


def test_records_that_become_one_person_and_part_again_derive_everybody(hospital: Hospital, tmp_path: Path) -> None:
    link = {"type": "replaced-by", "other": {"reference": "Patient/plain"}}
    odd = resource(hospital, "Patient", "odd")
    for night, (body, patients) in enumerate([(odd | {"link": [link]}, 5), (odd, 6)]):
        hospital.night("milan", {("Patient", "odd"): body})
        assert mapped(settled(hospital.data)).derived == patients
        assert is_as_if_derived_at_once(hospital, tmp_path / str(night))


def test_whose_an_identifier_is_may_change_every_night(hospital: Hospital, tmp_path: Path) -> None:
    seven = {"value": "7"}
    people = {name: resource(hospital, "Patient", name) for name in ("plain", "other")}
    nights = [
        ({KEY: resource(hospital, *KEY) | {"subject": {"identifier": seven}}}, 1),  # nobody has it
        ({("Patient", "plain"): people["plain"] | {"identifier": [seven]}}, 6),
        ({("Patient", "other"): people["other"] | {"identifier": [seven]}}, 6),  # two have it, so nobody
    ]
    for night, (changes, derived) in enumerate(nights):
        hospital.night("milan", changes)
        assert mapped(settled(hospital.data)).derived == derived
        assert is_as_if_derived_at_once(hospital, tmp_path / str(night))


@pytest.mark.parametrize("nights", [1, 2], ids=["as far as before", "further than before"])
def test_an_older_copy_of_the_lake_that_went_on_derives_everybody(
    hospital: Hospital, tmp_path: Path, nights: int
) -> None:
    shutil.copytree(hospital.lake.path, tmp_path / "backup")
    hospital.night("milan", {KEY: resource(hospital, *KEY) | {"status": "entered-in-error"}})
    mapped(settled(hospital.data))
    shutil.rmtree(hospital.lake.path)
    shutil.move(tmp_path / "backup", hospital.lake.path)
    for _ in range(nights):
        hospital.night("rome", {("Condition", "odd-condition-0"): None})
    assert mapped(settled(hospital.data)).derived == 5
    assert is_as_if_derived_at_once(hospital, tmp_path)


def test_a_resource_of_nobody_is_counted_and_derives_nobody(hospital: Hospital, tmp_path: Path) -> None:
    hospital.night("milan", {("Observation", "of-nobody"): {"resourceType": "Observation", "id": "of-nobody"}})
    assert mapped(settled(hospital.data)).derived == 0
    rows = tables(settled(hospital.data))["quality.parquet"].to_pylist()
    issue = {"SITEID": "milan", "DOMAIN": "Observation", "ISSUE": "no usable reference to a patient", "COUNT": 2}
    assert issue in rows
    assert is_as_if_derived_at_once(hospital, tmp_path)


def another_threshold(config: Settings, _: Path) -> tuple[Settings, Study]:
    return config, ALNEO.model_copy(
        update={"response": ALNEO.response.model_copy(update={"mpr_threshold_percent": 70})}
    )


def another_value_set(config: Settings, folder: Path) -> tuple[Settings, Study]:
    known = json.loads((SHIPPED / "recist.json").read_text(encoding="utf-8"))
    known["group"][0]["element"].pop()
    known["extension"] = [{"url": REPLACES, "valueBoolean": True}]
    (folder / "recist.json").write_text(json.dumps(known), encoding="utf-8")
    return config.model_copy(update={"mapping": config.mapping.model_copy(update={"terminology": (folder,)})}), ALNEO


def another_view(config: Settings, folder: Path) -> tuple[Settings, Study]:
    view = json.loads((SHIPPED_VIEWS / "procedure.json").read_text(encoding="utf-8"))
    view["where"] = [{"path": "status = 'completed'"}]
    (folder / "procedure.json").write_text(json.dumps(view), encoding="utf-8")
    return config.model_copy(update={"mapping": config.mapping.model_copy(update={"views": (folder,)})}), ALNEO


@pytest.mark.parametrize("change", [another_threshold, another_value_set, another_view])
def test_another_rule_derives_everybody(
    change: Callable[[Settings, Path], tuple[Settings, Study]], hospital: Hospital, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    config, study = change(settled(hospital.data), tmp_path / "own")
    assert mapped(config, study).derived == 6
    assert mapped(config, study).derived == 0


def test_another_key_that_is_wanted_derives_everybody(hospital: Hospital) -> None:
    (settled(hospital.data).lake_dir / KEY_MARKER).unlink()
    pipeline = Pipeline({"PERIOP_PSEUDONYM_KEY": "f" * 64})
    assert pipeline.map_lake(settled(hospital.data), ALNEO, progress=lambda _: None).derived == 6


def test_full_derives_everybody_from_views_built_anew(hospital: Hospital) -> None:
    before = tables(settled(hospital.data))
    report = mapped(settled(hospital.data), full=True)
    assert (report.derived, report.views_rebuilt) == (6, len(load_views()))
    assert tables(settled(hospital.data)) == before


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"PAR1")], ids=["missing", "cut"])
def test_a_damaged_cohort_table_derives_everybody(hospital: Hospital, damage: Callable[[Path], object]) -> None:
    before = tables(settled(hospital.data))
    hospital.night("milan", {KEY: resource(hospital, *KEY)})
    damage(settled(hospital.data).cohort_dir / "adtte.parquet")
    assert mapped(settled(hospital.data)).derived == 6
    assert tables(settled(hospital.data)) == before


def test_several_cuts_of_a_night_some_of_one_day(hospital: Hospital, tmp_path: Path) -> None:
    days = {"same": ALNEO.data_cut, "early": date(2023, 8, 1), "late": LATER.date, "again": LATER.date}
    study = ALNEO.model_copy(update={"cuts": tuple(Cut(id=name, date=day) for name, day in days.items())})
    mapped(settled(hospital.data), study)
    hospital.night("milan", {KEY: resource(hospital, *KEY) | {"status": "entered-in-error"}})
    assert mapped(settled(hospital.data), study).derived == 1
    anew = fresh(settled(hospital.data), tmp_path / "anew")
    mapped(anew, study)
    assert differing(settled(hospital.data), anew) == []


def test_a_cut_of_its_own_gives_what_it_gives_beside_another(hospital: Hospital) -> None:
    """The SQL of a cut runs after that of the main one, and without what does not ask for the cut."""
    config = settled(hospital.data)
    mapped(config, BOTH_CUTOFFS)
    beside = tables(config)
    mapped(config, ALNEO.model_copy(update={"data_cut": LATER.date}))
    below = f"cuts/{LATER.id}/"
    assert tables(config) == {name.removeprefix(below): rows for name, rows in beside.items() if name.startswith(below)}


def test_a_damaged_table_of_a_cut_derives_everybody(hospital: Hospital) -> None:
    config = settled(hospital.data)
    mapped(config, BOTH_CUTOFFS)
    before = tables(config)
    (config.cohort_dir / "cuts" / LATER.id / "adtte.parquet").unlink()
    assert mapped(config, BOTH_CUTOFFS).derived == 6
    assert tables(config) == before
