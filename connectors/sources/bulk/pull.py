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
from connectors.fhir.resource import Rejected, Resource, instant
from connectors.http.client import FhirClient
from connectors.http.response import Downloaded
from connectors.http.retry import Clock
from connectors.sources.bulk.files import Arrived, arrive, deletions, outcomes, resources, side_by_side, types_named
from connectors.sources.bulk.job import Export, JobFile, KickOff, Level, Polling, Question
from connectors.sources.bulk.manifest import ExportFile, Manifest

Read = Callable[[Arrived, str], Iterator[SourceEvent]]
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


class Asking(Protocol):
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


class Members:
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
class _Reading:
    """What is known of one export while it is read.

    failed: the types of which something is missing. seen: those of which the manifest lists a file, '' for any.
    """

    export: Export
    question: Question
    last_try: bool
    failed: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    times: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def time(self) -> str | None:
        """The earliest of what the server's clocks said: Date at kick-off and transactionTime (fault 14)."""
        return min(self.times, key=lambda each: instant(each) or 0, default=None)

    def fail(self, kind: str) -> None:
        """Hold the cursor of this type; of all where the file may hold any."""
        self.failed |= {kind} if kind in self.question.types else set(self.question.types)


class Night:
    """The exports of one pull. state: what is known of the last one, moved on type by type."""

    def __init__(self, source: Asking, client: FhirClient, folder: Path, state: dict[str, str]) -> None:
        self._source = source
        self._client = client
        self._folder = folder
        self._names = count(1)
        self._members = Members()
        self._everything = True  # was asked for, whether it came or not
        self.state = state
        self.whole = True
        self.server_time: str | None = None

    def run(self, questions: list[Question]) -> Iterator[SourceEvent]:
        """All exports. Raises what the first one raises; a later one that fails is a Problem."""
        self._leave_old_jobs(questions)
        for number, planned in enumerate(questions):
            question = self._with_new_members(planned)
            self._everything = self._everything and question.since is None
            try:
                yield from self._export(question)
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

    def _with_new_members(self, question: Question) -> Question:
        """The same question about all time, where the Group has other patients than last time."""
        same = self._members.digest in ("", self.state.get("members"))
        if question.since is None or same:
            return question
        return Question(question.level, question.group, question.types, None, question.type_filter)

    def _file(self, question: Question) -> JobFile:
        return JobFile(self._source.jobs / f"{self._source.site}-{question.digest(self._source.url)}.json")

    def _leave_old_jobs(self, questions: list[Question]) -> None:
        """Delete the jobs that earlier runs left and that answer none of these questions."""
        kept = {self._file(question).path for question in questions}
        site = self._source.site
        for path in self._source.jobs.glob(f"{site}-{'[0-9a-f]' * 32}.json"):
            if path not in kept:
                self._as_export(questions[0], JobFile(path)).drop()

    def _as_export(self, question: Question, file: JobFile) -> Export:
        source = self._source
        return Export(self._client, question, source.kick_off, file, source.polling, source.clock, source.sleep)

    def _export(self, question: Question) -> Iterator[SourceEvent]:
        """All of one export; asked for once more where the job or its files expire.

        A job that is left unread because the server does not answer, or because the time is over, or because the
        program was stopped, stays on the server and in its file: the next run takes it up.
        """
        export = self._as_export(question, self._file(question))
        for left in reversed(range(self._source.limits.exports)):
            remembered = export.begin()
            try:
                yield from self._read(_Reading(export, question, last_try=not left))
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

    def _read(self, reading: _Reading) -> Iterator[SourceEvent]:
        manifest = yield from reading.export.manifest()
        job = reading.export.job
        reading.times += [job.asked] if job and job.asked else []
        for page in self._pages(reading, manifest):
            yield from page if not isinstance(page, Manifest) else self._files(page, reading)
        self._move_on(reading)
        if "" not in reading.seen:
            yield from map(NoData, sorted(set(reading.question.types) - reading.seen))

    def _pages(self, reading: _Reading, page: Manifest) -> Iterator[Manifest | tuple[Problem]]:
        """Every page of the manifest, or what is wrong with their links."""
        seen: list[str] = []
        yield page
        while page.next:
            try:
                page = reading.export.page(page.next, seen, self._source.limits.manifests)
            except ServerError as error:
                reading.fail("")
                yield (Problem(f"{error}; the rest of the manifest was not read"),)
                return
            yield page

    def _move_on(self, reading: _Reading) -> None:
        time = reading.time()
        self.whole = self.whole and not reading.failed
        if time is None:
            return
        for kind in reading.question.types:
            if kind not in reading.failed:
                self.state[f"since.{kind}"] = time
        self.server_time = min(filter(None, (self.server_time, time)), key=lambda each: instant(each) or 0)

    def _files(self, manifest: Manifest, reading: _Reading) -> Iterator[SourceEvent]:
        """What one page of the manifest lists."""
        reading.times += [manifest.transaction_time] if manifest.transaction_time else []
        reading.export.learn(manifest)
        wanted = frozenset(reading.question.types)
        reading.seen |= {file.resource_type for file in manifest.output}
        asked_for = [file for file in manifest.output if file.resource_type in wanted | {""}]
        limit, time = self._source.limits.resource, manifest.transaction_time
        read_output = partial(resources, wanted=wanted, limit=limit)
        read_deleted = partial(deletions, wanted=wanted, time=time, limit=limit)
        yield from self._each(asked_for, manifest, reading, "file", read_output)
        yield from self._each(manifest.deleted, manifest, reading, "file of deletions", read_deleted)
        yield from self._each(manifest.outcomes, manifest, reading, "file of errors", partial(outcomes, limit=limit))

    def _each(
        self, files: Sequence[ExportFile], manifest: Manifest, reading: _Reading, noun: str, read: Read
    ) -> Iterator[SourceEvent]:
        """Download these files and read them with `read`. Raises ExpiredError where one has expired."""
        silent = 0
        fetch = partial(self._fetch, reading=reading, credentials=manifest.requires_token)
        for file, arrived in side_by_side(files, fetch, self._source.limits.streams):
            if arrived is None:
                yield ProgressMessage(f"downloading a {file.resource_type or 'mixed'} {noun}")
                continue
            name = f"{file.resource_type or 'mixed'} {noun} {next(reading.numbers)} of the export"
            if isinstance(arrived, ConnectorError):
                self._expired(arrived, reading)
            if file.resource_type in reading.question.types and file.count:
                yield Expected(file.resource_type, file.count)
            if isinstance(arrived, Arrived):
                silent = 0
                yield from self._taken(arrived, name, reading, read)
                continue
            reading.fail(file.resource_type)
            yield Problem(f"{name} was not read: {arrived}")
            silent = silent + 1 if isinstance(arrived, UnavailableError) else 0
            if silent >= PATIENCE:
                reading.fail("")
                yield Problem(f"{reading.export.label}: after {PATIENCE} files without an answer the rest was left")
                return

    def _expired(self, error: ConnectorError, reading: _Reading) -> None:
        if isinstance(error, AuthenticationError) or not isinstance(error, ServerError):
            raise error  # of the disk, or of the credentials: no other file can do better
        if isinstance(error, RefusedError) and error.status in (404, 410) and not reading.last_try:
            raise ExpiredError(f"{reading.export.label}: its files have expired", 410) from error

    def _fetch(self, file: ExportFile, *, reading: _Reading, credentials: bool) -> Arrived:
        path = self._folder / f"{next(self._names)}.ndjson"
        url = reading.export.file_url(file.url)
        what = f"{file.resource_type or 'mixed'} file"

        def download() -> Downloaded:
            return self._client.download(url, what, path, credentials=credentials)

        return arrive(file, path, download, self._source.limits.resource)

    def _taken(self, arrived: Arrived, name: str, reading: _Reading, read: Read) -> Iterator[SourceEvent]:
        counted = self._source.level == "group"
        try:
            for item in read(arrived, name):
                if not isinstance(item, Resource):
                    yield from self._told(item, arrived.file.resource_type, reading)
                    continue
                if counted and item.resource_type == "Patient":
                    self._members.add(item.id)
                yield item
        finally:
            with suppress(OSError):
                arrived.path.unlink()

    def _told(self, item: SourceEvent, kind: str, reading: _Reading) -> Iterator[SourceEvent]:
        """What is no resource, and what follows from it."""
        if isinstance(item, Problem):
            reading.fail(kind)
        yield item
        if isinstance(item, Rejected) and item.severe:
            failed = types_named(item, reading.question.types)
            reading.failed |= failed
            named = ", ".join(sorted(failed))
            yield Problem(f"the server could not export all of {named}: see the quarantine of the site")
