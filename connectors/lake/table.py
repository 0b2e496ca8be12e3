"""The lake: one Delta table of raw resources, append-only, every version that was ever current.

A sync is one commit. Its rows, its number (`sync`) and the cursor of the site are in that commit or not at
all. A sync that found nothing new commits its cursor alone, under the number of the newest sync:

- two app transactions (Delta protocol, "Transaction Identifiers"), which checkpoints carry on:
  `periop.sync` holds the number of the newest sync, `periop.site.<name>` the Delta version of the newest
  commit of that site;
- the cursor itself, as commit metadata of that version. The log is never expired (`enableExpiredLogCleanup`
  off and a retention of a century), because there is about one commit a night and site, and the cursor
  lives there.

Version 0 is the empty table, so data files without a log always mean damage and never a killed first sync.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from connectors.errors import LakeError
from connectors.lake.writer import PARTITION, write_partitions

SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("resource_type", pa.string()),
        ("id", pa.string()),
        ("version_id", pa.string()),
        ("last_updated", pa.string()),
        ("patient", pa.string()),
        ("sync", pa.int64()),
        ("deleted", pa.bool_()),
        ("digest", pa.string()),
        ("resource", pa.string()),
    ]
)
CONFIGURATION = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.dataSkippingStatsColumns": "sync",  # no ids and no resources in the log
}
BATCH = 8_192  # rows read at a time: as Python objects, ten times as many are some 100 MB
REPAIR = "restore it from the backup, or move it away and pull everything again with `periop sync --full`"


@dataclass(frozen=True)
class Cursor:
    """Where the last committed sync of a site stood.

    ordinal: number of that sync (set by `Lake.append`). fingerprint: what was asked for. complete: every
    part of the source was read. server_time: the server's own clock (its Date header) when it began, None
    for a folder; of the last *complete* sync, so a partial one does not move it. state: what the source wants
    to know next time (received.Source.state); a cursor of an earlier version has none.
    """

    fingerprint: str
    complete: bool
    server_time: str | None = None
    ordinal: int = 0
    state: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LakeFile:
    """One Parquet file of a snapshot: all its rows are of this site and resource type, the newest of sync `sync`."""

    site: str
    resource_type: str
    path: str
    rows: int
    sync: int


@dataclass(frozen=True)
class Snapshot:
    """The lake at one moment: the number of its newest sync (`ordinal`), which lake it is, and its files."""

    ordinal: int
    identity: str
    files: tuple[LakeFile, ...]

    def mark(self, sync: int) -> int:
        """A number for the files that this sync brought, 0 for none: another one in an older copy of the lake that was
        put back and went on. From 0 to 2^63 - 1, as the version of a Delta transaction is.
        """
        return self._marks.get(sync, 0)

    @cached_property
    def _marks(self) -> dict[int, int]:
        """The mark of each sync: a digest of the names of its files, which no two files share."""
        names: dict[int, list[str]] = {}
        for file in self.files:
            names.setdefault(file.sync, []).append(Path(file.path).name)
        return {sync: _number("\n".join(sorted(each))) for sync, each in names.items()}


def _number(text: str) -> int:
    """The first 63 bits of the SHA-256 of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


class Lake:
    """The Delta table at `path`. One writer at a time; every method reads the newest snapshot.

    writing: held while a sync is committed. Threads that write to the same table share it (or this object); other
    processes are kept out by the run lock, and noticed.
    """

    def __init__(self, path: Path, writing: AbstractContextManager[object] | None = None) -> None:
        self.path = path
        self._writing = Lock() if writing is None else writing
        self._made: DeltaTable | None = None  # by this object

    def exists(self) -> bool:
        """True if there is a table. LakeError if there are data files but no log: damage, not absence."""
        if any((self.path / "_delta_log").glob("*.json")) or any((self.path / "_delta_log").glob("*.parquet")):
            return True
        if self.path.is_dir() and any(self.path.rglob("*.parquet")):
            raise LakeError(f"the lake at {self.path} has data files but no log: {REPAIR}")
        return False

    def version(self) -> int:
        """The Delta version, -1 where there is no table."""
        return self._table().version() if self.exists() else -1

    def ordinal(self) -> int:
        """The number of the newest sync, 0 for an empty lake."""
        return (self._table().transaction_version("periop.sync") or 0) if self.exists() else 0

    def cursor(self, site: str) -> Cursor | None:
        """The cursor of the newest commit of this site, None if it has none yet."""
        version = self._table().transaction_version(f"periop.site.{site}") if self.exists() else None
        if version is None:
            return None
        try:
            return Cursor(**self._commit_info(version)["periop.cursor"])
        except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
            raise LakeError(
                f"the lake at {self.path} has lost commit {version} with the cursor of site {site}: {REPAIR}"
            ) from error

    def _commit_info(self, version: int) -> dict[str, Any]:
        with (self.path / "_delta_log" / f"{version:020d}.json").open(encoding="utf-8") as log:
            actions = (json.loads(line) for line in log)
            info: dict[str, Any] = next(action["commitInfo"] for action in actions if "commitInfo" in action)
        return info

    def prepare(self) -> None:
        """Make the empty table where there is none, while there is time: `append` would have to."""
        with self._writing:
            if not self.exists():
                self._create()

    def append(self, site: str, batches: Iterable[pa.RecordBatch], cursor: Cursor) -> int:
        """Store the rows and the cursor of one sync in ONE commit and return its number.

        `batches` have the columns of SCHEMA without `site` and `sync`. They are streamed. Without any row there is
        no new sync and nothing for the views to read: the number of the newest sync stays and is returned. The
        cursor is committed alone then, if it says anything new and there is a lake.

        Sites that are synchronised side by side wait for each other here: their rows are on disk by then.
        """
        with self._writing:
            stream = iter(batches)
            first = next((batch for batch in stream if batch.num_rows), None)
            if first is None:
                return self._move(site, cursor)
            table = self._newest()
            ordinal = (table.transaction_version("periop.sync") or 0) + 1
            rows = (complete_rows(batch, site, ordinal) for batch in chain([first], stream))
            self._commit(table, rows, site, replace(cursor, ordinal=ordinal))
            return ordinal

    def _move(self, site: str, cursor: Cursor) -> int:
        """Commit a cursor without rows, unless it is the one that is there."""
        ordinal, before = self.ordinal(), self.cursor(site)
        moved = replace(cursor, ordinal=before.ordinal if before else ordinal)
        if self.exists() and moved != before:
            self._commit(self._table(), iter(()), site, moved, ordinal)
        return ordinal

    def patients(self, site: str) -> frozenset[str]:
        """The ids of all patients whom anything of this site was ever about."""
        found: set[str] = set()
        for batch in self.rows(site, ["patient"]):
            found.update(batch.column("patient").unique().to_pylist())
        return frozenset(found - {None})

    def _newest(self) -> DeltaTable:
        """The newest state of the table to write to, made where there is none."""
        if not self.exists():
            return self._create()
        if self._made is None:
            return self._table()
        try:
            self._made.update_incremental()
        except (DeltaError, OSError) as error:
            raise self._unreadable(error) from error
        return self._made

    def _create(self) -> DeltaTable:
        try:
            self._made = DeltaTable.create(self.path, SCHEMA, partition_by=list(PARTITION), configuration=CONFIGURATION)
            return self._made
        except (DeltaError, OSError) as error:
            raise LakeError(
                f"no lake could be made at {self.path} ({type(error).__name__}): make it writable"
            ) from error

    def _commit(
        self,
        table: DeltaTable,
        rows: Iterator[pa.RecordBatch],
        site: str,
        cursor: Cursor,
        ordinal: int | None = None,
    ) -> None:
        properties = CommitProperties(
            custom_metadata={"periop.cursor": asdict(cursor)},
            app_transactions=[
                Transaction("periop.sync", cursor.ordinal if ordinal is None else ordinal),
                Transaction(f"periop.site.{site}", table.version() + 1),
            ],
            max_commit_retries=0,  # another writer would move the version that the transaction names
        )
        try:
            table.create_write_transaction(
                [*write_partitions(self.path, SCHEMA, rows)],
                "append",
                table.schema(),
                list(PARTITION),
                commit_properties=properties,
            )
        except CommitFailedError as error:
            raise LakeError(
                f"another process wrote to the lake at {self.path} meanwhile: run the sync again"
            ) from error
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise LakeError(
                f"nothing was stored in the lake at {self.path} ({type(error).__name__}): "
                "check disk space and permissions"
            ) from error

    def snapshot(self) -> Snapshot:
        """The newest snapshot; of an empty lake one without files."""
        if not self.exists():
            return Snapshot(0, "", ())
        table = self._table()
        return Snapshot(table.transaction_version("periop.sync") or 0, str(table.metadata().id), self._files(table))

    def files(self, resource_type: str | None = None) -> tuple[LakeFile, ...]:
        """The Parquet files of the newest snapshot, by site, type and path; () where there is no table."""
        return tuple(file for file in self.snapshot().files if resource_type in (None, file.resource_type))

    def _files(self, table: DeltaTable) -> tuple[LakeFile, ...]:
        found = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()  # no need for pandas
        names = ("partition.site", "partition.resource_type", "path", "num_records", "max.sync")
        rows = zip(*(found[name].to_pylist() for name in names), strict=True)
        files = (LakeFile(s, t, str(self.path.absolute() / p), n, sync) for s, t, p, n, sync in rows)
        return tuple(sorted(files, key=lambda file: (file.site, file.resource_type, file.path)))

    def rows(self, site: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """These columns of all versions of one site, in bounded batches.

        Columns of the partition come from the path.
        """
        stored = [name for name in columns if name not in ("site", "resource_type")]
        own = [file for file in self.files() if file.site == site]  # now: a writer that pulls rows allows no look-up
        return (batch for file in own for batch in self._read(file, stored))

    def _read(self, file: LakeFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            for batch in pq.ParquetFile(file.path, pre_buffer=False).iter_batches(BATCH, columns=columns):
                kind = pa.array([file.resource_type] * batch.num_rows, pa.string())
                yield batch.append_column("resource_type", kind)
        except (OSError, pa.ArrowException) as error:
            raise LakeError(
                f"a {file.resource_type} file of the lake at {self.path} cannot be read: {REPAIR}"
            ) from error

    def _table(self) -> DeltaTable:
        try:
            return DeltaTable(self.path)
        except (DeltaError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> LakeError:
        return LakeError(f"the lake at {self.path} cannot be read ({type(error).__name__}): {REPAIR}")


def complete_rows(batch: pa.RecordBatch, site: str, ordinal: int) -> pa.RecordBatch:
    """Add the columns `site` and `sync`, in the order of SCHEMA."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns["site"] = pa.repeat(pa.scalar(site, pa.string()), batch.num_rows)
    columns["sync"] = pa.repeat(pa.scalar(ordinal, pa.int64()), batch.num_rows)
    return pa.record_batch([columns[field.name] for field in SCHEMA], schema=SCHEMA)
