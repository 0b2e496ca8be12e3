"""The exports of one night: one after the other, each read whole or its types held back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol

from connectors.errors import (
    AuthenticationError,
    ConnectorError,
    DeferredError,
    ExpiredError,
    RefusedError,
    ServerError,
    UnavailableError,
)
from connectors.fhir.events import Expected, NoData, Problem, ProgressMessage, SourceEvent
from connectors.fhir.instants import earliest
from connectors.fhir.resource import Rejected, Resource
from connectors.http.client import Clock, Downloaded, FhirClient
from connectors.sources.bulk.files import (
    DownloadedFile,
    deletions,
    download_all,
    download_whole,
    outcomes,
    resources,
    types_named,
)
from connectors.sources.bulk.job import Export, ExportRequest, JobFile, KickOff, Level, Polling
from connectors.sources.bulk.manifest import ExportFile, Manifest

Read = Callable[[DownloadedFile, str], Iterator[SourceEvent]]
PATIENCE = 3  # files in a row without an answer until the rest is left


@dataclass(frozen=True)
class BulkLimits:
    """Limits of an export.

    streams: files downloaded at once. resource: bytes of one line. manifests: pages of a manifest. exports: how
    often an export is asked for in one run where it expires. overlap: seconds that `_since` lies before the time of
    the last export. reconcile_days: after which everything is asked for again.
    """

    streams: int = 4
    resource: int = 16 << 20
    manifests: int = 1000
    exports: int = 2
    overlap: float = 300.0
    reconcile_days: float = 7.0


class BulkSettings(Protocol):
    """What a night needs to know of its source (`connectors.sources.bulk.source.BulkSource`)."""

    url: str
    types: tuple[str, ...]
    site: str
    jobs: Path
    level: Level
    kick_off: KickOff
    limits: BulkLimits
    polling: Polling
    clock: Clock

    @property
    def sleep(self) -> Callable[[float], None]: ...


class GroupMembershipDigest:
    """Which patients came, as a digest that does not depend on their order and holds no id."""

    def __init__(self) -> None:
        self._value = 0
        self._ids = 0

    def add(self, patient: str) -> None:
        """One patient, who comes once."""
        self._value ^= int.from_bytes(hashlib.blake2b(patient.encode(), digest_size=16).digest())
        self._ids += 1

    @property
    def digest(self) -> str:
        """The number of patients and their digest; '' where none came."""
        return f"{self._ids}-{self._value:032x}" if self._ids else ""


@dataclass
class _ExportState:
    """What is known of one export while it is read.

    failed: the types of which something is missing. seen: those of which the manifest lists a file, '' for any.
    """

    export: Export
    request: ExportRequest
    last_try: bool
    failed: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    times: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def time(self) -> str | None:
        """The earliest of what the server's clocks said: Date at kick-off and transactionTime (fault 14)."""
        return earliest(*self.times)

    def fail(self, kind: str) -> None:
        """Hold the cursor of this type; of all where the file may hold any."""
        self.failed |= {kind} if kind in self.request.types else set(self.request.types)


class ExportPull:
    """The exports of one pull. state: what is known of the last one, moved on type by type."""

    def __init__(self, source: BulkSettings, client: FhirClient, folder: Path, state: dict[str, str]) -> None:
        self._source = source
        self._client = client
        self._folder = folder
        self._names = count(1)
        self._members = GroupMembershipDigest()
        self._everything = True  # was asked for, whether it came or not
        self.state = state
        self.whole = True
        self.server_time: str | None = None

    def run(self, requests: list[ExportRequest]) -> Iterator[SourceEvent]:
        """All exports. Raises what the first one raises; a later one that fails is a Problem."""
        self._leave_old_jobs(requests)
        for number, planned in enumerate(requests):
            request = self._with_new_members(planned)
            self._everything = self._everything and request.since is None
            try:
                yield from self._export(request)
            except AuthenticationError:
                raise
            except ServerError as error:
                self.whole = False
                if not number:
                    raise
                yield Problem(f"{error}; nothing of it was read")
        self.whole = self.whole and self._everything
        self._finish()

    def _finish(self) -> None:
        if self._everything and self.server_time:
            self.state["full"] = self.server_time
        if self._members.digest:
            self.state["members"] = self._members.digest

    def _with_new_members(self, request: ExportRequest) -> ExportRequest:
        """The same request about all time, where the Group has other patients than last time."""
        same = self._members.digest in ("", self.state.get("members"))
        if request.since is None or same:
            return request
        return ExportRequest(request.level, request.group, request.types, None, request.type_filter)

    def _file(self, request: ExportRequest) -> JobFile:
        return JobFile(self._source.jobs / f"{self._source.site}-{request.digest(self._source.url)}.json")

    def _leave_old_jobs(self, requests: list[ExportRequest]) -> None:
        """Delete the jobs that earlier runs left and that answer none of these requests."""
        kept = {self._file(request).path for request in requests}
        site = self._source.site
        for path in self._source.jobs.glob(f"{site}-{'[0-9a-f]' * 32}.json"):
            if path not in kept:
                self._as_export(requests[0], JobFile(path)).drop()

    def _as_export(self, request: ExportRequest, file: JobFile) -> Export:
        source = self._source
        return Export(self._client, request, source.kick_off, file, source.polling, source.clock, source.sleep)

    def _export(self, request: ExportRequest) -> Iterator[SourceEvent]:
        """All of one export; asked for once more where the job or its files expire.

        A job that is left unread because the server does not answer, or because the time is over, or because the
        program was stopped, stays on the server and in its file: the next run takes it up.
        """
        export = self._as_export(request, self._file(request))
        for left in reversed(range(self._source.limits.exports)):
            remembered = export.begin()
            try:
                yield from self._read(_ExportState(export, request, last_try=not left))
            except ExpiredError:
                export.end()
                if not left:
                    raise
            except DeferredError:
                raise
            except UnavailableError:
                if not (remembered and left):
                    raise
                export.forget()  # perhaps it is this job that the server cannot answer for
            except ConnectorError:
                export.end()
                raise
            else:
                export.end()
                return

    def _read(self, state: _ExportState) -> Iterator[SourceEvent]:
        manifest = yield from state.export.manifest()
        job = state.export.job
        state.times += [job.asked] if job and job.asked else []
        for page in self._pages(state, manifest):
            yield from page if not isinstance(page, Manifest) else self._files(page, state)
        self._move_on(state)
        if "" not in state.seen:
            yield from map(NoData, sorted(set(state.request.types) - state.seen))

    def _pages(self, state: _ExportState, page: Manifest) -> Iterator[Manifest | tuple[Problem]]:
        """Every page of the manifest, or what is wrong with their links."""
        seen: list[str] = []
        yield page
        while page.next:
            try:
                page = state.export.page(page.next, seen, self._source.limits.manifests)
            except ServerError as error:
                state.fail("")
                yield (Problem(f"{error}; the rest of the manifest was not read"),)
                return
            yield page

    def _move_on(self, state: _ExportState) -> None:
        time = state.time()
        self.whole = self.whole and not state.failed
        if time is None:
            return
        for kind in state.request.types:
            if kind not in state.failed:
                self.state[f"since.{kind}"] = time
        self.server_time = earliest(self.server_time, time)

    def _files(self, manifest: Manifest, state: _ExportState) -> Iterator[SourceEvent]:
        """What one page of the manifest lists."""
        state.times += [manifest.transaction_time] if manifest.transaction_time else []
        state.export.learn(manifest)
        wanted = frozenset(state.request.types)
        state.seen |= {file.resource_type for file in manifest.output}
        asked_for = [file for file in manifest.output if file.resource_type in wanted | {""}]
        limit, time = self._source.limits.resource, manifest.transaction_time
        read_output = partial(resources, wanted=wanted, limit=limit)
        read_deleted = partial(deletions, wanted=wanted, time=time, limit=limit)
        yield from self._each(asked_for, manifest, state, "file", read_output)
        yield from self._each(manifest.deleted, manifest, state, "file of deletions", read_deleted)
        yield from self._each(manifest.outcomes, manifest, state, "file of errors", partial(outcomes, limit=limit))

    def _each(
        self, files: Sequence[ExportFile], manifest: Manifest, state: _ExportState, noun: str, read: Read
    ) -> Iterator[SourceEvent]:
        """Download these files and read them with `read`. Raises ExpiredError where one has expired."""
        waiting = list(files)
        unavailable = 0  # files in a row without an answer
        fetch = partial(self._fetch, state=state, credentials=manifest.requires_token)
        for found in download_all(files, fetch, self._source.limits.streams):
            if found is None:
                yield ProgressMessage(f"downloading a {waiting[0].resource_type or 'mixed'} {noun}")
                continue
            file, downloaded = found
            waiting.pop(0)
            name = f"{file.resource_type or 'mixed'} {noun} {next(state.numbers)} of the export"
            if isinstance(downloaded, ConnectorError):
                self._expired(downloaded, state)
            if file.resource_type in state.request.types and file.count:
                yield Expected(file.resource_type, file.count)
            if isinstance(downloaded, DownloadedFile):
                unavailable = 0
                yield from self._taken(downloaded, name, state, read)
                continue
            state.fail(file.resource_type)
            yield Problem(f"{name} was not read: {downloaded}")
            unavailable = unavailable + 1 if isinstance(downloaded, UnavailableError) else 0
            if unavailable >= PATIENCE:
                state.fail("")
                yield Problem(f"{state.export.label}: after {PATIENCE} files without an answer the rest was left")
                return

    def _expired(self, error: ConnectorError, state: _ExportState) -> None:
        if isinstance(error, AuthenticationError) or not isinstance(error, ServerError):
            raise error  # of the disk, or of the credentials: no other file can do better
        if isinstance(error, RefusedError) and error.status in (404, 410) and not state.last_try:
            raise ExpiredError(f"{state.export.label}: its files have expired", 410) from error

    def _fetch(self, file: ExportFile, *, state: _ExportState, credentials: bool) -> DownloadedFile:
        path = self._folder / f"{next(self._names)}.ndjson"
        url = state.export.file_url(file.url)
        what = f"{file.resource_type or 'mixed'} file"

        def download() -> Downloaded:
            return self._client.download(url, what, path, credentials=credentials)

        return download_whole(file, path, download, self._source.limits.resource)

    def _taken(self, downloaded: DownloadedFile, name: str, state: _ExportState, read: Read) -> Iterator[SourceEvent]:
        counted = self._source.level == "group"
        try:
            for item in read(downloaded, name):
                if not isinstance(item, Resource):
                    yield from self._told(item, downloaded.file.resource_type, state)
                    continue
                if counted and item.resource_type == "Patient":
                    self._members.add(item.id)
                yield item
        finally:
            with suppress(OSError):
                downloaded.path.unlink()

    def _told(self, item: SourceEvent, kind: str, state: _ExportState) -> Iterator[SourceEvent]:
        """What is no resource, and what follows from it."""
        if isinstance(item, Problem):
            state.fail(kind)
        yield item
        if isinstance(item, Rejected) and item.severe:
            failed = types_named(item, state.request.types)
            state.failed |= failed
            named = ", ".join(sorted(failed))
            yield Problem(f"the server could not export all of {named}: see the quarantine of the site")
