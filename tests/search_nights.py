"""A stub server, and a lake that follows it by search, night after night."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from connectors.lake.current import newest
from connectors.lake.quarantine import Quarantine
from connectors.lake.table import SCHEMA, Lake
from connectors.report import SyncReport
from connectors.sources.search.source import CohortQuery, SearchLimits, SearchSource
from connectors.sync import sync_site
from tests.fhir_stub import FhirStub, Resource

TYPES = ("Patient", "Condition", "Procedure", "Observation")
LUNG = "http://snomed.info/sct|254626006"
OLD, NIGHT, NEW = "2025-06-01T08:00:00.000Z", "2025-06-10T01:00:00.000Z", "2025-06-10T08:00:00.000Z"


def resource(kind: str, name: str, patient: str, version: str = "1", time: str = OLD, **elements: Any) -> Resource:
    subject = {} if kind == "Patient" else {"subject": {"reference": f"Patient/{patient}"}}
    meta = {"versionId": version, "lastUpdated": time}
    return {"resourceType": kind, "id": name, "meta": meta, **subject, **elements}


def condition(patient: str, code: str = "254626006") -> Resource:
    coding = {"system": "http://snomed.info/sct", "code": code}
    return resource("Condition", f"c-{patient}", patient, code={"coding": [coding]})


def put_patient(stub: FhirStub, name: str, observations: int = 4) -> None:
    stub.put(resource("Patient", name, name), condition(name), resource("Procedure", f"s-{name}", name))
    stub.put(*(resource("Observation", f"o{n}-{name}", name) for n in range(observations)))


def current(lake: Lake) -> dict[str, Resource]:
    """Return what a reader of the lake sees: the version of the highest sync number, unless it is a deletion."""
    rows = [row for batch in lake.rows("site", ["id", "sync", "deleted", "resource"]) for row in batch.to_pylist()]
    newest = {f"{row['resource_type']}/{row['id']}": row for row in sorted(rows, key=lambda row: row["sync"])}
    return {name: json.loads(row["resource"]) for name, row in sorted(newest.items()) if not row["deleted"]}


class Night:
    """A stub server, and a lake that follows it."""

    def __init__(self, folder: Path, stub: FhirStub) -> None:
        self.stub = stub
        self.stub.clock = datetime.fromisoformat(NIGHT) - datetime.now(UTC)
        self.lake, self.quarantine = Lake(folder / "lake"), Quarantine(folder / "quarantine")
        self.limits = SearchLimits(page_size=200, reconcile_days=0.0)  # a comparison of ids is always due
        self.options: dict[str, Any] = {}  # further fields of the source

    def source(self) -> SearchSource:
        source = SearchSource(
            self.stub.base,
            CohortQuery("Condition", (("code", LUNG),)),
            TYPES,
            limits=self.limits,
            stored=lambda: self.lake.patients("site"),
            texts=lambda kind: self.lake.texts("site", kind),
        )
        return replace(source, **self.options)

    def sync(self, **options: Any) -> SyncReport:
        self.stub.requests.clear()
        return sync_site(self.source(), self.lake, "site", self.quarantine, **options)

    def current(self) -> dict[str, Resource]:
        """Return what a reader of the lake sees."""
        return current(self.lake)

    def by_rule(self, kind: str) -> list[Resource]:
        """The current versions of a type by the rule that the readers of the lake share."""
        rows = pa.Table.from_batches([*self.lake.rows("site", SCHEMA.names)])
        table = newest(ibis.memtable(rows), ["resource_type", "id"])
        return [row for row in ibis.duckdb.connect().to_pyarrow(table).to_pylist() if row["resource_type"] == kind]

    def asked(self, kind: str) -> list[dict[str, str]]:
        return [request.params for request in self.stub.requests if request.path == kind]
