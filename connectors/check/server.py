"""The check of a server: what it says, what it does, and what is missing for a sync."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from connectors.check import admin_requests
from connectors.check.exports import ExportSettings, running_exports
from connectors.check.findings import Diagnosis, Finding, FindingLevel, SyncPath, export_path, join_words, search_path
from connectors.check.probe import ANY_STATUS
from connectors.check.probes import ServerProbes
from connectors.check.vendors import KnownServer, recognized, vendor_findings, without_vain_requests
from connectors.errors import AuthenticationError, ConnectorError, ServerError, TlsError, UnavailableError
from connectors.fhir.capability import CapabilityStatement, read_capability_statement
from connectors.http.authenticators import Authenticator, NoAuth, ScopedAuthenticator
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.http.response import Response, json_body
from connectors.http.retry import http_date
from connectors.sources.patient_list import PatientList
from connectors.sources.search.dialect import Dialect
from connectors.sources.search.listed import PatientGroup, types_of
from connectors.sources.search.source import CohortQuery

CLOCK_TOLERANCE = 5  # seconds; HTTP dates are of whole seconds, and the request takes some time

Connect = Callable[[Authenticator], FhirClient]


@dataclass
class ServerCheck:
    """The check of the server of `site`. `connect` returns a client with these credentials, `now` is our clock.

    types: the resource types that are wanted. required: those of them that the site must have.
    export: the settings of a site with `kind = "bulk"`, None for a site that is read by search. reconcile_days: the
    time between two comparisons of all ids. lenient_ids: the site accepts ids that are longer than FHIR allows.
    dialect, learns, named: as in `connectors.sources.search.source.SearchSource`. known: servers of which something is
    known. vendor: the name of that which is configured, '' for none.
    """

    site: str
    connect: Connect
    auth: Authenticator
    cohort: CohortQuery
    types: Sequence[str]
    required: frozenset[str]
    now: Callable[[], datetime]
    reconcile_days: float
    export: ExportSettings | None = None
    lenient_ids: bool = False
    dialect: Dialect = field(default_factory=Dialect)
    learns: bool = False
    named: PatientGroup | PatientList | None = None
    known: Sequence[KnownServer] = ()
    vendor: str = ""
    _capability: CapabilityStatement | None = field(default=None, init=False)
    _server: str = field(default="", init=False)

    def run(self) -> Diagnosis:
        """Check the server. Whatever it answers becomes a finding, and nothing is raised for it."""
        with self.connect(NoAuth()) as client:  # sends nothing yet
            self._server = redact_url(client.base)
        findings = without_vain_requests(tuple(self._findings()), self._known_server, self._kind)
        path = None
        if self._usable(findings):
            days = self.reconcile_days
            path = self._export_path(self.export) if self.export else search_path(findings, days)
        return Diagnosis(self.site, self._kind, self._server, findings, path)

    @property
    def _kind(self) -> str:
        return "bulk" if self.export else "search"

    @property
    def _configured(self) -> KnownServer | None:
        return next((each for each in self.known if each.name == self.vendor), None)

    @property
    def _known_server(self) -> KnownServer | None:
        return self._configured or recognized(self._capability, self.known)

    def _export_path(self, export: ExportSettings) -> SyncPath:
        # Of a Group `_since` leaves out what is old of a patient who joined, so a single export has none.
        return export_path(self.reconcile_days, everything=export.single and export.level == "group")

    def _usable(self, findings: Sequence[Finding]) -> bool:
        """Return whether anything at all can be read: some type by search, or the export."""
        if self.export:
            # A search scope that is missing says nothing about an export.
            needed = [each.level for each in findings if each.check != "scopes"]
            failed = FindingLevel.MISSING in needed or FindingLevel.REFUSED in needed
            return not failed and any(each.check == "export" for each in findings)
        return any(each.check == "read" and each.level is FindingLevel.OK for each in findings)

    def _findings(self) -> Iterator[Finding]:
        metadata = tuple(self._metadata())
        yield from metadata
        if any(finding.level is FindingLevel.MISSING for finding in metadata):
            return
        if isinstance(self.auth, ScopedAuthenticator) and (self._capability or types_of(self.named)):
            listed = self._capability.offers if self._capability else lambda *_: True
            wanted = self.required | {kind for kind in self.types if listed(kind, "search-type")}
            self.auth.narrow((*(kind for kind in self.types if kind in wanted), *types_of(self.named)))
        credentials, *scopes = self._credentials()
        yield from (credentials, *scopes)
        if credentials.level is not FindingLevel.OK:
            return
        yield self._export_levels()
        with self.connect(self.auth) as client:
            anonymous = isinstance(self.auth, NoAuth)
            probes = ServerProbes(
                client,
                self.cohort,
                self.types,
                self.required,
                self._capability,
                anonymous=anonymous,
                lenient_ids=self.lenient_ids,
                dialect=self._learned_dialect(),
                named=self.named,
            )
            if self.export:
                yield (access := self._export_access(client, self.export))
                if access.level is FindingLevel.OK:
                    yield from running_exports(client, self.export, self.site, self.now())
                    yield from probes.exported()
            else:
                yield from probes.findings()

    def _learned_dialect(self) -> Dialect:
        if self._capability is None or not self.learns:
            return self.dialect
        return self.dialect.learned(self._capability, tuple(self.types))

    # --- the CapabilityStatement, and what every response shows ---

    def _metadata(self) -> Iterator[Finding]:
        try:
            response, our_time = self._get_metadata()
            body = json_body(response, "metadata", self._server)
        except (AuthenticationError, ServerError) as error:
            if isinstance(error, TlsError):
                request = admin_requests.send_certificate(self._server)
            elif isinstance(error, UnavailableError):
                request = admin_requests.allow_connection(self._server)
            else:
                reason = "it answers with something other than FHIR in JSON"
                request = admin_requests.name_base_url(self._server, reason)
            yield Finding("reach", FindingLevel.MISSING, str(error), request=request)
            return
        yield from self._capabilities(response, body)
        yield self._clock(response, our_time)
        yield self._gzip(response)

    def _get_metadata(self) -> tuple[Response, datetime]:
        """Ask without credentials first, since FHIR R4 (3.1.0.13) needs none here, with them where that is refused."""
        response, our_time = self._get_metadata_as(NoAuth())
        if response.status in (401, 403) and not isinstance(self.auth, NoAuth):
            with suppress(AuthenticationError):  # no token: the check of the credentials will say so
                return self._get_metadata_as(self.auth)
        return response, our_time

    def _get_metadata_as(self, auth: Authenticator) -> tuple[Response, datetime]:
        """Return the response, and the time of our clock half-way through the request."""
        with self.connect(auth) as client:
            before = self.now()
            response = client.get(f"{client.base}/metadata", "metadata", ANY_STATUS)
            return response, before + (self.now() - before) / 2

    def _capabilities(self, response: Response, body: bytes) -> Iterator[Finding]:
        if 300 <= response.status < 400:
            message = f"it redirects ({response.status}): set `url` to the final address"
            request = admin_requests.name_base_url(self._server, "it redirects")
            yield Finding("reach", FindingLevel.MISSING, message, request=request)
            return
        how = "with a trusted certificate" if self._server.startswith("https:") else "unencrypted (http)"
        yield Finding("reach", FindingLevel.OK, f"answers {how}")
        if response.status != 200:  # some gateways block /metadata and let searches through
            message = f"/metadata is answered with {response.status}: whether it speaks FHIR R4 shows only by asking"
            yield Finding("fhir", FindingLevel.NOTE, message)
            return
        try:
            self._capability = read_capability_statement(body)
        except ServerError as error:
            request = admin_requests.name_base_url(self._server, "its /metadata is not a CapabilityStatement")
            yield Finding("fhir", FindingLevel.MISSING, str(error), request=request)
            return
        yield self._version(self._capability)
        yield from vendor_findings(recognized(self._capability, self.known), self._configured, self._kind)

    def _version(self, capability: CapabilityStatement) -> Finding:
        version = capability.fhir_version
        if not capability.readable:
            message = f"it speaks FHIR {version or 'of an unknown version'}: periop reads R4 (4.0, 4.3)"
            request = admin_requests.offer_r4(self._server, version)
            return Finding("fhir", FindingLevel.MISSING, message, request=request)
        message = f"FHIR {version}"
        if version.startswith("4.3"):
            message += " (R4B), read as R4: the types that a sync asks for have the same elements"
        message += f", {capability.software_label}" if capability.software_label else ""
        # A note only: some statements list less than the server does, which the probes will show.
        missing = [kind for kind in self.types if kind in self.required and not capability.offers(kind, "search-type")]
        if missing and not self.export:
            message += f"; its CapabilityStatement lists no search of {join_words(missing)}"
            return Finding("fhir", FindingLevel.NOTE, message)
        return Finding("fhir", FindingLevel.OK, message)

    def _clock(self, response: Response, our_time: datetime) -> Finding:
        # Cursors are times of the server, taken from this header: our clock is never compared with its data.
        server_time = http_date(response.headers.get("date", ""))
        if server_time is None:
            message = "responses have no Date: a nightly run cannot ask for the changes since the last one"
            return Finding("clock", FindingLevel.NOTE, message, request=admin_requests.send_date(self._server))
        seconds = round((server_time - our_time).total_seconds())
        if abs(seconds) <= CLOCK_TOLERANCE:
            return Finding("clock", FindingLevel.OK, "its clock agrees with ours within some seconds")
        where = "behind" if seconds < 0 else "ahead of"
        message = (
            f"its clock is {abs(seconds)} s {where} ours; cursors follow its clock, but signed tokens may be refused"
        )
        return Finding("clock", FindingLevel.NOTE, message, request=admin_requests.set_clock(self._server, seconds))

    def _gzip(self, response: Response) -> Finding:
        if "gzip" in response.headers.get("content-encoding", "").lower():
            return Finding("gzip", FindingLevel.OK, "responses are compressed")
        message = "responses are not compressed: a sync takes longer"
        return Finding("gzip", FindingLevel.NOTE, message, request=admin_requests.enable_gzip(self._server))

    # --- credentials ---

    def _credentials(self) -> Iterator[Finding]:
        if isinstance(self.auth, NoAuth):
            services = sorted(self._capability.security_services) if self._capability else []
            remark = f", though the server names {join_words(services)}" if services else ""
            yield Finding("credentials", FindingLevel.OK, f"none are configured{remark}")
            return
        try:
            self.auth.headers()
        except ConnectorError as error:
            refused = isinstance(error, AuthenticationError)
            level = FindingLevel.REFUSED if refused else FindingLevel.MISSING
            request = admin_requests.check_token_registration(self._server)
            yield Finding("credentials", level, str(error), request=request)
            return
        if isinstance(self.auth, ScopedAuthenticator):
            yield Finding("credentials", FindingLevel.OK, "an access token is given")
            yield from self._scopes(self.auth)
        else:
            yield Finding(
                "credentials", FindingLevel.OK, "sent with each request; whether they are accepted shows below"
            )

    def _scopes(self, auth: ScopedAuthenticator) -> Iterator[Finding]:
        if not auth.missing_scopes:
            yield Finding("scopes", FindingLevel.OK, "all scopes that were asked for are granted")
            return
        request = admin_requests.grant_scopes(self._server, join_words(auth.missing_scopes))
        for kind in auth.unreadable_types:
            yield Finding("scopes", FindingLevel.MISSING, "the token does not let us read and search it", kind, request)
        if not auth.unreadable_types:
            message = f"not granted: {join_words(auth.missing_scopes)}"
            yield Finding("scopes", FindingLevel.NOTE, message, request=request)

    # --- $export ---

    def _export_levels(self) -> Finding:
        listed = self._capability.export_levels if self._capability else frozenset()
        levels = [level for level in ("system", "group", "patient") if level in listed]
        message = f"$export is listed for {join_words(levels)}" if levels else "no $export is listed"
        if self.export is None:
            return Finding("export", FindingLevel.OK, f'{message}; kind = "search" does not need it')
        if self.export.level in levels:
            return Finding("export", FindingLevel.OK, f"{message}; a check does not start one")
        # Without a statement nobody knows, and the first export will show it.
        request = admin_requests.enable_export(self._server, self.export.level)
        level = FindingLevel.MISSING if self._capability else FindingLevel.NOTE
        message += f", and level = {self.export.level!r} is configured"
        return Finding("export", level, message, request=request)

    def _export_access(self, client: FhirClient, export: ExportSettings) -> Finding:
        """Check that the credentials are accepted, by the Group or by a count: neither starts an export."""
        group = export.level == "group"
        path, label = (f"Group/{export.group}", "the Group") if group else ("Patient?_summary=count", "a count")
        try:
            response = client.get(f"{client.base}/{path}", label, ANY_STATUS)
        except ConnectorError as error:
            request = admin_requests.inspect_log(self._server, "no usable answer").replace("{types}", label)
            return Finding("access", FindingLevel.MISSING, str(error), request=request)
        if response.status == 401:
            message = "the credentials are not accepted (401): check `auth` of the site"
            request = admin_requests.check_client(self._server)
            return Finding("access", FindingLevel.REFUSED, message, request=request)
        if response.status == 200:
            message = f"{label} can be read" if group else "the credentials are accepted"
            return Finding("access", FindingLevel.OK, message)
        if group:
            message = f"the Group of the site is answered with {response.status}: check `group`"
            request = admin_requests.allow_group(self._server, response.status)
            return Finding("access", FindingLevel.MISSING, message, request=request)
        # A client that may only export is refused a search: that says nothing about the export.
        message = f"a search is answered with {response.status}: what the credentials may do shows in the first export"
        return Finding("access", FindingLevel.NOTE, message)
