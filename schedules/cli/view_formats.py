"""Rows of a view as CSV, JSON, NDJSON and Parquet, for `periop view run`.

A decimal keeps its digits in every format; in text, trailing zeros are removed. A list or struct is JSON inside a cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from analytics.spreadsheet import escape_formula
from connectors.lake.files import AtomicFile

_encode = msgspec.json.Encoder(decimal_format="number").encode


def text_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: str, *, raw: bool = False) -> Iterator[str]:
    """Yield the rows as text in pieces; `form` is csv, json (one array) or ndjson, `raw` leaves formulas in CSV."""
    match form:
        case "csv":  # with a header even for no rows, so that a reader knows the columns
            yield _csv([schema.names])
            cells = _plain_cells if raw else _cells
            yield from (_csv(map(cells, values_of(batch))) for batch in batches)
        case "ndjson":
            yield from ("".join(f"{row}\n" for row in _json_rows(batch)) for batch in batches)
        case _:
            # One row a line, so that two outputs can be compared with diff.
            before = "[\n"
            for row in chain.from_iterable(map(_json_rows, batches)):
                yield f"{before}{row}"
                before = ",\n"
            yield "[]\n" if before == "[\n" else "\n]\n"


def write_file(reader: pa.RecordBatchReader, form: str, path: Path, *, raw: bool = False) -> int:
    """Write the rows to a file that only its owner can read, and return their number.

    A file at `path` is replaced once every row is written, and stays as it was if one fails.
    """
    rows = 0

    # Batch by batch: the rows of a large file never are in memory at once.
    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in reader:
            rows += batch.num_rows
            yield batch

    with AtomicFile(path) as stream:
        if form == "parquet":
            import pyarrow.parquet as pq

            with pq.ParquetWriter(stream, reader.schema) as writer:
                for batch in counted():
                    writer.write_batch(batch)
        else:
            stream.writelines(text.encode() for text in text_of(reader.schema, counted(), form, raw=raw))
    return rows


def values_of(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a batch as tuples of Python values."""
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _json_rows(batch: pa.RecordBatch) -> Iterator[str]:
    for row in values_of(batch):
        yield _json({name: _plain(value) for name, value in zip(batch.schema.names, row, strict=True)})


def _json(value: object) -> str:
    return _encode(value).decode("utf-8")


def _plain(value: Any) -> Any:
    """Return a value for JSON, with decimals as numbers without trailing zeros."""
    if isinstance(value, Decimal):
        return Decimal(_digits(value))
    # A struct has all elements of its type; in JSON those that are there.
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None and item != []}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _digits(value: Decimal) -> str:
    # All decimals of a column have as many decimal places as its type; those of the resource were fewer.
    text = format(value, "f")  # "f": never 1E+3
    return text.rstrip("0").rstrip(".") if "." in text else text


def cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, date):  # and times of a day
        return value.isoformat()
    return _digits(value) if isinstance(value, Decimal) else _json(_plain(value))


def _plain_cells(row: Iterable[Any]) -> list[str]:
    return list(map(cell_text, row))


def _cells(row: Iterable[Any]) -> list[str]:
    """Return the cells of a CSV row; text that a spreadsheet would take for a formula begins with an apostrophe."""
    return [escape_formula(value) if isinstance(value, str) else cell_text(value) for value in row]


def _csv(rows: Iterable[Iterable[str]]) -> str:
    """Return CSV lines, which end with CRLF as in RFC 4180."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()
