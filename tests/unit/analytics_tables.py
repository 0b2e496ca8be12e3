"""ADaM tables for tests, written straight from the reference cohort's CSV: independent of the mappers."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from analytics.estimates.cohort_tables import Cohort

SOURCE = Path(__file__).parents[2] / "fixtures" / "reference"
CUT, LATER = date(2024, 12, 1), date(2025, 5, 5)
TERMS = {
    "ALT increased": "Alanine aminotransferase increased",
    "AST increased": "Aspartate aminotransferase increased",
}
SURGERY = {"lobectomy": "LOBECTOMY", "pneumonectomy": "PNEUMONECTOMY"}
ADSL = [
    "USUBJID",
    "SITEID",
    "AGE",
    "SEX",
    "ECOGBL",
    "SMKSTAT",
    "STAGEBL",
    "TSTGBL",
    "NSTGBL",
    "ITTFL",
    "SURGFL",
    "ADJSAFFL",
    "SCRFRS",
    "TRTSDT",
    "AP02SDT",
    "SURGDT",
    "SURGTYPE",
    "NEOCMPFL",
    "ADJCMPFL",
    "NOSURGRS",
    "DTHFL",
    "DTHDT",
    "DCUTDT",
]
ADRS = ["USUBJID", "PARAMCD", "AVALC", "ANL01FL", "ADT", "DCUTDT"]
ADTTE = ["USUBJID", "PARAMCD", "AVAL", "CNSR", "EVNTDESC", "STARTDT", "ADT", "DCUTDT"]
ADAE = [
    "USUBJID",
    "AEDECOD",
    "AEPTCD",
    "ATOXGRN",
    "APERIODC",
    "TRTEMFL",
    "AOCC01FL",
    "AESER",
    "AREL",
    "ASTDT",
    "DCUTDT",
]
QUALITY = ["SITEID", "DOMAIN", "ISSUE", "COUNT"]

Row = dict[str, Any]


def frame(rows: list[Row], columns: list[str]) -> pd.DataFrame:
    """Rows with exactly `columns`, blank where a row has none; dates as pandas has them."""
    made = pd.DataFrame([{c: row.get(c) for c in columns} for row in rows], columns=columns)
    dates = [c for c in columns if c.endswith("DT")]
    return made.assign(**{c: pd.to_datetime(made[c]) for c in dates})


def cohort(
    adsl: list[Row],
    adrs: list[Row] | None = None,
    adtte: list[Row] | None = None,
    adae: list[Row] | None = None,
    quality: list[Row] | None = None,
    other_cutoffs: dict[str, Cohort] | None = None,
) -> Cohort:
    """A cohort from rows; each table has all the columns that the ALNEO study reads."""
    return Cohort(
        adsl=frame(adsl, ADSL),
        adrs=frame(adrs or [], ADRS),
        adtte=frame(adtte or [], ADTTE),
        adae=frame(adae or [], ADAE),
        quality=frame(quality or [], QUALITY),
        other_cutoffs=other_cutoffs or {},
    )


def alneo() -> Cohort:
    """The reference cohort at its data cut, with the later cut beside it."""
    return _at(CUT, {"later_cut": _at(LATER, {})})


def _read(name: str) -> list[dict[str, str]]:
    with (SOURCE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _at(cut: date, other_cutoffs: dict[str, Cohort]) -> Cohort:
    people = _read("alneo_synthetic_cohort.csv")
    outsiders = [
        {"USUBJID": f"OUT-{i}", "SITEID": "demo", "ITTFL": "N", "SCRFRS": "STAGE", "DCUTDT": cut} for i in (1, 2)
    ]
    return cohort(
        adsl=[_adsl(p, cut) for p in people] + outsiders,
        adrs=[row for p in people for row in _adrs(p, cut)],
        adtte=[row for p in people for row in _adtte(p, cut)],
        adae=[_adae(a, cut) for a in _read("alneo_synthetic_ae.csv")],
        quality=[{"SITEID": "demo", "DOMAIN": "Observation", "ISSUE": "unknown code", "COUNT": 2}],
        other_cutoffs=other_cutoffs,
    )


def _day(person: dict[str, str], column: str, cut: date) -> date | None:
    """A day from the first dose as a date, if it lies before the cut."""
    if not person[column]:
        return None
    found = date.fromisoformat(person["start"]) + timedelta(days=int(person[column]))
    return found if found <= cut else None


def _adsl(p: dict[str, str], cut: date) -> Row:
    surgery, adjuvant, death = (_day(p, c, cut) for c in ("surg_day", "adj_start", "death_day"))
    return {
        "USUBJID": p["id"],
        "SITEID": "demo",
        "AGE": int(p["age"]),
        "SEX": p["sex"][0].upper(),
        "ECOGBL": int(p["ecog"]),
        "SMKSTAT": p["smoking"].upper(),
        "STAGEBL": p["stage"],
        "TSTGBL": p["cT"],
        "NSTGBL": p["cN"],
        "ITTFL": "Y",
        "SURGFL": "Y" if surgery else "N",
        "ADJSAFFL": "Y" if adjuvant else "N",
        "TRTSDT": date.fromisoformat(p["start"]),
        "SURGDT": surgery,
        "AP02SDT": adjuvant,
        "SURGTYPE": SURGERY.get(p["surgery"], "OTHER") if surgery else None,
        "NEOCMPFL": "Y",
        "ADJCMPFL": "Y" if p["adj_end_reason"] == "completed_24_cycles" else "N",
        "NOSURGRS": p["no_surgery_reason"] or None,
        "DTHFL": "Y" if death else None,
        "DTHDT": death,
        "DCUTDT": cut,
    }


def _adrs(p: dict[str, str], cut: date) -> list[Row]:
    yes = {"True": "Y", "False": "N", "": "N"}
    values = {
        "MPR": yes[p["MPR"]],
        "PCR": yes[p["pCR"]],
        "RSP": "Y" if p["RECIST"] in {"CR", "PR"} else "N",
        "NDOWN": yes[p["nodal_downstaged"]],
    }
    if p["operated"] == "True":
        values["R0"] = "Y" if p["R"] == "R0" else "N"
    start = {"USUBJID": p["id"], "ANL01FL": "Y", "DCUTDT": cut}
    return [start | {"PARAMCD": code, "AVALC": value} for code, value in values.items()]


def _adtte(p: dict[str, str], cut: date) -> list[Row]:
    begin = date.fromisoformat(p["start"])
    death, progression = _day(p, "death_day", cut), _day(p, "pd_day", cut)
    rows = []
    for code, events in {"OS": (death,), "EFS": (progression, death)}.items():
        end = min((d for d in events if d), default=None)
        kind = "RECURRENCE" if p["operated"] == "True" else "PROGRESSION"
        what = None if end is None else "DEATH" if end == death else kind
        last = end or cut
        months = ((last - begin).days + 1) / 30.4375
        row = {"USUBJID": p["id"], "PARAMCD": code, "AVAL": months, "CNSR": 0 if end else 1, "EVNTDESC": what}
        rows.append(row | {"STARTDT": begin, "ADT": last, "DCUTDT": cut})
    return rows


def _adae(a: dict[str, str], cut: date) -> Row:
    return {
        "USUBJID": a["id"],
        "AEDECOD": TERMS.get(a["term"], a["term"]),
        "ATOXGRN": int(a["grade"]),
        "APERIODC": a["phase"].upper(),
        "TRTEMFL": "Y",
        "AOCC01FL": "Y",
        "AESER": "N",
        "AREL": "RELATED",
        "DCUTDT": cut,
    }
