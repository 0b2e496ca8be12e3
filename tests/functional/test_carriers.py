"""Each fact, carried as other hospitals carry it: the values come out, or the quality list names what is missing.

The patients are those of `tests/functional/carriers.jsonl`. What is expected was worked out from the endpoint rules,
and differs from the base patient only where the line says so.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from mappers.study import Study, load_study
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from tests.carriers import Carrier, carriers, write
from tests.cohorts import mapped, pseudonym

BASE, *CASES = carriers()
ADSL = (
    *("AGE", "SEX", "ECOGBL", "SMKSTAT", "STAGEBL", "TSTGBL", "NSTGBL", "ALKSTAT", "ITTFL", "SCRFRS", "TRTSDT"),
    *("AP01SDT", "AP01EDT", "AP02SDT", "SURGDT", "SURGTYPE", "NEOCMPFL", "NOSURGRS", "DTHFL", "DTHDT", "LSTALVDT"),
)
MAY_BE_MISSING = 15  # facts that are told and not derived, each with its reason in docs/carriage.md
# What is counted for any code that nobody knows says nothing of the fact that is missing
UNSPECIFIC = re.compile("code in no value set|type-not-asked-for")
Values = dict[str, Any]


def without_criteria() -> Study:
    """Return ALNEO without the criteria and endpoints that the table does not look at."""
    study = load_study("alneo")
    eligibility = study.eligibility.model_copy(update={"ecog_max": None, "prior_systemic_treatment": None})
    return study.model_copy(update={"eligibility": eligibility, "cuts": ()})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Values]:
    """Return the values and the quality list of each patient, from one run with all of them."""
    folder = tmp_path_factory.mktemp("carriers")
    (folder / "fhir").mkdir()
    write(folder / "fhir")
    settings = Settings(data_dir=folder / "data", sites=(FolderSite(name="s", kind="folder", path=folder / "fhir"),))
    mapped(settings, without_criteria())
    names = ("adsl", "adrs", "adtte", "adae", "quality_patients")
    tables = {name: pd.read_parquet(settings.cohort_dir / f"{name}.parquet") for name in names}
    return {case.case: values(tables, f"alneo-s-{pseudonym(case.case)}") for case in (BASE, *CASES)}


def values(tables: dict[str, pd.DataFrame], subject: str) -> Values:
    """Return what the cohort tables say of a patient, by column of ADSL, parameter of ADRS and ADTTE, and "AE"."""
    of = {name: table[subject == table.USUBJID] for name, table in tables.items()}
    if of["adsl"].empty:
        return {}
    row = of["adsl"].iloc[0]
    got: Values = {name: plain(row[name]) for name in ADSL}
    for parameter in ("MPR", "PCR", "BOR", "RSP", "R0", "NDOWN"):
        rows = of["adrs"][parameter == of["adrs"].PARAMCD]
        got[parameter] = None if rows.empty else rows.AVALC.iloc[0] + "*" * (rows.DTYPE.iloc[0] == "NONRESP")
    rows = of["adrs"][(of["adrs"].PARAMCD == "PVTPCT") & (of["adrs"].ANL01FL == "Y")]
    got["PVTPCT"] = None if rows.empty else float(rows.AVAL.iloc[0])
    for parameter in ("EFS", "OS", "DFS"):
        rows = of["adtte"][parameter == of["adtte"].PARAMCD]
        got[parameter] = None if rows.empty else endpoint(rows.iloc[0])
    got["AE"] = sorted(
        f"{x.AEDECOD or '(' + str(x.AETERM) + ')'}|{x.ATOXGR}|{x.APERIODC}|TE={x.TRTEMFL}|occ={x.AOCC01FL}"
        f"|ser={x.AESER}|rel={x.AREL}|{x.ASTDT}"
        for x in of["adae"].itertuples()
    )
    got["quality"] = {f"{x.DOMAIN}: {x.ISSUE} ({x.COUNT})" for x in of["quality_patients"].itertuples()}
    return got


def plain(value: Any) -> Any:
    """Return a cell as JSON has it."""
    if pd.isna(value):
        return None
    if isinstance(value, str):
        return value
    return value.isoformat()[:10] if hasattr(value, "isoformat") else float(value)


def endpoint(row: Any) -> str:
    """Return censoring, what happened, and the day: `0/DEATH@2024-11-20`."""
    return f"{row.CNSR}/{row.EVNTDESC if row.CNSR == 0 else row.CNSDTDSC}@{plain(row.ADT) or ''}"


def test_the_base_patient_has_every_fact(found: dict[str, Values]) -> None:
    base = found[BASE.case]
    assert (base["ITTFL"], base["STAGEBL"], base["ALKSTAT"], base["ECOGBL"]) == ("Y", "IIIB", "POSITIVE", 0)
    assert (base["SURGDT"], base["MPR"], base["R0"], base["NDOWN"], base["BOR"]) == ("2024-07-30", "Y", "Y", "Y", "PR")
    assert len(base["AE"]) == 2


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.case)
def test_fact_is_derived_or_told(case: Carrier, found: dict[str, Values]) -> None:
    base, got = found[BASE.case], found[case.case]
    if case.expect == {"ADSL": "ABSENT"}:
        assert got == {}
        return
    assert got, f"{case.what}: the patient is not among the screened"
    expected = base | case.expect
    columns = case.only or [name for name in base if name != "quality"]
    different = {name: (expected[name], got[name]) for name in columns if expected[name] != got[name]}
    news = got["quality"] - base["quality"]
    told = [line for line in news if re.search(case.tell or "", line) and not UNSPECIFIC.search(line)]
    if case.missing:
        assert different, f"{case.what}: it is derived now; take `missing` out of the table and docs/carriage.md"
        assert told, f"{case.what}: {different} is missing and not told: {sorted(news)}"
    else:
        assert different == {}, f"{case.what}: {sorted(news)}"
        assert told or not case.must_tell, f"{case.what}: not told in {sorted(news)}"


def test_few_facts_are_only_told() -> None:
    assert sum(case.missing is not None for case in CASES) <= MAY_BE_MISSING
