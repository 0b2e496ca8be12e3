"""The probe of the patients whom a site names: by a Group, or by a list in a file."""

from __future__ import annotations

from connectors.check import admin_requests
from connectors.check.findings import Finding, FindingLevel
from connectors.errors import AuthenticationError, RefusedError, ServerError
from connectors.fhir.events import Note, Problem
from connectors.http.client import FhirClient
from connectors.http.origin import redact_url
from connectors.sources.patient_list import PatientList
from connectors.sources.search.dialect import Dialect
from connectors.sources.search.listed import ListedCohort, PatientGroup
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits


def probe_named(
    client: FhirClient, named: PatientGroup | PatientList | None, dialect: Dialect
) -> tuple[tuple[Finding, ...], list[str]]:
    """Find the patients as a sync does. Return what was found out, and their ids, which are not to be shown."""
    limits = SearchLimits()
    if named is None:
        return (), []
    cohort = ListedCohort(Paging(client, limits, dialect), client, named, limits)
    server = redact_url(client.base)
    try:
        events = tuple(cohort.read())
    except AuthenticationError as error:
        request = admin_requests.check_client(server)
        return (Finding("cohort", FindingLevel.REFUSED, str(error), request=request),), []
    except ServerError as error:
        request = ""
        if isinstance(error, RefusedError) and isinstance(named, PatientGroup):
            request = admin_requests.allow_group(server, error.status)
        return (Finding("cohort", FindingLevel.MISSING, str(error), request=request),), []
    # A sync goes on without whom it cannot find, and is partial where that is the fault of the list or the Group.
    told = [
        Finding("cohort", FindingLevel.NOTE if isinstance(each, Note) else FindingLevel.MISSING, each.message)
        for each in events
        if isinstance(each, Note | Problem)
    ]
    where = "the Group" if isinstance(named, PatientGroup) else "the list"
    count = Finding("cohort", FindingLevel.OK, f"{len(cohort.patients)} patients in {where} of the site")
    return (count, *told), sorted(cohort.patients)
