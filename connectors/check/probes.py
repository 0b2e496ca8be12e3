"""Probes: the requests of a sync, tried with one resource each, and what came of them.

A CapabilityStatement is a promise, so each thing is tried. Whether a parameter is honoured shows in a canary, a search
that cannot match anything: if the server returns something all the same, it ignored the parameter. No response is kept,
and no id or value of a patient is in a finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlencode

from connectors.check import admin_requests
from connectors.check.findings import Finding, FindingLevel
from connectors.check.named import probe_named
from connectors.check.paging import paging_findings
from connectors.check.probe import Prober, ProbeResult
from connectors.check.zones import zone_finding
from connectors.fhir.bundle import Bundle
from connectors.fhir.capability import CapabilityStatement
from connectors.fhir.references import is_token
from connectors.fhir.resource import ID_LENGTH, Resource, read_resource
from connectors.fhir.resource_types import WITHOUT_PATIENT
from connectors.http.client import FhirClient
from connectors.sources.patient_list import PatientList
from connectors.sources.search.dialect import Dialect
from connectors.sources.search.listed import PatientGroup
from connectors.sources.search.source import CohortQuery

CANARY = "periop-canary"  # an id that no patient has
CANARY_CODE = "urn:periop:canary|none"
FAR_FUTURE = "2100-01-01T00:00:00.000Z"  # nothing was changed after it
ONE = ("_count", "1")
LONG_IDS = (
    "{}: ids have more than 64 characters, against FHIR (R4, datatypes.html#id), so a sync sets these resources aside: "
    "set lenient_ids = true for the site"
)
# As Epic refuses an Observation search by patient alone
NEEDED = re.compile(r"\b(category|required|requires?|missing)\b", re.IGNORECASE)
NEEDS_PARAMETER = (
    "the search by patient alone is refused ({0}): the server wants another parameter beside it, so set it for the "
    'site, like parameters = {{ {1} = {{ category = ["…"] }} }}'
)
PATIENCE = 3  # requests without an answer, after which the rest is left out


@dataclass(eq=False)
class ServerProbes:
    """The probes of one site.

    types: the resource types that are wanted. required: those of them that the site must have. capability: what its
    server says, None if it does not say. anonymous: no credentials are configured. lenient_ids: the
    site accepts ids that are longer than FHIR allows. dialect, named: how the server wants to be asked, and
    who the patients are where the site names them, as in a sync.
    """

    client: FhirClient
    cohort: CohortQuery
    types: Sequence[str]
    required: frozenset[str]
    capability: CapabilityStatement | None = None
    anonymous: bool = False
    lenient_ids: bool = False
    dialect: Dialect = field(default_factory=Dialect)
    named: PatientGroup | PatientList | None = None

    def __post_init__(self) -> None:
        self._prober = Prober(self.client, self.dialect)
        self._server = self._prober.server
        self._patient = ""  # a patient of the cohort, whose resources are probed
        self._named_ids: list[str] = []  # those whom the site names
        self._pages: list[tuple[str, ProbeResult]] = []
        self._zones_known = False
        self._only_by_id: set[str] = set()  # types without patients that are searched by id alone

    def findings(self) -> Iterator[Finding]:
        """Probe the cohort query, each type, and paging. Stop where the server is gone or refuses the credentials."""
        steps: list[Callable[[], Iterator[Finding]]] = [
            self._cohort_query if self.named is None else self._named,
            self._two_patients,
            *(partial(self._type, kind) for kind in self.types),
            partial(paging_findings, self._prober, self._pages),
        ]
        for step in steps:
            for finding in step():
                yield finding
                if finding.level is FindingLevel.REFUSED or self._prober.unanswered >= PATIENCE:
                    return

    # --- the cohort query ---

    def _cohort_query(self) -> Iterator[Finding]:
        kind, name = self.cohort.resource_type, self.cohort.params[0][0]
        for params in (self.cohort.params, *self.cohort.others):
            result = self._prober.search(kind, (*params, ONE, ("_total", "accurate")))
            if result.status == 400:  # `_total` is optional in FHIR
                result = self._prober.search(kind, (*params, ONE))
            if result.page is None or result.matches:
                break
        if result.page is None:
            yield self._unreadable("cohort", kind, result, name)
            return
        items = (read_resource(entry.resource, "", frozenset({kind})) for entry in result.page.entries)
        self._patient = next((item.patient for item in items if isinstance(item, Resource) and item.patient), "")
        self._pages.append((kind, result))
        # Without the codes, the cohort would be everybody in the hospital.
        if self._prober.search(kind, ((name, CANARY_CODE), ONE)).matches:
            yield self._ignored("cohort", kind, name)
        elif not result.matches:
            message = f"{kind}?{name}=… finds nothing: is this the right server?"
            yield Finding("cohort", FindingLevel.NOTE, message, kind)
        else:
            total = result.page.total
            count = f"{total} found" if total is not None else "the server does not say how many"
            yield Finding("cohort", FindingLevel.OK, f"{kind}?{name}=… with the codes of the study: {count}", kind)

    def _named(self) -> Iterator[Finding]:
        found, self._named_ids = probe_named(self.client, self.named, self.dialect)
        self._patient = next(iter(self._named_ids), "")
        yield from found

    def _two_patients(self) -> Iterator[Finding]:
        """Ask for two patients of the cohort in one query, as a sync asks for many: some servers take the first only.

        Nothing is found out where the server shows fewer than two.
        """
        pair = (self._named_ids if self.named is not None else self._shown_patients())[:2]
        if len(pair) < 2 or any(self._prober.search("Patient", (("_id", each), ONE)).matches != 1 for each in pair):
            return
        together = self._prober.search("Patient", (("_id", ",".join(pair)), ("_count", "2"))).matches
        if together == 2:
            yield Finding("patients", FindingLevel.OK, "two patients in one query are both answered")
        else:
            message = f"of two patients in one query {together} came: a sync asks for one at a time, which takes longer"
            yield Finding("patients", FindingLevel.NOTE, message)

    def _shown_patients(self) -> list[str]:
        """Return patients of the first page of the cohort query."""
        kind = self.cohort.resource_type
        shown = self._prober.search(kind, (*self.cohort.params, ("_count", "20"), ("_elements", "id,subject")))
        items = (read_resource(entry.resource, "") for entry in (shown.page.entries if shown.page else ()))
        patients = dict.fromkeys(item.patient for item in items if isinstance(item, Resource) and item.patient)
        return [each for each in patients if each and not is_token(each)]

    # --- one type ---

    def _type(self, kind: str) -> Iterator[Finding]:
        result = self._prober.search(kind, (*self._of_cohort(kind), ONE))
        if kind in WITHOUT_PATIENT and result.status in (400, 422):
            # Some servers want a parameter in each search; a sync asks for these by their ids.
            self._only_by_id.add(kind)
            result = self._prober.search(kind, (*self._of_cohort(kind), ONE))
        if result.page is None:
            yield self._unreadable("read", kind, result, self._shown_parameter(kind))
            return
        self._pages.append((kind, result))
        counted = self._prober.search(kind, (("_summary", "count"),))
        readable = self._readable(kind, counted)
        yield readable
        if not self.lenient_ids and has_long_id(result.page):
            request = admin_requests.shorten_ids(self._server)
            yield Finding("ids", FindingLevel.MISSING, LONG_IDS.format(kind), kind, request)
        if counted.page and counted.page.total == 0:  # then nothing more can be told
            return
        # A server that ignores the patient would send the resources of everybody, once for each patient.
        name = self._shown_parameter(kind)
        if self._prober.search(kind, (self._by_patient(kind, CANARY), ONE)).matches:
            yield self._ignored("patient", kind, name)
        else:
            yield Finding("patient", FindingLevel.OK, f"{name} is honoured", kind)
        changes = self._changes(kind, result)
        yield changes
        if changes.level is FindingLevel.OK:
            yield from self._zones(kind, result)
        yield self._history(kind, result)

    def exported(self) -> Iterator[Finding]:
        """Find out by counts which types an export can hold. Of a client that may not search nothing is learnt."""
        for kind in self.types:
            result = self._prober.probe(f"{kind}?_summary=count", kind)
            if result.page is not None:
                yield Finding("read", FindingLevel.OK, f"there{self._total(result)}", kind)
            elif result.lacking:
                yield self._unreadable("read", kind, result, "")
            if self._prober.unanswered >= PATIENCE:
                return

    def _readable(self, kind: str, counted: ProbeResult) -> Finding:
        how = "by id" if kind in WITHOUT_PATIENT else "by patient"
        remark = ", though no search of it is listed" if self._unlisted(kind) else ""
        return Finding("read", FindingLevel.OK, f"readable {how}{self._total(counted)}{remark}", kind)

    def _unlisted(self, kind: str) -> bool:
        """Return True if the CapabilityStatement lists searches, and none of this type."""
        listed = self.capability.offers if self.capability else lambda *_: False
        return listed("Patient", "search-type") and not listed(kind, "search-type")

    def _total(self, counted: ProbeResult) -> str:
        total = counted.page.total if counted.page else None
        return "" if total is None else f", {total} on the server"

    def _of_cohort(self, kind: str) -> tuple[tuple[str, str], ...]:
        """Return the parameters that select what is there of a patient of the cohort, or of a type without patients."""
        if kind in WITHOUT_PATIENT:
            return (("_id", CANARY),) if kind in self._only_by_id else ()
        return (self._by_patient(kind, self._patient or CANARY),)

    def _by_patient(self, kind: str, patient: str) -> tuple[str, str]:
        """Return the parameter by which the sync selects patients (`connectors.sources.search.requests`)."""
        by_id = kind == "Patient" or kind in WITHOUT_PATIENT
        return ("_id", patient) if by_id else ("subject", f"Patient/{patient}")

    def _shown_parameter(self, kind: str) -> str:
        """Return the name of that parameter as it is sent to this server."""
        name, _ = self._by_patient(kind, "")
        return self.dialect.patient_parameter(kind) if name == "subject" else name

    def _ignored(self, check: str, kind: str, name: str) -> Finding:
        message = f"the parameter {name} is ignored: the server returns what was not asked for"
        request = admin_requests.enable_parameter(self._server, name, "ignored")
        return Finding(check, FindingLevel.MISSING, message, kind, request)

    def _changes(self, kind: str, read: ProbeResult) -> Finding:
        params = (*self._of_cohort(kind), ("_lastUpdated", f"ge{FAR_FUTURE}"), ONE)
        canary = self._prober.search(kind, params)
        if canary.page is None or canary.matches:
            how = "refused" if canary.page is None else "ignored"
            message = f"the parameter _lastUpdated is {how}: every nightly run reads everything"
            request = admin_requests.enable_last_updated(self._server, how)
            return Finding("changes", FindingLevel.NOTE, message, kind, request)
        # An empty answer proves something only if the same search without the parameter is not empty.
        if read.matches or canary.honoured("_lastUpdated"):
            return Finding("changes", FindingLevel.OK, "_lastUpdated is honoured", kind)
        return Finding("changes", FindingLevel.NOTE, "no resource to tell by whether _lastUpdated is honoured", kind)

    def _zones(self, kind: str, read: ProbeResult) -> Iterator[Finding]:
        """Try the zone of `_lastUpdated`, once for the site: what a server does with it, it does for all types."""
        items = (read_resource(entry.resource, "") for entry in (read.page.entries if read.page else ()))
        known = next((item for item in items if isinstance(item, Resource) and item.resource_type == kind), None)
        if self._zones_known or known is None:
            return
        if finding := zone_finding(self._prober, known, self._of_cohort(kind)):
            self._zones_known = True
            yield finding

    def _history(self, kind: str, read: ProbeResult) -> Finding:
        """Check that a history says what was done (`sources.search.executor` needs it) and that `_since` narrows it."""
        # Ids only: a history holds resources of all patients, not just of the cohort.
        newest = self._prober.probe(f"{kind}/_history?{urlencode((('_elements', 'id'), ONE))}", f"history of {kind}")
        canary = self._prober.probe(f"{kind}/_history?{urlencode((('_since', FAR_FUTURE), ONE))}", f"history of {kind}")
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

    # --- what is refused ---

    def _unreadable(self, check: str, kind: str, result: ProbeResult, parameter: str) -> Finding:
        """Return the finding for a search without a page. `parameter`: the one that a 400 is about."""
        server, status, level = self._server, result.status, FindingLevel.MISSING
        offered = self._offered(kind, parameter if status in (400, 422) else "")
        refused = result.lacking or (self._unlisted(kind) and status >= 400 and status != 401)
        if refused and kind not in self.required:
            return Finding(check, FindingLevel.NOTE, "not there: a sync does not ask for it", kind)
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
        elif status == 404 and not self.dialect.post:
            message, request = f"not served (404){offered}", admin_requests.serve_type(server)
        elif status in (404, 405, 501) and self.dialect.post:
            message = f'a search by POST is refused ({status}): leave out search_method = "post" of the site'
            request = ""
        elif (
            check == "read"
            and status in (400, 422)
            and NEEDED.search(result.words)
            and kind not in self.dialect.queries
        ):
            message = NEEDS_PARAMETER.format(status, kind)
            request = ""
        elif status in (400, 422):
            message = f"the parameter {parameter} is refused ({status}){offered}"
            request = admin_requests.enable_parameter(server, parameter, "refused")
        elif status == 0:
            message, request = result.failure, admin_requests.inspect_log(server, "no usable answer")
        else:
            message = f"answered with {status}{offered}"
            request = admin_requests.inspect_log(server, f"status {status}")
        return Finding(check, level, message + result.words, kind, request)

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


def has_long_id(page: Bundle) -> bool:
    """Return True if a resource of the page has an id that is longer than FHIR allows."""
    items = (read_resource(entry.resource, "") for entry in page.entries)
    return any(isinstance(item, Resource) and len(item.id) > ID_LENGTH for item in items)
