"""Read one cohort table as SAS, R or Excel may have written it: right, or refused with what to correct.

Text is text without trailing blanks (SAS pads), with None where blank. Dates are `datetime64[ns]`, numbers float or
int. What no estimate can be made of is named by table and column, never by its value, which is a patient's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analytics.errors import AnalysisError

# Columns that a CSV has as text and an estimate needs as numbers.
NUMBERS = frozenset({"AGE", "ECOGBL", "AVAL", "CNSR", "AETOXGR", "ATOXGRN", "APERIOD", "SRCSEQ", "COUNT"})
MAP_AGAIN = "make the cohort tables again with `periop map`, or correct the given file"
# ISO 8601, with or without hyphens: what else pandas takes for a date may be a number of days.
DATE = r"\d{4}-\d{2}-\d{2}(?:[T ].*)?|\d{8}"
R_MISSING, SAS_MISSING = "NA", "."
SEPARATORS = (";", "\t", "|")
AS_DATES = "write dates as YYYY-MM-DD (in SAS the format E8601DA10., in R the class Date), or leave it blank"


def read_table(file: Path, name: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the table `name` in a Parquet or CSV file, and why columns of dates that were left out cannot be read.

    Raises:
        AnalysisError: the file cannot be read, or a column of numbers has something else.
    """
    try:
        frame = _parquet(file) if file.suffix == ".parquet" else _csv(file, name)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise AnalysisError(name, None, f"the file cannot be read ({type(error).__name__})", MAP_AGAIN) from error
    # Names are those of ADaM; R packages often write them in lower case.
    frame = frame.rename(columns=lambda column: str(column).strip().upper())
    if doubled := sorted(frame.columns[frame.columns.duplicated()]):
        raise AnalysisError(name, doubled[0], "the table has this column twice", "keep one of them")
    columns, unreadable = {}, {}
    blanks = _missing_words(frame)
    for column in frame.columns:
        series = _text(frame[column], blanks)
        if column.endswith("DT"):
            found = _dates(series)
            if isinstance(found, str):
                unreadable[column] = found
                continue
            series = found
        elif column in NUMBERS:
            series = _numbers(name, series)
        columns[column] = series
    return pd.DataFrame(columns, index=frame.index), unreadable


def _parquet(file: Path) -> pd.DataFrame:
    table = pq.read_table(file)
    for place, field in enumerate(table.schema):
        # Factors of R
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _csv(file: Path, name: str) -> pd.DataFrame:
    try:
        # All text at first, and only a blank is missing: "NA" may be a site. Excel writes a byte order mark.
        frame = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise AnalysisError(name, None, f"{file.name} is not in UTF-8", "save it as CSV UTF-8") from None
    if len(frame.columns) == 1 and any(each in str(frame.columns[0]) for each in SEPARATORS):
        raise AnalysisError(name, None, f"{file.name} has no commas between its columns", "save it as CSV with commas")
    return frame


def _missing_words(frame: pd.DataFrame) -> frozenset[str]:
    """Return the words that stand for a missing value: NA where a column of numbers or dates has it (R's write.csv)."""
    typed = [column for column in frame.columns if column in NUMBERS or column.endswith("DT")]
    from_r = any((frame[column] == R_MISSING).any() for column in typed if frame[column].dtype == object)
    return frozenset({R_MISSING}) if from_r else frozenset()


def _text(column: pd.Series, blanks: frozenset[str]) -> pd.Series:
    if column.dtype != object:
        return column
    stripped = column.map(lambda value: value.rstrip() if isinstance(value, str) else value)
    return stripped.mask(stripped.isin(["", *blanks]), None)


def _dates(column: pd.Series) -> pd.Series | str:
    """Return a column as dates, or why it is none."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        if column.notna().any():
            return "its values are numbers, such as the day numbers of SAS and Excel"
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[ns]")
    if column.dtype == object:
        column = column.mask(column == SAS_MISSING, None)
        texts = column[column.map(lambda value: isinstance(value, str))]
        if not texts.str.fullmatch(DATE).all():
            return "a value is not a date"
    try:
        # A single unit everywhere: Parquet dates, timestamps and ISO text compare with each other.
        return pd.to_datetime(column, errors="raise", format="ISO8601").astype("datetime64[ns]")
    except (ValueError, TypeError) as error:
        return f"a value is not a date ({type(error).__name__})"


def _numbers(table: str, column: pd.Series) -> pd.Series:
    name = str(column.name)
    if column.dtype == bool:
        raise AnalysisError(table, name, "it holds true and false", "give numbers")
    try:
        if column.dtype == object:
            # Not pd.to_numeric: it reads some decimal texts one ulp off.
            column = column.mask(column == SAS_MISSING, None).astype("float64")
        finite = np.isfinite(column.dropna().to_numpy(dtype="float64"))
    except (ValueError, TypeError) as error:
        # `from None`: the message of pandas quotes the value.
        problem = f"a value is not a number ({type(error).__name__})"
        raise AnalysisError(table, name, problem, "correct it or leave it blank") from None
    if not finite.all():
        raise AnalysisError(table, name, f"{(~finite).sum()} values are infinite", "correct them or leave them blank")
    return column
