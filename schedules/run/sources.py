"""From the settings of a site to its `Source`: which requests, with which credentials and limits.

A new key of a site is added to its model in `schedules.config.site_settings` and used here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.http.authenticators import Authenticator
    from connectors.http.client import FhirClient
    from connectors.http.retry import Clock, TransferLimits
    from connectors.sources.base import Source
    from connectors.sources.bulk.source import BulkSource
    from connectors.sources.folder import FolderSource
    from connectors.sources.search.source import CohortQuery, SearchSource
    from schedules.config.settings import Limits, Settings
    from schedules.config.site_settings import BulkSite, FolderSite, SearchSite, ServerSite, Site
    from schedules.config.site_settings import SmartAuth as SmartSettings

# The resource types that the shipped views read.
TYPES = ("Patient", "Condition", "MedicationAdministration", "Procedure", "AdverseEvent", "Observation")
COHORT_VALUE_SET = "nsclc"  # a file in mappers/valuesets, or of the same name in the folders of [mapping]


def source(settings: Settings, site: Site, environ: Mapping[str, str]) -> Source:
    """Return the source of the resources of `site`. Raises `ConfigError` where a secret or a certificate is missing."""
    # The sources import httpx and the like inside these functions, so `periop status` does not load them.
    if site.kind == "folder":
        return folder_source(settings, site)
    if site.kind == "bulk":
        return bulk_source(settings, site, environ)
    return search_source(settings, site, environ)


def folder_source(settings: Settings, site: FolderSite) -> FolderSource:
    """Return the source of a folder of FHIR files."""
    from connectors.sources.folder import FolderLimits, FolderSource

    limits = FolderLimits(settings.limits.max_resource_bytes, settings.limits.max_document_bytes)
    return FolderSource(site.path, frozenset(TYPES), limits, whole=site.complete)


def search_source(settings: Settings, site: SearchSite, environ: Mapping[str, str]) -> SearchSource:
    """Return the source of a FHIR server that is read by paged search."""
    from connectors.lake.table import Lake
    from connectors.sources.search.requests import SearchLimits
    from connectors.sources.search.source import SearchSource
    from schedules.config.credentials import client_ssl_context

    limits = settings.limits
    return SearchSource(
        site.url,
        cohort_query(settings),
        TYPES,
        auth=authenticator(settings, site, environ),
        limits=SearchLimits(
            limits.page_size,
            limits.patients_per_request,
            pages=limits.max_pages,
            resource=limits.max_resource_bytes,
            streams=limits.streams,
            history=limits.max_history_entries,
            overlap=limits.overlap_seconds,
            reconcile_days=limits.reconcile_days,
        ),
        transfer=transfer_limits(limits),
        clock=logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        # Called only if it is needed: the patients that the lake knows, to tell who is new in the cohort.
        stored=lambda: Lake(settings.lake_dir).patients(site.name),
    )


def bulk_source(settings: Settings, site: BulkSite, environ: Mapping[str, str]) -> BulkSource:
    """Return the source of a FHIR server that is read by Bulk Data export.

    The state of an export in progress is kept in `data_dir/jobs`, so that the next run can go on with it.
    """
    from connectors.sources.bulk.source import BulkLimits, BulkSource
    from schedules.config.credentials import client_ssl_context, trust_only_ssl_context

    limits = settings.limits
    return BulkSource(
        site.url,
        TYPES,
        site.name,
        settings.data_dir / "jobs",
        level=site.level,
        group=site.group,
        type_filter=site.type_filter,
        kick_off=site.kick_off,
        allowed_origins=site.allowed_origins,
        auth=authenticator(settings, site, environ),
        limits=BulkLimits(
            streams=limits.streams,
            resource=limits.max_resource_bytes,
            overlap=limits.overlap_seconds,
            reconcile_days=limits.reconcile_days,
        ),
        transfer=transfer_limits(limits),
        clock=logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        verify_other_origins=trust_only_ssl_context(site),  # a file server must not see the client certificate
    )


def cohort_query(settings: Settings) -> CohortQuery:
    """Return the query for the patients of the cohort: those with a condition of the value set `nsclc`."""
    from connectors.sources.search.source import CohortQuery
    from mappers.terminology import load_terminology

    # One parameter with all codes: a comma means "or" in FHIR search, so one search finds all patients.
    codes = load_terminology(*settings.mapping.terminology).codes(COHORT_VALUE_SET)
    return CohortQuery("Condition", (("code", ",".join(f"{system}|{code}" for system, code in codes)),))


def fhir_client(
    site: ServerSite, auth: Authenticator, limits: TransferLimits, environ: Mapping[str, str]
) -> FhirClient:
    """Return a client for the server of `site`, for what is not a sync. Raises `ConfigError` as `source` does."""
    from connectors.http.client import FhirClient
    from schedules.config.credentials import client_ssl_context

    return FhirClient(site.url, auth, limits, logging_clock(site.name), verify=client_ssl_context(site, environ))


def transfer_limits(limits: Limits) -> TransferLimits:
    """Return the bounds of every request to a site."""
    from connectors.http.retry import TransferLimits

    return TransferLimits(
        connect=limits.connect_seconds,
        read=limits.read_seconds,
        request=limits.request_seconds,
        run=limits.site_seconds,
        response=limits.max_response_bytes,
        ratio=limits.max_compression_ratio,
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
    from connectors.http.authenticators import BasicAuth, BearerAuth, NoAuth
    from schedules.config.credentials import secret

    match site.auth:
        case auth if auth.kind == "smart":
            return _smart(settings, site, auth, environ)
        case auth if auth.kind == "basic":
            return BasicAuth(auth.username, secret(auth.password_env, auth.password_file, environ))
        case auth if auth.kind == "bearer":
            return BearerAuth(secret(auth.token_env, auth.token_file, environ))
        case _:
            return NoAuth()


def _smart(settings: Settings, site: ServerSite, auth: SmartSettings, environ: Mapping[str, str]) -> Authenticator:
    from connectors.auth.smart import SmartAuth
    from connectors.auth.token_endpoint import RegisteredClient
    from schedules.config.credentials import client_ssl_context, signing_key, trust_only_ssl_context

    return SmartAuth(
        site.url,
        RegisteredClient(auth.client_id, signing_key(auth.key_file), auth.jku),
        TYPES,
        auth.scope,
        auth.token_url,
        limits=transfer_limits(settings.limits),
        clock=logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        verify_other_origins=trust_only_ssl_context(site),
    )
