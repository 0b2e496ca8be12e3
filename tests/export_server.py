"""A small Bulk Data server for tests, in memory, whose every answer a test can replace by a fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.fhir.events import Deleted, Note, Problem, SourceEvent
from connectors.fhir.resource import Rejected, Resource
from connectors.http.retry import Clock
from connectors.lake.table import Cursor
from connectors.sources.bulk.source import BulkSource
from tests.raw_server import RawServer, Request, Wire, http, ndjson

ASKED = "Mon, 01 Jan 2024 00:00:00 GMT"  # Date of the kick-off
DONE = "2024-01-01T00:00:30Z"  # transactionTime
TYPES = ("Patient", "Condition")
PATIENTS = [{"resourceType": "Patient", "id": f"p{n}"} for n in range(3)]
CONDITIONS = [{"resourceType": "Condition", "id": f"c{n}", "subject": {"reference": f"Patient/p{n}"}} for n in range(3)]
Fault = Callable[[Request], bytes | Wire | None]


@dataclass
class ExportServer:
    """Kick-off -> /job/<n> -> manifest -> /file/<name>.

    files: by name, `<type>` or `<type>.<anything>`. faults: asked first, by a piece of the path; None lets the server
    answer itself. pending: how many polls are answered with 202. manifest: members that replace those of its own.
    searched: how many resources of a type a search counts; without it nothing is searched. groups: the members of each
    Group that may be read. listed: the types of its CapabilityStatement; without it there is none.
    """

    files: dict[str, bytes] = field(
        default_factory=lambda: {"Patient": ndjson(*PATIENTS), "Condition": ndjson(*CONDITIONS)}
    )
    faults: dict[str, Fault] = field(default_factory=dict)
    pending: int = 0
    pending_headers: Mapping[str, str] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    searched: dict[str, int] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    jobs: int = 0
    deleted_jobs: list[str] = field(default_factory=list)
    counted: list[Request] = field(default_factory=list)
    ignores_last_updated: bool = False

    def __post_init__(self) -> None:
        self.http = RawServer(self.answer)
        self.base = self.http.base

    def close(self) -> None:
        self.http.close()

    def answer(self, request: Request) -> bytes | Wire:
        for piece, fault in self.faults.items():
            if piece in request.path and (found := fault(request)) is not None:
                return found
        if request.path.endswith("$export"):
            self.jobs += 1
            return http(b"", 202, {"Content-Location": f"{self.base}/job/{self.jobs}", "Date": ASKED})
        if request.method == "DELETE":
            self.deleted_jobs.append(request.path.rpartition("/")[2])
            return http(b"", 202)
        if "/job/" in request.path:
            if self.pending:
                self.pending -= 1
                return http(b"", 202, self.pending_headers)
            return http(json.dumps(self.whole_manifest()).encode())
        if "/file/" in request.path:
            return self.file(request.path.rpartition("/")[2])
        return self.known(request.path.removeprefix("/fhir/"), request)

    def known(self, path: str, request: Request) -> bytes:
        """Answer what is no part of an export: a count, a Group, the CapabilityStatement."""
        found: dict[str, Any] | None = None
        group = path.removeprefix("Group/")
        if path in self.searched:
            self.counted.append(request)
            ignored = "_lastUpdated" not in request.query or self.ignores_last_updated
            after_all = request.query.get("_lastUpdated", [""])[0].startswith("gt2999")
            total = self.searched[path] if ignored or not after_all else 0
            found = {"resourceType": "Bundle", "type": "searchset", "total": total}
        elif path == "metadata" and self.listed:
            resources = [{"type": kind} for kind in self.listed]
            found = {"resourceType": "CapabilityStatement", "rest": [{"mode": "server", "resource": resources}]}
        elif group in self.groups:
            members = [{"entity": {"reference": f"Patient/{each}"}} for each in self.groups[group]]
            found = {"resourceType": "Group", "id": group, "type": "person", "actual": True, "member": members}
        return http(json.dumps(found or {}).encode(), 200 if found else 404)

    def file(self, name: str) -> bytes:
        return http(self.files[name], headers={"Content-Type": "application/fhir+ndjson"})

    def item(self, name: str, **members: Any) -> dict[str, Any]:
        """One file of a manifest."""
        return {"type": name.partition(".")[0], "url": f"{self.base}/file/{name}", **members}

    def whole_manifest(self) -> dict[str, Any]:
        output = [self.item(name, count=text.count(b"\n")) for name, text in self.files.items()]
        return {
            "transactionTime": DONE,
            "request": f"{self.base}/$export",
            "requiresAccessToken": True,
            "output": output,
            "error": [],
            **self.manifest,
        }


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.day = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def as_clock(self) -> Clock:
        from datetime import UTC, datetime, timedelta

        began = datetime(2024, 1, 1, tzinfo=UTC)
        now = lambda: began + timedelta(days=self.day, seconds=sum(self.slept))  # noqa: E731
        return Clock(lambda: sum(self.slept), now, self.sleep, lambda: 0.0)


def source(server: ExportServer, folder: Path, clock: FakeClock | None = None, **options: Any) -> BulkSource:
    """The source of a test: no time passes but by `clock`."""
    clock = clock or FakeClock()
    types = options.pop("types", TYPES)
    return BulkSource(server.base, types, "site", folder / "jobs", clock=clock.as_clock(), sleep=clock.sleep, **options)


@dataclass
class Pulled:
    """What a pull gave, by kind."""

    items: list[SourceEvent]

    @property
    def ids(self) -> list[str]:
        return [item.id for item in self.items if isinstance(item, Resource)]

    @property
    def rejected(self) -> list[Rejected]:
        return [item for item in self.items if isinstance(item, Rejected)]

    @property
    def problems(self) -> list[str]:
        return [item.message for item in self.items if isinstance(item, Problem)]

    @property
    def notes(self) -> list[str]:
        return [item.message for item in self.items if isinstance(item, Note)]

    @property
    def deleted(self) -> list[Deleted]:
        return [item for item in self.items if isinstance(item, Deleted)]


def pull(source: BulkSource, previous: Cursor | None = None) -> Pulled:
    return Pulled(list(source.pull(previous)))


def cursor(source: BulkSource) -> Cursor:
    """The cursor that a complete sync would leave."""
    return Cursor(source.fingerprint, True, source.server_time, state=dict(source.state))
