"""What becomes of each received version:

Stored, identical, superseded or quarantined. One of the four, exactly. A deletion that the server tells is a
version too.

The newest version of a resource is the one with the latest meta.lastUpdated (none is before all), and among
equals the one that arrived last: the rule by which the lake's current state is read. A version as received
is

- identical    if it is (by version id and digest) the version that is current in the lake, or the newest of
               this pull; or if it is a deletion of what is deleted already;
- superseded   if it would not be current after this sync: older than the lake's current version, or than
               another version of the same pull (also one that was to be stored until a newer one arrived);
- quarantined  if it cannot be read;
- stored       otherwise. So a sync stores at most one version of a resource, and that one is current.

Identity is compared with the *current* version, not with all that ever were: a server without lastUpdated
that goes from A to B and back to A must end at A.

Not received is what the server tells of resources that this lake has never had (a history is that of all its
patients). What is missing where everything was asked for is for `connectors.lake.tombstones`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from connectors.fhir.events import CompleteFor, Deleted, Exists
from connectors.fhir.resource import Rejected, Resource, instant
from connectors.lake.table import Lake
from connectors.lake.versions import Keys, Rows, Seen, Versions

NEVER = -(1 << 62)  # before every instant: no lastUpdated
OUTCOMES = ("stored", "identical", "superseded", "quarantined")
GONE = ""  # the version of a resource that is deleted


def identity(resource_type: str, id_: str) -> str:
    """The key of a resource: `Patient/1`."""
    return f"{resource_type}/{id_}"


def version(version_id: str, digest: str) -> str:
    """Names (version id, digest): 128 bits of the digest, and the version id."""
    return digest[:32] + version_id


def updated(last_updated: str | None) -> int:
    """Microseconds since 1970; NEVER where there is no instant."""
    found = instant(last_updated)
    return NEVER if found is None else found


KNOWN_COLUMNS = ["resource_type", "id", "version_id", "last_updated", "sync", "deleted", "digest"]


def known_versions(lake: Lake, site: str) -> Iterator[tuple[str, Seen]]:
    """Every version of this site in the lake, for `Versions.load`: the newest by (last_updated, sync) is current.

    One sync stores one version of a resource, so there are no ties. A deleted resource is here too, without a
    version: it comes back with any version that is not older than its deletion.
    """
    for batch in lake.rows(site, KNOWN_COLUMNS):
        for row in zip(*(batch.column(name).to_pylist() for name in KNOWN_COLUMNS), strict=True):
            kind, id_, version_id, last_updated, sync, deleted, digest = row
            seen = Seen(GONE if deleted else version(version_id, digest), updated(last_updated), sync)
            yield identity(kind, id_), seen


@dataclass
class Intake:
    """The account of one pull.

    current: the lake's versions of the site when the pull began; `unread` is put there when the first is asked
    for (a night without changes reads nothing). pulled: those of this pull that are to be stored, empty at first.
    dropped: the rows of the spool that are not to be stored after all. told: deletions to be stored, by key.
    marks: keys of the lake that this pull has met, None to note none; missed: those that the server has and the
    lake has not, because nothing has brought their content.
    """

    current: Versions
    pulled: Versions
    unread: Iterable[tuple[str, Seen]] | None = None
    marks: Keys | None = None
    dropped: Rows = field(default_factory=Rows)
    told: dict[str, Deleted] = field(default_factory=dict)
    missed: dict[str, str] = field(default_factory=dict)
    covered: dict[str, set[str]] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    without_patient: Counter[str] = field(default_factory=Counter)
    modified: Counter[str] = field(default_factory=Counter)

    def known(self, key: str) -> Seen | None:
        """The lake's current version."""
        if self.unread is not None:
            self._read()
        return self.current.get(key)

    def knows_nothing(self) -> bool:
        """True where the lake has no version of the site."""
        if self.unread is not None:
            self._read()
        return self.current.is_empty

    def _read(self) -> None:
        unread, self.unread = self.unread, None
        self.current.load(unread or ())

    def reject(self, rejected: Rejected) -> None:
        """Count something that goes to quarantine."""
        self.received[rejected.resource_type] += 1
        self.counts[rejected.resource_type, "quarantined"] += 1
        self.reasons[rejected.reason.value] += 1

    def admit(self, resource: Resource, row: int) -> bool:
        """Count a resource; True if it is to be written as row number `row` of the spool."""
        kind = resource.resource_type
        self.received[kind] += 1
        if resource.patient is None:
            self.without_patient[kind] += 1
        key = identity(kind, resource.id)
        seen = Seen(version(resource.version_id, resource.digest), updated(resource.last_updated), row)
        earlier, current = self.pulled.get(key), self.known(key)
        new = earlier is None and current is None
        outcome = "stored" if new else self._outcome(key, seen, earlier, current)
        self.counts[kind, outcome] += 1
        if self.missed:
            self.missed.pop(key, None)
        if earlier is not None and outcome != "superseded":
            self._retract(key, seen, kind, earlier)
        if outcome == "stored":
            self.pulled.put(key, seen)
            if resource.modified:
                self.modified[kind] += 1
        return outcome == "stored"

    def _outcome(self, key: str, seen: Seen, pulled: Seen | None, current: Seen | None) -> str:
        if current is not None and self.marks is not None:
            self.marks.add(key)
        known = [version for version in (pulled, current) if version]
        if known and seen.updated < known[0].updated:
            return "superseded"
        if key in self.told and current is not None and seen.version == current.version:
            return "superseded"  # the very version whose deletion was told, from a page that is older than it
        if any(seen.version == version.version for version in known):
            return "identical"
        return "stored"

    def _retract(self, key: str, seen: Seen, resource_type: str, earlier: Seen) -> None:
        """A version of this pull that was to be stored, `earlier`, is superseded by `seen`, newer or later than it."""
        if earlier.version == seen.version:
            return
        self.pulled.remove(key)
        if key in self.told:
            del self.told[key]
        else:
            self.dropped.add(earlier.order)
        self.counts[resource_type, "stored"] -= 1
        self.counts[resource_type, "superseded"] += 1

    def delete(self, deleted: Deleted) -> None:
        """Count a deletion, and note it if the lake must follow. One without a time is of this moment."""
        kind, key = deleted.resource_type, identity(deleted.resource_type, deleted.id)
        current, pulled = self.known(key), self.pulled.get(key)
        newest = pulled or current
        if newest is None:
            return
        self.received[kind] += 1
        seen = Seen(GONE, updated(deleted.last_updated), 0)
        if deleted.last_updated is None:
            seen = Seen(GONE, newest.updated, 0)
        if newest.version == GONE:
            outcome = "identical"
        elif seen.updated < newest.updated:
            outcome = "superseded"
        else:
            if pulled is not None:
                self._retract(key, seen, kind, pulled)
            outcome = "identical" if current is None or current.version == GONE else "stored"
        self.counts[kind, outcome] += 1
        if outcome == "stored":
            self.pulled.put(key, seen)
            self.told[key] = deleted

    def meet(self, present: Exists) -> None:
        """Note that the server has this resource. It is no version, and not counted."""
        key = identity(present.resource_type, present.id)
        current = self.known(key)
        if current is not None and self.marks is not None:
            self.marks.add(key)
        lacking = (current is None or current.version == GONE) and self.pulled.get(key) is None
        if lacking and present.readable:
            self.missed[key] = present.resource_type

    def cover(self, covered: CompleteFor) -> None:
        """Note that all of a type about these patients has come."""
        self.covered.setdefault(covered.resource_type, set()).update(covered.patients)
