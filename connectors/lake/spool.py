"""The resources of one sync on disk, until it is decided which of them are stored.

The file has no name (O_TMPFILE, or unlinked at once): the system frees it when the process ends, however it ends, so a
run that is killed leaves nothing behind. It lies in the directory of the lake, not in /tmp, which is memory on many
machines.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.errors import SpoolError
from connectors.fhir.resource import Resource

SPOOL_SCHEMA = pa.schema(
    [
        ("resource_type", pa.string()),
        ("id", pa.string()),
        ("version_id", pa.string()),
        ("last_updated", pa.string()),
        ("patient", pa.string()),
        ("deleted", pa.bool_()),
        ("digest", pa.string()),
        ("resource", pa.string()),
    ]
)
ROWS = 2_000
BYTES = 8 << 20


class Spool:
    """Append resources, then read some of them back as record batches; a few never touch the disk.

    Memory: at most 2,000 rows or 8 MiB, and one resource.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise SpoolError(f"no temporary file in {folder} ({error.strerror}): make it writable") from error
        self._folder = folder
        # Everything that is received lies here, also what the lake has already: LZ4 keeps it small at little cost.
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_stream(self._file, SPOOL_SCHEMA, options=options)
        self._pending: list[Resource] = []
        self._bytes = 0
        self.rows = 0

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()

    def append(self, resource: Resource) -> None:
        """Add one row; its row number is what `rows` was before."""
        if len(self._pending) >= ROWS or self._bytes >= BYTES:
            self._flush()
        self._pending.append(resource)
        self._bytes += len(resource.raw)
        self.rows += 1

    def batches(self, keep: npt.NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
        """Yield the rows whose number is True in `keep`, as batches of SPOOL_SCHEMA."""
        if not keep.any():
            return
        start = 0
        # In the order of arrival, so that a row is found by its number.
        for batch in chain(self._written(), [as_batch(self._pending)]):
            kept = batch.filter(pa.array(keep[start : start + batch.num_rows]))
            start += batch.num_rows
            if kept.num_rows:
                yield kept

    def _written(self) -> Iterator[pa.RecordBatch]:
        try:
            self._writer.close()
            self._file.seek(0)
        except OSError as error:
            raise self._failed(error) from error
        yield from pa.ipc.open_stream(self._file)

    def _flush(self) -> None:
        try:
            self._writer.write_batch(as_batch(self._pending))
        except OSError as error:
            raise self._failed(error) from error
        self._pending, self._bytes = [], 0

    def _failed(self, error: OSError) -> SpoolError:
        return SpoolError(f"the rows of this sync do not fit into {self._folder} ({error}): free disk space")


def as_batch(resources: list[Resource]) -> pa.RecordBatch:
    """Return resources as rows of SPOOL_SCHEMA."""
    columns: list[Sequence[str | bool | None]] = [
        [resource.resource_type for resource in resources],
        [resource.id for resource in resources],
        [resource.version_id for resource in resources],
        [resource.last_updated for resource in resources],
        [resource.patient for resource in resources],
        [False] * len(resources),
        [resource.digest for resource in resources],
        [resource.raw for resource in resources],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SPOOL_SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SPOOL_SCHEMA)
