"""A cohort from a FHIR server by search:

The cohort query first, then every type for those patients, in batches.

One window is one search (a type and a batch of patients) with all its pages. A window that cannot be read
whole makes the sync partial, and the others go on. Nothing of a window is remembered from night to night:
identical versions are known by their content (intake.py).
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

import httpx

from connectors.auth import Authenticator, NoAuth
from connectors.bundle import Entry
from connectors.errors import IncompleteError, ServerError, UnavailableError
from connectors.paging import Paging, SearchLimits, Window
from connectors.received import Expected, Problem, Received
from connectors.resource import Reason, Rejected, Resource, read_resource
from connectors.transport import Timing, TransferLimits, Transport

__all__ = ["CohortQuery", "SearchLimits", "SearchSource"]

OUTCOME_PROBLEM = (
    "the server reports an error within the result, which may not be whole: see the quarantine of the site"
)
COHORT_PROBLEM = "the server returned resources of patients not asked for (not kept): it may ignore the parameter {}"


@dataclass(frozen=True)
class CohortQuery:
    """Which patients: those whom the resources found by `resource_type?params` are about."""

    resource_type: str
    params: tuple[tuple[str, str], ...]


@dataclass
class SearchSource:
    """The cohort's resources of `types` on the server at `url`.

    `wire` replaces the network, `timing` the clocks.
    """

    url: str
    cohort: CohortQuery
    types: tuple[str, ...]
    auth: Authenticator = field(default_factory=NoAuth)
    limits: SearchLimits = field(default_factory=SearchLimits)
    transfer: TransferLimits = field(default_factory=TransferLimits)
    timing: Timing = field(default_factory=Timing)
    wire: httpx.BaseTransport | None = None
    verify: ssl.SSLContext | bool = True
    server_time: str | None = field(default=None, init=False)

    @property
    def fingerprint(self) -> str:
        asked = (self.url, self.cohort.resource_type, urlencode(self.cohort.params), *self.types)
        return hashlib.sha256("\n".join(("search", *asked)).encode()).hexdigest()

    def pull(self) -> Iterator[Received]:
        """Everything of the cohort. Raises ConnectorError where not even the cohort query is answered."""
        with Transport(self.url, self.auth, self.transfer, self.timing, self.wire, self.verify) as transport:
            paging = Paging(transport, self.limits)
            patients = yield from self._cohort(paging)
            self.server_time = transport.server_time
            yield from self._resources(paging, sorted(patients))

    def _cohort(self, paging: Paging) -> Generator[Received, None, set[str]]:
        """The patients. What the later windows bring again is not yielded; what they cannot bring is."""
        kind = self.cohort.resource_type
        window = Window(kind, self.cohort.params, None, f"cohort query of {kind}")
        patients: set[str] = set()
        for item in self._window(paging, window):
            if isinstance(item, Resource) and item.patient:
                patients.add(item.patient)
                if kind in self.types:
                    continue
            if not isinstance(item, Expected):
                yield item
        return patients

    def _resources(self, paging: Paging, patients: Sequence[str]) -> Iterator[Received]:
        """Each type for all batches. After UnavailableError nothing more is tried: the server is gone."""
        for window in self.windows(patients):
            try:
                yield from self._window(paging, window)
            except UnavailableError as error:
                yield Problem(f"{error}; nothing after it was fetched")
                return
            except ServerError as error:
                yield Problem(str(error))

    def windows(self, patients: Sequence[str]) -> Iterator[Window]:
        """The searches for these patients: type by type, in batches that fit the limits of size and URL."""
        for kind in self.types:
            prefix = "" if kind == "Patient" else "Patient/"
            name = "_id" if kind == "Patient" else "subject"  # R4 AdverseEvent has no `patient`; all have `subject`
            room = self.limits.url - len(self.url) - 120  # type, `_count` and `_total`
            done = 0
            for batch in batches(patients, prefix, self.limits.batch, room):
                label = f"{kind} of patients {done + 1} to {done + len(batch)}"
                done += len(batch)
                yield Window(kind, ((name, ",".join(prefix + each for each in batch)),), frozenset(batch), label)

    def _window(self, paging: Paging, window: Window) -> Iterator[Received]:
        expected = False
        try:
            for number, page in enumerate(paging.pages(window), 1):
                if page.total is not None and not expected:
                    expected = True
                    yield Expected(window.resource_type, page.total)
                for place, entry in enumerate(page.entries):
                    yield from self._entry(entry, window, f"{window.label}, page {number}, entry {place}")
        except IncompleteError as error:
            yield Problem(str(error))

    def _entry(self, entry: Entry, window: Window, where: str) -> Iterator[Received]:
        """One entry: a match of this window, an include (of any type asked for), or set aside."""
        included = entry.mode == "include"
        item = self._read(entry, frozenset(self.types) if included else frozenset({window.resource_type}), where)
        if isinstance(item, Rejected):
            yield item
            if item.severe:
                yield Problem(f"{window.label}: {OUTCOME_PROBLEM}")
        elif included or window.patients is None or item.patient is None or item.patient in window.patients:
            yield item
        else:
            yield Rejected(Reason.NOT_IN_COHORT, where, item.raw.encode(), item.resource_type)
            yield Problem(f"{window.resource_type}: {COHORT_PROBLEM.format(window.params[0][0])}")

    def _read(self, entry: Entry, wanted: frozenset[str], where: str) -> Resource | Rejected:
        if not entry.resource:
            return Rejected(Reason.EMPTY_ENTRY, where, b"")
        if len(entry.resource) > self.limits.resource:
            return Rejected(Reason.TOO_LARGE, where, entry.resource)
        return read_resource(entry.resource, where, wanted)


def batches(patients: Sequence[str], prefix: str, size: int, room: int) -> Iterator[list[str]]:
    """Patients in order, at most `size` together, and with at most `room` characters when percent-encoded (at
    least one).
    """
    batch: list[str] = []
    length = 0
    for patient in patients:
        added = len(quote(f"{prefix}{patient},", safe=""))
        if batch and (len(batch) >= size or length + added > room):
            yield batch
            batch, length = [], 0
        batch.append(patient)
        length += added
    if batch:
        yield batch
