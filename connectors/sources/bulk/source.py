"""Resources by Bulk Data export ($export, HL7 Bulk Data Access IG 2.0.0 and the ballot of 4.0.0).

A sync asks for what has changed (`_since`) since the last one that was read whole, type by type: a type whose file or
outcome failed keeps its time, and is asked for from there again, in an export of its own. `reconcile_days` after the
last full export everything is asked for, and what the lake has beyond it is gone from the server.

A Group may gain a patient whose resources are old. So its Patients are exported in full each pull, and where they are
others than last time, so is everything else.
"""

from __future__ import annotations

import hashlib
import shutil
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import httpx

from connectors.auth.scopes import scope_problems
from connectors.errors import ServerError, SourceConfigError, SpoolError
from connectors.fhir.events import Note, NotOffered, SourceEvent
from connectors.fhir.instants import earlier, earliest, instant
from connectors.fhir.resource import Resource
from connectors.http.authenticators import Authenticator, NoAuth, ScopedAuthenticator
from connectors.http.client import FhirClient
from connectors.http.origin_policy import Resolve, resolve_by_system
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.table import Cursor
from connectors.sources.base import TYPES_0_1, PlannedRequest
from connectors.sources.bulk.dry_run import planned
from connectors.sources.bulk.job import KickOff, Polling
from connectors.sources.bulk.job_file import JobFile, with_running_jobs
from connectors.sources.bulk.pull import BulkLimits, ExportPull
from connectors.sources.bulk.request import ExportRequest, Level
from connectors.sources.patient_list import PatientList
from connectors.sources.search.entries import Entries, events_of
from connectors.sources.search.listed import ids_of, unreadable
from connectors.sources.search.medications import MEDICATION, Medications, Texts, no_texts
from connectors.sources.search.paging import Paging
from connectors.sources.search.requests import SearchLimits, everything

__all__ = ["BulkLimits", "BulkSource"]

NO_SINCE = "the server refuses exports of what has changed (`_since`), so everything is exported each time"
REFUSED = "the server refuses to export them"
NOBODY = (
    "no Patient on the server has one of the identifiers in the list of patients, so nobody was asked for: correct the "
    "list, or ask the administrator under which system the server has them"
)
EMPTIED = 8  # times at most: each download that still runs may make one more file


@dataclass
class BulkSource:
    """The resources of `types` that the server at `url` exports.

    site: its name.
    jobs: a folder for the job in progress and for downloaded files.
    patients: those who are asked for, none of them for all; they need a kick-off by POST.
    single_export: everything is asked for by one kick-off a sync, as a server may allow no second one a day.
    allowed_origins: further origins that files may lie on. verify_other_origins: the authorities to trust there; no
        client certificate is shown to them.
    texts: yields what the lake has of a type.
    http_transport: replaces the network. clock: replaces the clocks. sleep: replaces the wait between two polls.
    """

    url: str
    types: tuple[str, ...]
    site: str
    jobs: Path
    level: Level = "system"
    group: str | None = None
    type_filter: tuple[str, ...] = ()
    patients: PatientList = field(default_factory=PatientList)
    kick_off: KickOff = "get"
    single_export: bool = False
    allowed_origins: tuple[str, ...] = ()
    auth: Authenticator = field(default_factory=NoAuth)
    limits: BulkLimits = field(default_factory=BulkLimits)
    polling: Polling = field(default_factory=Polling)
    transfer: TransferLimits = field(default_factory=TransferLimits)
    clock: Clock = field(default_factory=Clock)
    sleep: Callable[[float], None] = time.sleep
    http_transport: httpx.BaseTransport | None = None
    verify: ssl.SSLContext | bool = True
    verify_other_origins: ssl.SSLContext | bool = True
    resolve: Resolve = resolve_by_system
    texts: Texts = no_texts
    server_time: str | None = field(default=None, init=False)
    asked: frozenset[str] | None = field(default=None, init=False)
    whole: bool = field(default=False, init=False)
    state: Mapping[str, str] = field(default_factory=dict, init=False)
    _ids: tuple[str, ...] = field(default=(), init=False)

    @property
    def fingerprint(self) -> str:
        asked = (self.url, self.level, self.group or "", ",".join(TYPES_0_1), *self.type_filter)
        asked = (*asked, *sorted(self.patients.ids), *("|".join(each) for each in sorted(self.patients.identifiers)))
        return hashlib.sha256("\n".join(("bulk", *asked)).encode()).hexdigest()

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:
        """Yield the kick-offs of a sync that begins at `previous`, and in words what follows. Asks for numbers only."""
        with self._client() as client:
            for _ in self._name_patients(client):
                pass
            yield from planned(client, self._with_running_jobs(previous), self.kick_off)

    def pull(self, previous: Cursor | None = None) -> Iterator[SourceEvent]:
        """Yield everything, or what has changed since `previous`.

        Raises ConnectorError where not even the first export is answered, and AuthenticationError at any time.
        """
        known = self._known(previous)
        with self._client() as client:
            yield from self._name_patients(client)
        requests = self._with_running_jobs(previous)
        asked = {kind for request in requests for kind in request.types}
        if isinstance(self.auth, ScopedAuthenticator):
            self.auth.narrow(tuple(kind for kind in self.types if kind in asked))
        # A type that is not asked for loses its time: meanwhile a Group may get patients with older resources of it.
        state = {key: value for key, value in known.items() if key.removeprefix("since.") in asked or "." not in key}
        state |= {key: known[key] for kind in self.types if (key := f"absent.{kind}") in known}
        with _Folder(self.jobs / f"{self.site}.files") as folder, self._client() as client:
            yield from scope_problems(self.auth)
            pull = ExportPull(self, client, folder.path, state)
            found = Medications()
            for event in pull.run(requests):
                if isinstance(event, Resource):
                    found.note(event)
                yield event
            if f"absent.{MEDICATION}" in pull.state:
                yield from self._medications(client, found, pull.state)
        if "no_since" in pull.state:
            yield Note(NO_SINCE)
        self.asked = frozenset(asked - pull.absent)
        refused = [kind for kind in self.types if f"absent.{kind}" in pull.state]
        # Medications that were read by search are no type that the site lacks.
        refused = [kind for kind in refused if kind != MEDICATION or "medications" not in pull.state]
        yield from (NotOffered(kind, REFUSED) for kind in refused)
        self.server_time, self.whole, self.state = pull.server_time, pull.whole, pull.state

    def _name_patients(self, client: FhirClient) -> Iterator[SourceEvent]:
        """Find by search the ids of those who are named by an identifier: a kick-off takes ids only."""
        limits = SearchLimits()
        yield from unreadable(self.patients)
        found, notes = ids_of(Paging(client, limits), client.base, self.patients, limits)
        yield from notes
        self._ids = tuple(sorted(found))
        if self.patients and not self._ids:
            raise SourceConfigError(NOBODY)

    def _medications(self, client: FhirClient, found: Medications, state: dict[str, str]) -> Iterator[SourceEvent]:
        """Read by search the Medications that drugs refer to.

        HAPI exports none with a Group or with all patients, because they are about no patient.
        """
        # Once all that the lake refers to was read, what comes refers to all that is new. A full export reads all anew.
        complete = state.pop("medications", "") == "read"
        lake = Medications.of_lake(self.texts, with_references=not complete)
        found.references |= lake.references
        new = sorted(found.referenced({client.base}) - (lake.stored if complete else set()))
        limits = SearchLimits(resource=self.limits.resource)
        entries, paging = Entries(frozenset({MEDICATION}), limits.resource), Paging(client, limits)
        try:
            for request in everything(client.base, MEDICATION, new, limits, "medications"):
                yield from events_of(paging, request, entries)
        except ServerError as error:
            yield Note(f"{len(new)} Medications that drugs refer to are not exported, and a search failed: {error}")
        else:
            state["medications"] = "read"

    def _client(self) -> FhirClient:
        return FhirClient(
            self.url,
            self.auth,
            self.transfer,
            self.clock,
            self.http_transport,
            self.verify,
            self.allowed_origins,
            self.resolve,
            self.verify_other_origins,
        )

    def _known(self, previous: Cursor | None) -> Mapping[str, str]:
        """Return what the last cursor remembers, nothing where everything is to be asked for again."""
        known = previous.state if previous else {}
        last = instant(known.get("full"))
        if last is None:
            return {}
        age = self.clock.now() - datetime.fromtimestamp(last / 1e6, UTC)
        return {} if age >= timedelta(days=self.limits.reconcile_days) else known

    def _requests(self, known: Mapping[str, str]) -> list[ExportRequest]:
        """Return one export for all types that were last read at the same time."""
        by_time: dict[str | None, list[str]] = {}
        for kind in self.types:
            if known.get(f"absent.{kind}"):
                continue
            # `_since` leaves out patients who joined the Group with old resources: Patient is always exported in full.
            in_full = "no_since" in known or (self.level == "group" and kind == "Patient")
            own = None if in_full else known.get(f"since.{kind}")
            by_time.setdefault(earlier(own, self.limits.overlap), []).append(kind)
        if self.single_export:
            # From the earliest time on, which is the beginning where one of them has none.
            since = None if None in by_time else earliest(*by_time)
            by_time = {since: [kind for kind in self.types if not known.get(f"absent.{kind}")]}
        return [
            ExportRequest(self.level, self.group, tuple(kinds), since, self.type_filter, self._ids)
            for since, kinds in by_time.items()
        ]

    def _with_running_jobs(self, previous: Cursor | None) -> list[ExportRequest]:
        files = JobFile.of_site(self.jobs, self.site)
        state = previous.state if previous else {}
        return with_running_jobs(self._requests(self._known(previous)), files, self.url, state)


class _Folder:
    """A folder for the files of one pull, for its owner only: empty at first, gone at the end.

    At the end it gets another name first, so that a download that still runs puts no further file into it but the one
    that it is just making: for that it is emptied again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gone = path.with_suffix(".gone")

    def __enter__(self) -> Self:
        for left in (self.path, self._gone):  # by a killed run: it is patient data
            shutil.rmtree(left, ignore_errors=True)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
        except OSError as error:
            raise SpoolError(f"{self.path} cannot be made ({error.strerror}): make its folder writable") from error
        return self

    def __exit__(self, *_error: object) -> None:
        with suppress(OSError):
            self.path.rename(self._gone)
        for _ in range(EMPTIED):
            if self._gone.exists():
                shutil.rmtree(self._gone, ignore_errors=True)
