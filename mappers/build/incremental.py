"""Delta tables that follow the lake: each commit appends what some syncs brought, and says how far the table has come.

The number of the newest sync that is in the table is an app transaction (Delta protocol, "Transaction Identifiers") of
the same commit, so a kill leaves rows and number both or neither. So is the lake's mark of that sync: where the lake
has another mark for it, or has no such sync, an older copy of it was put back, and the table is built anew.

A table lies at ``<name>/<digest>``, where the digest is of all that its rows depend on besides the lake's rows: with
another one it is another table, built from the first sync on, and the old one is deleted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction

from connectors.lake.table import Snapshot
from mappers.build.lookup import ID, rows_by_id
from mappers.engines.duckdb import Engine, Files

BUILT = "periop.view"
MARK = "periop.view.mark"


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

    def built_to(self, lake: Snapshot) -> int | None:
        """The sync up to which the table was built; None where it is to be built from the first sync on."""
        if self._opened is None:
            if not DeltaTable.is_deltatable(str(self.folder)):
                return None
            self._opened = DeltaTable(str(self.folder))
        built = self._opened.transaction_version(BUILT)
        if built is not None and self._opened.transaction_version(MARK) != lake.fingerprint(built):
            shutil.rmtree(self.folder)
            self._opened = None
            return None
        return built

    def append(self, engine: Engine, sql: str, schema: ibis.Schema, lake: Snapshot) -> int:
        """Add the rows of SQL and what the newest sync is in one commit; returns how many rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        table = self._opened = self._opened or DeltaTable.create(str(self.folder), schema.to_pyarrow())
        files = engine.write(sql, self.folder)
        rows = [pq.read_metadata(file).num_rows for file in files]
        table.create_write_transaction(
            [_added(file, count) for file, count in zip(files, rows, strict=True)],
            "append",
            table.schema(),
            commit_properties=CommitProperties(
                app_transactions=[
                    Transaction(BUILT, lake.sync_number),
                    Transaction(MARK, lake.fingerprint(lake.sync_number)),
                ]
            ),
        )
        table.update_incremental()
        return sum(rows)

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

    def rows_by_id(self, ids: pa.Array, columns: Sequence[str]) -> pa.Table:
        """These columns of the rows that have one of `ids` .

        Raises:
            MappingError: a file cannot be read.
        """
        table = self._opened = self._opened or DeltaTable(str(self.folder))
        whole, wanted = pa.schema(table.schema().to_arrow()), pc.unique(ids).sort()
        schema = pa.schema([whole.field(name) for name in columns])
        repeated = [field.name for field in schema if field.type == pa.string() and field.name != ID]
        found = [schema.empty_table()]
        for file in table.file_uris():
            found += [rows.cast(schema) for rows in rows_by_id(file, wanted, schema.names, repeated)]
        return pa.concat_tables(found)


def _added(file: Path, rows: int) -> AddAction:
    found = file.stat()
    return AddAction(file.name, found.st_size, {}, int(found.st_mtime * 1000), True, json.dumps({"numRecords": rows}))
