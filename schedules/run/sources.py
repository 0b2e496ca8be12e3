"""From the settings of a site to its `Source`: which requests, with which credentials and limits.

A new key of a site is added to its model in `schedules.config.site_settings` and used here.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from schedules.config.resource_types import TYPES
from schedules.errors import ConfigError

if TYPE_CHECKING:
    from connectors.http.authenticators import Authenticator
    from connectors.http.client import FhirClient
    from connectors.http.retry import Clock, TransferLimits
    from connectors.sources.base import Source
    from connectors.sources.bulk.source import BulkSource
    from connectors.sources.folder import FolderSource
    from connectors.sources.patient_list import PatientList
    from connectors.sources.search.dialect import Dialect
    from connectors.sources.search.listed import PatientGroup
    from connectors.sources.search.source import CohortQuery, SearchSource
    from schedules.config.auth_settings import BearerAuth as BearerSettings
    from schedules.config.auth_settings import ClientSecretAuth as ClientSecretSettings
    from schedules.config.auth_settings import SmartAuth as SmartSettings
    from schedules.config.settings import Limits, Settings
    from schedules.config.site_settings import BulkSite, FolderSite, SearchSite, ServerSite, Site

CODES_PER_REQUEST = 50  # each with its system, some 50 characters when encoded
FORM_OF_LIST = (
    "write the id of one Patient on each line, or a CSV with the column id, or with the columns system and value"
)
COHORT_VALUE_SET = "nsclc"  # a file in mappers/valuesets, or of the same name in the folders of [mapping]


def source(
    settings: Settings, site: Site, environ: Mapping[str, str], excluded: Callable[[str], bool] | None = None
) -> Source:
    """Return the source of the resources of `site`. Raises `ConfigError` where a secret or a certificate is missing.

    `excluded` is True for the id of a patient who must not be asked about, where the source asks by patient.
    """
    # The sources import httpx and the like inside these functions, so `periop status` does not load them.
    if site.kind == "folder":
        return folder_source(settings, site)
    if site.kind == "bulk":
        return bulk_source(settings, site, environ)
    found = search_source(settings, site, environ)
    return replace(found, excluded=excluded) if excluded else found


def folder_source(settings: Settings, site: FolderSite) -> FolderSource:
    """Return the source of a folder of FHIR files."""
    from connectors.sources.folder import FolderLimits, FolderSource

    limits = FolderLimits(settings.limits.max_resource_bytes, settings.limits.max_document_bytes)
    return FolderSource(site.path, frozenset(types_of(site)), limits, whole=site.complete)


def search_source(settings: Settings, site: SearchSite, environ: Mapping[str, str]) -> SearchSource:
    """Return the source of a FHIR server that is read by paged search."""
    from connectors.lake.table import Lake
    from connectors.sources.search.requests import SearchLimits
    from connectors.sources.search.source import SearchSource
    from schedules.config.credentials import client_ssl_context

    limits = limits_of(settings, site)
    return SearchSource(
        site.url,
        cohort_query(settings),
        types_of(site),
        auth=authenticator(settings, site, environ),
        limits=SearchLimits(
            limits.page_size,
            limits.patients_per_request,
            limits.max_url,
            pages=limits.max_pages,
            resource=limits.max_resource_bytes,
            streams=limits.streams,
            history=limits.max_history_entries,
            overlap=limits.overlap_seconds,
            reconcile_days=limits.reconcile_days,
            fewer=frozenset(site.expect),
        ),
        transfer=transfer_limits(settings, site, environ),
        clock=logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        tolerant=site.types is None,
        dialect=dialect_of(site),
        learns=site.patient_parameter is None,
        named=named_patients(site),
        # Called only if it is needed: the patients that the lake knows, to tell who is new in the cohort.
        stored=lambda: Lake(settings.lake_dir).patients(site.name),
        texts=lambda kind: Lake(settings.lake_dir).texts(site.name, kind),
    )


def types_of(site: FolderSite | ServerSite) -> tuple[str, ...]:
    """Return the resource types that a site is asked for."""
    return (site.types or TYPES) + site.consent_types


def dialect_of(site: SearchSite) -> Dialect:
    """Return how the server of a site wants to be asked, as far as the settings say it."""
    from connectors.sources.search.dialect import BY_PATIENT, Dialect, by_patient
    from schedules.config.search_parameters import queries

    added = {kind: queries(parameters) for kind, parameters in site.parameters.items()}
    patients = by_patient(TYPES) if site.patient_parameter == "patient" else BY_PATIENT
    return Dialect(added, patients, post=site.search_method == "post")


def bulk_source(settings: Settings, site: BulkSite, environ: Mapping[str, str]) -> BulkSource:
    """Return the source of a FHIR server that is read by Bulk Data export.

    The state of an export in progress is kept in `data_dir/jobs`, so that the next run can go on with it.
    """
    from connectors.lake.table import Lake
    from connectors.sources.bulk.job import Polling
    from connectors.sources.bulk.source import BulkLimits, BulkSource
    from connectors.sources.patient_list import PatientList
    from schedules.config.credentials import client_ssl_context, trust_only_ssl_context

    limits = limits_of(settings, site)
    return BulkSource(
        site.url,
        types_of(site),
        site.name,
        settings.data_dir / "jobs",
        level=site.level,
        group=site.group,
        type_filter=site.type_filter,
        kick_off=site.kick_off,
        allowed_origins=site.allowed_origins,
        polling=Polling(at_most=site.max_poll_seconds or math.inf, deadline=site.export_deadline_hours * 3600),
        patients=patient_list(site.patients_file) if site.patients_file else PatientList(),
        single_export=site.single_export,
        auth=authenticator(settings, site, environ),
        limits=BulkLimits(
            streams=limits.streams,
            resource=limits.max_resource_bytes,
            overlap=limits.overlap_seconds,
            reconcile_days=limits.reconcile_days,
        ),
        transfer=transfer_limits(settings, site, environ),
        clock=logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        texts=lambda kind: Lake(settings.lake_dir).texts(site.name, kind),
        verify_other_origins=trust_only_ssl_context(site),  # a file server must not see the client certificate
    )


def patient_list(file: Path) -> PatientList:
    """Return the patients that a file names. Raises `ConfigError` where it names none; no error has an id in it."""
    from connectors.sources.patient_list import lines_of, read_patient_list

    try:
        listed = read_patient_list(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as text; {FORM_OF_LIST}") from error
    if listed is None:
        raise ConfigError(f"{file}, line 1: has other columns than id, or system and value; {FORM_OF_LIST}")
    if not listed:
        unreadable = f" ({lines_of(listed.unreadable)} cannot be read)" if listed.unreadable else ""
        raise ConfigError(f"{file}: names no patient{unreadable}; {FORM_OF_LIST}")
    return listed


def whole_patient_list(file: Path) -> PatientList:
    """Return the list in a file of which each line names somebody. Raises `ConfigError` as `patient_list` does."""
    from connectors.sources.patient_list import lines_of

    listed = patient_list(file)
    if listed.unreadable:
        raise ConfigError(f"{file}: {lines_of(listed.unreadable)} cannot be read; {FORM_OF_LIST}")
    return listed


def named_patients(site: SearchSite) -> PatientGroup | PatientList | None:
    """Return who the patients of a site are where it names them. Raises `ConfigError` for a list without any."""
    from connectors.sources.search.listed import PatientGroup

    if site.group:
        return PatientGroup(site.group)
    return patient_list(site.patients_file) if site.patients_file else None


def cohort_query(settings: Settings) -> CohortQuery:
    """Return the query for the patients of the cohort: those with a condition of the value set `nsclc`."""
    from connectors.sources.search.source import CohortQuery
    from mappers.terminology import load_terminology

    # One parameter with all codes: a comma means "or" in FHIR search, so one search finds all patients.
    terminology = load_terminology(*settings.mapping.terminology)
    tokens = terminology.search_tokens(COHORT_VALUE_SET)
    # Some servers find a code only with its system (against FHIR R4, 3.1.1.4.10), and so many of these fit in no URL.
    named = [f"{system}|{code}" for system, code in terminology.codes(COHORT_VALUE_SET)]
    batches = [named[start : start + CODES_PER_REQUEST] for start in range(0, len(named), CODES_PER_REQUEST)]
    others = tuple((("code", ",".join(each)),) for each in batches)
    return CohortQuery("Condition", (("code", ",".join(tokens)),), others)


def fhir_client(
    site: SearchSite | BulkSite, auth: Authenticator, limits: TransferLimits, environ: Mapping[str, str]
) -> FhirClient:
    """Return a client for the server of `site`, for what is not a sync. Raises `ConfigError` as `source` does."""
    from connectors.http.client import FhirClient
    from schedules.config.credentials import client_ssl_context, trust_only_ssl_context

    return FhirClient(
        site.url,
        auth,
        limits,
        logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        allowed_origins=site.allowed_origins if site.kind == "bulk" else (),
        verify_other_origins=trust_only_ssl_context(site),
    )


def limits_of(settings: Settings, site: ServerSite) -> Limits:
    """Return the limits of the settings with those that `site` has of its own."""
    return settings.limits.model_copy(update=site.limits.model_dump(exclude_none=True))


def transfer_limits(settings: Settings, site: ServerSite, environ: Mapping[str, str]) -> TransferLimits:
    """Return the bounds of every request to a site, and the proxy on the way to it.

    Raises `ConfigError` where the password of the proxy is missing.
    """
    from connectors.http.retry import TransferLimits
    from schedules.config.proxy import site_proxy

    limits = limits_of(settings, site)
    return TransferLimits(
        connect=limits.connect_seconds,
        read=limits.read_seconds,
        request=limits.request_seconds,
        run=limits.site_seconds,
        response=limits.max_response_bytes,
        ratio=limits.max_compression_ratio,
        proxy=site_proxy(site, environ),
    )


def logging_clock(site: str) -> Clock:
    """Return the clocks of this machine, with a line in the log for every wait."""
    from connectors.http.retry import Clock

    def wait(seconds: float) -> None:
        # Otherwise a night of waiting for a busy server would look like a run that hangs.
        logging.getLogger(__name__).warning("%s: no usable response; trying again in %.0f s", site, seconds)
        time.sleep(seconds)

    return Clock(sleep=wait)


def authenticator(settings: Settings, site: ServerSite, environ: Mapping[str, str]) -> Authenticator:
    """Return what signs in to `site`. Raises `ConfigError` where a secret or a key is missing."""
    from connectors.http.authenticators import BasicAuth, BearerAuth, NoAuth, WithHeaders
    from schedules.config.credentials import secret

    found: Authenticator
    match site.auth:
        case auth if auth.kind == "smart" or auth.kind == "client_secret":
            return _tokens(settings, site, auth, environ)
        case auth if auth.kind == "basic":
            found = BasicAuth(auth.username, secret(auth.password_env, auth.password_file, environ))
        case auth if auth.kind == "bearer":
            found = BearerAuth(secret(auth.token_env, auth.token_file, environ), _token_reader(auth, environ))
        case _:
            found = NoAuth()
    return WithHeaders(site_headers(site, environ), found) if site.headers else found


def site_headers(site: ServerSite, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers that `site` wants in each request. Raises `ConfigError` where a secret is missing."""
    from schedules.config.credentials import secret

    values = {
        name: value if isinstance(value, str) else secret(value.env, value.file, environ)
        for name, value in site.headers.items()
    }
    for name, value in values.items():
        if not value.isascii():
            raise ConfigError(f"site {site.name}: the value of the header {name} is not ASCII text; correct it")
    return values


def _token_reader(auth: BearerSettings, environ: Mapping[str, str]) -> Callable[[], str] | None:
    """Return what reads the token file again, None without a file: the environment of a process stays as it is."""
    from connectors.errors import AuthenticationError
    from schedules.config.credentials import secret

    def read() -> str:
        try:
            return secret(None, auth.token_file, environ)
        except ConfigError as error:  # in the middle of a sync it ends this site only
            raise AuthenticationError(str(error)) from error

    return read if auth.token_file else None


def _tokens(
    settings: Settings, site: ServerSite, auth: SmartSettings | ClientSecretSettings, environ: Mapping[str, str]
) -> Authenticator:
    from connectors.auth.clients import RegisteredClient, SecretClient, TokenClient
    from connectors.auth.smart import SmartAuth
    from schedules.config.credentials import client_ssl_context, secret, signing_key, trust_only_ssl_context

    client: TokenClient
    if auth.kind == "smart":
        client = RegisteredClient(auth.client_id, signing_key(auth.key_file), auth.jku)
    else:
        named = {"audience": auth.audience, "resource": auth.resource}
        client = SecretClient(
            auth.client_id,
            secret(auth.client_secret_env, auth.client_secret_file, environ),
            auth.sent_in == "body",
            {**auth.token_parameters, **{name: value for name, value in named.items() if value is not None}},
        )
    return SmartAuth(
        site.url,
        client,
        types_of(site),
        auth.scope,
        auth.token_url,
        limits=transfer_limits(settings, site, environ),
        clock=logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        verify_other_origins=trust_only_ssl_context(site),
        site_headers=site_headers(site, environ),
    )
