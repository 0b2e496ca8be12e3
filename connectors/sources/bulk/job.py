"""One export job: requested, polled until its manifest is there, remembered across a kill, and deleted at the end.

    kick-off ──202 Content-Location──> polling ──200──> manifest ──> files ──> DELETE
       │                                │ 202, 429: wait                │ 404, 410: expired, asked for once more
       └── refused: the site says why   └── 404, 410: expired           └── kill, deadline: the next run polls this job

(Bulk Data Access IG 2.0.0, "Bulk Data Kick-off Request", "Bulk Data Status Request", "Bulk Data Delete Request".)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlencode

import orjson

from connectors.errors import (
    ConnectorError,
    ExpiredError,
    ForeignOriginError,
    PagingError,
    ProtocolError,
    RefusedError,
    ServerError,
    SpoolError,
)
from connectors.fhir.capability import CapabilityStatement
from connectors.fhir.events import ProgressMessage
from connectors.fhir.lenient import convert_leniently
from connectors.http.client import FHIR_JSON, NDJSON, FhirClient
from connectors.http.origin import rebase_link
from connectors.http.response import Response
from connectors.http.retry import Clock, TruncatedError, retry_after, server_time
from connectors.lake.files import write_atomically
from connectors.sources.bulk.manifest import Manifest, read_manifest

Level = Literal["system", "patient", "group"]
KickOff = Literal["get", "post"]
HEARTBEAT = 5.0  # seconds between two events while waiting, so that a request to stop is noticed within 10 s
EXPIRED = (404, 410)
SHOWABLE = re.compile(r"[^A-Za-z0-9 %.,:;/()+_-]+")


@dataclass(frozen=True)
class ExportRequest:
    """One export: these types, at this level, changed since (FHIR instant; None for everything)."""

    level: Level
    group: str | None
    types: tuple[str, ...]
    since: str | None
    type_filter: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return its name in messages."""
        return f"export of {', '.join(self.types)}"

    def digest(self, base: str) -> str:
        """Return a digest that names the request and the server."""
        asked = (base, self.level, self.group or "", self.since or "", ",".join(self.types), *self.type_filter)
        return hashlib.sha256("\n".join(asked).encode()).hexdigest()[:32]

    def path(self) -> str:
        """Return the path below the base of the server."""
        where = {"system": "", "patient": "Patient/", "group": f"Group/{self.group}/"}[self.level]
        return f"{where}$export"

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters of the kick-off."""
        since = [("_since", self.since)] if self.since else []
        filters = [("_typeFilter", each) for each in self.type_filter]
        return [("_outputFormat", NDJSON), ("_type", ",".join(self.types)), *since, *filters]

    def url(self, base: str) -> str:
        """Return the URL of the kick-off by GET."""
        return f"{base}/{self.path()}?{urlencode(self.parameters())}"

    def body(self) -> bytes:
        """Return the body of the kick-off by POST, a Parameters resource."""
        parameters = [
            {"name": name, "valueInstant" if name == "_since" else "valueString": value}
            for name, value in self.parameters()
        ]
        return json.dumps({"resourceType": "Parameters", "parameter": parameters}).encode()


@dataclass(frozen=True)
class Job:
    """A job on the server. asked: the Date of the server at kick-off. saved: when, by our clock."""

    poll: str
    asked: str | None
    saved: str


@dataclass(frozen=True)
class JobFile:
    """The file that remembers a job until it is read: readable by its owner only, replaced as a whole, no secret."""

    path: Path

    def save(self, job: Job) -> None:
        """Save the job; it is durable when this returns. Raise SpoolError where it cannot be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self.path, orjson.dumps({"poll": job.poll, "asked": job.asked, "saved": job.saved}))
        except OSError as error:
            raise SpoolError(f"{self.path} cannot be written ({error.strerror}): make its folder writable") from error

    def load(self) -> Job | None:
        """Return the job, None where there is none or the file is damaged (then a new export is requested)."""
        try:
            found = orjson.loads(self.path.read_bytes())
            job = Job(found["poll"], found["asked"], found["saved"])
            datetime.fromisoformat(job.saved)
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None
        return job if isinstance(job.poll, str) and isinstance(job.asked, str | None) else None

    def remove(self) -> None:
        """Forget the job."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Polling:
    """The intervals between two polls, in seconds.

    The pause grows with the time waited, by `share`, from `first` to `longest`. A shorter Retry-After is followed, a
    longer one is not (HAPI says 120 s for a job of 8 s), but a 429 is obeyed in full. resume: how old a remembered
    job may be.
    """

    first: float = 0.5
    share: float = 0.05
    longest: float = 60.0
    resume: float = 36 * 3600.0

    def wait(self, waited: float, asked: float | None) -> float:
        """Return the seconds until the next poll after `waited` seconds, where the server asks for `asked`."""
        own = min(self.longest, max(self.first, waited * self.share))
        return own if asked is None else max(self.first, min(own, asked))


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
        self._own_bases: list[str] = []  # by which the server knows itself
        self._base_asked = False

    def begin(self) -> bool:
        """Take up the remembered job, else ask for a new one. True if it was remembered."""
        remembered = self.file.load()
        # After a kill or a deadline the server has gone on with the export: it may be ready.
        if remembered:
            self.job = remembered
            age = self.clock.now() - datetime.fromisoformat(remembered.saved)
            if timedelta(0) <= age <= timedelta(seconds=self.polling.resume):
                return True
            self.end()  # too old: its files have probably expired, and what it holds is of yesterday
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
        self.job = Job(poll, server_time(answer.headers), self.clock.now().isoformat())
        # Before the first poll, so that a kill from here on does not leave a job that nobody deletes.
        self.file.save(self.job)

    def _asked(self) -> Response:
        try:
            return self._send("respond-async")
        except RefusedError as error:
            # Perhaps the server does not know one of the types.
            if error.status not in (400, 422) or self.request.type_filter or len(self.request.types) == 1:
                raise
        # a type that the server does not have is then left out, and its outcome says so
        return self._send("respond-async, handling=lenient")

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
        """Poll until the job is done. Raises ExpiredError where the server has forgotten it, DeferredError at the end
        of the run, ServerError where it failed."""
        url = self._poll_url()
        began = self.clock.monotonic()
        while (answer := self._poll(url)).status != 200:
            asked = retry_after(answer.headers, self.clock.now())
            pause = self.polling.wait(self.clock.monotonic() - began, asked)
            # Too many requests: unlike a Retry-After of a running job this one is to be obeyed.
            if answer.status == 429:
                pause = max(pause, asked or 0.0)
            yield from self._wait(pause, progress(answer.headers))
        return self._read(answer)

    def _poll(self, url: str) -> Response:
        try:
            return self.client.get(url, self.label, (200, 202, 429), {"Accept": "application/json"})
        except RefusedError as error:
            if error.status in EXPIRED:
                raise ExpiredError(f"{self.label}: the server forgot the export ({error.status})", 410) from error
            raise

    def _wait(self, seconds: float, message: str) -> Generator[ProgressMessage, None, None]:
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
        for file in (*manifest.output, *manifest.deleted, *manifest.outcomes):
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
