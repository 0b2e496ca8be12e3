"""A server on the loopback that behaves as the profile of a vendor says (`fixtures/vendors`): search and $export.

The content, the clock and the pages are those of `tests.fhir_server.ModelServer`; what a vendor does otherwise than
the specification is done here, before its answer. A second origin holds the files of those that keep them elsewhere.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import httpx

from tests.fhir_server import BASE, Features, ModelServer
from tests.raw_server import RawServer, Request, http, ndjson

VENDORS = Path(__file__).parents[1] / "fixtures" / "vendors"
GROUP = "lung-cancer"
CONTROLS = ("_count", "_total", "_summary", "_elements", "page")


@dataclass(frozen=True)
class SearchSwitches:
    """The behaviour of the server in searches.

    offered: there are searches at all. needs_patient: one of any type needs patient, subject or _id. lists: of
    patients, in one parameter. requires: a parameter that a search of a type needs besides. with_id: parameters beside
    `_id`. by_patient: the names of the parameter. last_updated: what becomes of `_lastUpdated`, but for the types of
    last_updated_of, where it works. warnings: each page ends with an
    OperationOutcome. lacks: types. dates: meta.lastUpdated and meta.versionId.
    """

    offered: bool = True
    needs_patient: bool = False
    lists: Literal["all", "first", "refused"] = "all"
    requires: Mapping[str, str] = field(default_factory=dict)
    with_id: Literal["all", "ignored"] = "all"
    by_patient: tuple[str, ...] = ("subject", "patient")
    last_updated: Literal["yes", "ignored", "refused"] = "yes"
    last_updated_of: tuple[str, ...] = ()
    history: bool = True
    totals: bool = True
    elements: bool = True
    dates: bool = True
    warnings: bool = False
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class BulkSwitches:
    """The behaviour of the server in exports.

    levels: those that it offers. since: what becomes of `_since`. lacks: types; unknown_types: what becomes of a
    kick-off that names one of them. polls: how many are answered with 202, and with which Retry-After. files: on the
    server itself, by a redirect (307) to a bucket, or in a storage that the token does not open. needs_ndjson: a file
    is given to `Accept: application/fhir+ndjson` only. deleted: deletions are in the manifest. empty_files: a type
    without resources has a file.
    """

    levels: tuple[str, ...] = ("system", "patient", "group")
    since: Literal["yes", "ignored", "refused"] = "yes"
    lacks: tuple[str, ...] = ()
    unknown_types: Literal["refused", "ignored"] = "ignored"
    polls: int = 0
    retry_after: str = ""
    files: Literal["own", "redirect", "storage"] = "own"
    requires_access_token: bool = True
    needs_ndjson: bool = False
    deleted: bool = False
    empty_files: bool = True


@dataclass(frozen=True)
class Profile:
    """The switches of one vendor. software, publisher: as its CapabilityStatement names them."""

    name: str
    search: SearchSwitches
    bulk: BulkSwitches
    software: str = ""
    publisher: str = ""


def switches(name: str) -> Iterator[tuple[str, str, Any, str]]:
    """Yield (section, switch, value, source) of a profile."""
    content = tomllib.loads((VENDORS / f"{name}.toml").read_text(encoding="utf-8"))
    for key, value in content.items():
        found = value.items() if key in ("search", "bulk") else [(key, value)]
        for switch, told in found:
            yield key if key in ("search", "bulk") else "", switch, told["value"], told["source"]


def profile(name: str) -> Profile:
    """Return the profile of a file. A switch that is not known is an error."""
    values: dict[str, dict[str, Any]] = {"": {}, "search": {}, "bulk": {}}
    for section, switch, value, _ in switches(name):
        values[section][switch] = tuple(value) if isinstance(value, list) else value
    return Profile(name, SearchSwitches(**values["search"]), BulkSwitches(**values["bulk"]), **values[""])


PROFILES = tuple(sorted(file.stem for file in VENDORS.glob("*.toml")))
SWITCHES = {each.name for kind in (Profile, SearchSwitches, BulkSwitches) for each in fields(kind)}


@dataclass
class VendorServer:
    """members: the patients of the Group. broken: statuses of the next answers but that of /metadata. after: how many
    answers are good before them.
    """

    profile: Profile
    types: tuple[str, ...]
    members: list[str] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    after: int = 0

    def __post_init__(self) -> None:
        search = self.profile.search
        features = Features(
            history=search.history,
            totals=search.totals,
            dates=search.dates,
            first_only=search.lists == "first",
            warnings=search.warnings,
            elements=search.elements,
        )
        self.model = ModelServer(features, lacking=set(search.lacks))
        self.http, self.storage = RawServer(self._answer), RawServer(self._stored)
        self.base = self.http.base
        self._jobs: dict[str, tuple[dict[str, list[Any]], int, str]] = {}

    def close(self) -> None:
        self.http.close()
        self.storage.close()

    # --- what it answers ---

    def _answer(self, request: Request) -> bytes:
        path = request.path.removeprefix("/fhir/")
        if path == "metadata":
            return self._json(self._statement())
        if self.broken and not self.after:
            return self._refused(self.broken.pop(0), "it is down")
        self.after = max(0, self.after - 1)
        if path.endswith("$export"):
            return self._kick_off(path, {name: values[0] for name, values in request.query.items()})
        if path.startswith("job/"):
            return self._job(request)
        if path.startswith("file/"):
            return self._file(request)
        if path.startswith("Group/"):
            return self._json(self._group()) if path == f"Group/{GROUP}" else self._refused(404, "no such Group")
        return self._searched(path, request)

    def _json(self, body: Any, status: int = 200, **headers: str) -> bytes:
        date = {"Date": format_datetime(self.model.now, usegmt=True)}
        return http(json.dumps(body).encode(), status, {**date, **headers})

    def _refused(self, status: int, words: str) -> bytes:
        issue = {"severity": "error", "code": "processing", "diagnostics": words}
        return self._json({"resourceType": "OperationOutcome", "issue": [issue]}, status)

    def _statement(self) -> dict[str, Any]:
        search, bulk, resources = self.profile.search, self.profile.bulk, []
        for kind in self.types if search.offered else ():
            if kind in search.lacks:
                continue
            names = ["_id"] if kind in ("Patient", "Medication") else ["_id", *search.by_patient]
            names += ["_lastUpdated"] if "yes" in (search.last_updated, self._changes(kind)) else []
            names += ["code"] if not search.needs_patient else []
            found = {"type": kind, "interaction": [{"code": "read"}, {"code": "search-type"}]}
            resources.append({**found, "searchParam": [{"name": name} for name in names]})
        # An operation is listed where it can be called, as the IG's own CapabilityStatement does.
        operations = {level: [{"name": "export"}] for level in bulk.levels}
        resources.append({"type": "Group", "operation": operations.get("group", [])})
        for each in resources:
            if each["type"] == "Patient":
                each["operation"] = operations.get("patient", [])
        rest = {"mode": "server", "resource": resources, "operation": operations.get("system", [])}
        software = {"software": {"name": self.profile.software}} if self.profile.software else {}
        publisher = {"publisher": self.profile.publisher} if self.profile.publisher else {}
        return {
            "resourceType": "CapabilityStatement",
            "fhirVersion": "4.0.1",
            **software,
            **publisher,
            "rest": [rest],
        }

    def _group(self) -> dict[str, Any]:
        members = [{"entity": {"reference": f"Patient/{each}"}} for each in self.members]
        return {"resourceType": "Group", "id": GROUP, "type": "person", "actual": True, "member": members}

    # --- search ---

    def _searched(self, path: str, request: Request) -> bytes:
        search = self.profile.search
        if not search.offered:
            return self._refused(404, "this server has no search")
        query = {name: values[0] for name, values in request.query.items()}
        if path.endswith("_search"):
            path, query = path.removesuffix("/_search"), query | dict(parse_qsl(request.body.decode()))
        if "page" not in query and not path.endswith("_history") and (words := self._wrong(path, query)):
            return self._refused(400, words)
        if "_id" in query and search.with_id == "ignored":
            query = {name: value for name, value in query.items() if name == "_id" or name in CONTROLS}
        if self._changes(path) == "ignored":
            query.pop("_lastUpdated", None)
        answer = self.model.handle_request(httpx.Request("GET", f"{BASE}/{path}?{urlencode(query)}"))
        content = answer.read().replace(BASE.encode(), self.base.encode())
        headers = {name: answer.headers[name] for name in ("Content-Type", "Date")}
        return http(content, answer.status_code, headers)

    def _changes(self, kind: str) -> str:
        return "yes" if kind in self.profile.search.last_updated_of else self.profile.search.last_updated

    def _wrong(self, kind: str, query: Mapping[str, str]) -> str:
        """Return why a search is refused, '' if it is not."""
        search, by = self.profile.search, self.profile.search.by_patient
        for name in {"patient", "subject"} - set(by):
            if name in query:
                return f"Unknown search parameter {name}"
        if "_lastUpdated" in query and self._changes(kind) == "refused":
            return "Unknown search parameter _lastUpdated"
        if search.needs_patient and not {"_id", *by} & set(query):
            return "A required search parameter is missing: patient"
        if search.lists == "refused" and any("," in query.get(name, "") for name in ("_id", *by)):
            return "The search names several patients"
        needed = search.requires.get(kind)
        return f"A required search parameter is missing: {needed}" if needed and needed not in query else ""

    # --- export ---

    def _kick_off(self, path: str, query: Mapping[str, str]) -> bytes:
        bulk = self.profile.bulk
        level = path.partition("/")[0].lower() if "/" in path else "system"
        if level not in bulk.levels or (level == "group" and path.split("/")[1] != GROUP):
            return self._refused(404, f"$export is not offered at the level {level}")
        asked = query["_type"].split(",")
        if lacking := [kind for kind in asked if kind in bulk.lacks]:
            if bulk.unknown_types == "refused":
                return self._refused(422, f"Resource type {lacking[0]} is not eligible for this type of export")
            asked = [kind for kind in asked if kind not in lacking]
        if "_since" in query and bulk.since == "refused":
            return self._refused(400, "The parameter _since is not supported")
        since = query.get("_since", "") if bulk.since == "yes" else ""
        job = str(len(self._jobs) + 1)
        self._jobs[job] = (self._exported(asked, since, level), bulk.polls, self.model.now.isoformat())
        return self._json({}, 202, **{"Content-Location": f"{self.base}/job/{job}"})

    def _exported(self, types: list[str], since: str, level: str) -> dict[str, list[Any]]:
        """Return the resources by type, and as `deleted` the deletions since then."""
        members = set(self.members) if level == "group" else None
        found: dict[str, list[Any]] = {kind: [] for kind in types}
        found["deleted"] = []
        for key, versions in self.model.versions.items():
            newest = versions[-1]
            if key[0] not in types or (since and newest.updated.isoformat() < since):
                continue
            if newest.body is None:
                url = f"{key[0]}/{key[1]}"
                found["deleted"] += [{"request": {"method": "DELETE", "url": url}}] if since else []
            elif members is None or not (who := patient_of(newest.body)) or who in members:
                found[key[0]].append(self.model.get(key))
        return found

    def _job(self, request: Request) -> bytes:
        job, bulk = request.path.rpartition("/")[2], self.profile.bulk
        if job not in self._jobs:
            return self._refused(404, "no such job")
        if request.method == "DELETE":
            del self._jobs[job]
            return self._json({}, 202)
        found, polls, time = self._jobs[job]
        if polls:
            self._jobs[job] = (found, polls - 1, time)
            headers = {"Retry-After": bulk.retry_after} if bulk.retry_after else {"X-Progress": "Active"}
            return self._json({}, 202, **headers)
        place = self.storage.origin if bulk.files == "storage" else self.base
        items = [
            {"type": kind, "url": f"{place}/file/{job}/{kind}", "count": len(resources)}
            for kind, resources in found.items()
            if kind != "deleted" and (resources or bulk.empty_files)
        ]
        deleted = [{"type": "Bundle", "url": f"{place}/file/{job}/deleted"}]
        return self._json(
            {
                "transactionTime": time,
                "request": f"{self.base}/$export",
                "requiresAccessToken": bulk.requires_access_token,
                "output": items,
                "error": [],
                **({"deleted": deleted} if bulk.deleted and found["deleted"] else {}),
            }
        )

    def _file(self, request: Request) -> bytes:
        bulk = self.profile.bulk
        if bulk.needs_ndjson and request.headers.get("accept") != "application/fhir+ndjson":
            return self._refused(406, "Accept must be application/fhir+ndjson")
        if bulk.files == "redirect":
            return http(b"", 307, {"Location": f"{self.storage.origin}{request.path.removeprefix('/fhir')}"})
        return self._content(request)

    def _stored(self, request: Request) -> bytes:
        if "authorization" in request.headers:
            return http(b"<Error>credentials of another server</Error>", 400)
        if self.profile.bulk.files == "storage":  # of a private container nobody without its own credentials learns
            return http(b"<Error><Code>ResourceNotFound</Code></Error>", 404, {"Content-Type": "application/xml"})
        return self._content(request)

    def _content(self, request: Request) -> bytes:
        job, kind = request.path.split("/")[-2:]
        if job not in self._jobs:
            return self._refused(404, "no such file")
        found = self._jobs[job][0][kind]
        lines = [{"resourceType": "Bundle", "type": "transaction", "entry": found}] if kind == "deleted" else found
        return http(ndjson(*lines), headers={"Content-Type": "application/fhir+ndjson"})


def patient_of(body: Mapping[str, Any]) -> str:
    """Return the id of the patient whom a resource is about, '' for none."""
    if body["resourceType"] == "Patient":
        return str(body["id"])
    return str(body.get("subject", {}).get("reference", "")).removeprefix("Patient/")


@contextmanager
def vendor_server(name: str, types: tuple[str, ...]) -> Iterator[VendorServer]:
    """A server for one test."""
    server = VendorServer(profile(name), types)
    try:
        yield server
    finally:
        server.close()
