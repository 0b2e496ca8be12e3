"""Keeps the lake small: merges small files, deletes superseded versions, unused files and old commits of the log."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.errors import LakeError
from connectors.lake.delta import delete_files, log_length, trim_log, worth_merging
from connectors.lake.retention import superseded_rows
from connectors.lake.rewrite import rewrite, unused_files
from connectors.lake.snapshot import LakeFile
from connectors.lake.table import Lake
from connectors.lake.verify import find_damage

LOG_SHARE = 2  # commits in the log to a small file of a table: many syncs of a site bring a type nothing


@dataclass(frozen=True)
class LakePlan:
    """The work to do in the lake.

    Attributes:
        files: the files to write anew, with the numbers of the rows that go.
        superseded_until: the sync up to which superseded versions go; 0: all stay.
        unused: files that the table does not name.
        commits: the log is longer than it need be.
    """

    files: Mapping[LakeFile, Collection[int]]
    superseded_until: int
    unused: tuple[Path, ...]
    commits: bool

    @property
    def superseded(self) -> Counter[str]:
        """Return the number of versions that go, by resource type."""
        counts: Counter[str] = Counter()
        for file, rows in self.files.items():
            counts[file.resource_type] += len(rows)
        return +counts


def plan_compaction(lake: Lake, at_least: int, superseded_until: int, spill: Path) -> LakePlan:
    """Return what there is to do: small files are merged where a site and type has `at_least` of them, or a few tiny.

    Raises:
        LakeError: a file cannot be read.
    """
    partitions: defaultdict[tuple[str, str], dict[LakeFile, int]] = defaultdict(dict)
    for file in lake.files():
        partitions[file.site, file.resource_type][file] = file.size
    files: dict[LakeFile, Collection[int]] = {
        file: () for sizes in partitions.values() for file in worth_merging(sizes, at_least)
    }
    if superseded_until:
        files |= superseded_rows(lake, superseded_until, spill)
    long = lake.exists() and log_length(lake.path) >= LOG_SHARE * at_least
    return LakePlan(files, superseded_until, tuple(unused_files(lake)) if lake.exists() else (), long)


def compact(lake: Lake, plan: LakePlan) -> None:
    """Do what `plan_compaction` found. Only for the holder of the run lock.

    Raises:
        LakeError: a file is damaged, or nothing could be committed. Nothing is deleted then.
    """
    # A damaged row that is written anew would get a checksum of its own, and nobody could tell any more.
    if damaged := list(find_damage(list(plan.files))):
        raise LakeError("\n".join(each.sentence() for each in damaged))
    if plan.files:
        rewrite(lake, plan.files, plan.superseded_until)
    if plan.files or plan.commits:
        trim_log(lake.path)
    if lake.exists():
        delete_files(unused_files(lake))
