"""Reconciles what a sync receives with the lake: what is stored, and what is marked as deleted.

While the source is read, its events are written to a table of DuckDB, without the content of the resources. At the end
they are joined with the versions in the lake, and the events of one resource after the other are replayed by the rules
of `connectors.lake.replay`. DuckDB sorts and joins on disk where its memory does not suffice, so the memory of a sync
does not grow with the number of resources.

Then what the server no longer has gets a tombstone: a row with deleted = true, without a resource, and with the patient
of the version that it replaces, so that a reader of new rows finds the affected patients. A resource is gone if
the server reported its deletion, or if it did not come where everything was asked for. The time of a tombstone is that
of the deletion as the server reports it, else that of the replaced version: the tombstone has the higher sync number,
so it is current, and a version that comes back later takes its place.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import duckdb
import ibis
import numpy as np
import pyarrow as pa

from connectors.errors import SpoolError
from connectors.fhir.events import CompleteFor, Deleted, Exists
from connectors.fhir.instants import instant
from connectors.fhir.resource import Rejected, Resource
from connectors.fhir.resource_types import WITHOUT_PATIENT
from connectors.lake.current import newest
from connectors.lake.replay import Outcome, ResourceReplay, Version
from connectors.lake.spool import SPOOL_SCHEMA, Spool
from connectors.lake.table import SCHEMA, Lake

CHUNK = 10_000  # events or rows in memory at a time
FILES = 1_000  # of the lake, whose rows are taken over together
# One thread: each has buffers of its own, and several sites may be synchronised at the same time.
MEMORY, THREADS = "128MB", 1

RESOURCE = ("resource_type", "id")  # names a resource within one site
KNOWN = pa.schema(
    [SCHEMA.field(each) for each in (*RESOURCE, "version_id", "last_updated", "digest", "deleted", "patient", "sync")]
)
EVENTS = pa.schema(
    [
        ("resource_type", pa.string()),
        ("id", pa.string()),
        ("event", pa.string()),  # resource, deleted, deleted in order, exists or unreadable
        ("version_id", pa.string()),
        ("last_updated", pa.string()),
        ("digest", pa.string()),
        ("row_number", pa.int64()),  # of a resource in the spool
        ("modified", pa.bool_()),
        ("arrival", pa.int64()),  # numbers all events of the sync
    ]
)
COMPLETE = pa.schema([("resource_type", pa.string()), ("patient", pa.string())])
SQL_TYPES = {pa.string(): "VARCHAR", pa.bool_(): "BOOLEAN", pa.int64(): "BIGINT"}
CREATE = "".join(
    f"CREATE TABLE {name} ({', '.join(f'{column.name} {SQL_TYPES[column.type]}' for column in schema)});"
    for name, schema in (("events", EVENTS), ("known", KNOWN), ("complete", COMPLETE))
)

# Every event with the version that is current in the lake, those of a resource one after the other.
REPLAY = """
    WITH current AS ({current})
    SELECT events.*, current.version_id, current.last_updated, current.digest, current.deleted, current.patient,
    FROM events LEFT JOIN current USING (resource_type, id)
    ORDER BY resource_type, id, arrival
"""
# The current versions of which everything was asked for and nothing came.
MISSING = """
    CREATE TABLE missing AS
    WITH current AS ({current})
    SELECT resource_type, id, version_id, last_updated, current.patient
    FROM current
        ANTI JOIN (SELECT resource_type, id FROM events WHERE event NOT LIKE 'deleted%') USING (resource_type, id)
        LEFT JOIN complete USING (resource_type, patient)
    WHERE NOT deleted
        AND (complete.patient IS NOT NULL OR ($whole AND NOT list_contains($spared::VARCHAR[], resource_type)))
"""
HELD = "WITH current AS ({current}) SELECT resource_type, count(*) FROM current WHERE NOT deleted GROUP BY ALL"


@cache
def current_sql(*, received_only: bool) -> str:
    """Return the SQL of the current versions in the table `known`: of what was received, or of all resources."""
    known, events = (
        ibis.table(ibis.Schema.from_pyarrow(schema), name=name)
        for schema, name in ((KNOWN, "known"), (EVENTS, "events"))
    )
    return str(ibis.to_sql(newest(known.semi_join(events, RESOURCE) if received_only else known, RESOURCE), "duckdb"))


@dataclass
class Account:
    """The account of one sync: the outcome of everything received, each count by resource type.

    received, outcomes: versions received, and (type, outcome). reasons: quarantined, by reason. without_patient:
    resources without a reference to a Patient. modified: stored resources with a modifierExtension. content_missing:
    resources that the server has, and whose content is neither in the lake nor came. deleted: tombstones of deletions
    that the server reported. removed: tombstones of what was missing where everything was asked for.
    """

    received: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    without_patient: Counter[str] = field(default_factory=Counter)
    modified: Counter[str] = field(default_factory=Counter)
    content_missing: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)


class Reconciler:
    """Reconciles the events of one sync with the lake. Use it in `with`, and from one thread at a time.

    Call `upsert`, `delete`, `mark_seen`, `mark_complete` and `reject` while the source is read, then `decide`, then
    `find_missing`, then `batches`, each once. All raise SpoolError where a temporary file cannot be written.
    """

    def __init__(self, lake: Lake, site: str) -> None:
        self.account = Account()
        self._lake = lake
        self._site = site
        self._spool = Spool(lake.path.parent)
        self._tables = _Tables(lake.path.parent / f".sync-{site}")
        self._events: list[tuple[Any, ...]] = []
        self._arrivals = 0
        self._searched = False  # True once `find_missing` has looked
        self._known = False  # True once the versions in the lake were read
        self._complete: dict[str, set[str]] = {}
        self._keep = np.zeros(0, bool)  # by row number of the spool
        self._times: dict[int, str | None] = {}  # by row number: of versions that are stored with another time
        self._tombstones: dict[tuple[str, str], dict[str, Any]] = {}  # of deletions that the server reported

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()
        self._tables.close()

    def reject(self, rejected: Rejected) -> None:
        """Count something that goes to quarantine."""
        self.account.received[rejected.resource_type] += 1
        self.account.outcomes[rejected.resource_type, "quarantined"] += 1
        self.account.reasons[rejected.reason.value] += 1

    def upsert(self, resource: Resource) -> None:
        """Take in a resource with its content."""
        # No cohort table can use what is about no patient, so the report counts it.
        if resource.patient is None and resource.resource_type not in WITHOUT_PATIENT:
            self.account.without_patient[resource.resource_type] += 1
        version = (resource.version_id, resource.last_updated, resource.digest, self._spool.rows, resource.modified)
        self._spool.append(resource)
        self._add(resource.resource_type, resource.id, "resource", version)

    def delete(self, deleted: Deleted) -> None:
        """Take in a deletion that the server reports."""
        version = (deleted.version_id, deleted.last_updated, "", -1, False)
        event = "deleted in order" if deleted.in_order else "deleted"
        self._add(deleted.resource_type, deleted.id, event, version)

    def mark_seen(self, exists: Exists) -> None:
        """Note that the server has this resource, so that it is not taken as deleted."""
        event = "exists" if exists.readable else "unreadable"
        version = (exists.version_id, exists.last_updated, "", -1, False)
        self._add(exists.resource_type, exists.id, event, version)

    def mark_complete(self, complete: CompleteFor) -> None:
        """Note that all of a type about these patients has come."""
        self._complete.setdefault(complete.resource_type, set()).update(complete.patients)

    def _add(self, resource_type: str, id_: str, event: str, version: tuple[Any, ...]) -> None:
        self._events.append((resource_type, id_, event, *version, self._arrivals))
        self._arrivals += 1
        if len(self._events) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        arrays = [pa.array(values, each.type) for values, each in zip(zip(*self._events), EVENTS)]  # noqa: B905
        if arrays:
            self._tables.insert("events", [pa.record_batch(arrays, schema=EVENTS)])
        self._events = []

    def decide(self, *, full: bool = False) -> Account:
        """Decide about every version that was received. Where none was, nothing is read of the lake.

        full: everything was asked for, so that what came is current, whatever its time.
        """
        self._flush()
        self._keep = np.zeros(self._spool.rows, bool)
        if self._arrivals:
            self._read_known()
            rows = self._tables.rows(REPLAY.format(current=current_sql(received_only=True)))
            # Sorted by resource, so that one is in memory at a time.
            for (kind, id_), events in groupby(rows, key=itemgetter(0, 1)):
                self._replay(kind, id_, list(events), full)
        return self.account

    def _read_known(self) -> None:
        if not self._known:
            # Only where something was received or may be missing: a run without changes does not read the lake.
            self._known = True
            # Many files of a night hold a few rows each, and an insert costs more than they do.
            pending: list[pa.RecordBatch] = []
            for batch in self._lake.rows(self._site, KNOWN.names):
                pending.append(batch.select(KNOWN.names))
                if sum(each.num_rows for each in pending) >= CHUNK or len(pending) >= FILES:
                    self._tables.insert("known", pending)
                    pending = []
            self._tables.insert("known", pending)

    def _replay(self, kind: str, id_: str, events: Sequence[tuple[Any, ...]], full: bool) -> None:
        """Replay the events of one resource. The last five columns are its current version in the lake."""
        *version, deleted, patient = events[0][len(EVENTS) :]
        current = None if deleted is None else Version(*version)
        replay = ResourceReplay(current, full=full)
        last = max((place for place, row in enumerate(events) if row[2] == "resource"), default=-1)
        for place, (_, _, event, *received, _) in enumerate(row[: len(EVENTS)] for row in events):
            match event:
                case "resource":
                    replay.upsert(Version(*received))
                case "deleted in order" if place < last:
                    replay.outcomes["superseded"] += 1
                case "deleted" | "deleted in order":
                    replay.delete(Version(*received))
                case _:
                    replay.mark_seen(Version(*received), readable=event == "exists")
        account, pending = self.account, replay.pending
        account.received[kind] += replay.outcomes.total()
        for outcome, count in replay.outcomes.items():
            account.outcomes[kind, outcome] += count
        account.content_missing[kind] += replay.content_missing
        if pending is None:
            return
        if pending.is_deletion:
            account.deleted[kind] += 1
            self._tombstones[kind, id_] = tombstone(
                kind, id_, pending.version_id or version[0], pending.last_updated, patient
            )
        else:
            account.modified[kind] += pending.modified
            self._keep[pending.row_number] = True
            # The lake orders versions by time, and of two with one time the later sync counts.
            if current is not None and pending.updated < current.updated:
                self._times[pending.row_number] = current.last_updated

    def find_missing(self, whole: bool, spared: Sequence[str]) -> Counter[str]:
        """Return how many resources of the lake did not come although everything was asked for, by type.

        Args:
            whole: everything of the source was asked for and read, so whatever did not come is gone.
            spared: but not of these types.
        """
        if not (whole or self._complete):
            return Counter()
        self._read_known()
        asked = [*self._complete.items()]
        ids = [pa.array(sorted(patients), pa.string()) for _, patients in asked]
        kinds = [pa.repeat(pa.scalar(kind, pa.string()), len(patients)) for kind, patients in asked]
        pairs = zip(kinds, ids, strict=True)
        self._tables.insert("complete", [pa.record_batch([*each], schema=COMPLETE) for each in pairs])
        query = MISSING.format(current=current_sql(received_only=False))
        self._tables.execute(query, {"whole": whole, "spared": list(spared)})
        self._searched = True
        return Counter(row[0] for row in self._missing())

    def held(self) -> Counter[str]:
        """Return how many resources of the site were current in the lake before this sync, by type."""
        self._read_known()
        return Counter(dict(self._tables.rows(HELD.format(current=current_sql(received_only=False)))))

    def batches(self, *, remove_missing: bool) -> Iterator[pa.RecordBatch]:
        """Yield the rows to store, tombstones last, as batches of SPOOL_SCHEMA.

        remove_missing: also the tombstones of what `find_missing` found.
        """
        yield from self._stored()
        rows = chain(self._tombstones.values(), self._removed() if remove_missing else ())
        while chunk := [*islice(rows, CHUNK)]:
            yield pa.RecordBatch.from_pylist(chunk, SPOOL_SCHEMA)

    def _stored(self) -> Iterator[pa.RecordBatch]:
        numbers, start, column = np.flatnonzero(self._keep), 0, SPOOL_SCHEMA.get_field_index("last_updated")
        for batch in self._spool.batches(self._keep):
            kept = numbers[start : start + batch.num_rows].tolist()
            start += batch.num_rows
            if not self._times.keys().isdisjoint(kept):
                own = batch.column(column).to_pylist()
                times = [self._times.get(number, time) for number, time in zip(kept, own, strict=True)]
                batch = batch.set_column(column, SPOOL_SCHEMA.field(column), pa.array(times, pa.string()))
            yield batch

    def _removed(self) -> Iterator[dict[str, Any]]:
        for row in self._missing():
            self.account.removed[row[0]] += 1
            yield tombstone(*row)

    def _missing(self) -> Iterator[tuple[Any, ...]]:
        # A deletion that the server reported has its tombstone already.
        rows = self._tables.rows("SELECT * FROM missing") if self._searched else iter(())
        return (row for row in rows if row[:2] not in self._tombstones)


def tombstone(
    resource_type: str, id_: str, version_id: str, last_updated: str | None, patient: str | None
) -> dict[str, Any]:
    """Return the row of SPOOL_SCHEMA that marks a resource as deleted."""
    # A server may state any text as the time of a deletion; the lake holds instants, which all readers order alike.
    return {
        "resource_type": resource_type,
        "id": id_,
        "version_id": version_id,
        "last_updated": last_updated if instant(last_updated) is not None else None,
        "patient": patient,
        "deleted": True,
        "digest": "",
        "resource": None,
    }


class _Tables:
    """The tables `events`, `known` and `complete` in DuckDB, which go to files in `directory` where they are large."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._remove_files()  # left by a run that was killed: they hold ids of patients

    def insert(self, table: str, rows: Sequence[pa.RecordBatch]) -> None:
        """Append rows."""
        if not rows:
            return
        with self._explained():
            connection = self._open()
            connection.register("rows", pa.Table.from_batches(rows))
            connection.execute(f"INSERT INTO {table} SELECT * FROM rows")  # noqa: S608 (one of the three names)

    def execute(self, query: str, parameters: object = None) -> None:
        """Run a query that returns nothing."""
        with self._explained():
            self._open().execute(query, parameters)

    def rows(self, query: str, parameters: object = None) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, with a chunk of them in memory at a time."""
        with self._explained():
            result = self._open().execute(query, parameters)
            while chunk := result.fetchmany(CHUNK):
                yield from chunk

    def close(self) -> None:
        """Free memory and files."""
        if self._connection is not None:
            self._connection.close()
        self._remove_files()

    def _remove_files(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            # In the directory of the lake and not in /tmp, which is memory on many machines.
            self._connection = duckdb.connect(
                config={"memory_limit": MEMORY, "threads": THREADS, "temp_directory": str(self._directory)}
            )
            self._connection.execute(CREATE)
        return self._connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise SpoolError(
                f"the versions of this sync do not fit into files in {self._directory} ({error}): "
                "make its folder writable and free disk space"
            ) from error
