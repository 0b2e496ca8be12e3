"""Keeps the data folder small: merges small files, and deletes what is old or was left behind, by `[retention]`.

Nothing that is needed is deleted, and all that derives from the lake goes on from where it was. Each step leaves the
old or the new state when it is killed, and the next run does the rest. The caller holds the run lock.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectors.lake.delta import delete_files
from connectors.lake.table import Lake
from schedules.run.retention import expire

if TYPE_CHECKING:
    from schedules.config.settings import Settings
    from schedules.run.ledger import Ledger

UNFINISHED = timedelta(days=1)  # a temporary file that is older belongs to no process that still writes it


@dataclass
class Maintenance:
    """Counts of what was done, or would be; no ids.

    Attributes:
        merged: small files that became few, of lake and view tables.
        superseded: versions deleted from the lake, by resource type.
        unused: data files that no table names: replaced ones, and those of killed runs.
        tables: folders of tables of views that are no longer in use.
        leftovers: temporary files and folders of killed runs.
        expired: what was older than `[retention]` allows, by its name for people.
        logs: logs of tables that were cut short.
        files_before, files_after, bytes_before, bytes_after: of the whole data folder.
    """

    merged: int = 0
    superseded: dict[str, int] = field(default_factory=dict)
    unused: int = 0
    tables: int = 0
    leftovers: int = 0
    expired: dict[str, int] = field(default_factory=dict)
    logs: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the counts as plain data, for the ledger and `--json`."""
        return asdict(self)


def maintain(
    settings: Settings, ledger: Ledger, now: datetime, progress: Callable[[str], None], *, dry_run: bool = False
) -> Maintenance:
    """Compact and clean the data folder; with `dry_run` only count what would be done.

    Raises:
        LakeError: a file of the lake is damaged; nothing that it is needed for is done.
        MappingError: a view or a view table cannot be read.
    """
    done = Maintenance()
    done.files_before, done.bytes_before = _size(settings.data_dir)
    for leftover in leftovers(settings, now):
        done.leftovers += 1
        if not dry_run:
            _delete(leftover)
    lake = Lake(settings.lake_dir)
    if lake.exists():
        progress("compacting the lake")
        _maintain_lake(settings, lake, _superseded_until(settings, ledger, now, lake), done, dry_run)
        progress("compacting the view tables")
        _maintain_views(settings, lake, done, dry_run)
    # After the lake: the ledger says since when a version is superseded, and is cut here too.
    done.expired = expire(settings, ledger, now, dry_run=dry_run)
    done.files_after, done.bytes_after = _size(settings.data_dir)
    return done


def _superseded_until(settings: Settings, ledger: Ledger, now: datetime, lake: Lake) -> int:
    """Return the sync up to which superseded versions are deleted, 0 for none."""
    days = settings.retention.superseded_days
    # The ledger knows when a sync was; times of servers say when a version was made, and not since when it is replaced.
    return 0 if days is None else min(ledger.newest_sync(now - timedelta(days=days)), lake.sync_number())


def _maintain_lake(settings: Settings, lake: Lake, superseded_until: int, done: Maintenance, dry_run: bool) -> None:
    from connectors.lake.compaction import compact, plan_compaction
    from mappers.build.compaction import advance

    plan = plan_compaction(lake, settings.maintain.small_files, superseded_until, settings.data_dir / ".maintain")
    done.merged += len(plan.files)
    done.superseded = dict(sorted(plan.superseded.items()))
    done.unused += len(plan.unused)
    done.logs += plan.commits or bool(plan.files)
    if not dry_run:
        if plan.superseded:
            advance(settings.data_dir / "views", lake.snapshot(), _views(settings), superseded_until)
        compact(lake, plan)


def _maintain_views(settings: Settings, lake: Lake, done: Maintenance, dry_run: bool) -> None:
    from mappers.build.compaction import compact, obsolete, plan_compaction

    folder, views = settings.data_dir / "views", _views(settings)
    for table in obsolete(folder, views):
        done.tables += 1
        if not dry_run:
            shutil.rmtree(table)
    for plan in plan_compaction(folder, lake, views, settings.maintain.small_files):
        done.merged += len(plan.files)
        done.unused += len(plan.unused)
        done.logs += plan.commits or bool(plan.files)
        if not dry_run:
            compact(plan)


def _views(settings: Settings) -> dict[str, str]:
    """Return the resource type of each view that is in use."""
    from mappers.view.shipped import load_views

    return {name: view.resource for name, view in load_views(*settings.mapping.views).items()}


def leftovers(settings: Settings, now: datetime) -> Iterator[Path]:
    """Yield what killed runs left beside the tables."""
    data = settings.data_dir
    folders = [data / name for name in ("spill", ".maintain", "cohort.new", "cohort.old")]
    yield from (
        each for each in [*folders, *data.glob(".sync-*"), *settings.releases_dir.glob(".new-*")] if each.exists()
    )
    for path in sorted(data.rglob(".*.part")):  # of `AtomicFile`; not all who write hold the lock
        if _age(path, now) > UNFINISHED:
            yield path


def _age(path: Path, now: datetime) -> timedelta:
    return now - datetime.fromtimestamp(path.stat().st_mtime, now.tzinfo)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        delete_files([path])


def _size(folder: Path) -> tuple[int, int]:
    """Return the number of files below `folder`, and their bytes."""
    sizes = [path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return len(sizes), sum(sizes)
