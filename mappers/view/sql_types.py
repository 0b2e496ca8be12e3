"""The tag `ansi/type` of a column: the type of ISO/IEC 9075 that its values get.

What does not fit the type (a partial date as DATE, a text as INTEGER) is null. A TIMESTAMP is an instant in UTC; it
needs a day, and midnight UTC stands for a missing time.
Source: SQL on FHIR v2, "Column types", https://sql-on-fhir.org
"""

from __future__ import annotations

import re
from typing import Any

import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from mappers.errors import UnsupportedError, ViewError
from mappers.fhirpath.arrays import Make, Values
from mappers.view.definition import SQL_TYPE, Column

TYPES: dict[str, dt.DataType] = {
    **dict.fromkeys(("CHARACTER", "CHAR", "CHARACTER VARYING", "CHAR VARYING", "VARCHAR", "TEXT"), dt.string),
    "BOOLEAN": dt.boolean,
    "SMALLINT": dt.int16,
    **dict.fromkeys(("INTEGER", "INT"), dt.int32),
    "BIGINT": dt.int64,
    **dict.fromkeys(("FLOAT", "DOUBLE PRECISION", "DOUBLE"), dt.float64),
    "REAL": dt.float32,
    "DATE": dt.date,
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITHOUT TIME ZONE"), dt.Timestamp("UTC")),
}
NUMBERS = ("DECIMAL", "DEC", "NUMERIC")
WRITTEN = re.compile(r"([A-Z]+(?: [A-Z]+)*)\s*(?:\(\s*([0-9]+)\s*(?:,\s*([0-9]+)\s*)?\))?((?: [A-Z]+)*)")
MOST_DIGITS = 38
DAY = 10  # characters


def as_sql_type(column: Column, make: Make, dtype: dt.DataType) -> tuple[Make, dt.DataType]:
    """Return the values of a column in the type that its tag asks for, and that type.

    Raises:
        UnsupportedError: a type that the engines do not share, or an array.
        ViewError: no values of the column fit the type.
    """
    place = f"{column.element}.tag"
    wanted = _parsed(place, str(column.sql_type))
    if dtype.is_array():
        raise UnsupportedError(place, f"{SQL_TYPE} on a collection is not supported")
    # A boolean is no number and no time, and a number is no time.
    fits = wanted.is_string() or wanted == dtype or dtype.is_string() or (dtype.is_numeric() and wanted.is_numeric())
    if not fits:
        raise ViewError(place, f"{column.sql_type} is asked for, and the column is {dtype}")

    # `try_cast`: one value that does not fit must not end the run of all others.
    def cast(values: Values) -> ir.Value:
        made: Any = make(values)
        if wanted == dtype or wanted.is_string():
            return made if wanted == dtype else made.cast(dt.string)
        # A dateTime has its day in front; as a whole it would not be a date for either engine.
        return (made.substr(0, DAY) if wanted.is_date() else made).try_cast(wanted)

    return cast, wanted


def _parsed(place: str, text: str) -> dt.DataType:
    found = WRITTEN.fullmatch(" ".join(text.upper().split()))
    name = f"{found[1]}{found[4]}" if found else ""
    if found and name in NUMBERS:
        digits, scale = int(found[2] or MOST_DIGITS), int(found[3] or 0) if found[2] else 18
        if scale <= digits <= MOST_DIGITS:
            return dt.Decimal(digits, scale)
    elif name in TYPES:
        return TYPES[name]
    raise UnsupportedError(place, f"{SQL_TYPE} {text} is not supported")
