"""`periop.toml` as frozen models: a misspelt key at any depth is an error, every path is relative to the
file.

Raises `ConfigError` alone. Secrets are not in here: `schedules.credentials` resolves their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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

from mappers.study import Study, study_path
from schedules.errors import ConfigError
from schedules.toml_models import read_toml, validate

STARTER_FILE = Path(__file__).parent / "starter.toml"
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def _from_the_file(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return Path(base) / path if base is not None else path


def _study_from_the_file(name_or_path: str, info: ValidationInfo) -> str:
    shipped = study_path(name_or_path)
    return name_or_path if shipped.is_absolute() else str(_from_the_file(shipped, info))


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


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"'{name[:40]}' is not a time zone; give an IANA name like UTC or Europe/Rome") from None
    return name


FilePath = Annotated[Path, AfterValidator(_from_the_file)]
SiteName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*\z", max_length=64, min_length=1),
    AfterValidator(_no_device),
]
ServerUrl = Annotated[str, AfterValidator(_server)]
TokenUrl = Annotated[str, AfterValidator(_token_endpoint)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+\z")]  # RFC 6749, 3.3
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """The base of every section: immutable, and a misspelt key is an error."""

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


class Schedule(Section):
    """When `periop serve` runs: five cron fields read as wall clock time of `timezone`."""

    nightly: str = "30 1 * * *"
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"

    @model_validator(mode="after")
    def _due_at_some_time(self) -> Schedule:
        from schedules.cron import WallClockCron

        WallClockCron(self.nightly, ZoneInfo(self.timezone))
        return self


class Disclosure(Section):
    """Counts of 1 to `min_cell` - 1 are never released; 0 releases everything. `note` is said in the
    report."""

    min_cell: Annotated[int, Field(ge=0, le=1000)] = 11
    note: str | None = None


class FolderTarget(Section):
    """A folder that receives each release, for instance a share of the registry. Without `path` it is
    `releases_dir`, where every release is anyway."""

    kind: Literal["folder"]
    path: FilePath | None = None


class Limits(Section):
    """How long to wait for a server and how much to take from it: bounds against a hostile or broken one.

    `request_seconds`: one page in whole. `site_seconds`: all requests to one site in one run. `run_seconds`: those to
    all sites. `streams`: requests to one site at a time. `overlap_seconds`: how far before the last sync changes are
    asked for again. `reconcile_days`: after which all ids are compared.
    """

    connect_seconds: Seconds = 10
    read_seconds: Seconds = 120
    request_seconds: Seconds = 900
    site_seconds: Seconds = 6 * 3600
    run_seconds: Seconds = 12 * 3600
    sites_at_a_time: Annotated[int, Field(ge=1, le=64)] = 4
    streams: Annotated[int, Field(ge=1, le=32)] = 4
    overlap_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300
    reconcile_days: Annotated[float, Field(gt=0, le=365)] = 7
    max_history_entries: Annotated[int, Field(ge=0)] = 10_000
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 200
    patients_per_request: Annotated[int, Field(ge=1, le=1000)] = 50
    max_pages: Count = 10_000
    max_response_bytes: Annotated[int, Field(ge=1024)] = 256 << 20
    max_resource_bytes: Annotated[int, Field(ge=1024)] = 16 << 20
    max_document_bytes: Annotated[int, Field(ge=1024)] = 512 << 20
    max_site_bytes: Annotated[int, Field(ge=1024)] = 64 << 30
    max_compression_ratio: Annotated[int, Field(ge=2)] = 200


class Mapping(Section):
    """Folders whose ViewDefinitions and value sets take the place of the shipped ones of the same name."""

    views: tuple[FilePath, ...] = ()
    terminology: tuple[FilePath, ...] = ()


class Settings(Section):
    """The whole of `periop.toml`."""

    data_dir: FilePath = Field(default=Path("periop-data"), validate_default=True)
    study: Annotated[str, AfterValidator(_study_from_the_file)] = "alneo"
    engine: Literal["duckdb", "spark"] = "duckdb"
    sites: Annotated[tuple[Site, ...], Field(min_length=1)]
    schedule: Schedule = Schedule()
    disclosure: Disclosure = Disclosure()
    publish: tuple[FolderTarget, ...] = ()
    limits: Limits = Limits()
    mapping: Mapping = Mapping()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        first: dict[str, int] = {}
        for index, site in enumerate(self.sites):
            if site.name in first:
                raise ValueError(f"sites[{first[site.name]}] and sites[{index}] are both named '{site.name}'")
            first[site.name] = index
        return self

    @property
    def site_names(self) -> tuple[str, ...]:
        """Names of the sites, in the order of the file."""
        return tuple(site.name for site in self.sites)

    @property
    def lake_dir(self) -> Path:
        """Where the raw resources rest."""
        return self.data_dir / "lake"

    @property
    def cohort_dir(self) -> Path:
        """Where the cohort tables rest."""
        return self.data_dir / "cohort"

    @property
    def quarantine_dir(self) -> Path:
        """Where what could not be read is kept, with its reason."""
        return self.data_dir / "quarantine"

    @property
    def releases_dir(self) -> Path:
        """Where the releases are filed."""
        return self.data_dir / "releases"

    @property
    def ledger_file(self) -> Path:
        """The run ledger."""
        return self.data_dir / "runs.sqlite"

    @property
    def view_dirs(self) -> tuple[Path, ...]:
        """Folders with ViewDefinitions of the hospital's own."""
        return self.mapping.views

    @property
    def terminology_dirs(self) -> tuple[Path, ...]:
        """Folders with value sets and concept maps of the hospital's own."""
        return self.mapping.terminology

    @property
    def target_dirs(self) -> tuple[Path, ...]:
        """Further folders that receive each release."""
        return tuple(target.path for target in self.publish if target.path is not None)


def load_settings(path: Path) -> Settings:
    """Read `periop.toml`. Raises `ConfigError` with one sentence for each fault."""
    if not path.exists():
        raise ConfigError(f"{path}: no such file; run `periop init` to write one, or name another with --config")
    return validate(Settings, read_toml(path), path, {"base": path.absolute().parent})


def load_study(name_or_path: str) -> Study:
    """Read a study by its shipped name or its path. Raises `ConfigError` with one sentence for each fault."""
    path = study_path(name_or_path)
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in study_path("alneo").parent.glob("*.toml")))
        raise ConfigError(
            f"study {name_or_path}: no such study; give the path of a study file, or a shipped one: {shipped}"
        )
    return validate(Study, read_toml(path), path)


def check_sites(settings: Settings, wanted: tuple[str, ...], file: Path) -> tuple[str, ...]:
    """The sites asked for, all where none is named. Raises `ConfigError` for one that `file` does not
    configure."""
    unknown = [name for name in wanted if name not in settings.site_names]
    if unknown:
        known = ", ".join(settings.site_names)
        raise ConfigError(f"{file}: has no site named '{unknown[0]}'; configured: {known}")
    return tuple(dict.fromkeys(wanted)) or settings.site_names
