"""Deletes what is older than `[retention]` allows: quarantine, run ledger, audit log, internal report, releases.

The lake and its view tables are not here: `schedules.run.maintain` deletes superseded versions when it merges files.
The release ledger keeps the figures of every release for good, since later releases are compared with them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.lake.delta import delete_files
from connectors.lake.files import flush_to_disk, write_atomically
from connectors.lake.quarantine import Quarantine
from schedules.release.publish import current_release, releases
from schedules.release.release_ledger import ReleaseLedger
from schedules.run.audit import AUDIT_LOG
from schedules.run.forget import CRASH_FILES

if TYPE_CHECKING:
    from schedules.config.settings import Settings
    from schedules.run.ledger import Ledger


def expire(settings: Settings, ledger: Ledger, now: datetime, *, dry_run: bool) -> dict[str, int]:
    """Delete what is too old; return how many of what went, by its name for people. With `dry_run` only count.

    Raises:
        SpoolError: a quarantine file is damaged or cannot be written.
        LedgerError: the release ledger is damaged, which tells the age of releases.
    """
    keep = settings.retention
    steps: dict[str, tuple[float | None, Callable[[timedelta], int]]] = {
        "crash files": (keep.crash_days, lambda age: _files(settings.data_dir.glob(CRASH_FILES), now - age, dry_run)),
        "contents of the quarantine": (keep.quarantine_days, lambda age: _quarantine(settings, now, age, dry_run)),
        "lines of the audit log": (keep.audit_days, lambda age: _audit_log(settings.data_dir, now - age, dry_run)),
        "files of the internal report": (
            keep.internal_days,
            lambda age: _files(settings.internal_dir.glob("*"), now - age, dry_run),
        ),
        "releases": (keep.release_days, lambda age: _releases(settings, now - age, dry_run)),
        # Last: its rows say since when a version is superseded, and what a kill left undone above is found again.
        "runs in the ledger": (keep.ledger_days, lambda age: ledger.expire(now - age, now, dry_run=dry_run)),
    }
    found = {name: step(timedelta(days=days)) for name, (days, step) in steps.items() if days is not None}
    return {name: count for name, count in found.items() if count}


def _files(found: Iterator[Path], before: datetime, dry_run: bool) -> int:
    files = (path for path in found if path.is_file())
    old = [path for path in files if datetime.fromtimestamp(path.stat().st_mtime, before.tzinfo) < before]
    if not dry_run:
        delete_files(old)
    return len(old)


def _quarantine(settings: Settings, now: datetime, age: timedelta, dry_run: bool) -> int:
    quarantine = Quarantine(settings.quarantine_dir)
    # Also those of sites that are no longer in the configuration.
    sites = sorted(path.name.removesuffix(".ndjson") for path in settings.quarantine_dir.glob("[!.]*.ndjson"))
    return sum(quarantine.expire(site, now.date(), age, dry_run=dry_run) for site in sites)


def _audit_log(data_dir: Path, before: datetime, dry_run: bool) -> int:
    file = data_dir / AUDIT_LOG
    lines = file.read_text("utf-8").splitlines(keepends=True) if file.exists() else []
    kept = [line for line in lines if not _is_older(line, before)]
    if len(kept) < len(lines) and not dry_run:
        write_atomically(file, "".join(kept))
    return len(lines) - len(kept)


def _is_older(line: str, before: datetime) -> bool:
    try:
        return datetime.fromisoformat(json.loads(line)["when"]) < before
    except (ValueError, KeyError, TypeError):
        return False  # evidence that is not understood is kept: somebody may have altered it


def _releases(settings: Settings, before: datetime, dry_run: bool) -> int:
    """Delete old releases and withdrawn ones; those that somebody may still ask for stay, however old."""
    ledger = ReleaseLedger(settings.release_ledger_dir)
    past, there = ledger.past(), releases(settings.releases_dir)
    old = {entry.release for entry in past if entry.when < before}
    # The newest of each data cutoff shows that its date had a release (`schedules.release.policy`); the highest may be
    # about to become current, after a kill.
    of_cutoff = {(entry.study, entry.data_cut): entry.release for entry in past if entry.release in there}
    kept = {current_release(settings.releases_dir), *of_cutoff.values(), *there[-1:]}
    expired = [settings.releases_dir / str(number) for number in there if number in old - kept]
    expired += [folder for number in sorted(old) if (folder := settings.withdrawn_dir / str(number)).is_dir()]
    for folder in () if dry_run else expired:
        shutil.rmtree(folder)
        flush_to_disk(folder.parent)
    return len(expired)
