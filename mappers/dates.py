"""FHIR dates to calendar days: one declared rule of imputation, and the flag that says it was used.

A FHIR date may be YYYY, YYYY-MM or YYYY-MM-DD, and a dateTime adds a time with a zone (FHIR R4 2.24.0.1). The day is
the one written, in the zone written: a hospital's calendar day is what its clinicians meant. A missing day becomes
the 15th, a missing month 1 July, and the flag is that of CDISC ADaM (ADaMIG 3.1.3): "D" day imputed, "M" month and day.
From the imputed day and its flag follows the interval of days that were meant, `earliest` to `latest`. Whatever the
order of two dates decides is decided by these intervals, never by an imputed day alone.
"""

from __future__ import annotations

from typing import Literal

import ibis
import ibis.expr.types as ir

from connectors.fhir import dates

_YEAR = f"^{dates.YEAR}$"
_MONTH = f"^{dates.MONTH}$"
# Some systems write a blank where ISO 8601 has T; what follows a day is not read, so the blank does no harm.
_DAY = f"^{dates.DAY}(T.*| {dates.TIME_TO_MINUTE}.*)?$"
# Before and after these a year is a slip of the pen (0024, 2204): no patient of a study was treated then.
_FIRST, _LAST = "1900-01-01", "2099-12-31"


def day(text: ir.Value) -> ir.DateValue:
    """Return the calendar day of a FHIR date or dateTime, imputed where partial.

    Null where it is no FHIR date, or where its year is not of the 20th or 21st century.
    """
    value = text.cast("string")
    full = ibis.cases(
        (value.re_search(_DAY), value.substr(0, dates.DAY_LENGTH)),
        # The middle of a month, or of a year, is wrong by half of it at most.
        (value.re_search(_MONTH), value.concat("-15")),
        (value.re_search(_YEAR), value.concat("-07-01")),
        else_=ibis.null("string"),
    )
    # ISO 8601 dates are in order as texts.
    return full.between(_FIRST, _LAST).ifelse(full, ibis.null("string")).try_cast("date")


def flag(text: ir.Value) -> ir.StringValue:
    """Return the imputation flag of `day`: "D", "M" or null."""
    value = text.cast("string")
    possible = value.between(_FIRST[:4], _LAST)
    found = ibis.cases((value.re_search(_MONTH), "D"), (value.re_search(_YEAR), "M"), else_=ibis.null("string"))
    return possible.ifelse(found, ibis.null("string"))


def earliest(day: ir.Value, flag: ir.Value) -> ir.DateValue:
    """Return the first day that a date may stand for: the first of its month or year where it was imputed."""
    month, year = (_begun(day, unit).cast("date") for unit in ("M", "Y"))
    return ibis.cases((flag == "D", month), (flag == "M", year), else_=day)


def latest(day: ir.Value, flag: ir.Value) -> ir.DateValue:
    """Return the last day that a date may stand for: the last of its month or year where it was imputed."""
    month, year = (_begun(day, unit) for unit in ("M", "Y"))
    return ibis.cases(
        (flag == "D", (month + ibis.interval(months=1) - ibis.interval(days=1)).cast("date")),
        (flag == "M", (year + ibis.interval(years=1) - ibis.interval(days=1)).cast("date")),
        else_=day,
    )


def _begun(day: ir.Value, unit: Literal["M", "Y"]) -> ir.TimestampValue:
    # Both engines truncate a date to a timestamp, which Ibis takes for a date.
    return day.cast("timestamp").truncate(unit)


def plus_days(day: ir.Value, days: ir.Value) -> ir.DateValue:
    """Return the day that is `days` (an integer) after `day`."""
    # A sum of integers is a HUGEINT in DuckDB, of which it makes no interval.
    return (day.cast("timestamp") + days.cast("int32").as_interval("D")).cast("date")


def days_between(start: ir.Value, end: ir.Value) -> ir.IntegerValue:
    """Return whole days from `start` to `end`, 0 for the same day."""
    return end.delta(start, unit="day")


def years_between(start: ir.Value, end: ir.Value) -> ir.IntegerValue:
    """Return completed years from `start` to `end`, as age is counted."""
    # On 29 February birthdays count from 1 March in common years: "0229" > "0228".
    before_birthday = end.strftime("%m%d") < start.strftime("%m%d")
    return end.year() - start.year() - before_birthday.cast("int32")
