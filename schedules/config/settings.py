"""`periop.toml` as frozen models. A misspelt key at any depth is an error; paths are relative to the file.

The sites are in `site_settings`. Secrets are not here: `credentials` reads them by the names that are.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, model_validator

from mappers.study import Study, study_path
from schedules.config.cron import CronSchedule
from schedules.config.fields import Count, Days, FilePath, Flag, Seconds, Section, Share, resolve_path
from schedules.config.notify_settings import NoticeTarget
from schedules.config.site_settings import Site
from schedules.config.toml_models import read_toml, validate
from schedules.errors import ConfigError

ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
STARTER_FILE = Path(__file__).parent / "starter.toml"


def _resolve_study(name_or_path: str, info: ValidationInfo) -> str:
    # A shipped name stays a name, so that an update of periop brings its study along.
    shipped = study_path(name_or_path)
    return name_or_path if shipped.is_absolute() else str(resolve_path(shipped, info))


def _folder(path: Path) -> Path:
    # A link to nowhere neither exists nor can be made.
    if (path.exists() or path.is_symlink()) and not path.is_dir():
        raise ValueError(f"{path} is there, and is no folder; name another place")
    return path


DataFolder = Annotated[FilePath, AfterValidator(_folder)]


def _without_escape(path: Path) -> Path:
    # deltalake reads a path as a URL in places, and looks for `a b` where the folder is `a%20b`.
    if escape := ESCAPE.search(str(path)):
        raise ValueError(
            f"{path} has {escape[0]} in it, which the library of the lake reads as one character; rename it"
        )
    return path


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # ValueError for "../x", OSError for the name of a folder
        raise ValueError(f"'{name[:40]}' is not a time zone; give an IANA name like UTC or Europe/Rome") from None
    return name


class Schedule(Section):
    """When `periop serve` runs: five cron fields read as wall clock time of `timezone`.

    `retry_until`: hours after the first try until which a night that failed is tried again. `site_days`: the age at
    which the last success of a site makes the status stale.
    """

    nightly: str = "30 1 * * *"
    retry_until: Annotated[float, Field(strict=True, ge=0, le=24)] = 4
    site_days: Annotated[float, Field(strict=True, gt=0, le=366)] = 7
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"

    @model_validator(mode="after")
    def _due_at_some_time(self) -> Schedule:
        CronSchedule(self.nightly, ZoneInfo(self.timezone))
        return self


class Disclosure(Section):
    """Disclosure control: counts of 1 to `min_cell` - 1 are never released; 0 releases everything.

    `note` replaces the sentence of the report about it.
    """

    # 11 as in the cell size suppression policy of the US Centers for Medicare & Medicaid Services.
    min_cell: Annotated[int, Field(strict=True, ge=0, le=1000)] = 11
    note: str | None = None


class Release(Section):
    """When a release leaves the house, where `min_cell` protects counts; without protection every run may make one.

    `mode`: at the data cutoff of the study and on each day of `release_on`, or on every night on which no figure has
    moved by too few. `max_fall`: the share of the enrolled patients that may be gone since the last release.
    `min_shown`: of the figures that it would show by itself, the share that must be left of a release beside past ones.
    """

    mode: Literal["at_cutoffs", "every"] = "at_cutoffs"
    release_on: tuple[date, ...] = ()
    max_fall: Share = 0.2
    min_shown: Share = 0.75


class FolderTarget(Section):
    """A folder that receives a copy of each release, for instance a network share of the registry.

    Without `path` it is `releases_dir`, where every release is written anyway.
    """

    kind: Literal["folder"]
    path: DataFolder | None = None


class Limits(Section):
    """Bounds on how long to wait for a server and how much to take from it, against a broken or hostile one.

    `request_seconds`: one whole page. `site_seconds`: all requests to one site in one run. `run_seconds`: those to
    all sites. `streams`: requests to one site at a time. `overlap_seconds`: changes are requested from that long
    before the last sync. `reconcile_days`: how often all ids are compared with the server.
    """

    # Time. A server of a hospital may take minutes for one page, and a first sync may take all night.
    connect_seconds: Seconds = 10
    read_seconds: Seconds = 120
    request_seconds: Seconds = 900
    site_seconds: Seconds = 6 * 3600
    run_seconds: Seconds = 12 * 3600
    # Connections. A hospital's server also serves its wards: few at a time.
    sites_at_a_time: Annotated[int, Field(strict=True, ge=1, le=64)] = 4
    streams: Annotated[int, Field(strict=True, ge=1, le=32)] = 4
    # Versions that a server dated before the last sync but indexed after it; identical ones are dropped.
    overlap_seconds: Annotated[float, Field(strict=True, ge=0, le=86_400)] = 300
    reconcile_days: Annotated[float, Field(strict=True, gt=0, le=365)] = 7
    max_history_entries: Annotated[int, Field(strict=True, ge=0)] = 10_000
    # Size of requests. 50 ids of 64 characters make a URL below 4 kB, which proxies accept (Apache: 8,190 characters).
    max_url: Annotated[int, Field(strict=True, ge=500, le=65_536)] = 4_000
    page_size: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 200
    patients_per_request: Annotated[int, Field(strict=True, ge=1, le=1000)] = 50
    # Size of responses: a server that never ends, and a small file that decompresses to a huge one.
    max_pages: Count = 10_000
    max_response_bytes: Annotated[int, Field(strict=True, ge=1024)] = 256 << 20
    # A resource with an attached PDF may have megabytes; none of the types that are read needs more than 16.
    max_resource_bytes: Annotated[int, Field(strict=True, ge=1024)] = 16 << 20
    max_document_bytes: Annotated[int, Field(strict=True, ge=1024)] = 512 << 20
    # Of all resources of a sync: what is spooled to disk before the commit.
    max_site_bytes: Annotated[int, Field(strict=True, ge=1024)] = 64 << 30
    max_compression_ratio: Annotated[int, Field(strict=True, ge=2)] = 200


class Maintain(Section):
    """The upkeep of the data folder: `nightly` as the last step of a run, or only by `periop maintain`.

    `small_files`: the files of a table are merged where so many are small.
    """

    nightly: Flag = True
    small_files: Annotated[int, Field(strict=True, ge=2, le=1000)] = 16


class Retention(Section):
    """Days after which something is deleted; without a number it is kept.

    `superseded_days`: versions of resources that were replaced or deleted. `crash_days`: the traceback of a bug.
    `quarantine_days`: the contents of what could not be read, since a sync last brought them. `ledger_days`: runs in
    the run ledger. `audit_days`: lines of the audit log. `internal_days`: the internal report, since a run last
    confirmed it. `release_days`: releases that are not current, and withdrawn ones.
    """

    superseded_days: Days | None = None
    crash_days: Days = 30
    quarantine_days: Days = 90
    ledger_days: Days = 400
    # Six years as HIPAA wants documentation to be kept (45 CFR 164.316(b)(2)(i)).
    audit_days: Days = 2192
    internal_days: Days = 90
    release_days: Days | None = None

    @model_validator(mode="after")
    def _ledger_outlives_versions(self) -> Retention:
        # The ledger says since when a version is superseded: without its rows nothing would ever go.
        if self.superseded_days is not None and self.ledger_days < self.superseded_days:
            raise ValueError("ledger_days must be at least superseded_days: give it the same number, or more")
        return self


class Mapping(Section):
    """Folders whose ViewDefinitions and value sets replace the shipped ones of the same name."""

    views: tuple[FilePath, ...] = ()
    terminology: tuple[FilePath, ...] = ()


class Persons(Section):
    """Link a patient who is known at several sites by `identifier_systems`, in which no two people share a number."""

    identifier_systems: tuple[Annotated[str, StringConstraints(pattern=r"^\S+\z", max_length=1000)], ...] = ()


class Settings(Section):
    """All settings: the content of `periop.toml`.

    >>> import tomllib
    >>> text = '''
    ... [[sites]]
    ... name = "milan"
    ... kind = "search"
    ... url = "https://fhir.example.org/r4"
    ... auth = { kind = "bearer", token_env = "PERIOP_MILAN_TOKEN" }
    ... '''
    >>> settings = Settings.model_validate(tomllib.loads(text))
    >>> settings.sites[0].auth.kind, settings.disclosure.min_cell, str(settings.lake_dir)
    ('bearer', 11, 'periop-data/lake')
    """

    # validate_default: the default, too, is relative to the folder of the file.
    data_dir: Annotated[DataFolder, AfterValidator(_without_escape)] = Field(
        default=Path("periop-data"), validate_default=True
    )
    study: Annotated[str, AfterValidator(_resolve_study)] = "alneo"
    engine: Literal["duckdb", "spark"] = "duckdb"
    sites: Annotated[tuple[Site, ...], Field(min_length=1)]
    # Each section may be absent; frozen models make safe defaults.
    schedule: Schedule = Schedule()
    disclosure: Disclosure = Disclosure()
    release: Release = Release()
    publish: tuple[FolderTarget, ...] = ()
    notify: tuple[NoticeTarget, ...] = ()
    limits: Limits = Limits()
    mapping: Mapping = Mapping()
    persons: Persons = Persons()
    maintain: Maintain = Maintain()
    retention: Retention = Retention()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        # Two sites of one name would share a cursor and a partition of the lake.
        first: dict[str, int] = {}
        for index, site in enumerate(self.sites):
            if site.name in first:
                raise ValueError(f"sites[{first[site.name]}] and sites[{index}] are both named '{site.name}'")
            first[site.name] = index
        return self

    @property
    def site_names(self) -> tuple[str, ...]:
        """Return the names of the sites, in the order of the file."""
        return tuple(site.name for site in self.sites)

    @property
    def lake_dir(self) -> Path:
        """Return the folder of the raw resources."""
        return self.data_dir / "lake"

    @property
    def cohort_dir(self) -> Path:
        """Return the folder of the cohort tables."""
        return self.data_dir / "cohort"

    @property
    def quarantine_dir(self) -> Path:
        """Return the folder of the quarantine: what could not be read, with the reasons."""
        return self.data_dir / "quarantine"

    @property
    def releases_dir(self) -> Path:
        """Return the folder of the releases."""
        return self.data_dir / "releases"

    @property
    def withdrawn_dir(self) -> Path:
        """Return the folder of the releases that were withdrawn."""
        return self.data_dir / "withdrawn"

    @property
    def release_ledger_dir(self) -> Path:
        """Return the folder of the release ledger: everything that ever left the house."""
        return self.data_dir / "release-ledger"

    @property
    def release_patients_dir(self) -> Path:
        """Return the folder of the patients behind each release, which never leaves the data folder."""
        return self.data_dir / "release-patients"

    @property
    def internal_dir(self) -> Path:
        """Return the folder of the internal report, which is not for release."""
        return self.data_dir / "internal"

    @property
    def ledger_file(self) -> Path:
        """Return the file of the run ledger."""
        return self.data_dir / "runs.sqlite"

    @property
    def target_dirs(self) -> tuple[Path, ...]:
        """Return the further folders that receive each release."""
        return tuple(target.path for target in self.publish if target.path is not None)


def load_settings(path: Path) -> Settings:
    """Read `periop.toml`. Raises `ConfigError` with one sentence for each fault."""
    if not path.exists():
        raise ConfigError(f"{path}: no such file; run `periop init` to write one, or name another with --config")
    return validate(Settings, read_toml(path), path, {"base": path.absolute().parent})


def load_study(name_or_path: str) -> Study:
    """Read a study by its shipped name or its path. Raises `ConfigError` with one sentence for each fault."""
    # Not `mappers.study.load_study`, whose errors are those of pydantic: here each fault becomes a sentence.
    path = study_path(name_or_path)
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in study_path("alneo").parent.glob("*.toml")))
        raise ConfigError(
            f"study {name_or_path}: no such study; give the path of a study file, or a shipped one: {shipped}"
        )
    return validate(Study, read_toml(path), path)


def check_sites(settings: Settings, wanted: tuple[str, ...], file: Path) -> tuple[str, ...]:
    """Return the sites that were named, or all where none was.

    Raises `ConfigError` for a name that `file` does not configure.
    """
    unknown = [name for name in wanted if name not in settings.site_names]
    if unknown:
        known = ", ".join(settings.site_names)
        raise ConfigError(f"{file}: has no site named '{unknown[0]}'; configured: {known}")
    return tuple(dict.fromkeys(wanted)) or settings.site_names  # each once, in the order given
