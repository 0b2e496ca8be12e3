"""The sites of `periop.toml` and how periop signs in to each, as frozen models.

To add a setting to a site: add the field to the model of its kind here (`ServerSite` for everything behind a FHIR
server), use it in `schedules.run.sources`, and document it in docs/configuration.md, which a test compares with these
models.
"""

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

# A site name becomes a folder of the lake and the name of a file, and Windows cannot have files of these names.
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
# Hosts to which plain http may carry a secret: it does not leave the machine.
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def resolve_path(path: Path, info: ValidationInfo) -> Path:
    """Return `path` relative to the folder of the configuration file, which `validate` passes as context."""
    base = (info.context or {}).get("base")
    return Path(base) / path if base is not None else path


def _no_device(name: str) -> str:
    if name in WINDOWS_DEVICES:
        raise ValueError(f"'{name}' is a device name on Windows; choose another site name")
    return name


def _server(url: str) -> str:
    """Check that `url` is an http(s) address with a host and without a password, and return it."""
    # No message repeats the address: it may hold a password.
    try:
        parts = urlsplit(url)
        port = parts.port  # parsed on access, and a wrong one raises
    except ValueError:
        raise ValueError("not a valid address; give it like https://fhir.example.org/r4") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be an http or https address with a host, like https://fhir.example.org/r4")
    if parts.username is not None or parts.password is not None:
        raise ValueError('holds credentials; put them in `auth = { kind = "basic", … }`')
    if parts.query or parts.fragment:
        raise ValueError("must end with the base path of the server, without ? or #")
    return url.rstrip("/")  # the paths of requests are appended with a / of their own


def _token_endpoint(url: str) -> str:
    # Unlike a server's base it may have a query (RFC 6749, 3.2), and a / at its end is part of the address.
    _server(url.partition("?")[0])
    return url


def _split(scope: object) -> object:
    return scope.split() if isinstance(scope, str) else scope


def _exposed(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK


FilePath = Annotated[Path, AfterValidator(resolve_path)]
SiteName = Annotated[
    str,
    # Lower case only: on macOS and Windows "Milan" and "milan" would be one folder.
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*\z", max_length=64, min_length=1),
    AfterValidator(_no_device),
]
ServerUrl = Annotated[str, AfterValidator(_server)]
TokenUrl = Annotated[str, AfterValidator(_token_endpoint)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+\z")]  # RFC 6749, 3.3


class Section(BaseModel):
    """Base class of every section of `periop.toml`: immutable, and a misspelt key is an error."""

    # forbid: a misspelt `min_cel` must not silently leave the default. frozen: the threads of a run share the settings.
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoAuth(Section):
    """No credentials: a server that is open to its network."""

    kind: Literal["none"] = "none"


class BasicAuth(Section):
    """HTTP Basic: the password by the name of an environment variable or of a file."""

    # The password itself is not a key: the file is copied, shown to colleagues and put under version control.
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
    """SMART Backend Services: `key_file` is the private key whose public half is registered at the server.

    `scope`: the scopes to request instead of `system/<Type>.rs` of every type that is read. `token_url`: the token
    endpoint, if discovery does not find it. `jku`: the address of the JWKS, for servers that require it.
    """

    kind: Literal["smart"]
    client_id: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]+\z")]  # RFC 6749, A.1
    key_file: FilePath
    scope: Annotated[tuple[Scope, ...], BeforeValidator(_split)] = ()
    token_url: TokenUrl | None = None
    jku: ServerUrl | None = None


# `kind` selects the model, so that an error is reported for that model and not for all four.
Auth = Annotated[NoAuth | BasicAuth | BearerAuth | SmartAuth, Field(discriminator="kind")]


class FolderSite(Section):
    """A folder with NDJSON files and Bundles.

    `complete`: it always holds everything, so a resource that is no longer in it is marked as deleted.
    """

    name: SiteName
    kind: Literal["folder"]
    path: FilePath
    complete: bool = False


class ServerSite(Section):
    """The settings of every site behind a FHIR server.

    `ca_file`: the certificate authorities to trust instead of the public ones, as PEM. `client_cert_file`: the
    client certificate for mutual TLS, with its private key in the same file or in `client_key_file`.
    `allow_plain_http`: allow a secret to be sent unencrypted inside the hospital's network. `sandbox`: the server
    holds no real patients, so `periop sandbox` may write there.

    >>> site = SearchSite(name="milan", kind="search", url="https://fhir.example.org/r4/", auth={"kind": "none"})
    >>> site.url
    'https://fhir.example.org/r4'
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
            raise ValueError("sends a secret over plain http; use https, or set allow_plain_http = true")
        # Also what buys a token is a secret, wherever it is sent.
        token_url = getattr(self.auth, "token_url", None)
        if token_url and _exposed(token_url) and not self.allow_plain_http:
            raise ValueError("requests tokens over plain http; use https, or set allow_plain_http = true")
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
    """A FHIR server read by paged search."""

    kind: Literal["search"]


class BulkSite(ServerSite):
    """A FHIR server read by Bulk Data export.

    `level`: $export of the whole system, of all patients, or of the Group whose id is `group`. `type_filter`:
    searches like `Condition?code=…` by which the server narrows the export. `kick_off`: the HTTP method that starts
    it. `allowed_origins`: other servers from which the files may be downloaded; they receive no credentials.
    """

    kind: Literal["bulk"]
    level: Literal["system", "patient", "group"] = "system"
    # The pattern of FHIR ids: the group becomes a part of the path of the request.
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
            raise ValueError("allows files over plain http; use https, or set allow_plain_http = true")
        # An origin has no path (RFC 6454); one that is given would suggest a limit that is not checked.
        if any(urlsplit(url).path for url in self.allowed_origins):
            raise ValueError("has a path in allowed_origins; give scheme, host and port only")
        return self


Site = Annotated[FolderSite | SearchSite | BulkSite, Field(discriminator="kind")]
