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
from connectors.errors import SpoolError
from connectors.fhir.events import SourceEvent
from connectors.fhir.instants import earlier, instant
from connectors.http.authenticators import Authenticator, NoAuth
from connectors.http.client import FhirClient
from connectors.http.origin_policy import Resolve, resolve_by_system
from connectors.http.retry import Clock, TransferLimits
from connectors.lake.table import Cursor
from connectors.sources.base import PlannedRequest
from connectors.sources.bulk.dry_run import planned
from connectors.sources.bulk.job import ExportRequest, KickOff, Level, Polling
from connectors.sources.bulk.pull import BulkLimits, ExportPull

__all__ = ["BulkLimits", "BulkSource"]

EMPTIED = 8  # times at most: each download that still runs may make one more file


@dataclass
class BulkSource:
    """The resources of `types` that the server at `url` exports.

    site: its name.
    jobs: a folder for the job in progress and for downloaded files.
    allowed_origins: further origins that files may lie on. verify_other_origins: the authorities to trust there; no
        client certificate is shown to them.
    http_transport: replaces the network. clock: replaces the clocks. sleep: replaces the wait between two polls.
    """

    url: str
    types: tuple[str, ...]
    site: str
    jobs: Path
    level: Level = "system"
    group: str | None = None
    type_filter: tuple[str, ...] = ()
    kick_off: KickOff = "get"
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
    server_time: str | None = field(default=None, init=False)
    whole: bool = field(default=False, init=False)
    state: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def fingerprint(self) -> str:
        asked = (self.url, self.level, self.group or "", ",".join(self.types), *self.type_filter)
        return hashlib.sha256("\n".join(("bulk", *asked)).encode()).hexdigest()

    def plan(self, previous: Cursor | None) -> Iterator[PlannedRequest]:
        """Yield the kick-offs of a sync that begins at `previous`, and in words what follows. Asks for numbers only."""
        with self._client() as client:
            yield from planned(client, self._requests(self._known(previous)), self.kick_off)

    def pull(self, previous: Cursor | None = None) -> Iterator[SourceEvent]:
        """Yield everything, or what has changed since `previous`.

        Raises ConnectorError where not even the first export is answered, and AuthenticationError at any time.
        """
        known = self._known(previous)
        with _Folder(self.jobs / f"{self.site}.files") as folder, self._client() as client:
            yield from scope_problems(self.auth)
            pull = ExportPull(self, client, folder.path, dict(known))
            yield from pull.run(self._requests(known))
        self.server_time, self.whole, self.state = pull.server_time, pull.whole, pull.state

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
            # `_since` leaves out patients who joined the Group with old resources: Patient is always exported in full.
            own = None if self.level == "group" and kind == "Patient" else known.get(f"since.{kind}")
            by_time.setdefault(earlier(own, self.limits.overlap), []).append(kind)
        # Patients first: whether the Group changed decides about the other exports.
        ordered = sorted(by_time.items(), key=lambda item: "Patient" not in item[1])
        return [
            ExportRequest(self.level, self.group, tuple(kinds), since, self.type_filter) for since, kinds in ordered
        ]


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
