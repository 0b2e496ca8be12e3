"""Dates as hospitals write them: the day, the flag, and the interval of days that a partial date may stand for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pytest
from ibis import _

from mappers import dates
from mappers.engines.duckdb import DuckDBEngine


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with DuckDBEngine() as started:
        yield started


def read(engine: DuckDBEngine, text: str) -> tuple[date | None, str | None, date | None, date | None]:
    rows = engine.register_rows("written", pa.table({"text": [text]}))
    day, flag = dates.day(_["text"]), dates.flag(_["text"])
    rows = rows.select(day=day, flag=flag)
    rows = rows.mutate(first=dates.earliest(_["day"], _["flag"]), last=dates.latest(_["day"], _["flag"]))
    (row,) = engine.con.to_pyarrow(rows).to_pylist()
    return row["day"], row["flag"], row["first"], row["last"]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2024-07-30", date(2024, 7, 30)),
        ("2024-07-30T23:30:00-05:00", date(2024, 7, 30)),
        ("2024-07-30 08:00:00", date(2024, 7, 30)),
        ("2024-07-30 08:00", date(2024, 7, 30)),
    ],
)
def test_a_whole_date_is_the_day_that_is_written(engine: DuckDBEngine, text: str, day: date) -> None:
    assert read(engine, text) == (day, None, day, day)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20/07/2024",
        "30.07.2024",
        "2024-07-30 or later",
        "2024-02-30",
        "0024-07-30",
        "2204-07-30",
        "0024",
        "2204-07",
    ],
)
def test_what_is_no_date_of_a_patient_has_no_day_and_no_flag(engine: DuckDBEngine, text: str) -> None:
    assert read(engine, text) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "day", "flag", "first", "last"),
    [
        ("2024-02", date(2024, 2, 15), "D", date(2024, 2, 1), date(2024, 2, 29)),
        ("2023-12", date(2023, 12, 15), "D", date(2023, 12, 1), date(2023, 12, 31)),
        ("2024", date(2024, 7, 1), "M", date(2024, 1, 1), date(2024, 12, 31)),
    ],
)
def test_a_partial_date_stands_for_all_its_days(
    engine: DuckDBEngine, text: str, day: date, flag: str, first: date, last: date
) -> None:
    assert read(engine, text) == (day, flag, first, last)


@pytest.mark.parametrize(("days", "day"), [(0, date(2024, 2, 28)), (2, date(2024, 3, 1)), (-28, date(2024, 1, 31))])
def test_days_are_added(engine: DuckDBEngine, days: int, day: date) -> None:
    rows = engine.register_rows("days", pa.table({"day": [date(2024, 2, 28)], "n": [days]}))
    found = engine.con.to_pyarrow(rows.select(found=dates.plus_days(_["day"], _["n"])))
    assert found["found"].to_pylist() == [day]
