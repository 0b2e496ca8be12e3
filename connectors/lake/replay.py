"""The rules for one resource: what becomes of each version that a sync receives of it.

Every received version has exactly one outcome. A deletion that the server reports is a version too.

- identical    it is (by version id and digest) the version that is current in the lake, or the newest of this sync so
               far; or it is a deletion of what is deleted already;
- superseded   it would not be current after this sync: it is older than the lake's current version, or than another
               version of the same sync (also one that was to be stored until a newer one arrived);
- quarantined  it cannot be read (`Reconciler.reject`);
- stored       otherwise. So a sync stores at most one version of a resource, and that one is current.

The newest version is the one that `connectors.lake.current` calls current; of two received with the same lastUpdated it
is the one that arrived last. Identity is compared with the *current* version and not with all that ever were: a server
without lastUpdated that goes from A to B and back to A must end at A.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from connectors.fhir.instants import comparable

OWN_VERSION = "sha256-"  # what stands for the version id of a server that states none (`connectors.fhir.resource`)
Outcome = Literal["stored", "identical", "superseded", "quarantined"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a resource. Without a digest it is a deletion.

    row_number: its place in the spool. modified: it has a modifierExtension. Both only of a received version.
    """

    version_id: str | None
    last_updated: str | None
    digest: str
    row_number: int = -1
    modified: bool = False

    @property
    def is_deletion(self) -> bool:
        return not self.digest

    @property
    def updated(self) -> float:
        """Return microseconds since 1970; -inf, before every instant, where there is none."""
        return comparable(self.last_updated)

    def contradicts(self, other: Version) -> bool:
        """Return True if what is stated here, a version id or else a time, is another one there."""
        if self.version_id and other.version_id and not other.version_id.startswith(OWN_VERSION):
            return self.version_id != other.version_id
        # A server without versions has times perhaps; those of the lake are as it stated them.
        return None not in (self.last_updated, other.last_updated) and self.updated != other.updated

    def same_as(self, other: Version | None) -> bool:
        """Return True if the other version has the same version id and digest."""
        return other is not None and (self.version_id, self.digest) == (other.version_id, other.digest)


class ResourceReplay:
    """The events of one resource in the order of their arrival, compared with its current version in the lake.

    current: the version that is current in the lake, None if there is none.
    full: everything was asked for, so what came is current, also where the lake has something later: a server may have
        been restored from a backup, or its clock set back.
    seen: the newest version with content that came in this sync.
    pending: the version of this sync that is to be stored, as far as the events were replayed.
    content_missing: the server has the resource, the lake has not, and its content did not come.
    outcomes: how many versions were stored, identical and superseded.
    """

    def __init__(self, current: Version | None, *, full: bool = False) -> None:
        self.current = current
        self.full = full
        self.seen: Version | None = None
        self.pending: Version | None = None
        self.content_missing = False
        self.outcomes: Counter[Outcome] = Counter()

    def upsert(self, received: Version) -> None:
        """Take in a version with content."""
        outcome = self._outcome(received)
        self.outcomes[outcome] += 1
        self.content_missing = False
        if outcome != "superseded" and not received.same_as(self.pending):
            self._supersede_pending()
        if outcome == "stored":
            self.pending = received
        if outcome != "superseded":
            self.seen = received

    def _outcome(self, received: Version) -> Outcome:
        newest = self.pending or (self.seen if self.full else self.current)
        # Not `<=`: servers whose clock counts seconds give two versions the same time, and the later one counts.
        if newest is not None and received.updated < newest.updated:
            return "superseded"
        if self.pending and self.pending.is_deletion and received.same_as(self.current):
            return "superseded"  # the very version that was deleted, from a page that is older than its deletion
        if received.same_as(self.pending) or received.same_as(self.current):
            return "identical"
        return "stored"

    def delete(self, deletion: Version) -> None:
        """Take in a deletion. One without a time happened after everything that is known.

        A deletion of a resource that the lake never had is not counted: the history of a server is that of all its
        patients.
        """
        newest = self.pending or self.current
        if newest is None:
            return
        if newest.is_deletion:
            self.outcomes["identical"] += 1
        elif deletion.last_updated is not None and deletion.updated < newest.updated:
            self.outcomes["superseded"] += 1
        else:
            self._supersede_pending()
            if self.current is None or self.current.is_deletion:  # it came and went within this sync
                self.outcomes["identical"] += 1
            else:
                self.outcomes["stored"] += 1
                self.pending = replace(deletion, last_updated=deletion.last_updated or newest.last_updated)

    def mark_seen(self, stated: Version, *, readable: bool) -> None:
        """Take in that the server has the resource, in a version without content. It is not counted."""
        in_lake = self.current is not None and not self.current.is_deletion and not stated.contradicts(self.current)
        if readable and not in_lake and self.pending is None:
            self.content_missing = True

    def _supersede_pending(self) -> None:
        if self.pending is not None:
            self.pending = None
            self.outcomes["stored"] -= 1
            self.outcomes["superseded"] += 1
