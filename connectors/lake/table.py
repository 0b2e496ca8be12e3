"""The lake: one Delta table of raw resources, append-only, with every version that was ever current.

One sync is one commit. Its rows, its sync number (column `sync`) and the cursor of the site are in that commit or not
at all. A sync that found nothing new commits only its cursor, and adds no sync number. In the Delta log:

- Two app transactions (Delta protocol, "Transaction Identifiers"), which checkpoints preserve: `periop.sync` holds the
  number of the newest sync, `periop.site.<name>` the Delta version of the newest commit of that site.
- The cursor itself, as commit metadata of that version. The log never expires by itself (`enableExpiredLogCleanup` off
  and a retention of a century), because the cursors live there; `connectors.lake.delta.trim_log` keeps those commits.

Version 0 is the empty table, so data files without a log always mean damage and never a killed first sync.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from connectors.errors import LakeError
from connectors.fhir.references import is_token
from connectors.lake.snapshot import FINGERPRINTS, WHOLE_SINCE, LakeFile, Snapshot, commit_info, kept_fingerprints
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
    """The position of the last committed sync of a site, from which the next one goes on.

    fingerprint: digest of what was asked for; another one means that everything must be asked for again.
    complete: every part of the source was read.
    server_time: the server's own clock (its Date header) when the last *complete* sync began, None for a folder.
    sync_number: number of that sync, set by `Lake.append`.
    state: what the source wants to know next time (`connectors.sources.base.Source.state`).
    """

    fingerprint: str
    complete: bool
    server_time: str | None = None
    sync_number: int = 0
    state: Mapping[str, str] = field(default_factory=dict)

    def as_metadata(self) -> dict[str, Any]:
        """Return the cursor as it stands in the commit metadata."""
        return {
            "fingerprint": self.fingerprint,
            "complete": self.complete,
            "server_time": self.server_time,
            "ordinal": self.sync_number,  # the name that lakes of version 0.1 hold
            "state": dict(self.state),
        }

    @classmethod
    def from_metadata(cls, found: Mapping[str, Any]) -> Cursor:
        """Return the cursor that `as_metadata` wrote; one of an earlier version has no state.

        Raises:
            TypeError: these are not the fields of a cursor.
        """
        others = {name: value for name, value in found.items() if name != "ordinal"}
        return cls(**others, sync_number=found.get("ordinal", 0))


class Lake:
    """The Delta table at `path`. One writer at a time; every method reads the newest snapshot.

    Args:
        path: the folder of the table. It need not exist.
        commit_lock: held while a sync is committed. Threads that write to the same table share it (or this object);
            other processes are kept out by the run lock, and noticed.

    Examples:
        >>> import tempfile
        >>> from connectors.fhir.resource import read_resource
        >>> from connectors.lake.spool import as_batch
        >>> lake = Lake(Path(tempfile.mkdtemp()) / "lake")
        >>> patient = read_resource(b'{"resourceType": "Patient", "id": "p1"}', where="example")
        >>> lake.append("hospital", [as_batch([patient])], Cursor(fingerprint="example", complete=True))
        1
        >>> [row["id"] for batch in lake.rows("hospital", ["id"]) for row in batch.to_pylist()]
        ['p1']
        >>> lake.cursor("hospital").sync_number
        1
    """

    def __init__(self, path: Path, commit_lock: AbstractContextManager[object] | None = None) -> None:
        self.path = path
        self._commit_lock = Lock() if commit_lock is None else commit_lock

    def exists(self) -> bool:
        """Return True if there is a table.

        Raises:
            LakeError: there are data files but no log. That is damage, not absence.
        """
        # A folder that has lost its log is no table for deltalake, and to make a new one would hide the loss.
        if any((self.path / "_delta_log").glob("*.json")) or any((self.path / "_delta_log").glob("*.parquet")):
            return True
        if self.path.is_dir() and any(self.path.rglob("*.parquet")):
            raise LakeError(f"the lake at {self.path} has data files but no log: {REPAIR}")
        return False

    def version(self) -> int:
        """Return the Delta version, -1 where there is no table."""
        return self.table().version() if self.exists() else -1

    def sync_number(self) -> int:
        """Return the number of the newest sync, 0 for an empty lake."""
        return (self.table().transaction_version("periop.sync") or 0) if self.exists() else 0

    def cursor(self, site: str) -> Cursor | None:
        """Return the cursor of the newest commit of this site, None if it has none yet.

        Raises:
            LakeError: the commit that holds it is damaged or gone.
        """
        version = self.table().transaction_version(f"periop.site.{site}") if self.exists() else None
        if version is None:
            return None
        try:
            return Cursor.from_metadata(commit_info(self.path, version)["periop.cursor"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise LakeError(
                f"the lake at {self.path} has lost commit {version} with the cursor of site {site}: {REPAIR}"
            ) from error

    def append(self, site: str, batches: Iterable[pa.RecordBatch], cursor: Cursor) -> int:
        """Store the rows and the cursor of one sync in ONE commit; return the number of the newest sync.

        Args:
            site: the name of the site.
            batches: rows with the columns of SCHEMA without `site` and `sync`. They are streamed. Without any row
                there is no new sync and nothing for the views to read: the cursor is committed alone, if it says
                anything new and there is a lake.
            cursor: where this sync stood; its sync number is filled in here.

        Raises:
            LakeError: nothing was stored.
        """
        with self._commit_lock:  # sites that are synchronised at the same time wait here, their rows on disk already
            stream = iter(batches)
            # A commit without rows would be a new sync number, which every view would then look for.
            first = next((batch for batch in stream if batch.num_rows), None)
            if first is None:
                return self._commit_cursor_only(site, cursor)
            table = self.table() if self.exists() else self._create()
            sync_number = (table.transaction_version("periop.sync") or 0) + 1
            rows = (complete_rows(batch, site, sync_number) for batch in chain([first], stream))
            self._commit(table, rows, site, replace(cursor, sync_number=sync_number), sync_number)
            return sync_number

    def _commit_cursor_only(self, site: str, cursor: Cursor) -> int:
        """Commit a cursor without rows, unless it is the one that is there."""
        newest, before = self.sync_number(), self.cursor(site)
        moved = replace(cursor, sync_number=before.sync_number if before else newest)
        if self.exists() and moved != before:
            self._commit(self.table(), iter(()), site, moved, newest)
        return newest

    def patients(self, site: str) -> frozenset[str]:
        """Return the ids of all patients whom any version of this site was ever about."""
        found: set[str | None] = set()
        for batch in self.rows(site, ["patient"]):
            found.update(batch.column("patient").unique().to_pylist())
        # A token says by which identifier a patient would be found, not who it is.
        return frozenset(each for each in found if each is not None and not is_token(each))

    def texts(self, site: str, resource_type: str) -> Iterator[tuple[str, str | None]]:
        """Yield id and text of every version of one type; the text of a deletion is None. Raises LakeError."""
        for file in self.files(resource_type):
            if file.site == site:
                for batch in self.read(file, ["id", "resource"]):
                    yield from zip(batch["id"].to_pylist(), batch["resource"].to_pylist(), strict=True)

    def _create(self) -> DeltaTable:
        try:
            return DeltaTable.create(self.path, SCHEMA, partition_by=list(PARTITION), configuration=CONFIGURATION)
        except (DeltaError, OSError) as error:
            raise LakeError(
                f"no lake could be made at {self.path} ({type(error).__name__}): make it writable"
            ) from error

    def _commit(
        self, table: DeltaTable, rows: Iterator[pa.RecordBatch], site: str, cursor: Cursor, newest_sync: int
    ) -> None:
        properties = CommitProperties(
            custom_metadata={"periop.cursor": cursor.as_metadata()},
            app_transactions=[
                Transaction("periop.sync", newest_sync),
                Transaction(f"periop.site.{site}", table.version() + 1),
            ],
            max_commit_retries=0,  # a retry after another writer would get a version that the transaction does not name
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
        """Return the newest snapshot; of an empty lake one without files."""
        if not self.exists():
            return Snapshot(0, "", ())
        table = self.table()
        version = table.transaction_version(FINGERPRINTS)
        kept = {} if version is None else kept_fingerprints(self.path, version)
        newest = table.transaction_version("periop.sync") or 0
        whole_since = table.transaction_version(WHOLE_SINCE) or 0
        return Snapshot(newest, str(table.metadata().id), self._files(table), kept, whole_since)

    def files(self, resource_type: str | None = None) -> tuple[LakeFile, ...]:
        """Return the Parquet files of the newest snapshot, by site, type and path; () where there is no table."""
        return tuple(file for file in self.snapshot().files if resource_type in (None, file.resource_type))

    def _files(self, table: DeltaTable) -> tuple[LakeFile, ...]:
        found = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()  # no need for pandas
        names = ("partition.site", "partition.resource_type", "path", "num_records", "max.sync", "size_bytes")
        rows = zip(*(found[name].to_pylist() for name in names), strict=True)
        files = (LakeFile(s, t, str(self.path.absolute() / p), n, sync, size) for s, t, p, n, sync, size in rows)
        return tuple(sorted(files, key=lambda file: (file.site, file.resource_type, file.path)))

    def rows(self, site: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Return these columns (and `resource_type`) of all versions of one site, in bounded batches.

        Raises:
            LakeError: the lake or one of its files cannot be read.
        """
        stored = [name for name in columns if name not in PARTITION]  # those of the partition are in the path only
        # Listed at once and not with the first batch: what is committed meanwhile is no part of the answer.
        own = [file for file in self.files() if file.site == site]
        return (batch for file in own for batch in self.read(file, stored))

    def read(self, file: LakeFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield these columns of a file, and `resource_type`, in bounded batches. Raises LakeError."""
        try:
            for batch in pq.ParquetFile(file.path, pre_buffer=False).iter_batches(BATCH, columns=columns):
                kind = pa.array([file.resource_type] * batch.num_rows, pa.string())
                yield batch.append_column("resource_type", kind)
        except (OSError, pa.ArrowException) as error:
            raise LakeError(
                f"a {file.resource_type} file of the lake at {self.path} cannot be read: {REPAIR}"
            ) from error

    def table(self) -> DeltaTable:
        """Return the Delta table in its newest version. Raises LakeError where it cannot be read."""
        try:
            return DeltaTable(self.path)
        except (DeltaError, OSError, ValueError) as error:
            raise LakeError(f"the lake at {self.path} cannot be read ({type(error).__name__}): {REPAIR}") from error


def complete_rows(batch: pa.RecordBatch, site: str, sync_number: int) -> pa.RecordBatch:
    """Return the rows with the columns `site` and `sync` added, in the order of SCHEMA."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns["site"] = pa.repeat(pa.scalar(site, pa.string()), batch.num_rows)
    columns["sync"] = pa.repeat(pa.scalar(sync_number, pa.int64()), batch.num_rows)
    return pa.record_batch([columns[field.name] for field in SCHEMA], schema=SCHEMA)
