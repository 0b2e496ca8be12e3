"""Writes the resources of a sandbox, in the largest Bundles that the server takes.

Whole patients in a transaction first. A server that refuses one (413, or another 4xx, for none of which says why) gets
halves of it, and what it took holds for the rest; below one patient, resources that others refer to come first. A
server that takes no transaction gets batches, in the same way, and one that takes no Bundle at all a PUT for each
resource. Every step is safe to repeat: resources are put under their own ids, or created under a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from connectors.errors import AuthenticationError, RefusedError, SandboxError, ServerError
from connectors.fhir.lenient import convert_leniently, json_or_none
from connectors.fhir.outcome import outcome_text
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.http.response import Response
from connectors.http.retry import RETRIED_STATUSES
from connectors.http.server_words import quoted
from connectors.sandbox.bundles import (
    Resource,
    chunks_by_patient,
    create_entries,
    patient_of,
    put_entry,
    referrers_first,
    server_reference,
)

CHUNK = 200  # resources in one transaction, more if one patient has more
ANY_STATUS = tuple(status for status in range(200, 600) if status not in RETRIED_STATUSES)
GATEWAY_TIMEOUT = 504  # of a Bundle that a server works on for longer than the gateway before it waits
OWN_IDS_REFUSED = (400, 404, 405, 412, 422)  # servers do not agree on the status for an id of ours
FEWER = "the server takes at most {} resources in a {}"
SINGLES = "the server takes no Bundle: each resource is put alone"
Progress = Callable[[str], None]


class _EntryResponse(msgspec.Struct):
    status: object = ""  # "201 Created", of some servers a number
    outcome: dict[str, Any] = msgspec.field(default_factory=dict)


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


@dataclass
class SandboxWriter:
    """Puts resources on one server.

    ids: what the server calls those that it has. transactions: it may take some. own_ids: until it refuses ids of ours.
    size: resources in a Bundle.
    """

    client: FhirClient
    ids: Mapping[str, str]
    progress: Progress
    transactions: bool = True
    batches: bool = True
    own_ids: bool = True
    size: int = CHUNK
    _ids_taken: bool = False
    _taken: bool = False  # something, in the way that is used now
    _divisible: bool = False  # what is sent now can be sent in parts

    def put(self, resources: Sequence[Resource]) -> None:
        """Put all resources. Raises SandboxError where the server does not take one, however it is sent."""
        done = 0
        for chunk in chunks_by_patient(resources, self.size):
            self._put(chunk)
            done += len(chunk)
            self.progress(f"{done} of {len(resources)} resources put")

    def _put(self, resources: Sequence[Resource]) -> None:
        """Put some resources, in parts where the server has refused or refuses so many."""
        if len(resources) > self.size and (parts := self._parts(resources)):
            for part in parts:
                self._put(part)
            return
        self._divisible = bool(self._parts(resources))
        response = self._send(resources)
        if response is None:
            self._taken = True
            return
        if response.status in (401, 403):
            raise self._refusal(response)
        first, *others = self._parts(resources) or (resources,)
        if not others:
            self._put_alone(resources, response)
            return
        way = self._way
        self._put(first)
        # Only now, and in the same way: what is refused for another reason says nothing about the size.
        if self._way == way and len(first) < self.size:
            self.size = len(first)
            self.progress(FEWER.format(self.size, way))
        for part in others:
            self._put(part)

    @property
    def _way(self) -> str:
        return "transaction" if self.transactions else "batch" if self.batches else ""

    def _put_alone(self, resources: Sequence[Resource], refused: Response) -> None:
        """Put what the server refuses as a Bundle of the smallest size, in the next simpler way."""
        # Where others were taken in this way, it is the resource that is refused. Without a transaction a server that
        # chooses the ids has no reference to put in the place of ours.
        if self._taken or not self.own_ids or not self._way:
            raise self._refusal(refused)
        if self.transactions:
            self.transactions, self.size = False, CHUNK
        else:
            self.batches = False
            self.progress(SINGLES)
        self._put(resources)

    def _parts(self, resources: Sequence[Resource]) -> tuple[list[Resource], ...]:
        """Return two parts of some resources, or nothing where they cannot be divided."""
        if len(resources) < 2:
            return ()
        patients = {patient_of(each) for each in resources}
        if len(patients) == 1:
            # Creates refer to each other by names that hold within their transaction only.
            if not self.own_ids:
                return ()
            # Whoever is referred to first: a server may refuse a reference to what is not there yet.
            ordered = referrers_first(resources)[::-1]
            middle = (len(ordered) + 1) // 2
            return ordered[:middle], ordered[middle:]
        portions = list(chunks_by_patient(resources, 1))
        middle = (len(portions) + 1) // 2
        first, second = portions[:middle], portions[middle:]
        return [one for each in first for one in each], [one for each in second for one in each]

    def _send(self, resources: Sequence[Resource]) -> Response | None:
        """Send resources in the way that is used now; return the response if they were refused."""
        base = self.client.base
        if self.transactions:
            return self._transaction(resources)
        entries = [put_entry(base, each, self.ids) for each in resources]
        if self.batches:
            return self._batch(entries)
        for entry in _targets_first(entries):
            label = f"putting a {entry['resource']['resourceType']}"
            response = self.client.put(
                f"{base}/{entry['request']['url']}", label, orjson.dumps(entry["resource"]), None, ANY_STATUS
            )
            if response.status not in (200, 201):
                return response
        return None

    def _transaction(self, resources: Sequence[Resource]) -> Response | None:
        base = self.client.base
        response = None
        if self.own_ids:
            response = self._post("transaction", [put_entry(base, each, self.ids) for each in resources])
            if response.status == 200:
                self._ids_taken = True
                return None
            # What was refused after ids of ours were taken is refused for another reason.
            if self._ids_taken or response.status not in OWN_IDS_REFUSED:
                return response
        created = self._post("transaction", create_entries(base, resources, self.ids))
        if created.status == 200:
            self.own_ids = False
            return None
        return response or created

    def _batch(self, entries: list[dict[str, Any]]) -> Response | None:
        # A resource may come before one that it refers to, which the server then refuses. So what failed is sent again
        # as long as something succeeds.
        while entries:
            response = self._post("batch", entries)
            if response.status != 200:
                return response
            found = convert_leniently(json_or_none(response.body), _ResponseBundle).entry
            answers = [each.response for each in found] + [_EntryResponse("0")] * (len(entries) - len(found))
            failed = [
                (entry, answer)
                for entry, answer in zip(entries, answers, strict=False)
                if str(answer.status)[:1] != "2"
            ]
            if len(failed) == len(entries):
                status = str(failed[-1][1].status)[:3]
                body = orjson.dumps(failed[-1][1].outcome)
                raise self._refusal(Response(int(status) if status.isdigit() else 0, response.headers, body))
            entries = [entry for entry, _ in failed]
        return None

    def _post(self, kind: str, entries: Sequence[dict[str, Any]]) -> Response:
        return post_bundle(self.client, kind, entries, divisible=self._divisible)

    def _refusal(self, response: Response) -> ServerError | AuthenticationError | SandboxError:
        return refusal(self.client, response)


def post_bundle(
    client: FhirClient, kind: str, entries: Sequence[dict[str, Any]], *, divisible: bool = False
) -> Response:
    """Send a transaction or a batch; return the response, whatever its status.

    divisible: it can be sent in parts, which helps where a gateway does not wait for the whole.
    """
    body = orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})
    statuses = (*ANY_STATUS, GATEWAY_TIMEOUT) if divisible else ANY_STATUS
    return client.post(client.base, f"a {kind} of {len(entries)} resources", body, None, statuses)


def refusal(client: FhirClient, response: Response) -> ServerError | AuthenticationError | SandboxError:
    """Return the error that a refused write stands for, with the words of the server as far as they may be shown."""
    server, status = redact_url(client.base), response.status
    words = quoted(outcome_text(response.body), client.base)
    if status == 401:
        return AuthenticationError(f"{server} does not accept the credentials for writing (401): check `auth`{words}")
    if status == 403:
        message = f"{server} does not allow to write (403): ask for permission, or use another server{words}"
        return RefusedError(message, status)
    issues = convert_leniently(json_or_none(response.body), _OperationOutcome).issue
    codes = sorted({each.code for each in issues if each.severity in ("error", "fatal")})
    reason = ", ".join([str(status), *(code for code in codes if code.replace("-", "").isalpha())])
    return SandboxError(
        f"{server} does not take the resources ({reason}), neither under our ids nor under its own: "
        f"check what it supports, or use another server{words}"
    )


def _targets_first(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    places = {entry["request"]["url"]: entry for entry in entries}
    ordered = referrers_first([entry["resource"] for entry in entries])[::-1]
    return [places[server_reference(each)] for each in ordered]
