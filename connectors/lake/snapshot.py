"""The lake at one moment: its files, and the fingerprints by which what was derived from it recognises its syncs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

FINGERPRINTS = "periop.fingerprints"  # a transaction of the Delta log, and the metadata of the commit that it names
WHOLE_SINCE = "periop.superseded"  # a transaction: the sync up to which superseded versions were deleted
KEPT = 100  # syncs: whatever was derived from an older one is derived again


@dataclass(frozen=True)
class LakeFile:
    """One Parquet file of a snapshot: all its rows are of one site and resource type; `sync` is the newest in it."""

    site: str
    resource_type: str
    path: str
    rows: int
    sync: int
    size: int


@dataclass(frozen=True)
class Snapshot:
    """The lake at one moment: the number of its newest sync, the id of the Delta table, and its files.

    `kept`: the fingerprints of syncs whose files were merged with others since. `whole_since`: the versions that the
    syncs up to this one superseded may have been deleted (`connectors.lake.retention`).
    """

    sync_number: int
    identity: str
    files: tuple[LakeFile, ...]
    kept: Mapping[int, int] = field(default_factory=dict)
    whole_since: int = 0

    def fingerprint(self, sync_number: int) -> int:
        """Return a number from 0 to 2^63 - 1 that names the files which this sync added, 0 if it added none.

        Where a backup of the lake was restored and then advanced, the same sync number has another fingerprint.
        """
        # What was derived from it misses deletions since: a version that is gone can no longer be listed as superseded.
        if sync_number < self.whole_since:
            return 0
        return self.kept.get(sync_number) or self._fingerprints.get(sync_number, 0)

    def newest_fingerprints(self) -> dict[int, int]:
        """Return the fingerprints of the last syncs, for a commit that takes their files away."""
        newest = range(max(1, self.sync_number - KEPT + 1), self.sync_number + 1)
        return {sync: found for sync in newest if (found := self.fingerprint(sync))}

    @cached_property
    def _fingerprints(self) -> dict[int, int]:
        names: dict[int, list[str]] = {}
        for file in self.files:
            names.setdefault(file.sync, []).append(Path(file.path).name)  # a random name, never used twice
        digests = {sync: hashlib.sha256("\n".join(sorted(each)).encode()).digest() for sync, each in names.items()}
        # 63 bits: readers store it as the version of a Delta transaction, which is a signed integer of 64 bits
        return {sync: int.from_bytes(digest[:8]) >> 1 for sync, digest in digests.items()}


def commit_info(folder: Path, version: int) -> Mapping[str, Any]:
    """Return what the Delta table in `folder` noted about the commit of this version.

    Raises:
        OSError, ValueError, KeyError, TypeError, StopIteration: the commit is damaged or gone.
    """
    # Read from the log itself: deltalake's history() stops at the last checkpoint.
    with (folder / "_delta_log" / f"{version:020d}.json").open(encoding="utf-8") as log:
        actions = map(json.loads, log)
        info: Mapping[str, Any] = next(action["commitInfo"] for action in actions if "commitInfo" in action)
        return info


def kept_fingerprints(folder: Path, version: int) -> Mapping[int, int]:
    """Return the fingerprints in the metadata of the commit of this version, none where it cannot be read."""
    try:
        found = commit_info(folder, version)[FINGERPRINTS]
        return {int(sync): int(fingerprint) for sync, fingerprint in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return {}  # without them everything is derived again, which is right and only takes longer
