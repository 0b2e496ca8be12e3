"""A small FHIR R4 server on the loopback, in memory, that can be made to lie: each test says in what.

It searches by `_id`, `subject`, `code`, `_tag` and `_lastUpdated` (by `patient`, `category` and `identifier` where a
test adds them), also by POST to `_search`, pages by `_offset`, has a type history, takes transactions and batches of
PUT, conditional POST and DELETE, and refuses every other parameter with 400.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from schedules.config.resource_types import TYPES

Resource = dict[str, Any]
FHIR_JSON = "application/fhir+json"
CHANGED = "2026-01-01T00:00:00.000Z"


@dataclass
class Request:
    """What the server was asked. path: below the base, without a slash in front."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any = None


@dataclass
class Reply:
    """What it answers."""

    status: int = 200
    body: Any = None
    kind: str = FHIR_JSON
    headers: dict[str, str] = field(default_factory=dict)


Rule = Callable[[Request], Reply | None]


class FhirStub:
    """rules: asked before the server itself; the first that replies wins."""

    def __init__(self) -> None:
        self.store: dict[str, Resource] = {}
        self.rules: list[Rule] = []
        self.requests: list[Request] = []
        self.token: str | None = None
        self.clock = timedelta()
        self.dated = True
        self.gzip = True
        self.version = "4.0.1"
        self.types = set(TYPES)
        self.transactions = True
        self.own_ids = True
        self.history = True
        self.zoned = True
        self.software: dict[str, Any] = {}
        self.parameters = {"_id", "subject", "code", "_tag", "_lastUpdated"}
        self.ignored: set[str] = set()
        self.listed: dict[str, tuple[str, ...]] = {}  # search parameters of a type in the CapabilityStatement
        self.export: tuple[str, ...] = ("system", "group", "patient")
        self.link_base: str | None = None
        self._lock = Lock()
        self._chosen = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.origin = f"http://127.0.0.1:{self._http.server_port}"
        self.base = f"{self.origin}/fhir"
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def put(self, *resources: Resource) -> None:
        for each in resources:
            self.store[f"{each['resourceType']}/{each['id']}"] = each

    def of_type(self, kind: str) -> list[Resource]:
        return [each for each in self.store.values() if each["resourceType"] == kind]

    # --- answers ---

    def answer(self, request: Request) -> Reply:
        for rule in self.rules:
            if (reply := rule(request)) is not None:
                return reply
        if request.path == "metadata":
            return Reply(body=self.statement())
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return outcome(401, "login")
        match request.method, request.path.split("/"):
            case "POST", [""]:
                return self._bundle(request.body)
            case "GET", [kind, "_history"] if kind in self.types:
                return Reply(body=self._history(kind, request.params))
            case "GET", [kind] if kind in self.types:
                return self._search(kind, request.params)
            case "POST", [kind, "_search"] if kind in self.types:
                return self._search(kind, request.body)
            case "GET", [kind, identity]:
                found = self.store.get(f"{kind}/{identity}")
                return Reply(body=found) if found else outcome(404, "not-found")
            case "PUT", [kind, identity]:
                return self._put(request.body)
            case "DELETE", [kind, identity]:
                return self._delete(f"{kind}/{identity}")
        return outcome(404, "not-found")

    def _history(self, kind: str, params: dict[str, str]) -> Resource:
        """As if each resource had been put once, at CHANGED; empty where `history` is false."""
        told = self.history and params.get("_since", "") < CHANGED
        entries = [
            {
                "fullUrl": f"{self.base}/{kind}/{each['id']}",
                "resource": each,
                "request": {"method": "PUT", "url": f"{kind}/{each['id']}"},
            }
            for each in self.of_type(kind)[: int(params.get("_count", "20"))]
        ]
        return {**searchset([], "history"), "entry": entries if told else []}

    def statement(self) -> Resource:
        searches = [{"code": "search-type"}, {"code": "read"}]
        export = [{"name": "export", "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"}]
        resources: list[Resource] = [
            {
                "type": kind,
                "interaction": searches,
                "searchParam": [{"name": name} for name in self.listed.get(kind, ())],
            }
            for kind in TYPES
            if kind in self.types
        ]
        resources.append({"type": "Group", "operation": export if "group" in self.export else []})
        resources[0]["operation"] = export if "patient" in self.export else []
        rest = {
            "mode": "server",
            "interaction": [{"code": "transaction" if self.transactions else "batch"}],
            "operation": export if "system" in self.export else [],
            "resource": resources,
        }
        return {"resourceType": "CapabilityStatement", "fhirVersion": self.version, **self.software, "rest": [rest]}

    def _search(self, kind: str, params: dict[str, str]) -> Reply:
        asked = {name for name in params if name not in ("_count", "_total", "_summary", "_elements", "_offset")}
        if asked - self.parameters - self.ignored:
            return outcome(400, "not-supported")
        if not self.zoned and "_lastUpdated" in params:  # the same day and hour, whatever the zone
            params = {**params, "_lastUpdated": f"{params['_lastUpdated'][:21]}Z"}
        found = [
            each
            for each in self.of_type(kind)
            if all(matches(each, name, params[name]) for name in asked - self.ignored)
        ]
        if params.get("_summary") == "count":
            return Reply(body=searchset([], total=len(found)))
        start, count = int(params.get("_offset", "0")), int(params.get("_count", "20"))
        base = self.link_base or self.base
        links = [{"relation": "self", "url": f"{base}/{kind}?{urlencode(params)}"}]
        if start + count < len(found):
            onward = urlencode({**params, "_offset": str(start + count)})
            links.append({"relation": "next", "url": f"{base}/{kind}?{onward}"})
        return Reply(body=searchset(found[start : start + count], total=len(found), link=links))

    # --- changes ---

    def _bundle(self, bundle: Resource) -> Reply:
        if bundle["type"] == "transaction" and not self.transactions:
            return outcome(400, "not-supported")
        with self._lock:
            if bundle["type"] == "batch":
                return Reply(body={"resourceType": "Bundle", "entry": [self._single(e) for e in bundle["entry"]]})
            if not self.own_ids and any(
                entry["request"]["method"] == "PUT" and entry["request"]["url"] not in self.store
                for entry in bundle["entry"]
            ):
                return outcome(400, "business-rule")
            return self._transaction(bundle["entry"])

    def _transaction(self, entries: list[Resource]) -> Reply:
        gone = {entry["request"]["url"] for entry in entries if entry["request"]["method"] == "DELETE"}
        if self._held(gone):
            return outcome(409, "conflict")
        places = {entry["fullUrl"]: self._created(entry) for entry in entries if entry["request"]["method"] == "POST"}
        for entry in entries:
            method, url = entry["request"]["method"], entry["request"]["url"]
            if method == "DELETE":
                self.store.pop(url, None)
                continue
            place = places[entry["fullUrl"]] if method == "POST" else url
            if method == "PUT" or place not in self.store:
                text = json.dumps(entry["resource"])
                for urn, there in places.items():
                    text = text.replace(urn, there)
                self.store[place] = {**json.loads(text), "id": place.partition("/")[2]}
        return Reply(body={"resourceType": "Bundle", "type": "transaction-response"})

    def _created(self, entry: Resource) -> str:
        ((name, value),) = parse_qsl(entry["request"]["ifNoneExist"])
        kind = entry["request"]["url"]
        for each in self.of_type(kind):
            if matches(each, name, value):
                return f"{kind}/{each['id']}"
        self._chosen += 1
        return f"{kind}/{self._chosen}"

    def _put(self, resource: Resource) -> Reply:
        with self._lock:
            place = f"{resource['resourceType']}/{resource['id']}"
            answer = self._single({"resource": resource, "request": {"url": place}})["response"]["status"]
        return Reply(201, resource) if answer.startswith("201") else outcome(int(answer[:3]), "conflict")

    def _single(self, entry: Resource) -> Resource:
        """One PUT of a batch; it must not refer to what is not there (yet)."""
        patients = {each for each in referenced(entry["resource"]) if each.startswith("Patient/")}
        dangling = bool(patients - set(self.store))
        if dangling or not self.own_ids:
            return {"response": {"status": "409 Conflict" if dangling else "400 Bad Request"}}
        self.store[entry["request"]["url"]] = entry["resource"]
        return {"response": {"status": "201 Created"}}

    def _delete(self, place: str) -> Reply:
        with self._lock:
            if self._held({place}):
                return outcome(409, "conflict")
            return Reply(204) if self.store.pop(place, None) else outcome(404, "not-found")

    def _held(self, places: set[str]) -> bool:
        """Whether a resource that stays refers to one of these patients."""
        patients = {place for place in places if place.startswith("Patient/")}
        return bool(patients) and any(
            patients & referenced(each) for name, each in self.store.items() if name not in places
        )

    # --- the wire ---

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length", "0"))
                content = self.rfile.read(length)
                form = "form-urlencoded" in self.headers.get("Content-Type", "")
                body = dict(parse_qsl(content.decode())) if form else json.loads(content) if length else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                path = parts.path.removeprefix("/fhir").removeprefix("/")
                request = Request(self.command, path, dict(parse_qsl(parts.query)), headers, body)
                stub.requests.append(request)
                self._send(stub.answer(request), "gzip" in headers.get("accept-encoding", ""))

            def _send(self, reply: Reply, zipped: bool) -> None:
                text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                content = b"" if reply.body is None else text.encode()
                headers = {"Content-Type": reply.kind, **reply.headers}
                if stub.dated:
                    headers["Date"] = format_datetime(datetime.now(UTC) + stub.clock, usegmt=True)
                if stub.gzip and zipped and content:
                    content = gzip.compress(content)
                    headers["Content-Encoding"] = "gzip"
                self.send_response_only(reply.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@contextmanager
def fhir_stub() -> Iterator[FhirStub]:
    """A server for one test."""
    stub = FhirStub()
    try:
        yield stub
    finally:
        stub.close()


def searchset(resources: list[Resource], kind: str = "searchset", **members: Any) -> Resource:
    entries = [{"resource": each, "search": {"mode": "match"}} for each in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": entries, **members}


def outcome(status: int, code: str) -> Reply:
    """A refusal whose words quote a patient: they must never be shown."""
    issue = {"severity": "error", "code": code, "diagnostics": "no such thing for Jane Canary-Smith"}
    return Reply(status, {"resourceType": "OperationOutcome", "issue": [issue]})


def matches(resource: Resource, name: str, value: str) -> bool:
    """Whether a search parameter selects a resource."""
    wanted = value.split(",")
    match name:
        case "_id":
            return resource["id"] in wanted
        case "subject":
            return resource.get("subject", {}).get("reference") in wanted
        case "patient":
            return resource.get("subject", {}).get("reference") in {f"Patient/{each}" for each in wanted}
        case "category":
            held = [coding for each in resource.get("category", []) for coding in each.get("coding", [])]
            return any(each.get("code") in wanted for each in held)
        case "identifier":
            held = resource.get("identifier", [])
            return any(f"{each.get('system')}|{each.get('value')}" in wanted for each in held)
        case "_lastUpdated":
            updated = resource.get("meta", {}).get("lastUpdated", CHANGED)
            return datetime.fromisoformat(value.removeprefix("ge")) <= datetime.fromisoformat(updated)
        case "code" | "_tag":
            held = (
                resource.get("code", {}).get("coding", [])
                if name == "code"
                else resource.get("meta", {}).get("tag", [])
            )
            return any({f"{each.get('system')}|{each.get('code')}", each.get("code")} & set(wanted) for each in held)
    raise AssertionError(name)


def referenced(value: object) -> set[str]:
    """The references of a resource to others on the server."""
    if isinstance(value, dict):
        own = {item for name, item in value.items() if name == "reference" and not item.startswith("#")}
        return own.union(*(referenced(item) for item in value.values()))
    return set().union(*(referenced(item) for item in value)) if isinstance(value, list) else set()
