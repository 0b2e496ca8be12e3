"""The check of exports that a site has in progress: whether they are still there, and whether their files are given.

None is started. A file is asked for as a sync does, with its redirects and its credentials, and its content is left
unread: a HEAD would be refused where a link is signed for GET (as those of S3 are).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from connectors.check.findings import Finding, FindingLevel
from connectors.check.probe import ANY_STATUS
from connectors.errors import ConnectorError
from connectors.http.client import FhirClient
from connectors.http.retry import TruncatedError
from connectors.sources.bulk.job import EXPIRED, Export, Polling
from connectors.sources.bulk.job_file import Job, JobFile
from connectors.sources.bulk.manifest import Manifest, read_manifest
from connectors.sources.bulk.request import ExportRequest, Level

PREPARED = "the server prepares an export: the next sync goes on with it"


@dataclass(frozen=True)
class ExportSettings:
    """The Bulk Data export that is configured.

    group: the id of the Group. jobs: the folder of exports in progress. single: one kick-off a sync.
    """

    level: Level
    group: str = ""
    jobs: Path | None = None
    single: bool = False


def running_exports(client: FhirClient, settings: ExportSettings, site: str, now: datetime) -> Iterator[Finding]:
    """Yield what came of each export in progress. One that the server does not want to be polled yet is not."""
    for file in JobFile.of_site(settings.jobs, site) if settings.jobs else ():
        job = file.load()
        if job is None:
            continue
        if job.not_before and datetime.fromisoformat(job.not_before) > now:
            yield Finding("files", FindingLevel.OK, f"{PREPARED}, not earlier than the server asked for")
            continue
        request = ExportRequest(settings.level, settings.group or None, job.types, job.since)
        export = Export(client, request, "get", file, Polling(), client.clock, client.clock.sleep)
        export.job = job
        try:
            yield _running(client, export, job)
        except (ConnectorError, TruncatedError) as error:
            yield Finding("files", FindingLevel.MISSING, str(error) or "the manifest of the export is cut off")


def _running(client: FhirClient, export: Export, job: Job) -> Finding:
    answer = client.get(job.poll, export.label, ANY_STATUS, {"Accept": "application/json"})
    if answer.status in EXPIRED:
        message = f"the server has forgotten the export ({answer.status}): the next sync asks for a new one"
        return Finding("files", FindingLevel.NOTE, message)
    if answer.status != 200:
        return Finding("files", FindingLevel.OK, PREPARED)
    return _first_file(client, export, read_manifest(answer.body))


def _first_file(client: FhirClient, export: Export, manifest: Manifest) -> Finding:
    export.learn(manifest)
    for file in manifest.files[:1]:
        what = f"{file.resource_type or 'mixed'} file"
        client.try_file(export.file_url(file.url), what, credentials=manifest.requires_token)
        return Finding("files", FindingLevel.OK, f"an export is ready, and its first file ({what}) is given")
    return Finding("files", FindingLevel.NOTE, "an export is ready, and holds no file")
