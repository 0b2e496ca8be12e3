"""FHIR dates to calendar days: one declared rule of imputation, and the flag that says it was used.

A FHIR date may be YYYY, YYYY-MM or YYYY-MM-DD, and a dateTime adds a time with a zone (FHIR R4 2.24.0.1). The day is
the one written, in the zone written: a hospital's calendar day is what its clinicians meant. A missing day becomes
the 15th, a missing month 1 July, and the flag is that of CDISC ADaM (ADaMIG 3.1.3): "D" day imputed, "M" month and day.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from connectors.fhir import dates

_YEAR = f"^{dates.YEAR}$"
_MONTH = f"^{dates.MONTH}$"
_DAY = f"^{dates.DAY}(T.*)?$"


def day(text: ir.Value) -> ir.DateValue:
    """Return the calendar day of a FHIR date or dateTime, imputed where partial; null where it is no FHIR date."""
    value = text.cast("string")
    full = ibis.cases(
        (value.re_search(_DAY), value.substr(0, dates.DAY_LENGTH)),
        # The middle of a month, or of a year, is wrong by half of it at most.
        (value.re_search(_MONTH), value.concat("-15")),
        (value.re_search(_YEAR), value.concat("-07-01")),
        else_=ibis.null("string"),
    )
    return full.try_cast("date")


def flag(text: ir.Value) -> ir.StringValue:
    """Return the imputation flag of `day`: "D", "M" or null."""
    value = text.cast("string")
    return ibis.cases((value.re_search(_MONTH), "D"), (value.re_search(_YEAR), "M"), else_=ibis.null("string"))


def days_between(start: ir.Value, end: ir.Value) -> ir.IntegerValue:
    """Return whole days from `start` to `end`, 0 for the same day."""
    return end.delta(start, unit="day")


def years_between(start: ir.Value, end: ir.Value) -> ir.IntegerValue:
    """Return completed years from `start` to `end`, as age is counted."""
    # On 29 February birthdays count from 1 March in common years: "0229" > "0228".
    before_birthday = end.strftime("%m%d") < start.strftime("%m%d")
    return end.year() - start.year() - before_birthday.cast("int32")
