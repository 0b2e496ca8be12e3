"""The exports of one sync, one after the other: each is read whole, or the times of its types are held back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from connectors.http.client import FhirClient
from connectors.http.retry import Clock
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
    """The settings of a source that its pull needs (`connectors.sources.bulk.source.BulkSource`)."""

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
    """The patients of a Group as a digest that does not depend on their order and holds no id."""

    def __init__(self) -> None:
        self._value = 0
        self._ids = 0

    def add(self, patient: str) -> None:
        """Add one patient, who comes once."""
        # XOR does not depend on the order. Each patient comes once; a second time would cancel the first.
        self._value ^= int.from_bytes(hashlib.blake2b(patient.encode(), digest_size=16).digest())
        self._ids += 1

    @property
    def digest(self) -> str:
        """Return the number of patients and their digest; '' where none came."""
        return f"{self._ids}-{self._value:032x}" if self._ids else ""


@dataclass
class _ExportProgress:
    """The state of one export while it is read.

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
        """Return the earliest time that the server stated: Date at kick-off or transactionTime (fault 14)."""
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
        """Yield all exports. Raise what the first one raises; a later one that fails is a Problem."""
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
                # Nothing was read yet: the site fails as a whole, and its cursor stays.
                if not number:
                    raise
                yield Problem(f"{error}; nothing of it was read")
        self.whole = self.whole and self._everything
        if self._everything and self.server_time:
            self.state["full"] = self.server_time
        if self._members.digest:
            self.state["members"] = self._members.digest

    def _with_new_members(self, request: ExportRequest) -> ExportRequest:
        """Return the request without `_since`, where the Group has other patients than last time."""
        # Empty: no Patient came (or none was asked for), so nothing says that the Group changed.
        same = self._members.digest in ("", self.state.get("members"))
        return request if same else replace(request, since=None)

    def _file(self, request: ExportRequest) -> JobFile:
        return JobFile(self._source.jobs / f"{self._source.site}-{request.digest(self._source.url)}.json")

    def _leave_old_jobs(self, requests: list[ExportRequest]) -> None:
        """Delete the jobs that earlier runs left and that answer none of these requests."""
        kept = {self._file(request).path for request in requests}
        for path in self._source.jobs.glob(f"{self._source.site}-{'[0-9a-f]' * 32}.json"):
            if path not in kept:
                self._as_export(requests[0], JobFile(path)).drop()

    def _as_export(self, request: ExportRequest, file: JobFile) -> Export:
        source = self._source
        return Export(self._client, request, source.kick_off, file, source.polling, source.clock, source.sleep)

    def _export(self, request: ExportRequest) -> Iterator[SourceEvent]:
        """Yield all of one export; it is asked for once more where the job or its files expire.

        A job that is left unread because the server does not answer, or because the time is over, or because the
        program was stopped, stays on the server and in its file: the next run takes it up.
        """
        export = self._as_export(request, self._file(request))
        for left in reversed(range(self._source.limits.exports)):
            remembered = export.begin()
            try:
                yield from self._read(_ExportProgress(export, request, last_try=not left))
            except ExpiredError:
                export.end()
                if not left:
                    raise
            # The job stays on the server and in its file for the next run; `end` would delete it.
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

    def _read(self, progress: _ExportProgress) -> Iterator[SourceEvent]:
        manifest = yield from progress.export.manifest()
        job = progress.export.job
        progress.times += [job.asked] if job and job.asked else []
        for page in self._pages(progress, manifest):
            yield from page if not isinstance(page, Manifest) else self._files(page, progress)
        self._move_on(progress)
        # A file without a type may hold any: then nothing says which types are missing.
        if "" not in progress.seen:
            yield from map(NoData, sorted(set(progress.request.types) - progress.seen))

    def _pages(self, progress: _ExportProgress, page: Manifest) -> Iterator[Manifest | tuple[Problem]]:
        """Yield every page of the manifest, or what is wrong with their links."""
        seen: list[str] = []
        yield page
        while page.next:
            try:
                page = progress.export.page(page.next, seen, self._source.limits.manifests)
            except ServerError as error:
                progress.fail("")
                yield (Problem(f"{error}; the rest of the manifest was not read"),)
                return
            yield page

    def _move_on(self, progress: _ExportProgress) -> None:
        time = progress.time()
        self.whole = self.whole and not progress.failed
        # Without a clock of the server no `_since` is safe: the next sync asks for everything.
        if time is None:
            return
        for kind in progress.request.types:
            if kind not in progress.failed:
                self.state[f"since.{kind}"] = time
        self.server_time = earliest(self.server_time, time)

    def _files(self, manifest: Manifest, progress: _ExportProgress) -> Iterator[SourceEvent]:
        """Yield what the files of one page of the manifest hold."""
        progress.times += [manifest.transaction_time] if manifest.transaction_time else []
        # Before the downloads, which run in several threads.
        progress.export.learn(manifest)
        wanted = frozenset(progress.request.types)
        progress.seen |= {file.resource_type for file in manifest.output}
        asked_for = [file for file in manifest.output if file.resource_type in wanted | {""}]
        limit, time = self._source.limits.resource, manifest.transaction_time
        read_output = partial(resources, wanted=wanted, limit=limit)
        read_deleted = partial(deletions, wanted=wanted, time=time, limit=limit)
        read_outcomes = partial(outcomes, limit=limit)
        yield from self._read_files(asked_for, manifest, progress, "file", read_output)
        yield from self._read_files(manifest.deleted, manifest, progress, "file of deletions", read_deleted)
        yield from self._read_files(manifest.outcomes, manifest, progress, "file of errors", read_outcomes)

    def _read_files(
        self, files: Sequence[ExportFile], manifest: Manifest, progress: _ExportProgress, noun: str, read: Read
    ) -> Iterator[SourceEvent]:
        """Download these files and read them with `read`. Raises ExpiredError where one has expired."""
        waiting = list(files)
        unavailable = 0  # files in a row without an answer
        fetch = partial(self._fetch, progress=progress, credentials=manifest.requires_token)
        for found in download_all(files, fetch, self._source.limits.streams):
            if found is None:
                yield ProgressMessage(f"downloading a {waiting[0].resource_type or 'mixed'} {noun}")
                continue
            file, downloaded = found
            waiting.pop(0)
            name = f"{file.resource_type or 'mixed'} {noun} {next(progress.numbers)} of the export"
            if isinstance(downloaded, ConnectorError):
                self._expired(downloaded, progress)
            if file.resource_type in progress.request.types and file.count:
                yield Expected(file.resource_type, file.count)
            if isinstance(downloaded, DownloadedFile):
                unavailable = 0
                yield from self._read_file(downloaded, name, progress, read)
                continue
            progress.fail(file.resource_type)
            yield Problem(f"{name} was not read: {downloaded}")
            unavailable = unavailable + 1 if isinstance(downloaded, UnavailableError) else 0
            if unavailable >= PATIENCE:
                progress.fail("")
                yield Problem(f"{progress.export.label}: after {PATIENCE} files without an answer the rest was left")
                return

    def _expired(self, error: ConnectorError, progress: _ExportProgress) -> None:
        if isinstance(error, AuthenticationError) or not isinstance(error, ServerError):
            raise error  # of the disk, or of the credentials: no other file can do better
        if isinstance(error, RefusedError) and error.status in (404, 410) and not progress.last_try:
            raise ExpiredError(f"{progress.export.label}: its files have expired", 410) from error

    def _fetch(self, file: ExportFile, *, progress: _ExportProgress, credentials: bool) -> DownloadedFile:
        path = self._folder / f"{next(self._names)}.ndjson"
        url, what = progress.export.file_url(file.url), f"{file.resource_type or 'mixed'} file"
        download = partial(self._client.download, url, what, path, credentials=credentials)
        return download_whole(file, path, download, self._source.limits.resource)

    def _read_file(
        self, downloaded: DownloadedFile, name: str, progress: _ExportProgress, read: Read
    ) -> Iterator[SourceEvent]:
        counted = self._source.level == "group"
        try:
            for item in read(downloaded, name):
                if not isinstance(item, Resource):
                    yield from self._other(item, downloaded.file.resource_type, progress)
                    continue
                if counted and item.resource_type == "Patient":
                    self._members.add(item.id)
                yield item
        finally:
            # At once and not at the end of the pull: an export may be larger than the free disk space.
            with suppress(OSError):
                downloaded.path.unlink()

    def _other(self, item: SourceEvent, kind: str, progress: _ExportProgress) -> Iterator[SourceEvent]:
        """Yield an event that is no resource, and what follows from it."""
        if isinstance(item, Problem):
            progress.fail(kind)
        yield item
        if isinstance(item, Rejected) and item.severe:
            failed = types_named(item, progress.request.types)
            progress.failed |= failed
            named = ", ".join(sorted(failed))
            yield Problem(f"the server could not export all of {named}: see the quarantine of the site")
