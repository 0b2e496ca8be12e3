"""The answer key of the ALNEO fixture against the published report, and against values worked out by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STUDIES = REPOSITORY / "mappers" / "studies"
KEY: dict[str, Any] = json.loads((REPOSITORY / "fixtures" / "alneo_answers.json").read_bytes())
PATIENTS = {patient["id"]: patient for patient in KEY["patients"]}


def _published(name: str) -> list[dict[str, str]]:
    with (STUDIES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_published_proportion_has_its_counts() -> None:
    published = {
        row["id"]: (row["population"], int(row["x"]), int(row["n"])) for row in _published("alneo_published.csv")
    }
    assert published == {one["id"]: (one["population"], one["x"], one["n"]) for one in KEY["proportions"]}
    assert len(published) == 41


def test_every_published_quantile_rounds_to_the_printed_one() -> None:
    key = {one["id"]: one for one in KEY["quantiles"]}
    for row in _published("alneo_published_other.csv"):
        if row["value"] == "not reached":
            medians = {one["median"] for one in KEY["survival"] if one["id"] == row["id"]}
            assert medians == {"not_reached"}
            continue
        digits = 0 if row["unit"] == "years" else 1
        pairs = zip(("median", "q1", "q3"), (row["value"], row["low"], row["high"]), strict=True)
        for name, printed in pairs:
            assert not printed or round(key[row["id"]][name], digits) == float(printed), row["id"]


def test_events_by_hand() -> None:
    """Progression at days 60, 63, 300, 410, 520, 640, death at 500: seven. Deaths by cut: two, then three."""
    counts = {(one["id"], one["cut"]): one["events"] for one in KEY["survival"]}
    assert counts == {
        ("survival.efs", "first_cut"): 7,
        ("survival.efs", "later_cut"): 7,
        ("survival.os", "first_cut"): 2,
        ("survival.os", "later_cut"): 3,
    }


@pytest.mark.parametrize(
    ("patient", "efs", "os"),
    [
        # first dose 2024-06-04, progression on day 60; alive on day 180, the first cut: 181 / 30.4375
        ("SYN-06", ("2024-08-03", "PROGRESSION", 0), ("2024-12-01", 5.9466, 1)),
        # first dose 2022-12-02, dead on day 500 without progression: 501 / 30.4375
        ("SYN-23", ("2024-04-15", "DEATH", 0), ("2024-04-15", 16.46, 0)),
        # first dose 2023-05-11, recurrence on day 410, dead on day 630 after the first cut (day 570)
        ("SYN-20", ("2024-06-24", "RECURRENCE", 0), ("2024-12-01", 18.7598, 1)),
        # first dose 2021-05-25: day 1286
        ("SYN-33", ("2024-12-01", "CENSORED", 1), ("2024-12-01", 42.2834, 1)),
    ],
)
def test_times_by_hand(patient: str, efs: tuple[str, str, int], os: tuple[str, float, int]) -> None:
    cut = PATIENTS[patient]["first_cut"]
    assert (cut["EFS"]["ADT"], cut["EFS"]["EVNTDESC"], cut["EFS"]["CNSR"]) == efs
    assert (cut["OS"]["ADT"], cut["OS"]["AVAL"], cut["OS"]["CNSR"]) == os


def test_one_patient_by_hand() -> None:
    """SYN-10 of the CSV: born 74 years before 2024-05-08, operated on day 81, adjuvant from day 108."""
    patient = PATIENTS["SYN-10"]
    assert patient["ADSL"] == {
        "AGE": 74,
        "SEX": "F",
        "ECOGBL": 0,
        "SMKSTAT": "FORMER",
        "STAGEBL": "IIIA",
        "TSTGBL": "T1a",
        "NSTGBL": "N2",
        "ALKSTAT": "POSITIVE",
        "ITTFL": "Y",
        "SURGFL": "Y",
        "ADJSAFFL": "Y",
        "NEOCMPFL": "Y",
        "ADJCMPFL": "N",
        "TRTSDT": "2024-05-08",
        "SURGDT": "2024-07-28",
        "AP02SDT": "2024-08-24",
        "SURGTYPE": "PNEUMONECTOMY",
        "NOSURGRS": None,
    }
    expected = {"MPR": "Y", "PCR": "Y", "BOR": "CR", "RSP": "Y", "R0": "N", "NDOWN": "Y", "PVTPCT": 0}
    assert patient["ADRS"] == expected
    assert [(one["APERIODC"], one["AETERM"], one["ATOXGRN"]) for one in patient["ADAE"]] == [
        ("NEOADJUVANT", "AST increased", 1),
        ("ADJUVANT", "Asthenia", 2),
    ]


def test_patients_who_must_not_be_counted_are_named() -> None:
    assert set(KEY["not_counted"]) == {f"DEC-{n:02}" for n in range(1, 16)}
    assert not set(KEY["not_counted"]) & set(PATIENTS)
