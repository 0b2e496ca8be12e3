"""A lake in memory, with the rules of the real one and without its files: for long random searches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa

from connectors.lake.table import Cursor, Lake, LakeFile, Snapshot, complete_rows


class MemoryLake(Lake):
    """Commits as `Lake` does, rows and cursor together or neither; a commit of rows is a file of each type."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.contents: dict[LakeFile, pa.RecordBatch] = {}
        self.cursors: dict[str, Cursor] = {}
        self.number = 0

    def exists(self) -> bool:
        """Return True once something was committed."""
        return self.number > 0

    def sync_number(self) -> int:
        """Return the number of the newest sync."""
        return self.number

    def cursor(self, site: str) -> Cursor | None:
        """Return the cursor of the newest commit of this site."""
        return self.cursors.get(site)

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot."""
        return Snapshot(self.number, "memory", tuple(self.contents))

    def append(self, site: str, batches: Iterable[pa.RecordBatch], cursor: Cursor) -> int:
        """Store the rows and the cursor of one sync."""
        stream = iter(batches)
        first = next((batch for batch in stream if batch.num_rows), None)
        if first is None:
            before = self.cursors.get(site)
            if self.exists():
                self.cursors[site] = replace(cursor, sync_number=before.sync_number if before else self.number)
            return self.number
        # All of them before anything is stored, as one commit: an error of the source leaves nothing behind.
        rows = [complete_rows(batch, site, self.number + 1) for batch in chain([first], stream)]
        stored = pa.Table.from_batches(rows).combine_chunks()
        self.number += 1
        kinds = stored["resource_type"]
        for kind in sorted(kinds.unique().to_pylist()):
            (own,) = stored.filter(pa.compute.equal(kinds, kind)).combine_chunks().to_batches()
            file = LakeFile(site, kind, f"memory/{kind}/{self.number:06}", own.num_rows, self.number, own.nbytes)
            self.contents[file] = own
        self.cursors[site] = replace(cursor, sync_number=self.number)
        return self.number

    def read(self, file: LakeFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield these columns of a file, and `resource_type`."""
        yield self.contents[file].select([*columns, "resource_type"])
