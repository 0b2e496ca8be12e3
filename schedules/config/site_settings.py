"""The sites of `periop.toml` and how each is signed in to, as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def from_the_file(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return Path(base) / path if base is not None else path


def _no_device(name: str) -> str:
    if name in WINDOWS_DEVICES:
        raise ValueError(f"'{name}' is a device name on Windows; choose another site name")
    return name


def _server(url: str) -> str:
    """An http(s) address with a host and nothing secret in it; the message never repeats the address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("not a valid address; give it like https://fhir.example.org/r4") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be an http or https address with a host, like https://fhir.example.org/r4")
    if parts.username is not None or parts.password is not None:
        raise ValueError('holds credentials; put them in `auth = { kind = "basic", … }`')
    if parts.query or parts.fragment:
        raise ValueError("must end with the base path of the server, without ? or #")
    return url.rstrip("/")


def _token_endpoint(url: str) -> str:
    """As a server, but a token endpoint may have a query (RFC 6749, 3.2), and its path stays as it is."""
    _server(url.partition("?")[0])
    return url


def _split(scope: object) -> object:
    return scope.split() if isinstance(scope, str) else scope


def _exposed(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK


FilePath = Annotated[Path, AfterValidator(from_the_file)]
SiteName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*\z", max_length=64, min_length=1),
    AfterValidator(_no_device),
]
ServerUrl = Annotated[str, AfterValidator(_server)]
TokenUrl = Annotated[str, AfterValidator(_token_endpoint)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+\z")]  # RFC 6749, 3.3


class Section(BaseModel):
    """The base of every section of `periop.toml`: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoAuth(Section):
    """A server that asks for no credentials."""

    kind: Literal["none"] = "none"


class BasicAuth(Section):
    """HTTP Basic: the password by the name of an environment variable or of a file."""

    kind: Literal["basic"]
    username: str
    password_env: str | None = None
    password_file: FilePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> BasicAuth:
        if (self.password_env is None) == (self.password_file is None):
            raise ValueError("give one of password_env, password_file")
        return self


class BearerAuth(Section):
    """A fixed bearer token, by the name of an environment variable or of a file."""

    kind: Literal["bearer"]
    token_env: str | None = None
    token_file: FilePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> BearerAuth:
        if (self.token_env is None) == (self.token_file is None):
            raise ValueError("give one of token_env, token_file")
        return self


class SmartAuth(Section):
    """SMART Backend Services: `key_file` is the private key whose public half the server has registered.

    `scope`: what to ask for in place of `system/<Type>.rs` of every type that is read. `token_url`: the token
    endpoint, where discovery does not find it. `jku`: the address of the JWKS, for servers that want it said.
    """

    kind: Literal["smart"]
    client_id: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]+\z")]
    key_file: FilePath
    scope: Annotated[tuple[Scope, ...], BeforeValidator(_split)] = ()
    token_url: TokenUrl | None = None
    jku: ServerUrl | None = None


Auth = Annotated[NoAuth | BasicAuth | BearerAuth | SmartAuth, Field(discriminator="kind")]


class FolderSite(Section):
    """NDJSON files and Bundles in a folder. `complete`: it always holds everything; what is in it no more is gone."""

    name: SiteName
    kind: Literal["folder"]
    path: FilePath
    complete: bool = False


class ServerSite(Section):
    """What every site behind a FHIR server has.

    `ca_file`: the authorities to trust in place of the public ones, as PEM. `client_cert_file`: what periop
    shows the server that asks for a certificate (mutual TLS), with its private key in the same file or in
    `client_key_file`. `allow_plain_http` lets a secret travel unencrypted inside one's network. `sandbox`: it holds
    no real patients, so `periop sandbox` may write there.
    """

    name: SiteName
    url: ServerUrl
    auth: Auth = NoAuth()
    ca_file: FilePath | None = None
    client_cert_file: FilePath | None = None
    client_key_file: FilePath | None = None
    client_key_password_env: str | None = None
    client_key_password_file: FilePath | None = None
    allow_plain_http: bool = False
    sandbox: bool = False

    @model_validator(mode="after")
    def _secrets_travel_encrypted(self) -> Self:
        exposed = _exposed(self.url) and self.auth.kind != "none"
        if exposed and not self.allow_plain_http:
            raise ValueError("sends a secret over plain http; use https, or say allow_plain_http = true")
        token_url = getattr(self.auth, "token_url", None)
        if token_url and _exposed(token_url) and not self.allow_plain_http:
            raise ValueError("asks for tokens over plain http; use https, or say allow_plain_http = true")
        return self

    @model_validator(mode="after")
    def _client_certificate_is_whole(self) -> Self:
        key = self.client_key_file or self.client_key_password_env or self.client_key_password_file
        if key and not self.client_cert_file:
            raise ValueError("has a client key without client_cert_file; give the certificate too")
        if self.client_key_password_env and self.client_key_password_file:
            raise ValueError("give one of client_key_password_env, client_key_password_file")
        if self.client_cert_file and urlsplit(self.url).scheme != "https":
            raise ValueError("has a client_cert_file, which needs an https url")
        return self


class SearchSite(ServerSite):
    """A FHIR server read by paged search."""

    kind: Literal["search"]


class BulkSite(ServerSite):
    """A FHIR server read by Bulk Data export.

    `level`: $export of the whole system, of all patients, or of the Group whose id is `group`. `type_filter`:
    searches like `Condition?code=…` that the server narrows the export by. `kick_off`: how the export is asked
    for. `allowed_origins`: other servers that the files may lie on; they get no credentials.
    """

    kind: Literal["bulk"]
    level: Literal["system", "patient", "group"] = "system"
    group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,64}\z")] | None = None
    type_filter: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]+\?\S+\z")], ...] = ()
    kick_off: Literal["get", "post"] = "get"
    allowed_origins: tuple[ServerUrl, ...] = ()

    @model_validator(mode="after")
    def _group_for_its_level(self) -> Self:
        if (self.level == "group") != (self.group is not None):
            raise ValueError('give `group` (the id of the Group) with level = "group", and only then')
        return self

    @model_validator(mode="after")
    def _files_travel_encrypted(self) -> Self:
        if any(_exposed(url) for url in self.allowed_origins) and not self.allow_plain_http:
            raise ValueError("allows files over plain http; use https, or say allow_plain_http = true")
        if any(urlsplit(url).path for url in self.allowed_origins):
            raise ValueError("has a path in allowed_origins; give scheme, host and port only")
        return self


Site = Annotated[FolderSite | SearchSite | BulkSite, Field(discriminator="kind")]
