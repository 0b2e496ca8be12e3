"""The account of one sync of one site, without a word of any resource."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from connectors.errors import AccountingError, ConnectorError
from connectors.lake.reconcile import OUTCOMES, Intake

UNREADABLE_TYPE = "(none)"


@dataclass(frozen=True)
class Counts:
    """How many resources were received, and what became of them."""

    received: int = 0
    stored: int = 0
    identical: int = 0
    superseded: int = 0
    quarantined: int = 0

    def check(self, what: str) -> None:
        """AccountingError unless received = stored + identical + superseded + quarantined."""
        accounted = self.stored + self.identical + self.superseded + self.quarantined
        if accounted != self.received or min(self.stored, self.identical, self.superseded, self.quarantined) < 0:
            raise AccountingError(
                f"{what}: {self.received} received, but {accounted} accounted for; nothing was stored: report this bug"
            )


@dataclass(frozen=True)
class Progress:
    """A moment of a running sync:

    So many resources of this type so far, of `expected` (None if the server does not say). With a `note`, what the
    server says instead while it prepares an export; the type is '' then.
    """

    site: str
    resource_type: str
    received: int
    expected: int | None
    note: str = ""


@dataclass(frozen=True)
class SyncReport:
    """The account of one sync.

    status: ok | partial (a part of the source was not read whole; see messages) | failed (nothing was read
    or stored). by_type: counts by resource type, '(none)' for what has no readable type. reasons:
    quarantined by reason. without_patient: resources received without a reference to a Patient, by type.
    sync_number: number of the newest sync in the lake afterwards.

    deleted: of the stored versions, how many are deletions that the server told. removed: tombstones of what was
    missing on the server where everything was asked for; they are no received versions. announced: how many the
    server said would come. modified: stored resources with a modifierExtension, which no view reads. Each by type.
    notes: what was found or chosen, sentences that make nothing partial.
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

    @property
    def received(self) -> int:
        return self.counts.received

    @property
    def stored(self) -> int:
        return self.counts.stored

    @property
    def identical(self) -> int:
        return self.counts.identical

    @property
    def superseded(self) -> int:
        return self.counts.superseded

    @property
    def quarantined(self) -> int:
        return self.counts.quarantined

    @classmethod
    def failed(cls, site: str, error: ConnectorError) -> SyncReport:
        """The report of a sync that raised."""
        return cls(site, "failed", messages=(str(error),))


def counts_by_type(intake: Intake) -> dict[str, Counts]:
    """Checked counts for each resource type, sorted by type."""
    types = sorted(intake.received)
    found = {
        kind or UNREADABLE_TYPE: Counts(intake.received[kind], *(intake.counts[kind, outcome] for outcome in OUTCOMES))
        for kind in types
    }
    for kind, counts in found.items():
        counts.check(kind)
    return found


def total(by_type: Mapping[str, Counts]) -> Counts:
    """The sum over all types, checked."""
    values = by_type.values()
    names = ("received", *OUTCOMES)
    counts = Counts(*(sum(getattr(each, name) for each in values) for name in names))
    counts.check("all types")
    return counts
