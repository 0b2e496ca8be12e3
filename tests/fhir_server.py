"""A model of a FHIR R4 server in this process, as the wire of a transport: small, and as capable as a test says.

It has a clock of its own, versions, deletions, searches that are forgotten, and faults that come when they are told to.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Lock
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

import httpx

BASE = "http://model.example/fhir"
START = datetime(2024, 1, 1, tzinfo=UTC)
Key = tuple[str, str]


@dataclass
class Features:
    """The abilities of the server.

    changes: what it does with `_lastUpdated`. longest: patients in one search, 0 for any. first_only: of several
    patients it looks for the first, without a word. warnings: each page ends with an OperationOutcome.
    """

    changes: Literal["yes", "ignored", "refused", "echoed"] = "yes"  # echoed: in the self link, and ignored
    history: bool = True
    totals: bool = True
    dates: bool = True  # meta.lastUpdated and meta.versionId
    elements: bool = True
    warnings: bool = False
    first_only: bool = False
    page: int = 3
    longest: int = 0
    short: str = ""  # a type of which it gives one resource and no next link, whatever it announces


@dataclass
class Version:
    """One version; body None for a deletion."""

    number: int
    updated: datetime
    body: dict[str, Any] | None


@dataclass
class ModelServer(httpx.BaseTransport):
    """`put` and `delete` change it, each a second after what was before; `faults` are statuses of the next answers.

    expired: how many next links will be forgotten. refused: a type for which it wants other credentials. lacking: types
    that it does not have. refusals: statuses without an explanation, by type. listed: types of its CapabilityStatement,
    None where it has none. ignored: search parameters. during: what happens to it before its n-th answer from now on.
    requests: the paths and queries that came. members: the ids of the patients of Group/g, None where it is not there.
    """

    features: Features = field(default_factory=Features)
    now: datetime = START
    faults: deque[int] = field(default_factory=deque)
    expired: int = 0
    refused: str = ""
    lacking: set[str] = field(default_factory=set)
    refusals: dict[str, int] = field(default_factory=dict)
    listed: tuple[str, ...] | None = None
    ignored: set[str] = field(default_factory=set)
    during: dict[int, Callable[[], None]] = field(default_factory=dict)
    versions: dict[Key, list[Version]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    searches: dict[str, tuple[str, list[Key], dict[str, str], int]] = field(default_factory=dict)
    members: Callable[[], list[str]] | None = None
    lock: Lock = field(default_factory=Lock)

    def put(self, resource_type: str, id_: str, **elements: Any) -> None:
        """Create or update a resource."""
        self._add((resource_type, id_), {"resourceType": resource_type, "id": id_, **elements})

    def delete(self, resource_type: str, id_: str) -> None:
        """Delete a resource; harmless if it is not there."""
        if self.get((resource_type, id_)) is not None:
            self._add((resource_type, id_), None)

    def _add(self, key: Key, body: dict[str, Any] | None) -> None:
        self.now += timedelta(seconds=1)
        known = self.versions.setdefault(key, [])
        known.append(Version(len(known) + 1, self.now, body))

    def get(self, key: Key) -> dict[str, Any] | None:
        """A resource as the server gives it, None if it is not there."""
        version = self.versions[key][-1] if key in self.versions else None
        if version is None or version.body is None:
            return None
        meta = {"versionId": str(version.number), "lastUpdated": version.updated.isoformat(timespec="milliseconds")}
        return {**version.body, "meta": meta} if self.features.dates else version.body

    def current(self) -> dict[Key, dict[str, Any]]:
        """Every resource that is there."""
        return {key: body for key in self.versions if (body := self.get(key)) is not None}

    # --- the wire ---

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            asked = request.url.query + (b"&" + request.read() if request.method == "POST" else b"")
            query = {name: values[0] for name, values in parse_qs(asked.decode()).items()}
            path = request.url.path.removeprefix("/fhir").strip("/").removesuffix("/_search")
            self.requests.append((path, query))
            self._happen()
            if self.faults:
                return self._answer(self.faults.popleft())
            if self.refused and path.startswith(self.refused):
                return self._answer(401)
            kind = path.partition("/")[0]
            if kind in self.lacking:
                words = {"severity": "error", "code": "processing", "diagnostics": f"Unknown resource type '{kind}'"}
                return self._answer(404, {"resourceType": "OperationOutcome", "issue": [words]})
            if kind in self.refusals:
                return self._answer(self.refusals[kind], {"error": "no"})
            if path == "metadata":
                return self._answer(404) if self.listed is None else self._answer(200, self._statement(self.listed))
            if path == "Group/g" and self.members is not None:
                listed = [{"entity": {"reference": f"Patient/{each}"}} for each in self.members()]
                return self._answer(200, {"resourceType": "Group", "id": "g", "member": listed})
            if "page" in query:
                return self._page(query["page"])
            return self._history(path, query) if path.endswith("/_history") else self._search(path, query)

    def _happen(self) -> None:
        soon = {count - 1: event for count, event in self.during.items()}
        self.during = {count: event for count, event in soon.items() if count > 0}
        if 0 in soon:
            soon[0]()

    def _answer(self, status: int, body: dict[str, Any] | None = None) -> httpx.Response:
        outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "processing"}]}
        headers = {"Content-Type": "application/fhir+json", "Date": format_datetime(self.now, usegmt=True)}
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(json.dumps(body or outcome).encode()))

    def _statement(self, listed: tuple[str, ...]) -> dict[str, Any]:
        resources = [{"type": kind, "interaction": [{"code": "search-type"}]} for kind in listed]
        rest = [{"mode": "server", "resource": resources}]
        return {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": rest}

    def _search(self, kind: str, query: dict[str, str]) -> httpx.Response:
        listed = query.get("subject", query.get("patient", query.get("_id", "")))
        if self.features.longest and listed.count(",") >= self.features.longest:
            return self._answer(414)
        if "_lastUpdated" in query and self.features.changes == "refused":
            return self._answer(400)
        if "_elements" in query and not self.features.elements:
            return self._answer(400)
        if not self.features.totals and "_total" in query:
            return self._answer(400)
        if self.features.first_only:
            lists = ("_id", "subject", "patient")
            query = {name: value.partition(",")[0] if name in lists else value for name, value in query.items()}
        found = sorted(key for key in self.current() if key[0] == kind and self._matches(key, query))
        if query.get("_summary") == "count":
            if not self.features.totals:
                return self._answer(400)
            return self._answer(200, {"resourceType": "Bundle", "type": "searchset", "total": len(found)})
        token = str(len(self.searches))
        self.searches[token] = (kind, found, query, 0)
        return self._page(token, first=True)

    def _matches(self, key: Key, query: dict[str, str]) -> bool:
        body = self.get(key) or {}
        if any(name in query and not _is_coded(body.get(name), query[name]) for name in ("code", "category")):
            return False
        if "_id" in query and "_id" not in self.ignored and key[1] not in query["_id"].split(","):
            return False
        subject = body.get("subject", {}).get("reference")
        if "patient" in query and subject not in [f"Patient/{each}" for each in query["patient"].split(",")]:
            return False
        if "subject" in query and subject not in query["subject"].split(","):
            return False
        if "_lastUpdated" in query and self.features.changes == "yes":
            comparison, since = query["_lastUpdated"][:2], datetime.fromisoformat(query["_lastUpdated"][2:])
            updated = self.versions[key][-1].updated
            return updated >= since if comparison == "ge" else updated > since
        return True

    def _page(self, token: str, *, first: bool = False) -> httpx.Response:
        if not first and self.expired:
            self.expired -= 1
            return self._answer(410)
        kind, found, query, start = self.searches[token]
        size = min(int(query.get("_count", "20")), self.features.page)
        here, rest = found[start : start + size], found[start + size :]
        if kind == self.features.short:
            here, rest = found[:1], []
        links = []
        if first:
            unused = {"_lastUpdated"} if self.features.changes == "ignored" else set()
            used = {name: value for name, value in query.items() if name not in unused}
            links.append({"relation": "self", "url": f"{BASE}/{kind}?{urlencode(used)}"})
        if rest:
            following = f"{token}-{start + size}"
            self.searches[following] = (kind, found, query, start + size)
            links.append({"relation": "next", "url": f"{BASE}?page={following}"})
        entries = [self._entry(key, query) for key in here if self.get(key) is not None]
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}
        if self.features.warnings:
            issue = {"severity": "warning", "code": "processing", "diagnostics": "A parameter is not known"}
            outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
            entries.append({"resource": outcome, "search": {"mode": "outcome"}})
        if first and self.features.totals:
            bundle["total"] = len(found)
        return self._answer(200, bundle)

    def _entry(self, key: Key, query: dict[str, str]) -> dict[str, Any]:
        body = self.get(key) or {}
        if query.get("_elements") == "id":
            body = {name: value for name, value in body.items() if name in ("resourceType", "id", "meta")}
        return {"fullUrl": f"{BASE}/{key[0]}/{key[1]}", "resource": body, "search": {"mode": "match"}}

    def _history(self, path: str, query: dict[str, str]) -> httpx.Response:
        if not self.features.history:
            return self._answer(400)
        kind = path.removesuffix("/_history")
        since = datetime.fromisoformat(query["_since"]) if "_since" in query else START - timedelta(days=1)
        told = [
            (version.updated, key, version)
            for key, versions in self.versions.items()
            for version in versions
            if key[0] == kind and version.updated >= since
        ]
        told.sort(key=lambda entry: entry[0], reverse=True)
        entries = [self._told(key, version) for _, key, version in told]
        if query.get("_count") == "1":
            entries = entries[:1]
        return self._answer(200, {"resourceType": "Bundle", "type": "history", "entry": entries})

    def _told(self, key: Key, version: Version) -> dict[str, Any]:
        url = f"{key[0]}/{key[1]}"
        told: dict[str, Any] = {
            "fullUrl": f"{BASE}/{url}",
            "request": {"method": "DELETE" if version.body is None else "PUT", "url": url},
            "response": {"status": "200", "etag": f'W/"{version.number}"'},
        }
        if version.body is not None:
            told["resource"] = {"resourceType": key[0], "id": key[1]}
        return told


def _is_coded(concept: Any, wanted: str) -> bool:
    """Return True if a CodeableConcept, or one of a list, has one of these codes, or this text."""
    concepts = concept if isinstance(concept, list) else [concept or {}]
    codes = {token.rpartition("|")[2] for token in wanted.split(",")}
    held = {coding.get("code") for each in concepts for coding in each.get("coding", [])}
    return bool(codes & held) or any(each.get("text") == wanted for each in concepts)
