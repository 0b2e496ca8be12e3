"""Asks a FHIR server what a sync would ask, one resource at a time, and says what came of it.

A CapabilityStatement is a promise, so each thing is tried. Whether a parameter is honoured is told by a canary: a
search that nothing can match: whatever it returns was not asked for. No answer is kept, no id or value is in a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlencode

from connectors.check import admin_requests
from connectors.check.findings import Finding, Level
from connectors.errors import AuthenticationError, ForeignOriginError, ServerError, UnavailableError
from connectors.fhir.bundle import Bundle, Entry
from connectors.fhir.capability import CapabilityStatement
from connectors.fhir.resource import Resource, read_resource
from connectors.http.client import FhirClient
from connectors.http.origin import base_of_self_link, rebase_link, redact_url
from connectors.http.response import json_body
from connectors.http.retry import RETRIED_STATUSES, TruncatedError
from connectors.sources.search.paging import FIRST_PAGE, parse_page
from connectors.sources.search.source import CohortQuery

ANY_STATUS = tuple(status for status in range(200, 500) if status not in RETRIED_STATUSES)
CANARY = "periop-canary"  # an id that no patient has
CANARY_CODE = "urn:periop:canary|none"
FAR = "2100-01-01T00:00:00.000Z"  # nothing was changed after it
ONE = ("_count", "1")
PATIENCE = 3  # requests without an answer until the rest is left


@dataclass(frozen=True)
class Asked:
    """What came of one request: its page, or why there is none. status 0: no answer."""

    url: str
    status: int = 0
    page: Bundle | None = None
    failure: str = ""
    login: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def matches(self) -> int:
        """Resources on the page that the server says match; an outcome is none."""
        entries = self.page.entries if self.page else ()
        return sum(bool(each.resource) and not _is_outcome(each) for each in entries if each.mode in ("", "match"))

    def honoured(self, name: str) -> bool:
        """Whether the self link repeats the parameter (FHIR R4, 3.1.1.5.2: what the server took into account)."""
        return self.page is not None and f"{name}=" in self.page.links.get("self", "")


class Probes:
    """The probes of one site.

    capability: what its server says, None if it does not say. anonymous: no credentials are configured.
    """

    def __init__(
        self,
        client: FhirClient,
        cohort: CohortQuery,
        types: Sequence[str],
        capability: CapabilityStatement | None = None,
        *,
        anonymous: bool = False,
    ) -> None:
        self._client = client
        self._cohort = cohort
        self._types = types
        self._capability = capability
        self._anonymous = anonymous
        self._server = redact_url(client.base)
        self._patient = ""
        self._pages: list[tuple[str, Asked]] = []
        self._unanswered = 0

    def findings(self) -> Iterator[Finding]:
        """Cohort query, then each type, then paging. Stops where the server is gone or the credentials are refused."""
        steps: list[Callable[[], Iterator[Finding]]] = [self._cohort_query]
        steps += [partial(self._type, kind) for kind in self._types]
        for step in (*steps, self._paging):
            for finding in step():
                yield finding
                if finding.level is Level.REFUSED or self._unanswered >= PATIENCE:
                    return

    # --- the cohort query ---

    def _cohort_query(self) -> Iterator[Finding]:
        kind, params = self._cohort.resource_type, self._cohort.params
        total = (("_total", "accurate"),)
        asked = self._search(kind, (*params, ONE, *total))
        if asked.status == 400:
            asked = self._search(kind, (*params, ONE))
        if asked.page is None:
            yield self._unreadable("cohort", kind, asked, params[0][0])
            return
        self._patient = self._patient_on(asked.page, kind)
        self._pages.append((kind, asked))
        name = params[0][0]
        canary = self._search(kind, ((name, CANARY_CODE), ONE))
        if canary.matches:
            yield self._ignored("cohort", kind, name)
            return
        total_found = asked.page.total
        count = f"{total_found} found" if total_found is not None else "it does not tell how many"
        if not asked.matches:
            yield Finding("cohort", Level.NOTE, f"{kind}?{name}=… finds nothing: is this the right server?", kind)
            return
        yield Finding("cohort", Level.OK, f"{kind}?{name}=… with the codes of the study: {count}", kind)

    def _patient_on(self, page: Bundle, kind: str) -> str:
        for entry in page.entries:
            item = read_resource(entry.resource, "", frozenset({kind})) if entry.resource else None
            if isinstance(item, Resource) and item.patient:
                return item.patient
        return ""

    # --- one type ---

    def _type(self, kind: str) -> Iterator[Finding]:
        asked = self._search(kind, (self._of(kind, self._patient or CANARY), ONE))
        if asked.page is None:
            yield self._unreadable("read", kind, asked, self._of(kind, "")[0])
            return
        self._pages.append((kind, asked))
        yield Finding("read", Level.OK, "readable by patient", kind)
        yield self._by_patient(kind)
        yield self._changes(kind, asked)
        yield self._history(kind, asked)

    def _of(self, kind: str, patient: str) -> tuple[str, str]:
        """The parameter that the sync selects patients by (`connectors.sources.search.source`)."""
        return ("_id", patient) if kind == "Patient" else ("subject", f"Patient/{patient}")

    def _by_patient(self, kind: str) -> Finding:
        name, value = self._of(kind, CANARY)
        canary = self._search(kind, ((name, value), ONE))
        if canary.matches:
            return self._ignored("patient", kind, name)
        return Finding("patient", Level.OK, f"{name} is honoured", kind)

    def _ignored(self, check: str, kind: str, name: str) -> Finding:
        said = f"the parameter {name} is ignored: the server returns what was not asked for"
        return Finding(check, Level.MISSING, said, kind, admin_requests.parameter(self._server, name, "ignored"))

    def _changes(self, kind: str, read: Asked) -> Finding:
        canary = self._search(kind, (self._of(kind, self._patient or CANARY), ("_lastUpdated", f"ge{FAR}"), ONE))
        if canary.page is None:
            return self._no_changes(kind, "refused")
        if canary.matches:
            return self._no_changes(kind, "ignored")
        if read.matches or canary.honoured("_lastUpdated"):
            return Finding("changes", Level.OK, "_lastUpdated is honoured", kind)
        return Finding("changes", Level.NOTE, "nothing here to tell by whether _lastUpdated is honoured", kind)

    def _no_changes(self, kind: str, how: str) -> Finding:
        said = f"the parameter _lastUpdated is {how}: every night reads everything"
        return Finding("changes", Level.NOTE, said, kind, admin_requests.changes(self._server, how))

    def _history(self, kind: str, read: Asked) -> Finding:
        """A history counts where it names what was done (`sources.search.executor`), and `_since` narrows it."""
        newest = self._ask(f"{kind}/_history?{urlencode((('_elements', 'id'), ONE))}", f"history of {kind}")
        canary = self._ask(f"{kind}/_history?{urlencode((('_since', FAR), ONE))}", f"history of {kind}")
        if newest.page is None or canary.page is None:
            return self._no_history(kind, f"refused ({newest.status if newest.page is None else canary.status})")
        if canary.page.entries:
            return self._no_history(kind, "not narrowed by _since")
        if any(entry.method for entry in newest.page.entries):
            return Finding("history", Level.OK, "_history tells what was deleted", kind)
        if read.matches:
            return self._no_history(kind, "empty, though there is something")
        return Finding("history", Level.NOTE, "nothing here to tell by whether _history works", kind)

    def _no_history(self, kind: str, how: str) -> Finding:
        said = f"_history is {how}: deletions show when all ids are compared"
        return Finding("history", Level.NOTE, said, kind, admin_requests.history(self._server))

    # --- paging ---

    def _paging(self) -> Iterator[Finding]:
        for kind, asked in self._pages:
            if asked.page is not None and (link := asked.page.links.get("next")):
                yield self._next(kind, asked, asked.page, link)
                return
        if any(asked.page is not None and (asked.page.total or 0) > 1 for _, asked in self._pages):
            said = "the server announces more resources than its first page holds, and gives no next link"
            yield Finding("paging", Level.MISSING, said, request=admin_requests.paging(self._server, "there are none"))
        else:
            yield Finding("paging", Level.NOTE, "no search here has a second page to try")

    def _next(self, kind: str, asked: Asked, page: Bundle, link: str) -> Finding:
        own = base_of_self_link(page.links.get("self"), kind)
        try:
            url = rebase_link(link, asked.url, self._client.base, own)
        except ForeignOriginError as error:
            return Finding(
                "paging", Level.MISSING, str(error), request=admin_requests.links(self._server, _other(link))
            )
        second = self._ask(url, f"second page of {kind}")
        if second.page is None:
            said = f"following a next link fails: {second.failure or f'status {second.status}'}"
            wish = admin_requests.paging(self._server, f"following one ends with status {second.status or 'none'}")
            return Finding("paging", Level.MISSING, said, request=wish)
        if _same(page, second.page):
            said = "a next link leads to the same page again"
            return Finding("paging", Level.MISSING, said, request=admin_requests.paging(self._server, said))
        if own and not self._client.base.startswith(own):
            said = f"next links name {redact_url(own)} and are asked for at {self._server}"
            return Finding("paging", Level.OK, said)
        return Finding("paging", Level.OK, "a next link leads on")

    # --- one request ---

    def _search(self, kind: str, params: Sequence[tuple[str, str]]) -> Asked:
        return self._ask(f"{kind}?{urlencode(params)}", kind)

    def _ask(self, place: str, what: str) -> Asked:
        url = place if place.startswith(self._client.base) else f"{self._client.base}/{place}"
        try:
            answer = self._client.get(url, what, ANY_STATUS, FIRST_PAGE)
            page = parse_page(json_body(answer, what, self._server)) if answer.status == 200 else None
        except AuthenticationError as error:
            return Asked(url, failure=str(error), login=True)
        except UnavailableError as error:
            self._unanswered += 1
            return Asked(url, failure=str(error))
        except (ServerError, TruncatedError) as error:
            return Asked(url, failure=str(error) or f"{what}: the answer is cut off")
        return Asked(url, answer.status, page, headers=answer.headers)

    def _unreadable(self, check: str, kind: str, asked: Asked, parameter: str) -> Finding:
        server, promised = self._server, self._promised(kind, "")
        if asked.login:
            wish = admin_requests.base_url(server, "it answers a program with a web page, probably its login")
            return Finding(check, Level.REFUSED, asked.failure, kind, wish)
        match asked.status:
            case 401 if self._anonymous:
                said = "credentials are asked for (401): configure `auth` of the site"
                return Finding(check, Level.REFUSED, said, kind, admin_requests.sign_in(server))
            case 401:
                said = "the credentials are not accepted (401): check `auth` of the site"
                return Finding(check, Level.REFUSED, said, kind, admin_requests.credentials(server))
            case 403:
                said = f"not allowed (403){promised}"
                return Finding(check, Level.MISSING, said, kind, admin_requests.read(server))
            case 404:
                return Finding(
                    check, Level.MISSING, f"not served (404){promised}", kind, admin_requests.type_served(server)
                )
            case 400 | 422:
                promised = self._promised(kind, parameter)
                said = f"the parameter {parameter} is refused ({asked.status}){promised}"
                return Finding(check, Level.MISSING, said, kind, admin_requests.parameter(server, parameter, "refused"))
            case 0:
                return Finding(
                    check, Level.MISSING, asked.failure, kind, admin_requests.fault(server, "no usable answer")
                )
            case status:
                said = f"answered with {status}{promised}"
                return Finding(check, Level.MISSING, said, kind, admin_requests.fault(server, f"status {status}"))

    def _promised(self, kind: str, parameter: str) -> str:
        """Whether the CapabilityStatement says that it is offered: the search of a type, or a parameter of it."""
        says = self._capability
        listed = says is not None and parameter != "" and parameter in says.of_type(kind).parameters
        if listed or (says and not parameter and says.offers(kind, "search-type")):
            return ", though the CapabilityStatement offers it"
        return ""


def _is_outcome(entry: Entry) -> bool:
    return b'"resourceType":"OperationOutcome"' in entry.resource.replace(b" ", b"")


def _other(link: str) -> str:
    try:
        return redact_url(link)
    except ForeignOriginError:
        return "something that is no http(s) address"


def _same(first: Bundle, second: Bundle) -> bool:
    return bool(first.entries) and [e.resource for e in first.entries] == [e.resource for e in second.entries]
