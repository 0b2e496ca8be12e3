"""One export job: requested, polled until its manifest is there, remembered across a kill, and deleted at the end.

    kick-off ──202 Content-Location──> polling ──200──> manifest ──> files ──> DELETE
       │                                │ 202, 429: wait                │ 404, 410: expired, asked for once more
       └── refused: the site says why   └── 404, 410: expired           └── kill, deadline: the next run polls this job

(Bulk Data Access IG 2.0.0, "Bulk Data Kick-off Request", "Bulk Data Status Request", "Bulk Data Delete Request".)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import unquote

import orjson

from connectors.errors import (
    ConnectorError,
    DeferredError,
    ExpiredError,
    ExportRefusedError,
    ForeignOriginError,
    PagingError,
    ProtocolError,
    RefusedError,
    ServerError,
)
from connectors.fhir.capability import CapabilityStatement, read_capability_statement
from connectors.fhir.events import ProgressMessage
from connectors.fhir.lenient import convert_leniently
from connectors.fhir.outcome import refused_types, refuses_since
from connectors.http.client import FHIR_JSON, FhirClient
from connectors.http.origin import rebase_link
from connectors.http.response import Response
from connectors.http.retry import Clock, TruncatedError, retry_after, server_time
from connectors.sources.bulk.job_file import Job, JobFile
from connectors.sources.bulk.manifest import Manifest, read_manifest
from connectors.sources.bulk.request import ExportRequest

KickOff = Literal["get", "post"]
HEARTBEAT = 5.0  # seconds between two events while waiting, so that a request to stop is noticed within 10 s
EXPIRED = (404, 410)
NO_GROUP = "{}: the server has nothing to export there (404): does Group/{} exist? Correct `group` of the site"
TOO_LONG = (
    "{}: the server has worked on it for more than {:g} hours, so it was cancelled, and the next run asks anew: "
    "ask the server's administrator, or raise `export_deadline_hours` of the site"
)
SHOWABLE = re.compile(r"[^A-Za-z0-9 %.,:;/()+_-]+")


@dataclass(frozen=True)
class Polling:
    """The intervals between two polls, in seconds.

    The pause grows with the time waited, by `share`, from `first` to `longest`, where the server does not say by
    Retry-After how long to wait. at_most: bounds what a server asks for while a job runs (HAPI says 120 s for a job of
    8 s); a 429 is obeyed in full. deadline: for how long a server may work on a job, in as many runs as that takes.
    """

    first: float = 0.5
    share: float = 0.05
    longest: float = 60.0
    at_most: float = math.inf
    deadline: float = 7 * 86_400.0

    def wait(self, waited: float, asked: float | None) -> float:
        """Return the seconds until the next poll after `waited` seconds, where the server asks for `asked`."""
        own = min(self.longest, max(self.first, waited * self.share))
        return own if asked is None else max(self.first, min(asked, self.at_most))


@dataclass(eq=False)
class Export:
    """The jobs of one export request on one server."""

    client: FhirClient
    request: ExportRequest
    kick_off: KickOff
    file: JobFile
    polling: Polling
    clock: Clock
    sleep: Callable[[float], None]
    job: Job | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.label = self.request.label
        self._first = self.request
        self.left_out: set[str] = set()
        self.since_refused = False
        self._own_bases: list[str] = []  # by which the server knows itself
        self._base_asked = False

    def begin(self) -> bool:
        """Take up the remembered job, else ask for a new one. True if it was remembered."""
        remembered = self.file.load()
        # After a kill or a deadline the server has gone on with the export: it may be ready.
        if remembered:
            self.job = remembered
            self._leave_out(remembered.left_out)
            if remembered.since_refused:
                self._leave_since_out()
            return True
        self._ask()
        return False

    def _ask(self) -> None:
        answer = self._asked()
        link = answer.headers.get("content-location", "")
        if answer.status != 202 or not link:
            raise ProtocolError(
                f"{self.label}: the server took the export without saying where to poll (status {answer.status}): "
                "it does not follow Bulk Data Access"
            )
        poll = self._own(link, self.request.url(self.client.base))
        saved = self.clock.now().isoformat()
        left_out, asked = tuple(sorted(self.left_out)), server_time(answer.headers)
        self.job = Job(poll, asked, saved, left_out, self.since_refused, self._first.types, self._first.since)
        # Before the first poll, so that a kill from here on does not leave a job that nobody deletes.
        self.file.save(self.job)

    def _asked(self) -> Response:
        """Ask for the export, without what the server says it does not have.

        Raises ExportRefusedError where it does not say what that is.
        """
        lenient, unlisted = False, frozenset[str]()
        while True:
            try:
                return self._send("respond-async, handling=lenient" if lenient else "respond-async")
            except RefusedError as error:
                if error.status in EXPIRED and self.request.group:
                    raise RefusedError(NO_GROUP.format(self.label, self.request.group), error.status) from error
                if error.status not in (400, 422):
                    raise
                if self._leave_out_refused(error.outcome):
                    continue
                if not (lenient or self.request.type_filter or len(self.request.types) == 1):
                    lenient = True  # a type that the server does not have is then left out, and its outcome says so
                    continue
                # It does not say what is wrong: perhaps a type that it does not list, perhaps `_since`.
                unlisted = unlisted or self._not_listed()
                if self._leave_out(unlisted) or self._leave_since_out():
                    continue
                self.left_out -= unlisted  # they were not to blame
                raise ExportRefusedError(str(error), error.status, error.outcome) from error

    def _leave_out_refused(self, outcome: str | None) -> bool:
        """Ask no more for what the words of the server refuse. False if they name nothing."""
        if refuses_since(outcome) and self._leave_since_out():
            return True
        return self._leave_out(refused_types(outcome, self.request.types))

    def _leave_since_out(self) -> bool:
        """Ask for everything. False if that is asked for already."""
        if self.request.since is None:
            return False
        self.request = replace(self.request, since=None)
        self.since_refused = True
        return True

    def _not_listed(self) -> frozenset[str]:
        """Return the types that the CapabilityStatement lacks; nothing where it is not to be had."""
        try:
            metadata = f"{self.client.base}/metadata"
            found = self.client.get_parsed(metadata, "CapabilityStatement", read_capability_statement)
        except ServerError:
            return frozenset()
        listed = {each.type for each in found.server.resource}
        # A statement that does not even list Patient says nothing about what is exported.
        return frozenset(self.request.types) - listed if "Patient" in listed else frozenset()

    def _leave_out(self, types: Collection[str]) -> bool:
        """Ask for these types no more. False if nothing, or nothing else, would be left."""
        rest = tuple(kind for kind in self.request.types if kind not in types)
        if not rest or len(rest) == len(self.request.types):
            return False
        self.left_out.update(types)
        self.request = replace(self.request, types=rest)
        return True

    def _send(self, prefer: str) -> Response:
        # A proxy or HAPI itself may answer with the job of an earlier kick-off.
        headers = {"Prefer": prefer, "Accept": FHIR_JSON, "Cache-Control": "no-cache"}  # no job of an hour ago
        base, statuses = self.client.base, (200, 202)
        if self.kick_off == "post":
            url = f"{base}/{self.request.path()}"
            return self.client.post(url, self.label, self.request.body(), headers, statuses)
        return self.client.get(self.request.url(base), self.label, statuses, headers)

    def _own(self, link: str, current: str) -> str:
        """Return a link of the server on the configured base, also where the server calls itself by another name."""
        try:
            return self._rebased(link, current)
        except ForeignOriginError:
            # Asked only when a link leads elsewhere: most servers name themselves by the configured address.
            if not self._base_asked:
                self._base_asked = True
                metadata = f"{self.client.base}/metadata"
                self._own_bases += self.client.get_parsed(metadata, "CapabilityStatement", _own_base)
            return self._rebased(link, current)

    def _rebased(self, link: str, current: str) -> str:
        for own_base in self._own_bases:
            with suppress(ForeignOriginError):
                return rebase_link(link, current, self.client.base, own_base)
        return rebase_link(link, current, self.client.base, None)

    def manifest(self) -> Generator[ProgressMessage, None, Manifest]:
        """Poll until the job is done.

        Raises ExpiredError where the server has forgotten it, DeferredError at the end of the run, ServerError where it
        failed or has taken longer than the deadline.
        """
        url = self._poll_url()
        began = self.clock.monotonic()
        if self.job and self.job.not_before:
            rest = datetime.fromisoformat(self.job.not_before) - self.clock.now()
            yield from self.wait(rest.total_seconds(), "the server asked not to be polled earlier")
        while (answer := self._poll(url)).status != 200:
            self._check_deadline()
            asked = retry_after(answer.headers, self.clock.now())
            pause = self.polling.wait(self.clock.monotonic() - began, asked)
            # Too many requests: unlike a Retry-After of a running job this one is to be obeyed.
            if answer.status == 429:
                pause = max(pause, asked or 0.0)
            try:
                yield from self.wait(pause, progress(answer.headers))
            except DeferredError:
                self._remember_wait(pause)
                raise
        return self._read(answer)

    def _remember_wait(self, seconds: float) -> None:
        if self.job:
            not_before = self.clock.now() + timedelta(seconds=seconds)
            self.file.save(replace(self.job, not_before=not_before.isoformat()))

    def _check_deadline(self) -> None:
        began = datetime.fromisoformat(self.job.saved) if self.job else self.clock.now()
        if self.clock.now() - began > timedelta(seconds=self.polling.deadline):
            raise ServerError(TOO_LONG.format(self.label, self.polling.deadline / 3600))

    def _poll(self, url: str) -> Response:
        try:
            return self.client.get(url, self.label, (200, 202, 429), {"Accept": "application/json"})
        except RefusedError as error:
            if error.status in EXPIRED:
                raise ExpiredError(f"{self.label}: the server forgot the export ({error.status})", 410) from error
            raise

    def wait(self, seconds: float, message: str) -> Generator[ProgressMessage, None, None]:
        """Wait, with a message now and then. Raise DeferredError where that would last beyond the run."""
        # Ends the sync now rather than in the middle of the wait; the job is taken up by the next run.
        self.client.require_time(seconds, self.label)
        while seconds > 0:
            yield ProgressMessage(message)
            self.sleep(min(seconds, HEARTBEAT))
            seconds -= HEARTBEAT

    def _read(self, answer: Response) -> Manifest:
        try:
            return read_manifest(answer.body)
        # The manifest came with the poll, which has no retries for a body that is cut.
        except TruncatedError:
            return self.client.get_parsed(self._poll_url(), self.label, read_manifest, {"Accept": "application/json"})

    def page(self, link: str, seen: list[str], limit: int) -> Manifest:
        """Return the next page of the manifest, and add its URL to `seen`. Raise PagingError where they do not end."""
        url = self._own(link, seen[-1] if seen else self._poll_url())
        if url in (self._poll_url(), *seen):
            raise PagingError(f"{self.label}: the next links of the manifest lead in a loop: report it to its admin")
        if len(seen) >= limit:
            raise PagingError(f"{self.label}: more than {limit} pages of the manifest: report it to its admin")
        seen.append(url)
        return self.client.get_parsed(url, self.label, read_manifest, {"Accept": "application/json"})

    def learn(self, manifest: Manifest) -> None:
        """Find out by which base the server knows itself, where its files seem to lie elsewhere."""
        # `request` is the kick-off as the server saw it, so what stands before the path is its own base.
        stem = unquote((manifest.request or "").partition("?")[0])
        suffix = f"/{self.request.path()}"
        if stem.endswith(suffix):
            self._own_bases.append(stem.removesuffix(suffix))
        for file in manifest.files:
            with suppress(ServerError):  # then the transport says what is wrong with the file
                self._own(file.url, self._poll_url())

    def file_url(self, link: str) -> str:
        """Return the URL of a file: on the configured base where the server means itself, else as it is.

        The transport refuses it where it leads to an origin that is not allowed.
        """
        try:
            return self._rebased(link, self._poll_url())
        except ForeignOriginError:
            return link

    def _poll_url(self) -> str:
        if self.job is None:
            raise ValueError("no export was asked for")
        return self.job.poll

    def drop(self) -> None:
        """Delete a remembered job that is no longer needed."""
        self.job = self.file.load()
        self.end()
        self.forget()

    def end(self) -> None:
        """Delete the job on the server, as far as that still answers, and forget it."""
        if self.job is not None:
            with suppress(ConnectorError):  # it goes when it expires
                self.client.delete(self.job.poll, self.label)
            self.forget()

    def forget(self) -> None:
        """Forget the job."""
        self.file.remove()
        self.job = None


def progress(headers: Mapping[str, str]) -> str:
    """Return X-Progress without what must not be shown, at most 80 characters."""
    told = " ".join(SHOWABLE.sub(" ", headers.get("x-progress", "")).split())[:80]
    return f"the server prepares the export: {told}" if told else "the server prepares the export"


def _own_base(body: bytes) -> list[str]:
    """Return [implementation.url] of a CapabilityStatement, the base that the server calls itself by; [] without it."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise TruncatedError from error
    url = convert_leniently(document, CapabilityStatement).implementation.url
    return [url.rstrip("/")] if url else []
