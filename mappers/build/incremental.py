"""Delta tables that follow the lake: each commit appends the rows of new syncs and notes how far the table has come.

The number of the newest sync in the table is an app transaction (Delta protocol, "Transaction Identifiers") of the same
commit, so a kill leaves rows and number both or neither. So is the lake's fingerprint of that sync: where the lake has
another fingerprint for it, or no such sync, an older copy of the lake was put back, and the table is built again.

A table lies at ``<name>/<digest>``. The digest is of all that its rows depend on besides those of the lake: with
another digest it is another table, built from the first sync on, and the old one is deleted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction

from connectors.lake.delta import named_files
from connectors.lake.snapshot import KEPT, Snapshot
from mappers.build.table_log import finish_folding
from mappers.engines.base import Engine, Files

# names in the Delta log of tables that exist: another name would build all of them again
SYNC = "periop.view"
FINGERPRINT = "periop.view.mark"
# Syncs that brought nothing for a table until that is noted; well before the lake forgets the sync where it stands,
# since those of many sites may come before the next map.
LAG = KEPT // 4


class IncrementalTable:
    """The Delta table in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: DeltaTable | None = None

    @classmethod
    def of(cls, parent: Path, name: str, *content: str) -> IncrementalTable:
        """Return the table `name` below `parent` whose rows depend on `content`."""
        digest = hashlib.sha256("\n".join(content).encode()).hexdigest()
        return cls(parent / name / digest[:16])

    def built_to(self, lake: Snapshot) -> int | None:
        """Return the sync up to which the table was built; None where it must be built from the first sync on."""
        if self._opened is None:
            finish_folding(self.folder)
            if not DeltaTable.is_deltatable(str(self.folder)):
                return None
            self._opened = DeltaTable(str(self.folder))
        built = self._opened.transaction_version(SYNC)
        if built is not None and self._opened.transaction_version(FINGERPRINT) != lake.fingerprint(built):
            shutil.rmtree(self.folder)  # some of its rows are of syncs that the lake never had
            self._opened = None
            return None
        return built

    def append(self, engine: Engine, sql: str, schema: ibis.Schema, lake: Snapshot) -> int:
        """Append the result of SQL and note the lake's newest sync in one commit; return the number of rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._opened = self._opened or DeltaTable.create(str(self.folder), schema.to_pyarrow())
        files = engine.write_parquet(sql, self.folder)
        rows = [pq.read_metadata(file).num_rows for file in files]
        self._commit([_added(file, count) for file, count in zip(files, rows, strict=True)], lake)
        return sum(rows)

    def advance(self, lake: Snapshot, lag: int = LAG) -> None:
        """Note the lake's newest sync, where it brought nothing for this table. The table must have been built.

        Only when the table is `lag` syncs behind: a commit each night for each type of which nothing came would be most
        of what a year writes.
        """
        if lake.sync_number - (self.built_to(lake) or 0) >= lag:
            self._commit([], lake)

    def _commit(self, added: list[AddAction], lake: Snapshot) -> None:
        table = self._opened = self._opened or DeltaTable(str(self.folder))
        newest = [Transaction(SYNC, lake.sync_number), Transaction(FINGERPRINT, lake.fingerprint(lake.sync_number))]
        properties = CommitProperties(app_transactions=newest)
        table.create_write_transaction([*added], "append", table.schema(), commit_properties=properties)
        table.update_incremental()

    def delete_predecessors(self) -> None:
        """Delete the tables of the same name with another digest."""
        for stale in self.folder.parent.iterdir():
            if stale != self.folder:
                shutil.rmtree(stale)

    def register(self, engine: Engine, name: str) -> None:
        """Name all rows of the table for `engine`. The table must have been built."""
        table = self._opened = self._opened or DeltaTable(str(self.folder))
        files = [str(path) for path in named_files(self.folder, table)]
        engine.register_parquet(name, [Files(tuple(files))] if files else [], pa.schema(table.schema().to_arrow()))


def _added(file: Path, rows: int) -> AddAction:
    found = file.stat()
    # No statistics but the number of rows: engines read those in the Parquet file itself.
    return AddAction(file.name, found.st_size, {}, int(found.st_mtime * 1000), True, json.dumps({"numRecords": rows}))
