"""The sites of `periop.toml`, as frozen models.

To add a setting to a site: add the field to the model of its kind here (`ServerSite` for everything behind a FHIR
server), use it in `schedules.run.sources`, and document it in docs/configuration.md, which a test compares with these
models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schedules.config.auth_settings import Auth, NoAuth
from schedules.config.connection_settings import Headers, HeaderSecret, Proxy, SiteLimits
from schedules.config.fields import FilePath, Flag, Section, ServerUrl, Share, exposed
from schedules.config.presets import VendorName, with_defaults
from schedules.config.resource_types import CONSENT_TYPES, ResourceType, ResourceTypes
from schedules.config.search_parameters import SearchParameters

MAX_LOSS = 0.2  # that of `connectors.lake.loss`, which is not imported for it
# A site name becomes a folder of the lake and the name of a file, and Windows cannot have files of these names.
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def _no_device(name: str) -> str:
    if name in WINDOWS_DEVICES:
        raise ValueError(f"'{name}' is a device name on Windows; choose another site name")
    return name


SiteName = Annotated[
    str,
    # Lower case only: on macOS and Windows "Milan" and "milan" would be one folder.
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*\z", max_length=64, min_length=1),
    AfterValidator(_no_device),
]
# The pattern of FHIR ids: the group becomes a part of the path of the request.
GroupId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,64}\z")]


# A coding as FHIR search writes it (R4 search.html#token): the system, a bar, the code.
Token = Annotated[str, StringConstraints(pattern=r"^[^\s|]+\|[^\s|]+\z", max_length=1000)]
# HL7 terminology, consentscope: "Consent to participate in research protocol and information sharing required"
RESEARCH = "http://terminology.hl7.org/CodeSystem/consentscope|research"


class ConsentSettings(Section):
    """The consent without which a patient of the site is not used.

    `categories`: of `Consent.scope` or `Consent.category`, for the Consents that are about this use. `codes`: what must
    be permitted in `Consent.provision`, each of them. `without`: a patient without such a Consent.
    """

    categories: Annotated[tuple[Token, ...], Field(min_length=1)] = (RESEARCH,)
    codes: tuple[Token, ...] = ()
    without: Literal["include", "exclude"] = "exclude"


class FolderSite(Section):
    """A folder with NDJSON files and Bundles.

    `types`: the resource types that it holds, by default all that are known. `lenient_ids`: ids may be longer than the
    64 characters of FHIR. `complete`: it always holds everything, so
    a resource that is no longer in it is marked as deleted. `max_loss`, `consent`: as in `ServerSite`.
    """

    name: SiteName
    kind: Literal["folder"]
    path: FilePath
    types: ResourceTypes | None = None
    complete: Flag = False
    lenient_ids: Flag = False
    max_loss: Share = MAX_LOSS
    consent: ConsentSettings | None = None

    @property
    def consent_types(self) -> tuple[str, ...]:
        """Return the types that are read beside the others because the site asks for consent."""
        return CONSENT_TYPES if self.consent else ()


class ServerSite(Section):
    """The settings of every site behind a FHIR server.

    `vendor`: whose server it is, for defaults of the other settings (`schedules.config.presets`).
    `types`: the resource types that it has, by default those that it says it has. `ca_file`: the certificate
    authorities to trust instead of the public ones, as PEM. `client_cert_file`: the client certificate for mutual TLS,
    with its private key in the same file or in `client_key_file`.
    `max_loss`: the share of the resources in the lake that may be missing at the site without that being doubted.
    `allow_plain_http`: allow a secret to be sent unencrypted inside the hospital's network. `sandbox`: the server
    holds no real patients, so `periop sandbox` may write there. `headers`: go with each request to the origin of `url`.
    `lenient_ids`: ids may be longer than the 64 characters of FHIR. `proxy`: the proxy for this site, or
    `"environment"` for that of HTTPS_PROXY and the like. `consent`: only patients who consent are used.

    >>> site = SearchSite(name="milan", kind="search", url="https://fhir.example.org/r4/", auth={"kind": "none"})
    >>> site.url
    'https://fhir.example.org/r4'
    """

    name: SiteName
    url: ServerUrl
    vendor: VendorName | None = None
    auth: Auth = NoAuth()
    types: ResourceTypes | None = None
    max_loss: Share = MAX_LOSS
    ca_file: FilePath | None = None
    client_cert_file: FilePath | None = None
    client_key_file: FilePath | None = None
    client_key_password_env: str | None = None
    client_key_password_file: FilePath | None = None
    allow_plain_http: Flag = False
    sandbox: Flag = False
    headers: Headers = Field(default_factory=dict)
    proxy: Proxy | None = None
    proxy_password_env: str | None = None
    proxy_password_file: FilePath | None = None
    limits: SiteLimits = SiteLimits()
    lenient_ids: Flag = False
    consent: ConsentSettings | None = None

    @property
    def consent_types(self) -> tuple[str, ...]:
        """Return the types that are read beside the others because the site asks for consent."""
        return CONSENT_TYPES if self.consent else ()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_vendor(cls, content: Any) -> Any:
        # Before the fields are validated, so that a default is checked as if the site had written it.
        return with_defaults(content) if isinstance(content, Mapping) else content

    @model_validator(mode="after")
    def _secrets_travel_encrypted(self) -> Self:
        secret_headers = any(isinstance(each, HeaderSecret) for each in self.headers.values())
        insecure = exposed(self.url) and (self.auth.kind != "none" or secret_headers)
        if insecure and not self.allow_plain_http:
            raise ValueError("sends a secret over plain http; use https, or set allow_plain_http = true")
        # Also what buys a token is a secret, wherever it is sent.
        token_url = getattr(self.auth, "token_url", None)
        if token_url and exposed(token_url) and not self.allow_plain_http:
            raise ValueError("requests tokens over plain http; use https, or set allow_plain_http = true")
        return self

    @model_validator(mode="after")
    def _proxy_password_has_a_user(self) -> Self:
        if self.proxy_password_env and self.proxy_password_file:
            raise ValueError("give one of proxy_password_env, proxy_password_file")
        has_user = self.proxy is not None and "@" in self.proxy
        if has_user != bool(self.proxy_password_env or self.proxy_password_file):
            raise ValueError(
                "needs the user of the proxy and its password together: http://USER@host:port in proxy, and one of "
                "proxy_password_env, proxy_password_file"
            )
        return self

    @model_validator(mode="after")
    def _client_certificate_is_whole(self) -> Self:
        # A key alone would never be used, and the mistake would show up only as a refusal of the server.
        key = self.client_key_file or self.client_key_password_env or self.client_key_password_file
        if key and not self.client_cert_file:
            raise ValueError("has a client key without client_cert_file; give the certificate too")
        if self.client_key_password_env and self.client_key_password_file:
            raise ValueError("give one of client_key_password_env, client_key_password_file")
        if self.client_cert_file and urlsplit(self.url).scheme != "https":
            raise ValueError("has a client_cert_file, which needs an https url")
        return self


class SearchSite(ServerSite):
    """A FHIR server read by paged search.

    `expect`: "fewer" for a type of which the server announces more than it gives, because it counts what it hides.
    `parameters`: what the searches of a type have beside the patient; a list of values is a list of searches.
    `patient_parameter`: the name by which a patient is searched for; without it the CapabilityStatement says it.
    `search_method`: `post` sends the parameters in the body, to `_search`. `group`: the id of a Group whose members are
    the patients, in place of a search for conditions; `patients_file`: a list of them in a file.
    """

    kind: Literal["search"]
    expect: dict[ResourceType, Literal["fewer"]] = Field(default_factory=dict)
    parameters: dict[ResourceType, SearchParameters] = Field(default_factory=dict)
    patient_parameter: Literal["subject", "patient"] | None = None
    search_method: Literal["get", "post"] = "get"
    group: GroupId | None = None
    patients_file: FilePath | None = None

    @model_validator(mode="after")
    def _patients_from_one_place(self) -> Self:
        if self.group and self.patients_file:
            raise ValueError("give one of group, patients_file")
        return self


class BulkSite(ServerSite):
    """A FHIR server read by Bulk Data export.

    `level`: $export of the whole system, of all patients, or of the Group whose id is `group`. `type_filter`:
    searches like `Condition?code=…` by which the server narrows the export. `kick_off`: the HTTP method that starts
    it. `allowed_origins`: other servers from which the files may be downloaded; they receive no credentials.
    `max_poll_seconds`: bounds what the server asks for by Retry-After while it prepares the files.
    `export_deadline_hours`: for how long it may prepare them, over several runs. `single_export`: one kick-off a sync.
    `patients_file`: a text file with the id of one Patient on each line, to export these alone.
    """

    kind: Literal["bulk"]
    level: Literal["system", "patient", "group"] = "system"
    group: GroupId | None = None
    type_filter: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]+\?\S+\z")], ...] = ()
    kick_off: Literal["get", "post"] = "get"
    allowed_origins: tuple[ServerUrl, ...] = ()
    max_poll_seconds: Annotated[float, Field(strict=True, gt=0, le=86_400)] | None = None
    export_deadline_hours: Annotated[float, Field(strict=True, gt=0, le=744)] = 168
    single_export: Flag = False
    patients_file: FilePath | None = None

    @model_validator(mode="after")
    def _group_for_its_level(self) -> Self:
        if (self.level == "group") != (self.group is not None):
            raise ValueError('give `group` (the id of the Group) with level = "group", and only then')
        return self

    @model_validator(mode="after")
    def _patients_where_they_may_be_named(self) -> Self:
        # Bulk Data Access IG 2.0.0: `patient` only by POST, and not in an export of the whole system.
        if self.patients_file and (self.level == "system" or self.kick_off != "post"):
            raise ValueError('patients_file needs kick_off = "post", and level = "patient" or "group"')
        return self

    @model_validator(mode="after")
    def _files_travel_encrypted(self) -> Self:
        if any(exposed(url) for url in self.allowed_origins) and not self.allow_plain_http:
            raise ValueError("allows files over plain http; use https, or set allow_plain_http = true")
        # An origin has no path (RFC 6454); one that is given would suggest a limit that is not checked.
        if any(urlsplit(url).path for url in self.allowed_origins):
            raise ValueError("has a path in allowed_origins; give scheme, host and port only")
        return self


Site = Annotated[FolderSite | SearchSite | BulkSite, Field(discriminator="kind")]
