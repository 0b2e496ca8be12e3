"""Delta tables that follow the lake: each commit appends what some syncs brought, and says how far the table has come.

The number of the newest sync that is in the table is an app transaction (Delta protocol, "Transaction Identifiers") of
the same commit, so a kill leaves rows and number both or neither. A table lies at ``<name>/<digest>``, where the digest
is of all that its rows depend on besides the lake's rows: with another one it is another table, built from the first
sync on, and the old one is deleted.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake

from mappers.engine import Engine, Files
from schedules.batches import Counted

BUILT = "periop.view"
BATCH = 100_000
ROW_GROUP = 20_480  # rows: a night reads those in which its patients lie, by their statistics


class Appended:
    """The table in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: DeltaTable | None = None

    @classmethod
    def of(cls, parent: Path, name: str, *content: str) -> Appended:
        """The table of `name` below `parent` with the digest of `content`."""
        digest = hashlib.sha256("\n".join(content).encode()).hexdigest()
        return cls(parent / name / digest[:16])

    def built_to(self, ordinal: int) -> int | None:
        """The sync up to which the table was built; None where it is to be built from the first sync on.

        That is also so where the lake's newest sync, `ordinal`, is an older one: a copy of the lake was put back.
        """
        if self._opened is None:
            if not DeltaTable.is_deltatable(str(self.folder)):
                return None
            self._opened = DeltaTable(str(self.folder))
        built = self._opened.transaction_version(BUILT)
        if built is not None and built > ordinal:
            shutil.rmtree(self.folder)
            self._opened = None
            return None
        return built

    def append(self, batches: pa.RecordBatchReader, ordinal: int) -> int:
        """Add rows and the number of the newest sync in one commit; returns how many rows."""
        counted = Counted(batches)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_deltalake(
            self._opened or str(self.folder),
            pa.RecordBatchReader.from_batches(batches.schema, counted),
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(BUILT, ordinal, None)]),
            writer_properties=WriterProperties(compression="SNAPPY", max_row_group_size=ROW_GROUP),
        )
        self._opened = None
        return counted.rows

    def forget_others(self) -> None:
        """Delete the tables of the same name with another digest."""
        for stale in self.folder.parent.iterdir():
            if stale != self.folder:
                shutil.rmtree(stale)

    def scan(self, engine: Engine, name: str) -> None:
        """Name all rows for `engine`."""
        table = self._opened = self._opened or DeltaTable(str(self.folder))
        files = table.file_uris()
        engine.scan(name, [Files(tuple(files))] if files else [], pa.schema(table.schema().to_arrow()))
