"""Errors of `periop view run` that name the view or the file; none quotes a resource.

Reading lines is the engine's work; a fault in a line is looked for here, and only after the engine has failed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import orjson

from connectors.sources.folder_listing import is_document
from mappers.engines.base import error_of
from mappers.errors import CardinalityError, MappingError, ViewError
from schedules.cli.view_input import ONE_PER_LINE

MAX_LINE_BYTES = 16 << 20  # `maximum_object_size` of DuckDB


@contextmanager
def name_view(path: Path) -> Iterator[None]:
    """Put the file of the view in front of the element that an error of the view names."""
    try:
        yield
    except ViewError as error:
        if error.element == str(path):  # the file itself cannot be read
            raise
        raise type(error)(f"{path}: {error.element}" if error.element else str(path), error.problem) from error


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
            fault = None if is_document(file) else _find_fault(file)
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
