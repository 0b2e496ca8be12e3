"""The exports of one sync, one after the other: each is read whole, or the times of its types are held back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol

from connectors.errors import (
    AuthenticationError,
    ConnectorError,
    DeferredError,
    ExpiredError,
    ExportRefusedError,
    FileStorageError,
    ForeignOriginError,
    RefusedError,
    ServerError,
    UnavailableError,
)
from connectors.fhir.events import Expected, NoData, Note, Problem, ProgressMessage, SourceEvent
from connectors.fhir.instants import earliest
from connectors.fhir.outcome import refused_types, unknown_types
from connectors.fhir.resource import Rejected, Resource
from connectors.http.client import FhirClient
from connectors.http.retry import Clock
from connectors.sources.bulk.completeness import missing_types
from connectors.sources.bulk.files import (
    DownloadedFile,
    deletions,
    download_all,
    download_whole,
    outcomes,
    resources,
    types_named,
)
from connectors.sources.bulk.group import GroupMembershipDigest, is_empty
from connectors.sources.bulk.job import Export, KickOff, Polling
from connectors.sources.bulk.job_file import JobFile
from connectors.sources.bulk.manifest import ExportFile, Manifest
from connectors.sources.bulk.progress import ExportProgress
from connectors.sources.bulk.request import ExportRequest, Level

Read = Callable[[DownloadedFile, str], Iterator[SourceEvent]]
PATIENCE = 3  # files in a row without an answer until the rest is left
READINGS = 20  # of one manifest, until it is taken as one that never ends
GROWS = "{}: the manifest lists more files each time it is read: the next run asks for them again"
NO_FILE = "{}: no file of {} came, although the server has {}: the next run asks for it again"
EMPTY = "{}: the export is empty: ask the server's administrator whether the client may read patients"
EMPTY_GROUP = "{0}: the export is empty; does Group/{1} exist? Correct `group` of the site, or ask who keeps that Group"
NO_PATIENT = "Group/{} has no patient: those whom the lake has of it are taken as having left"


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
    single_export: bool
    limits: BulkLimits
    polling: Polling
    clock: Clock

    @property
    def sleep(self) -> Callable[[float], None]: ...


class _EmptyExportError(ServerError):
    """The export of a Group holds no patient, and nothing confirms that the Group has none."""


class ExportPull:
    """The exports of one pull. state: what is known of the last one, moved on type by type.

    absent: types that the server says it does not export.
    """

    def __init__(self, source: BulkSettings, client: FhirClient, folder: Path, state: dict[str, str]) -> None:
        self._source = source
        self._client = client
        self._folder = folder
        self._names = count(1)
        self._members = GroupMembershipDigest()
        self._everything = True  # was asked for, whether it came or not
        self._group_is_empty = False
        self.state = state
        self.absent: set[str] = set()
        self.whole = True
        self.server_time: str | None = None

    def run(self, requests: list[ExportRequest]) -> Iterator[SourceEvent]:
        """Yield all exports. Raise what the first one raises; a later one that fails is a Problem."""
        self._leave_old_jobs(requests)
        waiting, begun = deque(requests), False
        while waiting:
            request = self._with_new_members(waiting.popleft())
            try:
                yield from self._export(request)
            except AuthenticationError:
                raise
            except ExportRefusedError:
                # Then it is not the type that is refused; or another kick-off would be one too many.
                if request.types == ("Patient",) or self._source.single_export:
                    raise
                # Each type alone shows which of them the server does not export, Patient first.
                left = [kind for kind in request.types if kind not in self.absent]
                singles = [replace(request, types=(kind,)) for kind in left] if len(request.types) > 1 else []
                singles.sort(key=lambda single: single.types != ("Patient",))
                waiting.extendleft(reversed(singles))
                self.absent.update(() if singles else request.types)
                continue
            except _EmptyExportError as error:
                # What else is asked for would be empty too, and then its changes would be lost.
                self.whole = False
                yield Problem(str(error))
                break
            except ServerError as error:
                self.whole = self._everything = False
                # Nothing was read yet: the site fails as a whole, and its cursor stays.
                if not begun:
                    raise
                self._ask_in_full_again(request, request.types)
                yield Problem(f"{error}; nothing of it was read")
            begun = True
        self.whole = self.whole and self._everything
        if self._everything and self.server_time:
            self.state["full"] = self.server_time
        if self._members.digest:
            self.state["members"] = self._members.digest
        elif self._group_is_empty:
            self.state.pop("members", None)
        for kind in self.absent:
            self.state[f"absent.{kind}"] = "yes"
            self.state.pop(f"since.{kind}", None)

    def _ask_in_full_again(self, request: ExportRequest, types: Iterable[str]) -> None:
        """Forget the times of types of which everything was asked for and did not come.

        Else the old resources of new members of the Group, for whom it was asked, would not be asked for any more.
        """
        for kind in types if request.since is None else ():
            self.state.pop(f"since.{kind}", None)

    def _with_new_members(self, request: ExportRequest) -> ExportRequest:
        """Return the request without `_since`, where the Group has other patients than last time."""
        # Empty: no Patient came (or none was asked for), so nothing says that the Group changed.
        same = self._members.digest in ("", self.state.get("members")) and not self._group_is_empty
        everything = not same or "no_since" in self.state
        return replace(request, since=None) if everything else request

    def _file(self, request: ExportRequest) -> JobFile:
        return JobFile(self._source.jobs / f"{self._source.site}-{request.digest(self._source.url)}.json")

    def _leave_old_jobs(self, requests: list[ExportRequest]) -> None:
        """Delete the jobs that earlier runs left and that answer none of these requests."""
        kept = {self._file(request).path for request in requests}
        for file in JobFile.of_site(self._source.jobs, self._source.site):
            if file.path not in kept:
                self._as_export(requests[0], file).drop()

    def _as_export(self, request: ExportRequest, file: JobFile) -> Export:
        source = self._source
        return Export(self._client, request, source.kick_off, file, source.polling, source.clock, source.sleep)

    def _export(self, request: ExportRequest) -> Iterator[SourceEvent]:
        """Yield all of one export; it is asked for once more where the job or its files expire.

        A job that is left unread because the server does not answer, or because the time is over, or because the
        program was stopped, stays on the server and in its file: the next run takes it up.
        """
        export = self._as_export(request, self._file(request))
        for left in reversed(range(1 if self._source.single_export else self._source.limits.exports)):
            try:
                remembered = export.begin()
            finally:
                self.absent |= export.left_out
            if export.since_refused:
                self.state["no_since"] = "yes"
            self._everything = self._everything and export.request.since is None
            try:
                yield from self._read(ExportProgress(export, export.request, last_try=not left))
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

    def _read(self, progress: ExportProgress) -> Iterator[SourceEvent]:
        manifest = yield from progress.export.manifest()
        job = progress.export.job
        progress.times += [job.asked] if job and job.asked else []
        for page in self._pages(progress, manifest):
            if isinstance(page, Manifest):
                progress.listed.take(page)
            yield from self._files(page, progress) if isinstance(page, Manifest) else page
        yield from self._late_files(progress)
        yield from self._absent_types(progress)
        self._move_on(progress)

    def _late_files(self, progress: ExportProgress) -> Iterator[SourceEvent]:
        """Yield what files hold that were not in the manifest at first.

        Some servers say that the export is done while they still write files, so the manifest is read until it is the
        same again.
        """
        if progress.failed.issuperset(progress.request.types):
            return  # all of it is asked for again anyway
        pause = self._source.polling.first
        for _ in range(READINGS):
            try:
                yield from progress.export.wait(pause, "reading the manifest again")
                first = yield from progress.export.manifest()
            except ExpiredError:  # a server that gives a manifest once
                return
            except ServerError as error:
                progress.fail("")
                yield Problem(f"{error}; so nobody knows whether the export is complete")
                return
            pages = list(self._pages(progress, first))
            new = progress.listed.new([page for page in pages if isinstance(page, Manifest)])
            for page in new:
                yield from self._files(page, progress)
            if not new:
                return
            pause = min(2 * pause, self._source.polling.longest)
        progress.fail("")
        yield Problem(GROWS.format(progress.export.label))

    def _absent_types(self, progress: ExportProgress) -> Iterator[SourceEvent]:
        """Yield what follows where types that were asked for have no file. Raises _EmptyExportError."""
        request, client = progress.request, self._client
        in_full = request.since is None and "Patient" in request.types
        if in_full and request.group and not (progress.patients or progress.failed):
            yield self._empty_group(progress.export.label, request.group)
        # A file without a type may hold any: then nothing says which types are missing.
        if "" in progress.seen or self._group_is_empty:
            return
        absent = sorted(set(request.types) - progress.seen - self.absent)
        for kind, number in missing_types(client, request, set(absent) - progress.failed, progress.stated):
            progress.fail(kind)
            yield Problem(NO_FILE.format(progress.export.label, kind, number))
        if in_full and not (progress.listed or progress.failed):
            progress.fail("")
            yield Problem(EMPTY.format(progress.export.label))
        yield from map(NoData, absent)

    def _empty_group(self, label: str, group: str) -> Note:
        """Return what is said of a Group without a patient. Raises _EmptyExportError where that is not confirmed."""
        if not is_empty(self._client, group):
            raise _EmptyExportError(EMPTY_GROUP.format(label, group))
        self._group_is_empty = True
        return Note(NO_PATIENT.format(group))

    def _pages(self, progress: ExportProgress, page: Manifest) -> Iterator[Manifest | tuple[Problem]]:
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

    def _move_on(self, progress: ExportProgress) -> None:
        time = progress.time()
        self.whole = self.whole and not progress.failed
        self._ask_in_full_again(progress.request, progress.failed)
        # Without a clock of the server no `_since` is safe: the next sync asks for everything.
        if time is None:
            return
        for kind in progress.request.types:
            if kind not in progress.failed:
                self.state[f"since.{kind}"] = time
        self.server_time = earliest(self.server_time, time)

    def _files(self, manifest: Manifest, progress: ExportProgress) -> Iterator[SourceEvent]:
        """Yield what the files of one page of the manifest hold."""
        progress.times += [manifest.transaction_time] if manifest.transaction_time else []
        progress.stated = progress.stated or manifest.transaction_time
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
        self, files: Sequence[ExportFile], manifest: Manifest, progress: ExportProgress, noun: str, read: Read
    ) -> Iterator[SourceEvent]:
        """Download these files and read them with `read`. Raises ExpiredError where one has expired."""
        if progress.closed:
            return
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
            if isinstance(downloaded, FileStorageError):
                # It is not the file, so each further one would be refused too, and be a sentence of its own.
                progress.closed = True
                progress.fail("")
                yield Problem(str(downloaded))
                return
            if isinstance(downloaded, ConnectorError):
                self._expired(downloaded, progress)
            if file.resource_type in progress.request.types and file.count:
                yield Expected(file.resource_type, file.count)
            if isinstance(downloaded, DownloadedFile):
                unavailable = 0
                yield from self._read_file(downloaded, name, progress, read)
                continue
            progress.fail(file.resource_type)
            if isinstance(downloaded, ForeignOriginError) and not progress.first_refusal(downloaded):
                continue
            yield Problem(f"{name} was not read: {downloaded}")
            unavailable = unavailable + 1 if isinstance(downloaded, UnavailableError) else 0
            if unavailable >= PATIENCE:
                progress.fail("")
                yield Problem(f"{progress.export.label}: after {PATIENCE} files without an answer the rest was left")
                return

    def _expired(self, error: ConnectorError, progress: ExportProgress) -> None:
        if isinstance(error, AuthenticationError) or not isinstance(error, ServerError):
            raise error  # of the disk, or of the credentials: no other file can do better
        if isinstance(error, RefusedError) and error.status in (404, 410) and not progress.last_try:
            raise ExpiredError(f"{progress.export.label}: its files have expired", 410) from error

    def _fetch(self, file: ExportFile, *, progress: ExportProgress, credentials: bool) -> DownloadedFile:
        path = self._folder / f"{next(self._names)}.ndjson"
        url, what = progress.export.file_url(file.url), f"{file.resource_type or 'mixed'} file"
        download = partial(self._client.download, url, what, path, credentials=credentials)
        return download_whole(file, path, download, self._source.limits.resource)

    def _read_file(
        self, downloaded: DownloadedFile, name: str, progress: ExportProgress, read: Read
    ) -> Iterator[SourceEvent]:
        counted = self._source.level == "group"
        try:
            for item in read(downloaded, name):
                if not isinstance(item, Resource):
                    yield from self._other(item, downloaded.file.resource_type, progress)
                    continue
                if item.resource_type == "Patient":
                    progress.patients = True
                    if counted:
                        self._members.add(item.id)
                yield item
        finally:
            # At once and not at the end of the pull: an export may be larger than the free disk space.
            with suppress(OSError):
                downloaded.path.unlink()

    def _other(self, item: SourceEvent, kind: str, progress: ExportProgress) -> Iterator[SourceEvent]:
        """Yield an event that is no resource, and what follows from it."""
        if isinstance(item, Problem):
            progress.fail(kind)
        if not (isinstance(item, Rejected) and item.severe):
            yield item
            return
        # An export that was taken leniently tells in its outcomes what it does not have: that is nothing to set aside.
        if lacking := refused_types(unknown_types(item.content), progress.request.types):
            self.absent |= lacking
            return
        yield item
        failed = types_named(item, progress.request.types)
        progress.failed |= failed
        named = ", ".join(sorted(failed))
        yield Problem(f"the server could not export all of {named}: see the quarantine of the site")
