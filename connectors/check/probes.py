"""Probes: the requests of a sync, tried with one resource each, and what came of them.

A CapabilityStatement is a promise, so each thing is tried. Whether a parameter is honoured shows in a canary, a search
that cannot match anything: if the server returns something all the same, it ignored the parameter. No response is kept,
and no id or value of a patient is in a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlencode

from connectors.check import admin_requests
from connectors.check.findings import Finding, FindingLevel
from connectors.errors import AuthenticationError, ForeignOriginError, ServerError, UnavailableError
from connectors.fhir.bundle import Bundle
from connectors.fhir.capability import CapabilityStatement
from connectors.fhir.resource import Resource, read_resource
from connectors.http.client import FhirClient
from connectors.http.origin import base_of_self_link, rebase_link, redact_url
from connectors.http.response import json_body
from connectors.http.retry import RETRIED_STATUSES, TruncatedError
from connectors.sources.search.paging import FIRST_PAGE, parse_page
from connectors.sources.search.source import CohortQuery

# Any answer is a finding here. Only what may pass is tried again, as in a sync.
ANY_STATUS = tuple(status for status in range(200, 500) if status not in RETRIED_STATUSES)
CANARY = "periop-canary"  # an id that no patient has
CANARY_CODE = "urn:periop:canary|none"
FAR_FUTURE = "2100-01-01T00:00:00.000Z"  # nothing was changed after it
ONE = ("_count", "1")
PATIENCE = 3  # requests without an answer, after which the rest is left out


@dataclass(frozen=True)
class ProbeResult:
    """The outcome of one request: its page, or why there is none. status 0: no answer. login: a web page came."""

    url: str
    status: int = 0
    page: Bundle | None = None
    failure: str = ""
    login: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def matches(self) -> int:
        """Return the number of resources on the page that match the search."""
        entries = self.page.entries if self.page else ()
        found = [each.resource.replace(b" ", b"") for each in entries if each.resource and each.mode in ("", "match")]
        # Some servers report "nothing found" as an OperationOutcome without a search mode.
        return sum(b'"resourceType":"OperationOutcome"' not in each for each in found)

    def honoured(self, name: str) -> bool:
        """Return whether the self link repeats the parameter, as it does for those used (FHIR R4, 3.1.1.5.2)."""
        return self.page is not None and f"{name}=" in self.page.links.get("self", "")


@dataclass(eq=False)
class ServerProbes:
    """The probes of one site.

    capability: what its server says, None if it does not say. anonymous: no credentials are configured.
    """

    client: FhirClient
    cohort: CohortQuery
    types: Sequence[str]
    capability: CapabilityStatement | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        self._server = redact_url(self.client.base)
        self._patient = ""  # a patient of the cohort, whose resources are probed
        self._pages: list[tuple[str, ProbeResult]] = []
        self._unanswered = 0

    def findings(self) -> Iterator[Finding]:
        """Probe the cohort query, each type, and paging. Stop where the server is gone or refuses the credentials."""
        steps: list[Callable[[], Iterator[Finding]]] = [self._cohort_query]
        steps += [partial(self._type, kind) for kind in self.types]
        for step in (*steps, self._paging):
            for finding in step():
                yield finding
                if finding.level is FindingLevel.REFUSED or self._unanswered >= PATIENCE:
                    return

    # --- the cohort query ---

    def _cohort_query(self) -> Iterator[Finding]:
        kind, params = self.cohort.resource_type, self.cohort.params
        name = params[0][0]
        result = self._search(kind, (*params, ONE, ("_total", "accurate")))
        if result.status == 400:  # `_total` is optional in FHIR
            result = self._search(kind, (*params, ONE))
        if result.page is None:
            yield self._unreadable("cohort", kind, result, name)
            return
        items = (read_resource(entry.resource, "", frozenset({kind})) for entry in result.page.entries)
        self._patient = next((item.patient for item in items if isinstance(item, Resource) and item.patient), "")
        self._pages.append((kind, result))
        # Without the codes, the cohort would be everybody in the hospital.
        if self._search(kind, ((name, CANARY_CODE), ONE)).matches:
            yield self._ignored("cohort", kind, name)
        elif not result.matches:
            message = f"{kind}?{name}=… finds nothing: is this the right server?"
            yield Finding("cohort", FindingLevel.NOTE, message, kind)
        else:
            total = result.page.total
            count = f"{total} found" if total is not None else "the server does not say how many"
            yield Finding("cohort", FindingLevel.OK, f"{kind}?{name}=… with the codes of the study: {count}", kind)

    # --- one type ---

    def _type(self, kind: str) -> Iterator[Finding]:
        result = self._search(kind, (self._by_patient(kind, self._patient or CANARY), ONE))
        if result.page is None:
            yield self._unreadable("read", kind, result, self._by_patient(kind, "")[0])
            return
        self._pages.append((kind, result))
        yield Finding("read", FindingLevel.OK, "readable by patient", kind)
        # A server that ignores the patient would send the resources of everybody, once for each patient.
        name, value = self._by_patient(kind, CANARY)
        if self._search(kind, ((name, value), ONE)).matches:
            yield self._ignored("patient", kind, name)
        else:
            yield Finding("patient", FindingLevel.OK, f"{name} is honoured", kind)
        yield self._changes(kind, result)
        yield self._history(kind, result)

    def _by_patient(self, kind: str, patient: str) -> tuple[str, str]:
        """Return the parameter by which the sync selects patients (`connectors.sources.search.source`)."""
        return ("_id", patient) if kind == "Patient" else ("subject", f"Patient/{patient}")

    def _ignored(self, check: str, kind: str, name: str) -> Finding:
        message = f"the parameter {name} is ignored: the server returns what was not asked for"
        request = admin_requests.enable_parameter(self._server, name, "ignored")
        return Finding(check, FindingLevel.MISSING, message, kind, request)

    def _changes(self, kind: str, read: ProbeResult) -> Finding:
        params = (self._by_patient(kind, self._patient or CANARY), ("_lastUpdated", f"ge{FAR_FUTURE}"), ONE)
        canary = self._search(kind, params)
        if canary.page is None or canary.matches:
            how = "refused" if canary.page is None else "ignored"
            message = f"the parameter _lastUpdated is {how}: every nightly run reads everything"
            request = admin_requests.enable_last_updated(self._server, how)
            return Finding("changes", FindingLevel.NOTE, message, kind, request)
        # An empty answer proves something only if the same search without the parameter is not empty.
        if read.matches or canary.honoured("_lastUpdated"):
            return Finding("changes", FindingLevel.OK, "_lastUpdated is honoured", kind)
        return Finding("changes", FindingLevel.NOTE, "no resource to tell by whether _lastUpdated is honoured", kind)

    def _history(self, kind: str, read: ProbeResult) -> Finding:
        """Check that a history says what was done (`sources.search.executor` needs it) and that `_since` narrows it."""
        # Ids only: a history holds resources of all patients, not just of the cohort.
        newest = self._probe(f"{kind}/_history?{urlencode((('_elements', 'id'), ONE))}", f"history of {kind}")
        canary = self._probe(f"{kind}/_history?{urlencode((('_since', FAR_FUTURE), ONE))}", f"history of {kind}")
        if newest.page is None or canary.page is None:
            reason = f"refused ({newest.status if newest.page is None else canary.status})"
        elif canary.page.entries:
            reason = "not narrowed by _since"
        # The method tells a deletion from an update. Some servers leave it out, or answer with an empty Bundle.
        elif any(entry.method for entry in newest.page.entries):
            return Finding("history", FindingLevel.OK, "_history tells what was deleted", kind)
        elif read.matches:
            reason = "empty, though there are resources"
        else:
            return Finding("history", FindingLevel.NOTE, "no resource to tell by whether _history works", kind)
        message = f"_history is {reason}: deletions are found by comparing all ids"
        request = admin_requests.enable_history(self._server)
        return Finding("history", FindingLevel.NOTE, message, kind, request)

    # --- paging ---

    def _paging(self) -> Iterator[Finding]:
        for kind, result in self._pages:
            if result.page is not None and (link := result.page.links.get("next")):
                yield self._next_page(kind, result, result.page, link)
                return
        if any(result.page is not None and (result.page.total or 0) > 1 for _, result in self._pages):
            message = "the server announces more resources than its first page holds, and gives no next link"
            request = admin_requests.repair_paging(self._server, "there are none")
            yield Finding("paging", FindingLevel.MISSING, message, request=request)
        else:
            yield Finding("paging", FindingLevel.NOTE, "no search here has a second page to try")

    def _next_page(self, kind: str, result: ProbeResult, page: Bundle, link: str) -> Finding:
        own_base = base_of_self_link(page.links.get("self"), kind)
        try:
            url = rebase_link(link, result.url, self.client.base, own_base)
        except ForeignOriginError as error:
            request = admin_requests.correct_links(self._server, _redact_link(link))
            return Finding("paging", FindingLevel.MISSING, str(error), request=request)
        second = self._probe(url, f"second page of {kind}")
        if second.page is None:
            message = f"following a next link fails: {second.failure or f'status {second.status}'}"
            reason = f"following one ends with status {second.status or 'none'}"
        # Some servers ignore the parameters of their own next links. A sync would never come to an end.
        elif page.entries and [each.resource for each in page.entries] == [
            each.resource for each in second.page.entries
        ]:
            message = reason = "a next link leads to the same page again"
        elif own_base and not self.client.base.startswith(own_base):
            message = f"next links name {redact_url(own_base)} and are requested from {self._server}"
            return Finding("paging", FindingLevel.OK, message)
        else:
            return Finding("paging", FindingLevel.OK, "a next link leads to the next page")
        request = admin_requests.repair_paging(self._server, reason)
        return Finding("paging", FindingLevel.MISSING, message, request=request)

    # --- one request ---

    def _search(self, kind: str, params: Sequence[tuple[str, str]]) -> ProbeResult:
        return self._probe(f"{kind}?{urlencode(params)}", kind)

    def _probe(self, path: str, label: str) -> ProbeResult:
        # A next link is a URL already.
        url = path if path.startswith(self.client.base) else f"{self.client.base}/{path}"
        try:
            response = self.client.get(url, label, ANY_STATUS, FIRST_PAGE)
            page = parse_page(json_body(response, label, self._server)) if response.status == 200 else None
        except AuthenticationError as error:
            return ProbeResult(url, failure=str(error), login=True)
        except UnavailableError as error:
            self._unanswered += 1
            return ProbeResult(url, failure=str(error))
        except (ServerError, TruncatedError) as error:
            return ProbeResult(url, failure=str(error) or f"{label}: the response is cut off")
        return ProbeResult(url, response.status, page, headers=response.headers)

    def _unreadable(self, check: str, kind: str, result: ProbeResult, parameter: str) -> Finding:
        """Return the finding for a search without a page. `parameter`: the one that a 400 is about."""
        server, status, level = self._server, result.status, FindingLevel.MISSING
        offered = self._offered(kind, parameter if status in (400, 422) else "")
        if result.login:
            level, message = FindingLevel.REFUSED, result.failure
            reason = "it answers a program with a web page, probably its login"
            request = admin_requests.name_base_url(server, reason)
        elif status == 401 and self.anonymous:
            level, message = FindingLevel.REFUSED, "credentials are asked for (401): configure `auth` of the site"
            request = admin_requests.explain_sign_in(server)
        elif status == 401:
            level, message = FindingLevel.REFUSED, "the credentials are not accepted (401): check `auth` of the site"
            request = admin_requests.check_client(server)
        elif status == 403:
            message, request = f"not allowed (403){offered}", admin_requests.allow_reading(server)
        elif status == 404:
            message, request = f"not served (404){offered}", admin_requests.serve_type(server)
        elif status in (400, 422):
            message = f"the parameter {parameter} is refused ({status}){offered}"
            request = admin_requests.enable_parameter(server, parameter, "refused")
        elif status == 0:
            message, request = result.failure, admin_requests.inspect_log(server, "no usable answer")
        else:
            message = f"answered with {status}{offered}"
            request = admin_requests.inspect_log(server, f"status {status}")
        return Finding(check, level, message, kind, request)

    def _offered(self, kind: str, parameter: str) -> str:
        """Return a remark if the CapabilityStatement offers the search of a type, or a parameter of it."""
        capability = self.capability
        if capability is None:
            return ""
        if parameter:
            offered = parameter in capability.of_type(kind).parameters
        else:
            offered = capability.offers(kind, "search-type")
        return ", though the CapabilityStatement offers it" if offered else ""


def _redact_link(link: str) -> str:
    try:
        return redact_url(link)
    except ForeignOriginError:
        return "something that is not an http(s) address"
