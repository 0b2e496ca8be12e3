"""Withdraw a release: from `releases/` and the targets into `<data_dir>/withdrawn`; the release ledger remembers it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from connectors.lake.files import flush_to_disk
from schedules.errors import NothingYetError
from schedules.release.publish import CURRENT, current_release, releases, switch
from schedules.release.release_ledger import ReleaseLedger


@dataclass(frozen=True)
class Withdrawal:
    """A release that was withdrawn. `current` is what is current now; `left` are folders of targets that still have
    another release of this number, or cannot be reached."""

    release: int
    current: int | None
    left: tuple[Path, ...]


def withdraw(
    release: int,
    releases_dir: Path,
    withdrawn_dir: Path,
    targets: Sequence[Path],
    ledger: ReleaseLedger,
    when: datetime,
) -> Withdrawal:
    """Take a release back. After a kill the same call finishes it. Raises `NothingYetError` where it is not there.

    Nobody forgets what was read: the ledger keeps the figures, and later releases are compared with them.
    """
    ledger.adopt(releases_dir, releases(releases_dir))
    if release not in {entry.release for entry in ledger.past()}:
        raise NothingYetError(f"{releases_dir}: holds no release {release}, and the release ledger knows of none")
    if release not in ledger.withdrawn():
        ledger.withdraw(release, when)  # first: from here on no run makes a release of the same figures
    left = tuple(target for target in targets if not _take_back(target, release, releases_dir, withdrawn_dir))
    # `current` first: a reader must never follow it to a folder that is gone.
    folder = releases_dir / str(release)
    _point_elsewhere(releases_dir, release)
    if folder.is_dir():
        withdrawn_dir.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(withdrawn_dir / str(release), ignore_errors=True)  # of a call that was killed
        folder.rename(withdrawn_dir / str(release))
        flush_to_disk(releases_dir)
    return Withdrawal(release, current_release(releases_dir), left)


def _take_back(target: Path, release: int, releases_dir: Path, withdrawn_dir: Path) -> bool:
    """Delete the copy of a release in a target; return False where it is another one, or cannot be deleted."""
    copy = target / str(release)
    ours = next(
        (
            each / str(release) / "results.json"
            for each in (releases_dir, withdrawn_dir)
            if (each / str(release)).is_dir()
        ),
        None,
    )
    try:
        if not target.is_dir():
            return False
        if not copy.is_dir():
            return True
        # Two hospitals may publish to one folder: only what is ours is deleted.
        if ours is None or (copy / "results.json").read_bytes() != ours.read_bytes():
            return False
        _point_elsewhere(target, release)
        shutil.rmtree(copy)
    except OSError:
        return False
    return True


def _point_elsewhere(releases_dir: Path, release: int) -> None:
    """Make the highest of the other releases current, if this one is; none where it was the only one."""
    if current_release(releases_dir) != release:
        return
    others = [number for number in releases(releases_dir) if number != release]
    if others:
        switch(releases_dir, max(others))
    else:
        (releases_dir / CURRENT).unlink()
        flush_to_disk(releases_dir)
