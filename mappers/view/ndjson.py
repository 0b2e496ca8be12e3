"""The lines of an NDJSON file as an Arrow stream, which DuckDB parses once and in parallel.

DuckDB has two readers of its own, and neither will do. `read_ndjson` with typed columns makes doubles of numbers, so
digits get lost. `read_ndjson_objects` gives the text of a resource for `from_json` to read, and has parsed it before.
Here a file is only cut into lines, which takes a tenth of the time of parsing it; `from_json` keeps every digit.

It is for files as they should be. Where a line cannot be parsed or a file cannot be read, the query ends
(`is_unreadable`), and `read_ndjson_objects` is to read the file: it knows the line, takes any white space, and has the
messages that people know. Pipes are for it too, because they cannot be read a second time.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

BLOCK = 2_000_000  # bytes read at a time: some 2,000 resources, which DuckDB takes at once, and still in a cache
LONGEST = 16 << 20  # bytes of a line; DuckDB's `maximum_object_size`
WORD = 8  # bytes
LINE_FEED, CARRIAGE_RETURN = b"\n\r"

UNREADABLE = "periop: a file that cannot be cut into lines"
MALFORMED = "Malformed JSON at byte"  # DuckDB 2.0, of a text; of a file it says "Malformed JSON in file"

Array = Any  # of numpy


class Lines:
    """The lines of a file that are not blank, one a row. Every scan of it reads the file anew, `block` bytes a time."""

    def __init__(self, path: Path, column: str, block: int = BLOCK) -> None:
        self.path, self.block = path, block
        self.schema = pa.schema([(column, pa.string())])

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface, https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html"""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches()).__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            with _opened(self.path) as file:
                for texts in _texts(file, self.block):
                    yield pa.RecordBatch.from_arrays([texts], schema=self.schema)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(UNREADABLE) from error


def is_unreadable(error: Exception) -> bool:
    """Whether a query ended because of a line or a file that is to be read by DuckDB's own reader.

    The message on a line that is no UTF-8 quotes it, and then cannot be decoded itself.
    """
    return isinstance(error, UnicodeDecodeError) or any(sign in str(error) for sign in (UNREADABLE, MALFORMED))


def _opened(path: Path) -> BinaryIO:
    # Unbuffered: blocks are read straight into the memory that they are parsed from.
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb", buffering=0)  # type: ignore[return-value]


def _texts(file: BinaryIO, block: int) -> Iterator[pa.Array]:
    """The lines block by block; what follows the last line feed of a block is put before the next one."""
    rest: Array = np.empty(0, np.uint8)
    while True:
        memory = pa.allocate_buffer(len(rest) + block)
        octets: Array = np.frombuffer(memory, np.uint8)
        octets[: len(rest)] = rest
        count = file.readinto(octets[len(rest) :])  # type: ignore[attr-defined]
        octets = octets[: len(rest) + count]
        ends = _ends(octets) if count else np.full(min(len(rest), 1), len(rest))
        if len(ends):
            yield _cut(memory, octets, ends)
        if not count:
            return
        rest = octets[ends[-1] if len(ends) else 0 :]
        if len(rest) > LONGEST:
            raise ValueError(UNREADABLE)


def _ends(octets: Array) -> Array:
    """The places after the line feeds. Most words of eight bytes have none, which is found out for a word at once."""
    found = np.empty(-(-len(octets) // WORD) * WORD, bool)
    found[len(octets) :] = False
    np.equal(octets, LINE_FEED, out=found[: len(octets)])
    words = np.flatnonzero(found.view(np.uint64) != 0)
    inside = np.flatnonzero(found.reshape(-1, WORD)[words])
    return words[inside // WORD] * WORD + inside % WORD + 1


def _cut(memory: pa.Buffer, octets: Array, ends: Array) -> pa.Array:
    """The lines that end before these places, without blank ones."""
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends
    texts = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), memory)
    lengths = np.diff(offsets)
    if lengths.min() > len("\r\n"):
        return texts
    breaks = (octets == LINE_FEED) | (octets == CARRIAGE_RETURN)
    blank = (lengths <= len("\r\n")) & breaks[offsets[:-1]] & breaks[ends - 1]
    return texts.filter(pa.array(~blank))
