"""The files of `periop view run`: their resources as a table, and errors that name the file.

No error quotes a resource. Reading the files is the engine's work; a fault in a line is looked for here, and only after
the engine has failed.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import ibis
import orjson

from connectors.fhir.bundle import NotABundleError, looks_like_bundle, read_bundle
from connectors.fhir.resource import BOM
from mappers.engines.base import error_of
from mappers.errors import CardinalityError, MappingError, ViewError

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from mappers.engines.base import Engine

MAX_LINE_BYTES = 16 << 20  # `maximum_object_size` of DuckDB
ONE_PER_LINE = "NDJSON has one whole resource a line"


@contextmanager
def name_view(path: Path) -> Iterator[None]:
    """Put the file of the view in front of the element that an error of the view names."""
    try:
        yield
    except ViewError as error:
        if error.element == str(path):  # the file itself cannot be read
            raise
        raise type(error)(f"{path}: {error.element}" if error.element else str(path), error.problem) from error


def read_files(engine: Engine, files: Sequence[Path]) -> ir.Table:
    """Return the resources of NDJSON files (also .gz), and of *.json files with one resource or a Bundle.

    Raises:
        MappingError: a *.json file that is neither.
    """
    documents = [text for file in files if file.suffix == ".json" for text in _document(file)]
    tables = [engine.read_ndjson(file) for file in files if file.suffix != ".json"]
    # Without any file of lines the table must still exist, if only empty.
    if documents or not tables:
        tables.append(engine.resources(documents))
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _document(file: Path) -> list[str]:
    """Return the resources of a *.json file as text and unparsed, so that decimals keep their digits."""
    raw = file.read_bytes().removeprefix(BOM)
    try:
        entries = [entry.resource for entry in read_bundle(raw).entries] if looks_like_bundle(raw) else [raw]
        # Entries without a resource are those of deletions and of operations.
        texts = [entry.decode("utf-8") for entry in entries if entry]
        valid = all(isinstance(json.loads(text), dict) for text in texts)
    except (NotABundleError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        valid = False
    if not valid:
        raise MappingError(f"{file}: not JSON of one resource or a Bundle; give many resources as .ndjson, one a line")
    return texts


@contextmanager
def explain_errors(view: Path, files: Sequence[Path]) -> Iterator[None]:
    """Turn an error of the engine into a sentence that quotes no resource, as the engine's own message may."""
    try:
        yield
    except CardinalityError as error:  # from Spark; DuckDB has one class for all errors in SQL
        raise type(error)(f"{view}: {error.element}", error.problem) from error
    except (duckdb.InvalidInputException, duckdb.IOException, UnicodeDecodeError) as error:
        # A message of DuckDB that quotes a line which is not UTF-8 cannot be decoded itself.
        own = None if isinstance(error, UnicodeDecodeError) else error_of(str(error))
        if own is not None:
            raise type(own)(f"{view}: {own.element}", own.problem) from error
        for file in files:
            fault = None if file.suffix == ".json" else _find_fault(file)
            if fault is not None:
                raise MappingError(f"{file}: {fault}") from error
        raise


def _find_fault(file: Path) -> str | None:
    """Return why an NDJSON file cannot be read, without quoting it; None if nothing is wrong with it."""
    if not file.is_file():  # a pipe cannot be read a second time
        return f"a line is not JSON; {ONE_PER_LINE}"
    number = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if len(line) > MAX_LINE_BYTES:
                    return f"line {number} is longer than 16 MiB; {ONE_PER_LINE}"
                if line.strip():
                    orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"not JSON in line {number} ({error.msg}); {ONE_PER_LINE}"
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return "not a whole gzip file; export or copy it again"
    return None
