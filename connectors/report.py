"""The report of one sync of one site. It holds no content of any resource."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from connectors.errors import AccountingError, ConnectorError

UNREADABLE_TYPE = "(none)"
Outcome = Literal["stored", "identical", "superseded", "quarantined"]
OUTCOMES: tuple[Outcome, ...] = ("stored", "identical", "superseded", "quarantined")


@dataclass(frozen=True)
class Counts:
    """The number of versions received, and of each outcome (`connectors.lake.replay`)."""

    received: int = 0
    stored: int = 0
    identical: int = 0
    superseded: int = 0
    quarantined: int = 0

    def check(self, what: str) -> None:
        """Raise AccountingError unless received = stored + identical + superseded + quarantined."""
        accounted = self.stored + self.identical + self.superseded + self.quarantined
        if accounted != self.received or min(self.stored, self.identical, self.superseded, self.quarantined) < 0:
            raise AccountingError(
                f"{what}: {self.received} received, but {accounted} accounted for; nothing was stored: report this bug"
            )


@dataclass(frozen=True)
class Progress:
    """The progress of a running sync: `received` resources of this type, of `expected` (None if unknown).

    note: what the server says while it prepares an export. The type is '' then.
    """

    site: str
    resource_type: str
    received: int
    expected: int | None
    note: str = ""


@dataclass(frozen=True)
class SyncReport:
    """The account of one sync.

    status: ok | partial (a part of the source was not read whole; see messages) | failed (nothing was read or stored).
    by_type: counts by resource type, '(none)' for what has no readable type.
    reasons: quarantined by reason.
    without_patient: resources received without a reference to a Patient, by type.
    sync_number: number of the newest sync in the lake afterwards.
    deleted: of the stored versions, how many are deletions that the server reported, by type.
    removed: tombstones of what was missing on the server where everything was asked for, by type; they are no received
        versions.
    announced: how many resources the server said would come, by type.
    modified: stored resources with a modifierExtension, which no view reads, by type.
    notes: what was found or chosen, as sentences. They do not make the sync partial.
    """

    site: str
    status: Literal["ok", "partial", "failed"]
    counts: Counts = Counts()
    by_type: Mapping[str, Counts] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    without_patient: Mapping[str, int] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    sync_number: int = 0
    deleted: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    announced: Mapping[str, int] = field(default_factory=dict)
    modified: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the report as a value of JSON, for the ledger and `--json`."""
        # `ordinal` is the name that the ledgers and outputs of version 0.1 hold.
        return {"ordinal" if name == "sync_number" else name: value for name, value in asdict(self).items()}

    @classmethod
    def failed(cls, site: str, error: ConnectorError) -> SyncReport:
        """Return the report of a sync that raised."""
        return cls(site, "failed", messages=(str(error),))


def counts_by_type(received: Mapping[str, int], outcomes: Mapping[tuple[str, Outcome], int]) -> dict[str, Counts]:
    """Return checked counts for each resource type, sorted by type.

    Args:
        received: how many versions came, by type; '' for what has no readable type.
        outcomes: what became of them, by (type, outcome).
    """
    by_type = {}
    for kind in sorted(kind for kind, count in received.items() if count):
        counts = Counts(received[kind], *(outcomes.get((kind, outcome), 0) for outcome in OUTCOMES))
        counts.check(kind)
        by_type[kind or UNREADABLE_TYPE] = counts
    return by_type


def total(by_type: Mapping[str, Counts]) -> Counts:
    """Return the sum over all types, checked."""
    names = ("received", *OUTCOMES)
    counts = Counts(*(sum(getattr(each, name) for each in by_type.values()) for name in names))
    counts.check("all types")
    return counts
