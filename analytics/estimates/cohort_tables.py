"""Read and check the cohort tables ADSL, ADRS, ADTTE, ADAE and the quality list, for each data cutoff.

Parquet or CSV with the names of CDISC ADaM. Other columns are ignored, rows keep their order, dates become
``datetime64[ns]``, numbers float or int, everything else text with None where blank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pyarrow as pa

from analytics.errors import AnalysisError
from mappers.study import Study

# Columns that a CSV has as text and an estimate needs as numbers.
NUMBERS = frozenset({"AGE", "ECOGBL", "AVAL", "CNSR", "AETOXGR", "ATOXGRN", "APERIOD", "SRCSEQ", "COUNT"})
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
MAP_AGAIN = "make the cohort tables again with `periop map`, or correct the given file"
QUALITY_COLUMNS = pd.Index(REQUIRED["quality"])


@dataclass(frozen=True)
class Cohort:
    """The tables of one data cutoff; `other_cutoffs` holds those of the study's further data cutoffs by their id."""

    adsl: pd.DataFrame
    adrs: pd.DataFrame
    adtte: pd.DataFrame
    adae: pd.DataFrame
    quality: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=QUALITY_COLUMNS))
    other_cutoffs: Mapping[str, Cohort] = field(default_factory=lambda: MappingProxyType({}))

    def table(self, name: str) -> pd.DataFrame:
        """Return the table `name` (adsl, adrs, adtte, adae or quality)."""
        frame: pd.DataFrame = getattr(self, name)
        return frame

    def column(self, table: str, name: str) -> pd.Series:
        """Return one column; raise `AnalysisError` that names it where it is not there."""
        frame = self.table(table)
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
    tables = {name: _read(directory, name) for name in REQUIRED}
    further = sorted(path for path in (directory / "cuts").glob("*") if path.is_dir())
    return Cohort(**tables, other_cutoffs=MappingProxyType({path.name: load_cohort(path) for path in further}))


def _read(directory: Path, name: str) -> pd.DataFrame:
    parquet, csv = directory / f"{name}.parquet", directory / f"{name}.csv"
    try:
        if parquet.is_file():
            frame = pd.read_parquet(parquet)
        elif csv.is_file():
            # All text at first, and only a blank is missing: "NA" may be a site. Excel writes a byte order mark.
            frame = pd.read_csv(csv, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
        # Tables that a statistician made by hand have no list of what was set aside.
        elif name == "quality":
            return pd.DataFrame(columns=QUALITY_COLUMNS)
        else:
            raise AnalysisError(name, None, f"{parquet.name} or {csv.name} is not in the cohort folder", "put it there")
    except (pa.ArrowException, ValueError, OSError) as error:
        raise AnalysisError(name, None, f"the file cannot be read ({type(error).__name__})", MAP_AGAIN) from error
    return frame.assign(**{str(column): _typed(name, frame[column]) for column in frame.columns})


def _typed(table: str, column: pd.Series) -> pd.Series:
    name = str(column.name)
    try:
        if name.endswith("DT"):
            # A single unit everywhere: Parquet dates, timestamps and ISO text compare with each other.
            return pd.to_datetime(column, errors="raise", format="ISO8601").astype("datetime64[ns]")
        # Not pd.to_numeric: it reads some decimal texts one ulp off.
        return column.astype("float64") if name in NUMBERS and column.dtype == object else column
    except (ValueError, TypeError) as error:
        kind = "date (YYYY-MM-DD)" if name.endswith("DT") else "number"
        # `from None`: the message of pandas quotes the value.
        problem = f"a value is not a {kind} ({type(error).__name__})"
        raise AnalysisError(table, name, problem, "correct it or leave it blank") from None


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


def _check_times(cohort: Cohort) -> None:
    keys = cohort.adtte[["USUBJID", "PARAMCD"]]
    if doubled := int(keys.duplicated().sum()):
        problem = f"{doubled} rows repeat a patient and parameter"
        raise AnalysisError("adtte", "PARAMCD", problem, "keep one row for each")
    if not cohort.column("adtte", "AVAL").dropna().between(0, MAX_MONTHS).all():
        problem = f"a time is negative or longer than {MAX_MONTHS} months"
        raise AnalysisError("adtte", "AVAL", problem, "give the months from STARTDT to ADT")
    times = cohort.adtte[cohort.column("adtte", "AVAL").notna()]
    if times["CNSR"].isna().any():
        raise AnalysisError(
            "adtte", "CNSR", "it is blank where AVAL is given", "give 0 for an event, 1 or more otherwise"
        )


def _check_dates(cohort: Cohort, table: str, data_cutoff: pd.Timestamp) -> None:
    frame = cohort.table(table)
    if "DCUTDT" in frame.columns and (pd.to_datetime(frame["DCUTDT"]).dropna() != data_cutoff).any():
        problem = f"the tables were not made at the study's data cutoff {data_cutoff.date()}"
        raise AnalysisError(table, "DCUTDT", problem, MAP_AGAIN)
    for column in (name for name in EVIDENCE if name in frame.columns):
        if late := int((pd.to_datetime(frame[column]) > data_cutoff).sum()):
            problem = f"{late} rows are dated after the data cutoff {data_cutoff.date()}"
            raise AnalysisError(table, column, problem, MAP_AGAIN)
