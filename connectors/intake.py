"""What becomes of each received resource:

Stored, identical, superseded or quarantined. One of the four, exactly.

The newest version of a resource is the one with the latest meta.lastUpdated (none is before all), and among
equals the one that arrived last: the rule by which the lake's current state is read. A resource as received
is

- identical    if it is (by version id and digest) the version that is current in the lake, or the newest of
               this pull;
- superseded   if it would not be current after this sync: older than the lake's current version, or than
               another version of the same pull (also one that was to be stored until a newer one arrived);
- quarantined  if it cannot be read;
- stored       otherwise. So a sync stores at most one version of a resource, and that one is current.

Identity is compared with the *current* version, not with all that ever were: a server without lastUpdated
that goes from A to B and back to A must end at A.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from connectors.lake import Lake
from connectors.resource import Rejected, Resource, instant

NEVER = -(1 << 62)  # before every instant: no lastUpdated
OUTCOMES = ("stored", "identical", "superseded", "quarantined")


@dataclass(frozen=True, slots=True)
class Seen:
    """A version in 16 + 8 bytes: digest of (version id, digest), and its last update in us since 1970.

    order: the number of its sync if it is in the lake, of its row in the spool if it is of this pull.
    """

    version: bytes
    updated: int
    order: int


def identity(resource_type: str, id_: str) -> bytes:
    """16 bytes for (type, id): a million resources fit into some 250 MB."""
    return hashlib.blake2b(f"{resource_type}/{id_}".encode(), digest_size=16).digest()


def version(version_id: str, digest: str) -> bytes:
    """16 bytes for (version id, digest)."""
    return hashlib.blake2b(f"{version_id}\n{digest}".encode(), digest_size=16).digest()


def updated(last_updated: str | None) -> int:
    """Microseconds since 1970; NEVER where there is no instant."""
    found = instant(last_updated)
    return NEVER if found is None else found


KNOWN_COLUMNS = ["resource_type", "id", "version_id", "last_updated", "sync", "deleted", "digest"]


def current_versions(lake: Lake, site: str) -> dict[bytes, Seen]:
    """The current version of every resource of this site: newest by (last_updated, sync).

    One sync stores one version of a resource, so there are no ties. A deleted resource is here too, without a
    version: it comes back with any version that is not older than its deletion.
    """
    current: dict[bytes, Seen] = {}
    for batch in lake.rows(site, KNOWN_COLUMNS):
        for row in zip(*(batch.column(name).to_pylist() for name in KNOWN_COLUMNS), strict=True):
            kind, id_, version_id, last_updated, sync, deleted, digest = row
            key = identity(kind, id_)
            seen = Seen(b"" if deleted else version(version_id, digest), updated(last_updated), sync)
            known = current.get(key)
            if known is None or (seen.updated, seen.order) > (known.updated, known.order):
                current[key] = seen
    return current


@dataclass
class Intake:
    """The account of one pull. `current`: the lake's versions of the site when the pull began."""

    current: dict[bytes, Seen]
    pulled: dict[bytes, Seen] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    without_patient: Counter[str] = field(default_factory=Counter)

    def reject(self, rejected: Rejected) -> None:
        """Count something that goes to quarantine."""
        self.received[rejected.resource_type] += 1
        self.counts[rejected.resource_type, "quarantined"] += 1
        self.reasons[rejected.reason.value] += 1

    def admit(self, resource: Resource, row: int) -> bool:
        """Count a resource; True if it is to be written as row number `row` of the spool."""
        self.received[resource.resource_type] += 1
        if resource.patient is None:
            self.without_patient[resource.resource_type] += 1
        key = identity(resource.resource_type, resource.id)
        seen = Seen(version(resource.version_id, resource.digest), updated(resource.last_updated), row)
        outcome = self._outcome(key, seen)
        self.counts[resource.resource_type, outcome] += 1
        if outcome != "superseded":
            self._retract(key, seen, resource.resource_type)
        if outcome == "stored":
            self.pulled[key] = seen
        return outcome == "stored"

    def _outcome(self, key: bytes, seen: Seen) -> str:
        known = [version for version in (self.pulled.get(key), self.current.get(key)) if version]
        if known and seen.updated < known[0].updated:
            return "superseded"
        if any(seen.version == version.version for version in known):
            return "identical"
        return "stored"

    def _retract(self, key: bytes, seen: Seen, resource_type: str) -> None:
        """A row of this pull that was to be stored is superseded by `seen`, newer or later than it."""
        earlier = self.pulled.get(key)
        if earlier is None or earlier.version == seen.version:
            return
        del self.pulled[key]
        self.dropped.add(earlier.order)
        self.counts[resource_type, "stored"] -= 1
        self.counts[resource_type, "superseded"] += 1
