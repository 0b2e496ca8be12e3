"""`periop pull`: what a site has of some types, into a folder of NDJSON. It needs neither a study nor a lake."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.report import Progress
from schedules.run.sources import authenticator, dialect_of, limits_of, logging_clock, transfer_limits

if TYPE_CHECKING:
    from connectors.export_folder import ExportFolder
    from connectors.fhir.events import Note, SourceEvent
    from connectors.http.client import FhirClient
    from connectors.lake.table import Cursor
    from connectors.sources.bulk.source import BulkSource
    from connectors.sources.parts import Part
    from connectors.sources.patient_list import PatientList
    from connectors.sources.search.by_type import TypeSearch
    from schedules.config.settings import Settings
    from schedules.config.site_settings import BulkSite, SearchSite
    from schedules.run.nightly import ProgressReporter

PATIENTS, JOBS = "patients", "jobs"


@dataclass(frozen=True)
class Wanted:
    """The content of a pull. patients: None for all. since: an instant. export: by $export, and not by search."""

    types: tuple[str, ...]
    group: str | None = None
    patients: PatientList | None = None
    since: str | None = None
    export: bool = False

    def asked(self, url: str) -> dict[str, str | list[str] | bool | None]:
        """Return what identifies the pull in the log of its folder: the patients as a digest."""
        ids = None if self.patients is None else hashlib.sha256(self._named(self.patients).encode()).hexdigest()
        what = {"server": url, "types": [*self.types], "group": self.group, "patients": ids, "since": self.since}
        digest = hashlib.sha256(repr(sorted(what.items())).encode()).hexdigest()[:32]
        return {"id": digest, **what, "export": self.export}

    def _named(self, listed: PatientList) -> str:
        return "\n".join((*sorted(listed.ids), *(f"{system}|{value}" for system, value in sorted(listed.identifiers))))


def pull_into_folder(
    settings: Settings,
    site: SearchSite | BulkSite,
    wanted: Wanted,
    out: Path,
    now: Callable[[], datetime],
    environ: Mapping[str, str],
    progress: ProgressReporter,
) -> ExportFolder:
    """Write everything that is wanted into `out`, or what is missing there since a pull was stopped.

    Raises ConfigError and ConnectorError; what was read before is kept and taken up by the same call.
    """
    from connectors.export_folder import HIDDEN, ExportFolder
    from connectors.sources.parts import Part
    from schedules.run.lock import run_lock

    folder = ExportFolder(out, wanted.asked(site.url), now)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    hidden = out / HIDDEN
    # Two at once would cut off what the other one writes.
    with run_lock(hidden):
        folder.open()
        if folder.finished:
            return folder
        if wanted.export:
            bulk = _bulk(settings, site, wanted, hidden / JOBS, environ)
            cursor = _cursor(wanted, now())
            complete = _read(folder, iter([Part("export", lambda: bulk.pull(cursor))]), 1, progress)
        else:
            complete = _search(folder, _types(settings, site, wanted, environ), wanted, hidden, progress)
        if complete:
            folder.finish()
        folder.close()
    return folder


def _search(folder: ExportFolder, source: TypeSearch, wanted: Wanted, hidden: Path, progress: ProgressReporter) -> bool:
    from connectors.sources.search.medications import Medications

    # The searches are known only when the server was asked: for the Group, and whether it takes lists of patients.
    with source.client() as client:
        for note in _remember_patients(source, client, wanted.patients, hidden / PATIENTS):
            folder.take(note)
        if not _read(folder, source.parts(client), source.limits.streams, progress):
            return False
        # Only now all references to Medications are known.
        found = Medications.of_lake(folder.texts, with_references=True)
        found.stored.clear()  # whether they were read, the names of the parts say
        return _read(folder, source.medications(client, found), source.limits.streams, progress)


def _read(folder: ExportFolder, parts: Iterator[Part], streams: int, progress: ProgressReporter) -> bool:
    """Write the parts that are not there yet. Return False if one could not be read."""
    from connectors.sources.parts import PartEnd, read_parts

    complete = True
    for event in read_parts([each for each in parts if each.name not in folder.done], streams):
        folder.take(event)
        if isinstance(event, PartEnd):
            complete = complete and event.error is None
            for kind, count in folder.counts.items():
                progress.page(Progress("pull", kind, count, None))
    return complete


def _remember_patients(
    source: TypeSearch, client: FhirClient, listed: PatientList | None, file: Path
) -> Sequence[SourceEvent]:
    """Let a pull that is taken up ask for the same patients, whatever Group or server hold meanwhile.

    Return notes on those who are not found.
    """
    from connectors.lake.files import write_atomically
    from connectors.sources.search.by_type import members, patients_by_identifier

    if source.group is None and (listed is None or not listed.identifiers):
        return ()
    notes: list[Note] = []
    # Else the parts of a Group that changed since the kill would be others, and some patients would come twice.
    if not file.exists():
        if source.group is not None:
            found = members(client, source.group, source.limits)
        else:
            assert listed is not None  # noqa: S101 - as it was asked above
            found, notes = patients_by_identifier(client, listed, source.limits, source.dialect)
        write_atomically(file, "\n".join(found))
    source.patients = tuple(file.read_text(encoding="ascii").split())
    return notes


def _types(settings: Settings, site: SearchSite | BulkSite, wanted: Wanted, environ: Mapping[str, str]) -> TypeSearch:
    from connectors.sources.search.by_type import TypeSearch
    from connectors.sources.search.dialect import Dialect
    from connectors.sources.search.requests import SearchLimits
    from schedules.config.credentials import client_ssl_context

    limits = limits_of(settings, site)
    return TypeSearch(
        site.url,
        wanted.types,
        tuple(sorted(wanted.patients.ids)) if wanted.patients is not None else None,
        wanted.group,
        wanted.since,
        authenticator(settings, site, environ),
        SearchLimits(
            limits.page_size,
            limits.patients_per_request,
            limits.max_url,
            pages=limits.max_pages,
            resource=limits.max_resource_bytes,
            streams=limits.streams,
        ),
        transfer_limits(settings, site, environ),
        logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        dialect=dialect_of(site) if site.kind == "search" else Dialect(),
    )


def _bulk(
    settings: Settings, site: SearchSite | BulkSite, wanted: Wanted, jobs: Path, environ: Mapping[str, str]
) -> BulkSource:
    from connectors.sources.bulk.source import BulkLimits, BulkSource
    from schedules.config.credentials import client_ssl_context, trust_only_ssl_context

    limits = limits_of(settings, site)
    return BulkSource(
        site.url,
        wanted.types,
        site.name,
        jobs,
        level="group" if wanted.group else "system",
        group=wanted.group,
        kick_off=site.kick_off if site.kind == "bulk" else "get",
        allowed_origins=site.allowed_origins if site.kind == "bulk" else (),
        auth=authenticator(settings, site, environ),
        # The time that was given is asked for as it is.
        limits=BulkLimits(streams=limits.streams, resource=limits.max_resource_bytes, overlap=0.0),
        transfer=transfer_limits(settings, site, environ),
        clock=logging_clock(site.name),
        verify=client_ssl_context(site, environ),
        verify_other_origins=trust_only_ssl_context(site),
    )


def _cursor(wanted: Wanted, now: datetime) -> Cursor | None:
    from connectors.lake.table import Cursor

    if wanted.since is None:
        return None
    # As if the last sync had ended then, and everything had been asked for just now.
    state = {f"since.{kind}": wanted.since for kind in wanted.types}
    return Cursor("", True, None, state={**state, "full": now.isoformat()})
