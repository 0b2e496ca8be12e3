"""Deletions as rows of the lake: those that a server tells, and what is missing where everything was asked for.

A tombstone has deleted = true, no resource, and the patient of the version that it buries, so whoever reads what is
new finds out whom it concerns. Its time is that of the deletion as the server tells it, else that of the buried
version: later in the lake, so it is current, and a version that comes back later takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from connectors.fhir.events import Deleted
from connectors.lake.reconcile import Intake, identity, updated
from connectors.lake.spool import SPOOL_SCHEMA
from connectors.lake.table import Lake

COLUMNS = ["resource_type", "id", "version_id", "last_updated", "patient", "sync", "deleted"]
ROWS = 2_000


@dataclass
class Tombstones:
    """The tombstones of one sync.

    whole: the lake may hold nothing that the pull has not met, but for the types that are `spared`. deleted and
    removed count, by type, what was buried because the server told it, and because it was missing.
    """

    lake: Lake
    site: str
    intake: Intake
    whole: bool = False
    spared: frozenset[str] = frozenset()
    deleted: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, as batches of SPOOL_SCHEMA, by one walk over the lake; nothing is read where there are none."""
        if not (self.intake.told or self.intake.covered or self.whole) or self.intake.knows_nothing():
            return
        rows: list[dict[str, Any]] = []
        for batch in self.lake.rows(self.site, COLUMNS):  # of the newest commit: what is written now is none yet
            rows += [row for known in batch.select(COLUMNS).to_pylist() if (row := self._row(known))]
            if len(rows) >= ROWS:
                yield pa.RecordBatch.from_pylist(rows, SPOOL_SCHEMA)
                rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, SPOOL_SCHEMA)

    def _row(self, known: dict[str, Any]) -> dict[str, Any] | None:
        """The tombstone of a row of the lake; None where it is to stay, or is not the current one."""
        key = identity(known["resource_type"], known["id"])
        told = self.intake.told.get(key)
        if known["deleted"] or not (told or self._missing(key, known)):
            return None
        current = self.intake.known(key)
        if current is None or (current.updated, current.order) != (updated(known["last_updated"]), known["sync"]):
            return None
        (self.deleted if told else self.removed)[known["resource_type"]] += 1
        return tombstone(known, told)

    def _missing(self, key: str, known: dict[str, Any]) -> bool:
        kind = known["resource_type"]
        asked = known["patient"] in self.intake.covered.get(kind, ()) or (self.whole and kind not in self.spared)
        return asked and self.intake.marks is not None and key not in self.intake.marks


def tombstone(known: dict[str, Any], told: Deleted | None) -> dict[str, Any]:
    """One row of SPOOL_SCHEMA that buries `known`."""
    version_id = told.version_id if told and told.version_id else known["version_id"]
    last_updated = told.last_updated if told and told.last_updated else known["last_updated"]
    return {
        "resource_type": known["resource_type"],
        "id": known["id"],
        "version_id": version_id,
        "last_updated": last_updated,
        "patient": known["patient"],
        "deleted": True,
        "digest": "",
        "resource": None,
    }
