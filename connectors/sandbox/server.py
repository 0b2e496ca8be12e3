"""Synthetic test patients on a FHIR R4 server: load them, and remove exactly those again.

Each resource carries a tag of ours (`meta.tag`), which tells what we put there from everything else. A server that does
not search by `_tag` is refused, because it could not be cleared again. A resource of the same id without our tag
belongs to somebody else: then nothing is written at all.

Resources are PUT under their ids (FHIR R4, 3.1.0.4.1, update as create) in transactions of whole patients. A server
that chooses the ids itself gets conditional creates (3.1.0.8.1) instead, whose condition is a second tag that names the
resource: not every type can be searched by identifier (AdverseEvent cannot).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from connectors.errors import AuthenticationError, ProtocolError, RefusedError, SandboxError, ServerError
from connectors.fhir.bundle import Entry
from connectors.fhir.capability import read_capability_statement
from connectors.fhir.lenient import convert_leniently, json_or_none
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.http.response import Response
from connectors.http.retry import RETRIED_STATUSES
from connectors.sandbox.bundles import (
    Resource,
    add_tag,
    chunks_by_patient,
    cohort_reference,
    create_entries,
    delete_entry,
    differs,
    is_tagged,
    put_entry,
    referrers_first,
    rewrite_references,
    server_reference,
    tag_query,
)
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest

CHUNK = 200  # resources in one transaction, more if one patient has more
IDS_PER_SEARCH = 50  # so that the URL stays short enough for gateways
ANY_STATUS = tuple(status for status in range(200, 600) if status not in RETRIED_STATUSES)
OWN_IDS_REFUSED = (400, 404, 405, 412, 422)  # servers do not agree on the status for an id of ours
DELETED = (200, 202, 204, 404, 410)  # or gone already

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Ignore the progress."""


class _EntryResponse(msgspec.Struct):
    status: object = ""  # "201 Created", of some servers a number


class _ResponseEntry(msgspec.Struct):
    response: _EntryResponse = msgspec.field(default_factory=_EntryResponse)


class _ResponseBundle(msgspec.Struct):
    """The response to a batch (FHIR R4, 3.1.0.11.3)."""

    entry: tuple[_ResponseEntry, ...] = ()


class _Issue(msgspec.Struct):
    severity: str = ""
    code: str = ""


class _OperationOutcome(msgspec.Struct):
    issue: tuple[_Issue, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """The number of resources by what became of them and by type."""

    created: Mapping[str, int]
    updated: Mapping[str, int]
    unchanged: Mapping[str, int]


@dataclass(frozen=True)
class Cleared:
    """The number of resources deleted, and of those that the server refused to delete, by type."""

    deleted: Mapping[str, int]
    left: Mapping[str, int]


@dataclass
class Sandbox:
    """One server, and the code of the `cohort` that is loaded there: `clear` needs the code that `load` had."""

    client: FhirClient
    cohort: str
    limits: SearchLimits = field(default_factory=SearchLimits)
    _transactions: bool = field(default=True, init=False)
    _own_ids: bool = field(default=True, init=False)  # until the server refuses ids of ours

    @property
    def _server(self) -> str:
        return redact_url(self.client.base)

    def load(self, resources: Sequence[Resource], progress: Progress = silent) -> Loaded:
        """Put `resources` on the server, except those that are already there unchanged.

        Raises SandboxError where the server cannot take them, AuthenticationError and ServerError as `FhirClient` does.
        """
        ours = {cohort_reference(each): add_tag(each, self.cohort) for each in resources}
        types = sorted({each["resourceType"] for each in resources})
        theirs = {cohort_reference(each): each for each in self._read_tagged(types)}
        new = set(ours) - set(theirs)
        # Before the first write, so that a refusal leaves the server as it was.
        self._refuse_foreign([each for name, each in ours.items() if name in new])
        # References must name what the server calls the resources, or everything would seem changed.
        ids = {name: server_reference(each) for name, each in theirs.items()}
        changed = {
            name
            for name, each in ours.items()
            if name in theirs and differs(rewrite_references(each, ids), theirs[name])
        }
        self._transactions = self._takes_transactions()
        self._put([each for name, each in ours.items() if name in changed | new], ids, progress)
        unchanged = set(ours) - changed - new
        return Loaded(*(_by_type(ours[name] for name in names) for names in (new, changed, unchanged)))

    def clear(self, types: Sequence[str], progress: Progress = silent) -> Cleared:
        """Delete what `load` put there, of these types, and nothing else.

        Raises SandboxError where the server cannot tell it from other resources, AuthenticationError and ServerError
        as `FhirClient` does.
        """
        found = self._read_tagged(types)
        self._transactions = self._takes_transactions()
        done = 0
        left: list[Resource] = []
        for chunk in chunks_by_patient(found, CHUNK):
            ordered = referrers_first(chunk)
            # As a transaction first, because resources may refer to each other in circles.
            entries = [delete_entry(each) for each in ordered]
            if not (self._transactions and self._post("transaction", entries).status == 200):
                left += self._delete_one_by_one(ordered)
            done += len(chunk)
            progress(f"{done} of {len(found)} resources deleted")
        # A resource may have been kept because of one in a later chunk: go on as long as that helps.
        while left and len(still_left := self._delete_one_by_one(left)) < len(left):
            left = still_left
        kept = {server_reference(each) for each in left}
        return Cleared(_by_type(each for each in found if server_reference(each) not in kept), _by_type(left))

    # --- what is there ---

    def _read_tagged(self, types: Sequence[str]) -> list[Resource]:
        """Return all that bears our tag. Raises SandboxError where the server cannot search by tag."""
        found = []
        for kind in types:
            request = SearchRequest(kind, (tag_query(self.cohort),), None, f"{kind} of the sandbox")
            try:
                for resource in self._read(request):
                    if not is_tagged(resource, self.cohort):  # at the first one: there may be millions
                        raise SandboxError(
                            f"{self._server} ignores the search parameter _tag, so the resources could not be told "
                            "from others: nothing was changed; use another server"
                        )
                    found.append(resource)
            except RefusedError as error:
                if error.status == 403:
                    raise
                raise SandboxError(
                    f"{self._server} does not search {kind} by _tag ({error.status}), so the resources could not be "
                    "removed again: use another server"
                ) from error
        return found

    def _refuse_foreign(self, resources: Sequence[Resource]) -> None:
        """Raise SandboxError where the server has untagged resources with ids that we would write."""
        count = 0
        for kind in sorted({each["resourceType"] for each in resources}):
            ids = [each["id"] for each in resources if each["resourceType"] == kind]
            for start in range(0, len(ids), IDS_PER_SEARCH):
                some = ids[start : start + IDS_PER_SEARCH]
                request = SearchRequest(kind, (("_id", ",".join(some)),), None, f"{kind} by id")
                count += sum(each["id"] in some and not is_tagged(each, self.cohort) for each in self._read(request))
        if count:
            raise SandboxError(
                f"{self._server} has {count} resources with ids of the cohort that periop did not put there: "
                "nothing was written; remove them, or use another server"
            )

    def _read(self, request: SearchRequest) -> Iterable[Resource]:
        for page in Paging(self.client, self.limits).pages(request):
            for entry in page.entries:
                body = _resource(entry) if entry.mode in ("", "match") else {}
                # Included resources and outcomes are on the page too.
                if body.get("resourceType") == request.resource_type:
                    yield body

    def _takes_transactions(self) -> bool:
        """Return what the CapabilityStatement says. Without one, a transaction is tried."""
        response = self.client.get(f"{self.client.base}/metadata", "metadata", ANY_STATUS)
        if response.status != 200:
            return True
        return "transaction" in read_capability_statement(response.body).system_interactions

    # --- writing ---

    def _put(self, resources: Sequence[Resource], ids: Mapping[str, str], progress: Progress) -> None:
        done = 0
        for chunk in chunks_by_patient(resources, CHUNK):
            if self._transactions:
                self._put_transaction(chunk, ids)
            else:
                self._put_batch([put_entry(self.client.base, each, ids) for each in chunk])
            done += len(chunk)
            progress(f"{done} of {len(resources)} resources put")

    def _put_transaction(self, resources: Sequence[Resource], ids: Mapping[str, str]) -> None:
        base = self.client.base
        if self._own_ids:
            response = self._post("transaction", [put_entry(base, each, ids) for each in resources])
            self._own_ids = response.status not in OWN_IDS_REFUSED
        if not self._own_ids:
            response = self._post("transaction", create_entries(base, resources, ids))
        if response.status != 200:
            raise self._refusal(response.status, response.body)

    def _put_batch(self, entries: list[dict[str, Any]]) -> None:
        # A resource may come before one that it refers to, which the server then refuses. So what failed is sent again
        # as long as something succeeds.
        while entries:
            response = self._post("batch", entries)
            if response.status != 200:
                raise self._refusal(response.status, response.body)
            found = convert_leniently(json_or_none(response.body), _ResponseBundle).entry
            statuses = [str(each.response.status)[:3] for each in found]
            statuses += ["0"] * (len(entries) - len(statuses))
            failed = [(each, status) for each, status in zip(entries, statuses, strict=False) if status[:1] != "2"]
            if len(failed) == len(entries):
                last = failed[-1][1]
                raise self._refusal(int(last) if last.isdigit() else 0, b"")
            entries = [entry for entry, _ in failed]

    def _delete_one_by_one(self, resources: Sequence[Resource]) -> list[Resource]:
        """Delete resources and return those that the server keeps."""
        left = []
        for each in resources:
            url = f"{self.client.base}/{server_reference(each)}"
            response = self.client.delete(url, f"deleting a {each['resourceType']}", statuses=ANY_STATUS)
            if response.status in (401, 403):  # it would be the same for all that follow
                raise self._refusal(response.status, response.body)
            if response.status not in DELETED:
                left.append(each)
        return left

    def _post(self, kind: str, entries: Sequence[dict[str, Any]]) -> Response:
        body = orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})
        return self.client.post(self.client.base, f"a {kind} of {len(entries)} resources", body, None, ANY_STATUS)

    def _refusal(self, status: int, body: bytes) -> ServerError | AuthenticationError | SandboxError:
        if status == 401:
            message = f"{self._server} does not accept the credentials for writing (401): check `auth`"
            return AuthenticationError(message)
        if status == 403:
            message = f"{self._server} does not allow to write (403): ask for permission, or use another server"
            return RefusedError(message, status)
        # Only the codes of an OperationOutcome (FHIR R4, issue-type): its words may quote a resource.
        issues = convert_leniently(json_or_none(body), _OperationOutcome).issue
        codes = sorted({each.code for each in issues if each.severity in ("error", "fatal")})
        reason = ", ".join([str(status), *(code for code in codes if code.replace("-", "").isalpha())])
        return SandboxError(
            f"{self._server} does not take the resources ({reason}), neither under our ids nor under its own: "
            "check what it supports, or use another server"
        )


def _resource(entry: Entry) -> Resource:
    try:
        body = orjson.loads(entry.resource) if entry.resource else {}
    except orjson.JSONDecodeError as error:
        raise ProtocolError(
            "a resource on the server is not JSON, so nobody can tell whose it is: use another server"
        ) from error
    return body if isinstance(body, dict) else {}


def _by_type(resources: Iterable[Resource]) -> Mapping[str, int]:
    return dict(sorted(Counter(each["resourceType"] for each in resources).items()))
