"""The check of a server, before the first sync or when one fails: what it says, what it does, what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from connectors.check import admin_requests
from connectors.check.findings import Diagnosis, Finding, Level, export_path, listed, search_path
from connectors.check.probes import ANY_STATUS, Probes
from connectors.errors import (
    AuthenticationError,
    ConnectorError,
    ServerError,
    TlsError,
    UnavailableError,
)
from connectors.fhir.capability import CapabilityStatement, read_capability_statement
from connectors.http.authenticators import Authenticator, NoAuth, ScopedAuthenticator
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.http.response import Response, json_body
from connectors.http.retry import http_date
from connectors.sources.search.source import CohortQuery

CLOCK_SECONDS = 5  # a difference that is worth a word; HTTP dates are of whole seconds

Connect = Callable[[Authenticator], FhirClient]


@dataclass(frozen=True)
class Export:
    """The Bulk Data export that is configured. level: system, group or patient. group: the id of the Group."""

    level: str
    group: str = ""


@dataclass
class ServerCheck:
    """The check of the server of `site`. `connect` opens a connection with these credentials, `now` is our clock.

    export: what is configured of `kind = "bulk"`, None for a site that is read by search. reconcile_days:
    between two comparisons of all that is there.
    """

    site: str
    connect: Connect
    auth: Authenticator
    cohort: CohortQuery
    types: Sequence[str]
    now: Callable[[], datetime]
    reconcile_days: float
    export: Export | None = None
    _capability: CapabilityStatement | None = field(default=None, init=False)
    _server: str = field(default="", init=False)

    def run(self) -> Diagnosis:
        """Ask the server. What it answers is in the findings, so nothing is raised for it."""
        with self.connect(NoAuth()) as client:
            self._server = redact_url(client.base)
        findings = tuple(self._findings())
        path = None
        if self._usable(findings):
            days = self.reconcile_days
            path = export_path(days) if self.export else search_path(findings, days)
        return Diagnosis(self.site, "bulk" if self.export else "search", self._server, findings, path)

    def _usable(self, findings: Sequence[Finding]) -> bool:
        """Whether anything at all can be had: some type by search, or the export."""
        if self.export:
            have, lack = {each.check for each in findings}, (Level.MISSING, Level.REFUSED)
            return "export" in have and not any(each.level in lack for each in findings if each.check != "scopes")
        return any(each.check == "read" and each.level is Level.OK for each in findings)

    def _findings(self) -> Iterator[Finding]:
        answered = True
        for finding in self._metadata():
            yield finding
            answered = answered and finding.level is not Level.MISSING
        if not answered:
            return
        token = self._token()
        yield from token
        if any(finding.check == "credentials" and finding.level is not Level.OK for finding in token):
            return
        yield from self._exports()
        with self.connect(self.auth) as client:
            if self.export:
                yield self._access(client, self.export)
                return
            anonymous = isinstance(self.auth, NoAuth)
            probes = Probes(client, self.cohort, self.types, self._capability, anonymous=anonymous).findings()
            yield from probes

    # --- the CapabilityStatement, and what every answer tells ---

    def _metadata(self) -> Iterator[Finding]:
        try:
            answer, ours = self._ask_metadata()
            body = json_body(answer, "metadata", self._server)
        except TlsError as error:
            yield Finding("reach", Level.MISSING, str(error), request=admin_requests.certificate(self._server))
            return
        except UnavailableError as error:
            yield Finding("reach", Level.MISSING, str(error), request=admin_requests.reach(self._server))
            return
        except (AuthenticationError, ServerError) as error:
            wish = admin_requests.base_url(self._server, "it answers with something else than FHIR in JSON")
            yield Finding("reach", Level.MISSING, str(error), request=wish)
            return
        yield from self._statement(answer, body)
        yield self._clock(answer, ours)
        yield self._gzip(answer)

    def _ask_metadata(self) -> tuple[Response, datetime]:
        """Without credentials first (FHIR R4, 3.1.0.13 asks for no more), with them where that is refused."""
        answer, ours = self._ask_as(NoAuth())
        if answer.status in (401, 403) and not isinstance(self.auth, NoAuth):
            with suppress(AuthenticationError):  # no token: what comes next says so
                return self._ask_as(self.auth)
        return answer, ours

    def _ask_as(self, auth: Authenticator) -> tuple[Response, datetime]:
        """The answer, and what our clock said half-way."""
        with self.connect(auth) as client:
            before = self.now()
            answer = client.get(f"{client.base}/metadata", "metadata", ANY_STATUS)
            return answer, before + (self.now() - before) / 2

    def _statement(self, answer: Response, body: bytes) -> Iterator[Finding]:
        scheme = urlsplit(self._server).scheme
        how = "with a certificate that is trusted" if scheme == "https" else "unencrypted (http)"
        if 300 <= answer.status < 400:
            said = f"it redirects ({answer.status}): set `url` to the final address"
            yield Finding("reach", Level.MISSING, said, request=admin_requests.base_url(self._server, "it redirects"))
            return
        yield Finding("reach", Level.OK, f"answers {how}")
        if answer.status != 200:
            said = f"/metadata is answered with {answer.status}: whether it speaks FHIR R4 shows only by asking"
            yield Finding("fhir", Level.NOTE, said)
            return
        try:
            self._capability = read_capability_statement(body)
        except ServerError as error:
            wish = admin_requests.base_url(self._server, "its /metadata is no CapabilityStatement")
            yield Finding("fhir", Level.MISSING, str(error), request=wish)
            return
        yield self._version(self._capability)

    def _version(self, capability: CapabilityStatement) -> Finding:
        if not capability.readable:
            said = f"it speaks FHIR {capability.fhir_version or 'of an unknown version'}: R4 (4.0, 4.3) is read here"
            return Finding(
                "fhir", Level.MISSING, said, request=admin_requests.version(self._server, capability.fhir_version)
            )
        lacking = [kind for kind in self.types if not capability.offers(kind, "search-type")]
        by = f", {capability.software_label}" if capability.software_label else ""
        said = f"FHIR {capability.fhir_version}{by}"
        if lacking and not self.export:
            return Finding("fhir", Level.NOTE, f"{said}; its CapabilityStatement lists no search of {listed(lacking)}")
        return Finding("fhir", Level.OK, said)

    def _clock(self, answer: Response, ours: datetime) -> Finding:
        theirs = http_date(answer.headers.get("date", ""))
        if theirs is None:
            said = "answers carry no Date: a night cannot ask for what is new since the last one"
            return Finding("clock", Level.NOTE, said, request=admin_requests.date(self._server))
        seconds = round((theirs - ours).total_seconds())
        if abs(seconds) <= CLOCK_SECONDS:
            return Finding("clock", Level.OK, "its clock is ours within some seconds")
        where = "behind" if seconds < 0 else "ahead of"
        said = f"its clock is {abs(seconds)} s {where} ours; cursors go by its clock, but signed tokens may be refused"
        return Finding("clock", Level.NOTE, said, request=admin_requests.clock(self._server, seconds))

    def _gzip(self, answer: Response) -> Finding:
        if "gzip" in answer.headers.get("content-encoding", "").lower():
            return Finding("gzip", Level.OK, "answers are compressed")
        said = "answers come uncompressed: a sync takes longer"
        return Finding("gzip", Level.NOTE, said, request=admin_requests.gzip(self._server))

    # --- credentials ---

    def _token(self) -> tuple[Finding, ...]:
        if isinstance(self.auth, NoAuth):
            named = sorted(self._capability.security_services) if self._capability else []
            also = f", though the server names {listed(named)}" if named else ""
            return (Finding("credentials", Level.OK, f"none are configured{also}"),)
        try:
            self.auth.headers()
        except AuthenticationError as error:
            return (Finding("credentials", Level.REFUSED, str(error), request=admin_requests.token(self._server)),)
        except ConnectorError as error:
            return (Finding("credentials", Level.MISSING, str(error), request=admin_requests.token(self._server)),)
        if not isinstance(self.auth, ScopedAuthenticator):
            return (Finding("credentials", Level.OK, "sent with each request; whether they do shows below"),)
        return (Finding("credentials", Level.OK, "an access token is given"), *self._scopes(self.auth))

    def _scopes(self, auth: ScopedAuthenticator) -> Iterator[Finding]:
        if not auth.missing_scopes:
            yield Finding("scopes", Level.OK, "none of those that were asked for is missing")
            return
        wish = admin_requests.scopes(self._server, listed(auth.missing_scopes))
        for kind in auth.unreadable_types:
            yield Finding("scopes", Level.MISSING, "the token does not let us read and search it", kind, wish)
        if not auth.unreadable_types:
            yield Finding("scopes", Level.NOTE, f"not granted: {listed(auth.missing_scopes)}", request=wish)

    # --- $export ---

    def _exports(self) -> Iterator[Finding]:
        listed_levels = self._capability.export_levels if self._capability else frozenset()
        levels = [level for level in ("system", "group", "patient") if level in listed_levels]
        said = f"$export is listed for {listed(levels)}" if levels else "no $export is listed"
        if self.export is None:
            yield Finding("export", Level.OK, f'{said}; kind = "search" does not need it')
        elif self.export.level in levels:
            yield Finding("export", Level.OK, f"{said}; a check starts none")
        else:
            wish = admin_requests.export(self._server, self.export.level)
            level = Level.MISSING if self._capability else Level.NOTE
            yield Finding("export", level, f"{said}, and level = {self.export.level!r} is configured", request=wish)

    def _access(self, client: FhirClient, export: Export) -> Finding:
        """Whether the credentials are accepted: by the Group, or by a number that no export is started for."""
        group = export.level == "group"
        place, what = (f"Group/{export.group}", "the Group") if group else ("Patient?_summary=count", "a count")
        try:
            answer = client.get(f"{client.base}/{place}", what, ANY_STATUS)
        except (AuthenticationError, ConnectorError) as error:
            wish = admin_requests.fault(self._server, "no usable answer").replace("{types}", what)
            return Finding("access", Level.MISSING, str(error), request=wish)
        if answer.status == 401:
            said = "the credentials are not accepted (401): check `auth` of the site"
            return Finding("access", Level.REFUSED, said, request=admin_requests.credentials(self._server))
        if answer.status == 200:
            return Finding("access", Level.OK, f"{what} can be read" if group else "the credentials are accepted")
        if group:
            said = f"the Group of the site is answered with {answer.status}: check `group`"
            return Finding("access", Level.MISSING, said, request=admin_requests.group(self._server, answer.status))
        said = f"a search is answered with {answer.status}: what the credentials may do shows in the first export"
        return Finding("access", Level.NOTE, said)
