"""Cohort tables as SAS, R and Excel write them: the same figures, or a sentence that names table, column and cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analytics.analysis import analyse, load_cohort
from analytics.errors import AnalysisError
from analytics.estimates.model import Results
from mappers.study import load_study
from tests.unit.analytics_tables import alneo

STUDY = load_study("alneo")
NAMES = ("adsl", "adrs", "adtte", "adae")
COHORT = replace(alneo(), other_cutoffs={})
Change = Callable[[str, pd.DataFrame], pd.DataFrame]


def plain(name: str) -> pd.DataFrame:
    """A table with its dates as ISO text."""
    table = COHORT.table(name)
    return table.assign(**{c: table[c].dt.strftime("%Y-%m-%d") for c in table.columns if c.endswith("DT")})


def csv(folder: Path, change: Change = lambda _, table: table, **options: object) -> Results:
    """The results of tables that were changed and written as CSV."""
    for name in NAMES:
        change(name, plain(name)).to_csv(folder / f"{name}.csv", index=False, **options)
    return analyse(load_cohort(folder), STUDY)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return csv(tmp_path_factory.mktemp("plain"))


def lower_case(_: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns=str.lower)


def padded(_: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda value: value + "  " if isinstance(value, str) else value)


def without_hyphens(_: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{c: table[c].str.replace("-", "") for c in table.columns if c.endswith("DT")})


def sas_missing(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(AVAL=[each if pd.notna(each) else "." for each in table["AVAL"]]) if name == "adtte" else table


def in_days(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(AVAL=table["AVAL"] * 30.4375, AVALU="DAYS") if name == "adtte" else table


def unused_date(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(RANDDT="24FEB2024") if name == "adsl" else table


@pytest.mark.parametrize("change", [lower_case, padded, without_hyphens, sas_missing, in_days, unused_date])
def test_what_other_programs_write_gives_the_same(change: Change, expected: Results, tmp_path: Path) -> None:
    found = csv(tmp_path, change)
    assert found.proportions == expected.proportions
    for ours, theirs in zip(found.survival, expected.survival, strict=True):
        assert (ours.n, ours.events, ours.median) == pytest.approx((theirs.n, theirs.events, theirs.median))
    assert [q.n for q in found.quantiles] == [q.n for q in expected.quantiles]


def test_a_file_of_r_has_na_for_what_is_missing(expected: Results, tmp_path: Path) -> None:
    assert csv(tmp_path, na_rep="NA") == expected


@pytest.mark.parametrize("which", ["all", "PARAMCD", "ITTFL", "SURGTYPE", "USUBJID", "SITEID"])
def test_factors_in_parquet_are_texts(which: str, expected: Results, tmp_path: Path) -> None:
    for name in NAMES:
        table = COHORT.table(name)
        texts = [c for c in table.columns if table[c].dtype == object and which in ("all", c)]
        table.assign(**{c: table[c].astype("category") for c in texts}).to_parquet(tmp_path / f"{name}.parquet")
    assert analyse(load_cohort(tmp_path), STUDY) == expected


def day_numbers(origin: str) -> Change:
    def change(name: str, table: pd.DataFrame) -> pd.DataFrame:
        days = (pd.to_datetime(table["SURGDT"]) - pd.Timestamp(origin)).dt.days if name == "adsl" else None
        return table if days is None else table.assign(SURGDT=days.astype("Int64"))

    return change


def changed(column: str, value: object) -> Change:
    return lambda _, table: table.assign(**{column: value}) if column in table.columns else table


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (day_numbers("1899-12-30"), {}, r"^adsl\.SURGDT: a value is not a date; write dates as YYYY-MM-DD"),
        (changed("TRTSDT", "02/24/2024"), {}, r"^adsl\.TRTSDT: a value is not a date"),
        (changed("TRTSDT", "24FEB2024"), {}, r"^adsl\.TRTSDT: a value is not a date"),
        (changed("AGE", "inf"), {}, r"^adsl\.AGE: .* values are infinite"),
        (
            lambda _, table: table,
            {"sep": ";", "decimal": ","},
            r"no commas between its columns; save it",
        ),
        (
            changed("SEX", "Männlich"),
            {"encoding": "latin-1"},
            r"^adsl: adsl\.csv is not in UTF-8; save it",
        ),
        (lambda _, table: table.assign(aval=1), {}, r"^adtte\.AVAL: the table has this column twice"),
    ],
)
def test_what_cannot_be_read_is_named(change: Change, options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=message):
        csv(tmp_path, change, **options)


def test_day_numbers_of_sas_in_parquet_are_no_dates(tmp_path: Path) -> None:
    """pandas would read 23000 as nanoseconds since 1970."""
    for name in NAMES:
        table = COHORT.table(name)
        days = {c: (table[c] - pd.Timestamp("1960-01-01")).dt.days.astype("float64") for c in table if c.endswith("DT")}
        table.assign(**days).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(AnalysisError, match=r"its values are numbers, such as the day numbers of SAS and Excel; write"):
        load_cohort(tmp_path)


def test_an_unreadable_date_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    csv(tmp_path, unused_date)
    cohort = load_cohort(tmp_path)
    with pytest.raises(AnalysisError, match=r"^adsl\.RANDDT: a value is not a date"):
        cohort.column("adsl", "RANDDT")
