"""Puts invented patients on a FHIR R4 server, and takes exactly those off again.

Each resource carries a tag of ours (`meta.tag`), so that what we put there can be told from everything else. A server
that does not search by `_tag` is therefore refused: it could not be cleared. What is there already is not written
again, and a resource of the same id without our tag is somebody else's: then nothing is written at all.

Resources are PUT under their ids (FHIR R4, 3.1.0.4.1 update as create) in transactions of whole patients. A server that
wants to choose the ids itself gets conditional creates (3.1.0.8.1) instead. Their condition is a second tag that names
the resource, because not every type can be searched by identifier (AdverseEvent cannot).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.errors import AuthenticationError, ProtocolError, RefusedError, SandboxError, ServerError
from connectors.fhir.bundle import Entry
from connectors.fhir.capability import read_capability_statement
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.http.response import Response
from connectors.http.retry import RETRIED_STATUSES
from connectors.sandbox.bundles import (
    Resource,
    create_entries,
    delete_entry,
    differs,
    identity_of,
    is_tagged,
    place_of,
    portions,
    put_entry,
    referrers_first,
    tag_query,
    tagged,
    with_references,
)
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest

PORTION = 200  # resources in one transaction, as long as a patient fits
IDS = 50  # ids in one search
ANY_STATUS = tuple(status for status in range(200, 600) if status not in RETRIED_STATUSES)
OWN_IDS_REFUSED = (400, 404, 405, 412, 422)
DELETED = (200, 202, 204, 404, 410)

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """The progress of nobody looking."""


@dataclass(frozen=True)
class Loaded:
    """What became of the resources, by type."""

    created: Mapping[str, int]
    updated: Mapping[str, int]
    unchanged: Mapping[str, int]


@dataclass(frozen=True)
class Cleared:
    """What was taken off, and what the server did not let go, by type."""

    deleted: Mapping[str, int]
    left: Mapping[str, int]


@dataclass
class Sandbox:
    """One server, and the `cohort` whose resources are put there: a code, the same for load and clear."""

    client: FhirClient
    cohort: str
    limits: SearchLimits = field(default_factory=SearchLimits)
    _transactions: bool = field(default=True, init=False)
    _own_ids: bool = field(default=True, init=False)

    def load(self, resources: Sequence[Resource], progress: Progress = silent) -> Loaded:
        """Put `resources` there, those that are not there as they are.

        Raises SandboxError where the server cannot take them, AuthenticationError and ServerError as `FhirClient` does.
        """
        ours = {identity_of(each): tagged(each, self.cohort) for each in resources}
        there = {identity_of(each): each for each in self._tagged(sorted({each["resourceType"] for each in resources}))}
        fresh = set(ours) - set(there)
        self._refuse_foreign([each for name, each in ours.items() if name in fresh])
        ids = {name: place_of(each) for name, each in there.items()}
        changed = {n for n in ours if n in there and differs(with_references(ours[n], ids), there[n])}
        self._transactions = self._takes_transactions()
        todo = [each for name, each in ours.items() if name in changed | fresh]
        self._put(todo, ids, progress)
        same = set(ours) - changed - fresh
        return Loaded(*(_by_type(ours[name] for name in names) for names in (fresh, changed, same)))

    def clear(self, types: Sequence[str], progress: Progress = silent) -> Cleared:
        """Delete what `load` put there, of these types, and nothing else.

        Raises SandboxError where the server cannot tell it from the rest, AuthenticationError and ServerError as
        `FhirClient` does.
        """
        found = self._tagged(types)
        self._transactions = self._takes_transactions()
        done, stuck = 0, []
        for portion in portions(found, PORTION):
            stuck += self._delete(referrers_first(portion))
            done += len(portion)
            progress(f"{done} of {len(found)} resources deleted")
        left = self._delete_again(stuck)
        stayed = {place_of(each) for each in left}
        return Cleared(_by_type(each for each in found if place_of(each) not in stayed), _by_type(left))

    # --- what is there ---

    def _tagged(self, types: Sequence[str]) -> list[Resource]:
        """All that bears our tag. SandboxError where the server cannot search by tag, or ignores that we do."""
        found = []
        for kind in types:
            request = SearchRequest(kind, (tag_query(self.cohort),), None, f"{kind} of the sandbox")
            try:
                found += [each for each in self._read(request) if self._checked(each)]
            except RefusedError as error:
                if error.status == 403:
                    raise
                raise SandboxError(
                    f"{redact_url(self.client.base)} does not search {kind} by _tag ({error.status}), so what is put "
                    "there could not be taken off again: use another server"
                ) from error
        return found

    def _checked(self, resource: Resource) -> bool:
        if is_tagged(resource, self.cohort):
            return True
        raise SandboxError(
            f"{redact_url(self.client.base)} ignores the search parameter _tag, so what is put there could not be told "
            "from the rest: nothing was changed; use another server"
        )

    def _refuse_foreign(self, resources: Sequence[Resource]) -> None:
        """Where somebody else has resources of ids that we would write."""
        count = 0
        for kind in sorted({each["resourceType"] for each in resources}):
            ids = [each["id"] for each in resources if each["resourceType"] == kind]
            for start in range(0, len(ids), IDS):
                some = ids[start : start + IDS]
                request = SearchRequest(kind, (("_id", ",".join(some)),), None, f"{kind} by id")
                count += sum(each["id"] in some and not is_tagged(each, self.cohort) for each in self._read(request))
        if count:
            raise SandboxError(
                f"{redact_url(self.client.base)} has {count} resources with ids of the cohort that periop did not put "
                "there: nothing was written; take them off, or use another server"
            )

    def _read(self, request: SearchRequest) -> Iterable[Resource]:
        for page in Paging(self.client, self.limits).pages(request):
            for entry in page.entries:
                body = _resource(entry) if entry.mode in ("", "match") else {}
                if body.get("resourceType") == request.resource_type:
                    yield body

    def _takes_transactions(self) -> bool:
        """By the CapabilityStatement; without one, it is tried."""
        answer = self.client.get(f"{self.client.base}/metadata", "metadata", ANY_STATUS)
        if answer.status != 200:
            return True
        return "transaction" in read_capability_statement(answer.body).system_interactions

    # --- writing ---

    def _put(self, resources: Sequence[Resource], ids: Mapping[str, str], progress: Progress) -> None:
        done = 0
        for portion in portions(resources, PORTION):
            if self._transactions:
                self._put_transaction(portion, ids)
            else:
                self._put_batch([put_entry(self.client.base, each, ids) for each in portion])
            done += len(portion)
            progress(f"{done} of {len(resources)} resources put")

    def _put_transaction(self, resources: Sequence[Resource], ids: Mapping[str, str]) -> None:
        base = self.client.base
        if self._own_ids:
            answer = self._post("transaction", [put_entry(base, each, ids) for each in resources])
            if answer.status == 200:
                return
            if answer.status not in OWN_IDS_REFUSED:
                raise self._refusal(answer.status, answer.body)
            self._own_ids = False
        answer = self._post("transaction", create_entries(base, resources, ids))
        if answer.status != 200:
            raise self._refusal(answer.status, answer.body)

    def _put_batch(self, entries: list[dict[str, Any]]) -> None:
        """Again what failed as long as something gets through: a resource may have come before what it refers to."""
        while entries:
            answer = self._post("batch", entries)
            if answer.status != 200:
                raise self._refusal(answer.status, answer.body)
            failed, status = _failed(entries, answer)
            if len(failed) == len(entries):
                raise self._refusal(status, b"")
            entries = failed

    def _delete(self, resources: Sequence[Resource]) -> list[Resource]:
        """Delete, and return what stayed. One transaction first: resources may refer to each other in circles."""
        if self._transactions and self._post("transaction", [delete_entry(each) for each in resources]).status == 200:
            return []
        return self._delete_one_by_one(resources)

    def _delete_again(self, resources: Sequence[Resource]) -> Sequence[Resource]:
        """What stayed may have been held on to by what went later: again as long as something goes."""
        while resources and len(left := self._delete_one_by_one(resources)) < len(resources):
            resources = left
        return resources

    def _delete_one_by_one(self, resources: Sequence[Resource]) -> list[Resource]:
        left = []
        for each in resources:
            url = f"{self.client.base}/{place_of(each)}"
            answer = self.client.delete(url, f"deleting a {each['resourceType']}", statuses=ANY_STATUS)
            if answer.status in (401, 403):
                raise self._refusal(answer.status, answer.body)
            if answer.status not in DELETED:
                left.append(each)
        return left

    def _post(self, kind: str, entries: Sequence[dict[str, Any]]) -> Response:
        body = orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})
        return self.client.post(self.client.base, f"a {kind} of {len(entries)} resources", body, None, ANY_STATUS)

    def _refusal(self, status: int, body: bytes) -> ServerError | AuthenticationError | SandboxError:
        server = redact_url(self.client.base)
        if status == 401:
            return AuthenticationError(f"{server} does not accept the credentials for writing (401): check `auth`")
        if status == 403:
            return RefusedError(f"{server} does not allow to write (403): ask for the right, or use another", status)
        codes = _issue_codes(body)
        return SandboxError(
            f"{server} does not take the resources ({status}{f', {codes}' if codes else ''}), neither under our ids "
            "nor under its own: see what it supports, or use another server"
        )


def _resource(entry: Entry) -> Resource:
    try:
        body = orjson.loads(entry.resource) if entry.resource else {}
    except orjson.JSONDecodeError as error:
        raise ProtocolError(
            "a resource on the server is no JSON, so whose it is cannot be told: use another"
        ) from error
    return body if isinstance(body, dict) else {}


def _by_type(resources: Iterable[Resource]) -> Mapping[str, int]:
    return dict(sorted(Counter(each["resourceType"] for each in resources).items()))


def _failed(entries: list[dict[str, Any]], answer: Response) -> tuple[list[dict[str, Any]], int]:
    """The entries that a batch did not carry out, and the status of the last of them."""
    statuses = [str(each.get("response", {}).get("status", ""))[:3] for each in _entries(answer.body)]
    statuses += ["0"] * (len(entries) - len(statuses))
    failed = [(entry, status) for entry, status in zip(entries, statuses, strict=False) if not status.startswith("2")]
    return [entry for entry, _ in failed], int(failed[-1][1]) if failed and failed[-1][1].isdigit() else 0


def _entries(body: bytes) -> list[dict[str, Any]]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    entries = found.get("entry") if isinstance(found, dict) else None
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def _issue_codes(body: bytes) -> str:
    """The codes of an OperationOutcome (FHIR R4, issue-type); what it says in words may quote a resource."""
    try:
        issues = orjson.loads(body).get("issue", [])
        codes = {each["code"] for each in issues if each.get("severity") in ("error", "fatal")}
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return ""
    return ", ".join(sorted(code for code in codes if isinstance(code, str) and code.replace("-", "").isalpha()))
