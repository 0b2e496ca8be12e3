"""Read and check the cohort tables ADSL, ADRS, ADTTE, ADAE and the quality list, for each data cutoff.

Parquet or CSV with the names of CDISC ADaM. Other columns are ignored, rows keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from analytics.errors import AnalysisError
from analytics.estimates.reading import AS_DATES, MAP_AGAIN, read_table
from mappers.study import Study

# What every table must have for any study; further columns are asked for by the study's estimates.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "adsl": ("USUBJID", "ITTFL"),
    "adrs": ("USUBJID", "PARAMCD"),
    "adtte": ("USUBJID", "PARAMCD", "AVAL", "CNSR"),
    "adae": ("USUBJID",),
    "quality": ("SITEID", "DOMAIN", "ISSUE", "COUNT"),
}
# The dates that an estimate rests on. Planned or imputed ends (AP01EDT, AP02EDT, AENDT) may lie after a data cutoff.
EVIDENCE = ("TRTSDT", "TRTEDT", "AP01SDT", "AP02SDT", "SURGDT", "DTHDT", "LSTALVDT", "STARTDT", "ADT", "ASTDT")
FLAGS: Mapping[str, str] = {"enrolled": "ITTFL", "resected": "SURGFL", "adjuvant": "ADJSAFFL"}
# A hundred years of follow-up: a longer time is days or a date where months should be.
MAX_MONTHS = 1200
# A month is a twelfth, and a year a whole, of 365.25 days.
DAYS: Mapping[str, float] = {"days": 1, "weeks": 7, "months": 30.4375, "years": 365.25}
OLDEST = 120  # years, as where ADSL is made
QUALITY_COLUMNS = pd.Index(REQUIRED["quality"])


@dataclass(frozen=True)
class Cohort:
    """The tables of one data cutoff; `other_cutoffs` holds those of the study's further data cutoffs by their id.

    `unreadable`: why a column of dates, by table and name, was left out. It matters only if something asks for it.
    """

    adsl: pd.DataFrame
    adrs: pd.DataFrame
    adtte: pd.DataFrame
    adae: pd.DataFrame
    quality: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=QUALITY_COLUMNS))
    other_cutoffs: Mapping[str, Cohort] = field(default_factory=lambda: MappingProxyType({}))
    unreadable: Mapping[tuple[str, str], str] = field(default_factory=lambda: MappingProxyType({}))

    def table(self, name: str) -> pd.DataFrame:
        """Return the table `name` (adsl, adrs, adtte, adae or quality)."""
        frame: pd.DataFrame = getattr(self, name)
        return frame

    def column(self, table: str, name: str) -> pd.Series:
        """Return one column; raise `AnalysisError` that names it where it is not there."""
        frame = self.table(table)
        if (table, name) in self.unreadable:
            raise AnalysisError(table, name, self.unreadable[table, name], AS_DATES)
        if name not in frame.columns:
            raise AnalysisError(table, name, "this column is missing", f"add it to the {table} table")
        series: pd.Series = frame[name]
        return series

    def population(self, name: str) -> frozenset[str]:
        """Return the USUBJIDs of a population; `resected` and `adjuvant` are parts of `enrolled`."""
        patients = self.column("adsl", "USUBJID")
        # ADSL has the screened patients too: nobody is in a population who is not enrolled.
        chosen = self.column("adsl", "ITTFL") == "Y"
        if name != "enrolled":
            chosen &= self.column("adsl", FLAGS[name]) == "Y"
        return frozenset(patients[chosen.fillna(value=False)])


def load_cohort(directory: Path) -> Cohort:
    """Read `<directory>/{adsl,adrs,adtte,adae,quality}.{parquet,csv}` and `cuts/<id of a data cutoff>/`.

    Parquet wins where both are there; the quality list may be absent. Raises `AnalysisError`.
    """
    read = {name: _read(directory, name) for name in REQUIRED}
    tables = {name: frame for name, (frame, _) in read.items()}
    unreadable = {(name, column): why for name, (_, columns) in read.items() for column, why in columns.items()}
    further = sorted(path for path in (directory / "cuts").glob("*") if path.is_dir())
    cutoffs = {path.name: load_cohort(path) for path in further}
    return Cohort(**tables, other_cutoffs=MappingProxyType(cutoffs), unreadable=MappingProxyType(unreadable))


def _read(directory: Path, name: str) -> tuple[pd.DataFrame, dict[str, str]]:
    parquet, csv = directory / f"{name}.parquet", directory / f"{name}.csv"
    for file in (parquet, csv):
        if file.is_file():
            frame, unreadable = read_table(file, name)
            if needed := sorted(unreadable.keys() & {*EVIDENCE, "DCUTDT"}):
                raise AnalysisError(name, needed[0], unreadable[needed[0]], AS_DATES)
            return frame, unreadable
    # Tables that a statistician made by hand have no list of what was set aside.
    if name == "quality":
        return pd.DataFrame(columns=QUALITY_COLUMNS), {}
    raise AnalysisError(name, None, f"{parquet.name} or {csv.name} is not in the cohort folder", "put it there")


def check(cohort: Cohort, study: Study) -> None:
    """Raise `AnalysisError` where the tables contradict themselves or the study, at any data cutoff."""
    _check_tables(cohort, study.data_cut)
    for further in study.cuts:
        if further.id in cohort.other_cutoffs:
            _check_tables(cohort.other_cutoffs[further.id], further.date)


def _check_tables(cohort: Cohort, data_cutoff: date) -> None:
    for table in ("adsl", "adrs", "adtte", "adae"):
        for column in REQUIRED[table]:
            cohort.column(table, column)
        _check_dates(cohort, table, pd.Timestamp(data_cutoff))
    _check_patients(cohort)
    _check_flags(cohort)
    _check_ages(cohort)
    _check_times(cohort)


def _check_patients(cohort: Cohort) -> None:
    patients = cohort.column("adsl", "USUBJID")
    if patients.isna().any():
        raise AnalysisError("adsl", "USUBJID", f"{patients.isna().sum()} rows have none", "give every row its patient")
    if doubled := int(patients.duplicated().sum()):
        raise AnalysisError("adsl", "USUBJID", f"{doubled} rows repeat a patient", "keep one row for each patient")
    # Counts only, no identifier: the message may reach a log.
    for table in ("adrs", "adtte", "adae"):
        if unknown := int((~cohort.column(table, "USUBJID").isin(patients)).sum()):
            problem = f"{unknown} rows belong to no patient of adsl"
            raise AnalysisError(table, "USUBJID", problem, "add the patients to adsl or take the rows out")


def _check_flags(cohort: Cohort) -> None:
    for name in FLAGS.values():
        if name in cohort.adsl.columns and not cohort.column("adsl", name).dropna().isin(["Y", "N"]).all():
            # 1, true and "Yes" would be taken for N.
            raise AnalysisError(
                "adsl", name, "a value is neither Y nor N", "give Y, N or leave it blank (ADaMIG 3.2.3)"
            )


def _check_ages(cohort: Cohort) -> None:
    if "AGE" in cohort.adsl.columns and not cohort.column("adsl", "AGE").dropna().between(0, OLDEST).all():
        problem = f"an age is negative or above {OLDEST} years"
        raise AnalysisError("adsl", "AGE", problem, "correct it or leave it blank")


def time_in_months(cohort: Cohort) -> pd.Series:
    """Return AVAL of ADTTE in months, by the unit in AVALU (CDISC codelist UNIT); without AVALU it is in months.

    Raises:
        AnalysisError: a unit is neither days, weeks, months nor years.
    """
    times = cohort.column("adtte", "AVAL").astype("float64")
    if "AVALU" not in cohort.adtte.columns:
        return times
    units = cohort.adtte["AVALU"].where(times.notna()).fillna("MONTHS").astype(str)
    # The singular is written too.
    days = (units.str.strip().str.lower().str.removesuffix("s") + "s").map(DAYS)
    if unknown := int(days.isna().sum()):
        problem = f"{unknown} rows have a unit that is not known"
        raise AnalysisError("adtte", "AVALU", problem, "give DAYS, WEEKS, MONTHS or YEARS")
    # Months stay as they are, to the last digit.
    return times.where(days == DAYS["months"], times * days / DAYS["months"])


def _check_times(cohort: Cohort) -> None:
    keys = cohort.adtte[["USUBJID", "PARAMCD"]]
    if doubled := int(keys.duplicated().sum()):
        problem = f"{doubled} rows repeat a patient and parameter"
        raise AnalysisError("adtte", "PARAMCD", problem, "keep one row for each")
    if not time_in_months(cohort).dropna().between(0, MAX_MONTHS).all():
        problem = f"a time is negative or longer than {MAX_MONTHS} months"
        raise AnalysisError("adtte", "AVAL", problem, "give the months from STARTDT to ADT")
    times = cohort.adtte[cohort.column("adtte", "AVAL").notna()]
    if times["CNSR"].isna().any():
        raise AnalysisError(
            "adtte", "CNSR", "it is blank where AVAL is given", "give 0 for an event, 1 or more otherwise"
        )
    censored = times["CNSR"].astype("float64")
    if ((censored < 0) | (censored != censored.round())).any():
        problem = "a value is negative or no whole number"
        raise AnalysisError("adtte", "CNSR", problem, "give 0 for an event, 1 or more otherwise (ADaM BDS-TTE 4.2)")


def _check_dates(cohort: Cohort, table: str, data_cutoff: pd.Timestamp) -> None:
    frame = cohort.table(table)
    if "DCUTDT" in frame.columns and (pd.to_datetime(frame["DCUTDT"]).dropna() != data_cutoff).any():
        problem = f"the tables were not made at the study's data cutoff {data_cutoff.date()}"
        raise AnalysisError(table, "DCUTDT", problem, MAP_AGAIN)
    for column in (name for name in EVIDENCE if name in frame.columns):
        if late := int((pd.to_datetime(frame[column]) > data_cutoff).sum()):
            problem = f"{late} rows are dated after the data cutoff {data_cutoff.date()}"
            raise AnalysisError(table, column, problem, MAP_AGAIN)
