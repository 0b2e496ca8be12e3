"""Write a cohort table as SAS transport file, version 5: names of 8 characters, labels of 40, texts of 200 bytes.

SAS Institute, "The Record Layout of a Data Set in SAS Transport (XPORT) Format", TS-140. A text of more than 200 bytes
goes on in variables with a number behind the name (SRCREF, SRCREF1, ...), as COVAL and TSVAL of SDTM do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyreadstat

from mappers.adam.labels import DATASETS, SHORT_NAMES, VARIABLES

LONGEST_TEXT = 200  # bytes
LONGEST_NAME = 8
SAS_EPOCH = 3653  # days from 1960-01-01 to 1970-01-01
SEPARATOR = "; "  # between the elements of a list


def write_xpt(table: pa.Table, name: str, path: Path) -> None:
    """Write `table`, the cohort table `name`, to `path`.

    Raises:
        ValueError: a text goes on in more variables than its name leaves digits for.
    """
    columns = dict(_columns(table))
    pyreadstat.write_xport(
        pd.DataFrame(columns),
        str(path),
        file_label=DATASETS[name],
        column_labels=[_label(column) for column in columns],
        table_name=name,
        file_format_version=5,
        variable_format={field.name: "DATE9" for field in table.schema if pa.types.is_date(field.type)},
    )


def _columns(table: pa.Table) -> Iterator[tuple[str, pd.Series]]:
    """Yield name and values: text without a blank for nothing, numbers as SAS has them, days."""
    for field in table.schema:
        name, values = SHORT_NAMES.get(field.name, field.name), table[field.name]
        # SAS has texts and numbers, and no missing text.
        if pa.types.is_list(field.type):
            texts = [SEPARATOR.join(each) if each else "" for each in values.to_pylist()]
            yield from _texts(name, texts)
        elif pa.types.is_string(field.type):
            yield from _texts(name, [each or "" for each in values.to_pylist()])
        elif pa.types.is_date(field.type):
            # As numbers, so that a column without any day is still one of days.
            yield name, pd.Series((values.cast(pa.int32()).to_pandas() + SAS_EPOCH).astype("float64"))
        else:
            yield name, values.cast(pa.float64()).to_pandas()


def _texts(name: str, texts: list[str]) -> Iterator[tuple[str, pd.Series]]:
    """Yield `texts` as `name`, and what is longer than a text may be as `name` with a number."""
    # All rows have as many variables as the longest of them needs.
    split = [_pieces(text) for text in texts]
    for number in range(max((len(pieces) for pieces in split), default=1)):
        column = f"{name}{number or ''}"
        if len(column) > LONGEST_NAME:
            raise ValueError(f"a text of {name} is too long for the variables of a SAS transport file")
        yield column, pd.Series([pieces[number] if number < len(pieces) else "" for pieces in split], dtype=object)


def _pieces(text: str) -> list[str]:
    """Return `text` in pieces of at most 200 bytes of UTF-8 that begin before a blank, where there is one."""
    pieces = []
    while len(text.encode()) > LONGEST_TEXT:
        # Counted in bytes and cut in characters: the start of a character that would be cut is dropped.
        most = len(text.encode()[:LONGEST_TEXT].decode(errors="ignore"))
        # A blank at the end of a piece would be lost, since SAS pads texts with blanks.
        cut = text.rfind(" ", 1, most + 1)
        cut = most if cut < 1 else cut
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text]


def _label(column: str) -> str:
    # A variable that goes on is labelled as such: a reader would look for a meaning of its own.
    full = {short: name for name, short in SHORT_NAMES.items()}.get(column, column)
    return VARIABLES[full] if full in VARIABLES else f"{VARIABLES[full.rstrip('0123456789')]} (continued)"
