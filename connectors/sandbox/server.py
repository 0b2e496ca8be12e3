"""Synthetic test patients on a FHIR R4 server: load them, and remove exactly those again.

Each resource carries a tag of ours (`meta.tag`), which tells what we put there from everything else. A server that does
not search by `_tag` is refused, because it could not be cleared again. A resource of the same id without our tag
belongs to somebody else: then nothing is written at all.

Resources are PUT under their ids (FHIR R4, 3.1.0.4.1, update as create) in transactions (`writer`). A server
that chooses the ids itself gets conditional creates (3.1.0.8.1) instead, whose condition is a second tag that names the
resource: not every type can be searched by identifier (AdverseEvent cannot).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from connectors.errors import ProtocolError, RefusedError, SandboxError
from connectors.fhir.bundle import Entry
from connectors.fhir.capability import read_capability_statement
from connectors.fhir.outcome import lacks_type
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.sandbox.bundles import (
    Resource,
    add_tag,
    chunks_by_patient,
    cohort_reference,
    delete_entry,
    differs,
    is_tagged,
    referrers_first,
    rewrite_references,
    server_reference,
    tag_query,
)
from connectors.sandbox.writer import ANY_STATUS, CHUNK, Progress, SandboxWriter, post_bundle, refusal
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, SearchRequest

IDS_PER_SEARCH = 50  # so that the URL stays short enough for gateways
DELETED = (200, 202, 204, 404, 410)  # or gone already


def silent(_: str) -> None:
    """Ignore the progress."""


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
        writer = SandboxWriter(self.client, ids, progress, self._takes_transactions())
        writer.put([each for name, each in ours.items() if name in changed | new])
        unchanged = set(ours) - changed - new
        return Loaded(*(_by_type(ours[name] for name in names) for names in (new, changed, unchanged)))

    def clear(self, types: Sequence[str], progress: Progress = silent) -> Cleared:
        """Delete what `load` put there, of these types, and nothing else.

        Raises SandboxError where the server cannot tell it from other resources, AuthenticationError and ServerError
        as `FhirClient` does.
        """
        found = self._read_tagged(types, may_lack=True)
        transactions = self._takes_transactions()
        done = 0
        left: list[Resource] = []
        for chunk in chunks_by_patient(found, CHUNK):
            ordered = referrers_first(chunk)
            # As a transaction first, because resources may refer to each other in circles.
            entries = [delete_entry(each) for each in ordered]
            if not (transactions and post_bundle(self.client, "transaction", entries).status == 200):
                left += self._delete_one_by_one(ordered)
            done += len(chunk)
            progress(f"{done} of {len(found)} resources deleted")
        # A resource may have been kept because of one in a later chunk: go on as long as that helps.
        while left and len(still_left := self._delete_one_by_one(left)) < len(left):
            left = still_left
        kept = {server_reference(each) for each in left}
        return Cleared(_by_type(each for each in found if server_reference(each) not in kept), _by_type(left))

    # --- what is there ---

    def _read_tagged(self, types: Sequence[str], *, may_lack: bool = False) -> list[Resource]:
        """Return all that bears our tag. Raises SandboxError where the server cannot search by tag.

        may_lack: the server need not have all of the types.
        """
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
                if may_lack and lacks_type(error.status, error.outcome):
                    continue  # and so it holds nothing of ours
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

    def _delete_one_by_one(self, resources: Sequence[Resource]) -> list[Resource]:
        """Delete resources and return those that the server keeps."""
        left = []
        for each in resources:
            url = f"{self.client.base}/{server_reference(each)}"
            response = self.client.delete(url, f"deleting a {each['resourceType']}", statuses=ANY_STATUS)
            if response.status in (401, 403):  # it would be the same for all that follow
                raise refusal(self.client, response)
            if response.status not in DELETED:
                left.append(each)
        return left


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
