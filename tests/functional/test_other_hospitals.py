"""The ALNEO cohort as three other hospitals carry it: each alone, and all three as sites, give the published table.

The answer key is that of `fixtures/alneo`, patient by patient and variable by variable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mappers.study import load_study
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from tests.cohorts import ALNEO, ANSWERS, analyzed, mapped, pseudonym

ANSWER: dict[str, Any] = json.loads(ANSWERS.read_bytes())
HOSPITALS = ALNEO.parent / "other_hospitals"
NAMES = ("mcode", "german", "us")
Tables = dict[tuple[str | None, str], pd.DataFrame]


class Cohort:
    """The cohort tables and figures of some hospitals as sites, and who is who in them."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        sites = [FolderSite(name=name, kind="folder", path=HOSPITALS / name / "fhir") for name in names]
        terminology = [HOSPITALS / name / "terminology" for name in names]
        settings = Settings(data_dir=folder, sites=sites, mapping={"terminology": terminology})
        study = load_study("alneo")
        mapped(settings, study)
        self.released = analyzed(settings, study)
        self.names = names
        self.tables: Tables = {
            (cut, name): pd.read_parquet(folder / "cohort" / inside / f"{name}.parquet")
            for cut, inside in ((None, ""), ("later_cut", "cuts/later_cut"))
            for name in ("adsl", "adrs", "adtte", "adae")
        }
        self.people = {
            f"alneo-{name}-{pseudonym(identifier)}": person for name in names for person, identifier in people(name)
        }

    def enrolled(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield USUBJID and answer of everybody who must be enrolled."""
        answers = {patient["id"]: patient for patient in ANSWER["patients"]}
        for subject, person in self.people.items():
            if person in answers:
                yield subject, answers[person]


def people(name: str) -> Iterator[tuple[str, str]]:
    """Yield the id of the answer key and that of the Patient for everybody at a hospital."""
    for file in sorted((HOSPITALS / name / "fhir").glob("*")):
        texts = file.read_text().splitlines() if file.suffix == ".ndjson" else [file.read_text()]
        for text in texts:
            found = json.loads(text)
            for entry in found.get("entry", [{"resource": found}]):
                if entry["resource"]["resourceType"] == "Patient":
                    yield entry["resource"]["identifier"][0]["value"], entry["resource"]["id"]


@pytest.fixture(scope="module", params=[*NAMES, "all three"])
def cohort(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    names = NAMES if request.param == "all three" else (request.param,)
    return Cohort(tmp_path_factory.mktemp("hospital"), names)


def plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return None if not isinstance(value, list) and pd.isna(value) else value


def test_exactly_the_33_of_each_are_enrolled(cohort: Cohort) -> None:
    adsl = cohort.tables[None, "adsl"]
    enrolled = adsl.loc[adsl["ITTFL"] == "Y", "USUBJID"]
    found = sorted(cohort.people[subject] for subject in enrolled)
    assert found == sorted([patient["id"] for patient in ANSWER["patients"]] * len(cohort.names))


def test_adsl(cohort: Cohort) -> None:
    rows = cohort.tables[None, "adsl"].set_index("USUBJID")
    different = {}
    for subject, patient in cohort.enrolled():
        expected = dict(patient["ADSL"])
        if expected["NOSURGRS"] is None and expected["SURGFL"] == "N":
            expected["NOSURGRS"] = "OTHER"  # a reason that the hospital gave in words only
        for name, value in expected.items():
            if (found := plain(rows.loc[subject, name])) != value:
                different[subject.split("-")[1], patient["id"], name] = (value, found)
    assert different == {}


def test_adrs(cohort: Cohort) -> None:
    adrs = cohort.tables[None, "adrs"]
    counted = adrs[adrs["ANL01FL"] == "Y"]
    assert not counted.duplicated(["USUBJID", "PARAMCD"]).any()
    found: dict[str, dict[str, Any]] = {}
    for row in counted.itertuples():
        found.setdefault(row.USUBJID, {})[row.PARAMCD] = row.AVAL if row.PARAMCD == "PVTPCT" else row.AVALC
    different = {}
    for subject, patient in cohort.enrolled():
        expected = {name: value for name, value in patient["ADRS"].items() if value is not None}
        for name in expected.keys() | found[subject].keys():
            if expected.get(name) != found[subject].get(name):
                different[subject.split("-")[1], patient["id"], name] = (expected.get(name), found[subject].get(name))
    assert different == {}


@pytest.mark.parametrize("cut", ["first_cut", "later_cut"])
def test_adtte(cohort: Cohort, cut: str) -> None:
    adtte = cohort.tables[None if cut == "first_cut" else "later_cut", "adtte"].set_index(["USUBJID", "PARAMCD"])
    different = {}
    for subject, patient in cohort.enrolled():
        for parameter in ("EFS", "OS"):
            row, expected = adtte.loc[(subject, parameter)], patient[cut][parameter]
            found = (plain(row["ADT"]), int(row["CNSR"]), row["EVNTDESC"] if row["CNSR"] == 0 else "")
            wanted = (expected["ADT"], expected["CNSR"], expected["EVNTDESC"] if expected["CNSR"] == 0 else "")
            if found != wanted:
                different[subject.split("-")[1], patient["id"], parameter] = (wanted, found)
    assert different == {}


def test_adae(cohort: Cohort) -> None:
    adae = cohort.tables[None, "adae"]
    worst = adae[(adae["AOCC01FL"] == "Y") & (adae["APERIODC"] != "POST-SURGERY")]
    found: dict[str, list[tuple[str, str, int]]] = {}
    for row in worst.itertuples():
        found.setdefault(row.USUBJID, []).append((row.APERIODC, row.AEDECOD or row.AETERM, int(row.ATOXGRN)))
    different = {}
    for subject, patient in cohort.enrolled():
        expected = sorted((e["APERIODC"], e["AEDECOD"] or e["AETERM"], e["ATOXGRN"]) for e in patient["ADAE"])
        if expected != (mine := sorted(found.get(subject, []))):
            different[subject.split("-")[1], patient["id"]] = (expected, mine)
    assert different == {}


def test_published_proportions(cohort: Cohort) -> None:
    ours = {p.id: p for p in cohort.released.proportions}
    sites = len(cohort.names)
    expected = {p["id"]: (p["x"] * sites, p["n"] * sites, p["population"]) for p in ANSWER["proportions"]}
    assert {name: (ours[name].x, ours[name].n, ours[name].population) for name in expected} == expected


def test_survival(cohort: Cohort) -> None:
    ours = {s.id: s for s in cohort.released.survival}
    for expected in (s for s in ANSWER["survival"] if s["cut"] == "first_cut"):
        found = ours[expected["id"]]
        assert (found.n, found.events) == (expected["n"] * len(cohort.names), expected["events"] * len(cohort.names))
        assert found.median_status == expected["median"]
