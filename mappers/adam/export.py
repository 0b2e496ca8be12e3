"""Write the cohort tables for other programs, with metadata in the terms of Define-XML (CDISC Define-XML 2.1)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.lake.files import AtomicFile
from mappers.adam.labels import DATASETS, SHORT_NAMES, STRUCTURES, VARIABLES
from mappers.adam.xpt import SEPARATOR, write_xpt
from mappers.cohort import ORDER
from mappers.cohort.variables import VARIABLES as GROUNDS
from mappers.cohort.variables import Table
from mappers.study import Study

Format = Literal["parquet", "csv", "xpt"]
FORMATS: tuple[Format, ...] = ("parquet", "csv", "xpt")
DEFINE = "define.json"


def export_tables(
    read: Callable[[str], pa.Table], study: Study, formats: Sequence[Format], folder: Path
) -> Mapping[str, int]:
    """Write ADSL, ADRS, ADTTE and ADAE in each format, and define.json; return the rows of each table.

    Args:
        read: returns the cohort table of a name like ``adsl``.
        study: the study that the tables were derived by.
        formats: some of `FORMATS`.
        folder: where to write; it exists.

    Raises:
        ValueError: a text cannot be written to a SAS transport file.
        OSError: a file cannot be written.
    """
    # One table in memory at a time: ADRS of a large registry has millions of rows.
    rows, described = {}, []
    for name in DATASETS:
        table = read(name.lower())
        rows[name] = table.num_rows
        described.append(describe(name, table))
        for each in formats:
            _write(table, name, each, folder / f"{name.lower()}.{each}")
    with AtomicFile(folder / DEFINE) as stream:
        content = {"study": study.id, "title": study.title, "study_hash": study.hash, "datasets": described}
        stream.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return rows


def describe(name: str, table: pa.Table) -> dict[str, Any]:
    """Return a table as an ItemGroupDef of Define-XML would have it: label, structure, keys and variables."""
    dataset: Table = name  # type: ignore[assignment]
    return {
        "name": name,
        "label": DATASETS[name],
        "structure": STRUCTURES[name],
        "keys": list(ORDER[name.lower()]),
        "records": table.num_rows,
        "variables": [
            {
                "name": field.name,
                "name_in_xpt": SHORT_NAMES.get(field.name, field.name),
                "label": VARIABLES[field.name],
                "type": _type(field.type),
                "origin": "Derived",
                "method": GROUNDS[dataset][field.name].rule,
            }
            for field in table.schema
        ],
    }


def _type(of: pa.DataType) -> str:
    """Return the DataType of a variable in Define-XML 2.1."""
    if pa.types.is_date(of):
        return "date"
    if pa.types.is_integer(of):
        return "integer"
    return "float" if pa.types.is_floating(of) else "text"


def _write(table: pa.Table, name: str, to: Format, path: Path) -> None:
    if to == "xpt":
        # The library writes to a path: next to the target, so that a kill leaves the old file or the new one.
        part = path.with_name(f".{path.name}.part")
        try:
            part.touch(mode=0o600)
            write_xpt(table, name, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return
    with AtomicFile(path) as stream:
        if to == "parquet":
            pq.write_table(table, stream)
        else:
            stream.write(_as_csv(table))


def _as_csv(table: pa.Table) -> bytes:
    """Return RFC 4180 with days as YYYY-MM-DD, nothing for a missing value, and lists joined as in a transport file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.column_names)
    # Not by the writer of Arrow: it has no lists, and quotes every text.
    for batch in table.to_batches():
        columns = [_plain(column) for column in batch.columns]
        writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def _plain(column: pa.Array) -> list[object]:
    if pa.types.is_list(column.type):
        return [SEPARATOR.join(each) if each else "" for each in column.to_pylist()]
    return ["" if each is None else each for each in column.to_pylist()]
