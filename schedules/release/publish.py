"""Write a release: all of its files or none, under the next number, with `current` switched last.

    release ledger  ──>  releases/.new-<n>/  ──rename──>  releases/<n>/  ──>  releases/current -> <n>

A kill before the rename leaves an entry in the ledger and perhaps a `.new-*` folder, which the next run removes; the
number is not used again. A kill between the rename and the switch leaves a complete release, to which the next run
switches.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.lake.files import flush_to_disk, write_atomically
from schedules.errors import PublishError

if TYPE_CHECKING:
    from analytics.disclosure.control import Released
    from mappers.study import Study
    from schedules.release.published import PublishedFigures
    from schedules.release.release_ledger import Recorder

CURRENT = "current"
DRAFT = ".new-"
IDENTITY = "results.json"

# The content of a file is made when it is needed: most runs change no number, and then only results.json is made.
Files = Mapping[str, Callable[[], bytes]]  # by file name
Artefacts = Callable[[int], Files]  # the files of a release, by its number, which they contain


@dataclass(frozen=True)
class PublishReport:
    """The current release after publishing. `unchanged`: it already was, and nothing was written."""

    release: int
    path: Path
    unchanged: bool

    @property
    def report(self) -> Path:
        """The report of the release, a web page."""
        return self.path / "report.html"


def write_release(
    released: Released,
    study: Study,
    releases_dir: Path,
    published: PublishedFigures,
    statement: str | None = None,
    *,
    recorder: Recorder | None = None,
    dry_run: bool = False,
) -> PublishReport:
    """Write results.json, results.csv and report.html of `released`. Raises `PublishError` for anything else.

    `recorder` enters it into the release ledger before. With `dry_run` write nothing, and return which release it
    would be.
    """
    from analytics.disclosure.control import Released
    from analytics.report.html import render_html
    from analytics.results import dumps, to_csv

    # The type checker proves this too; but a mistake here would send patient-level counts out of the hospital.
    if not isinstance(released, Released):
        raise PublishError("only what disclosure control released is published; call analytics.disclosure.control")

    def artefacts(number: int) -> Files:
        return {
            IDENTITY: lambda: dumps(released, number),
            "results.csv": lambda: to_csv(released).encode(),
            "report.html": lambda: render_html(
                released, study, number, published.proportions, published.other, statement=statement
            ).encode(),
        }

    return (plan_release if dry_run else store_release)(artefacts, releases_dir, recorder)


def plan_release(artefacts: Artefacts, releases_dir: Path, recorder: Recorder | None = None) -> PublishReport:
    """Return which release would be current after `store_release`, without writing anything.

    Two releases are the same if their results.json under the same number hold the same figures, whenever made.
    """
    highest = max(releases(releases_dir), default=None)
    # The highest may be newer than `current`, after a kill between the two steps.
    for number in (current_release(releases_dir), highest):
        if number is not None and _has_figures_of(releases_dir / str(number), artefacts(number)):
            return PublishReport(number, releases_dir / str(number), unchanged=True)
    # Above the highest, also of those that were withdrawn: a number is never used for two different releases.
    number = max(highest or 0, recorder.highest() if recorder else 0) + 1
    return PublishReport(number, releases_dir / str(number), unchanged=False)


def store_release(artefacts: Artefacts, releases_dir: Path, recorder: Recorder | None = None) -> PublishReport:
    """Write the files that `artefacts(n)` makes for release n, unless the current release is the same."""
    releases_dir.mkdir(parents=True, exist_ok=True)
    _remove_drafts(releases_dir)  # the caller holds the run lock, so no other process is writing one
    plan = plan_release(artefacts, releases_dir, recorder)
    if not plan.unchanged:
        files = artefacts(plan.release)
        if recorder:  # before anybody can read it: what was read and is not in the ledger would never be missed
            recorder(plan.release, files[IDENTITY]())
        _write(releases_dir, plan.release, files)
    if current_release(releases_dir) != plan.release:  # also after a kill between rename and switch
        switch(releases_dir, plan.release)
    return plan


def deliver(release: Path, target_dir: Path) -> Path:
    """Copy the release folder `release` into `target_dir` under its number, and switch `current` there to it.

    Raises `PublishError` where the target holds a different release of that number.
    """
    number, copy = int(release.name), target_dir / release.name
    if reason := unusable(target_dir):
        raise PublishError(f"{reason}; the release itself is in {release}")
    try:
        _copy(release, number, copy, target_dir)
    except OSError as error:
        # Named here: the file system may be another one than that of the data folder.
        why = error.strerror or type(error).__name__
        raise PublishError(
            f"{target_dir}: release {number} cannot be copied there ({why}); free space or correct the rights "
            f"there, and run `periop publish`; the release itself is in {release}"
        ) from error
    return copy


def unusable(target_dir: Path) -> str | None:
    """Return why no release can be copied to a target, None where nothing is seen to speak against it."""
    # The folder itself is made, those above it are not: a share that is not mounted must not become a local folder.
    if not target_dir.parent.is_dir():
        return f"{target_dir}: {target_dir.parent} is not there; make it, or mount the share, and run `periop publish`"
    place = target_dir if target_dir.exists() else target_dir.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{target_dir}: {place} cannot be written to; correct its rights and run `periop publish`"
    return None


def _copy(release: Path, number: int, copy: Path, target_dir: Path) -> None:
    target_dir.mkdir(exist_ok=True)
    _remove_drafts(target_dir)
    files = {file.name: file.read_bytes for file in sorted(release.iterdir())}
    if not copy.exists():
        _write(target_dir, number, files)
    elif not _is_same(copy, files):
        # Two hospitals that publish to one folder, or a data folder that was deleted and began at 1 again.
        raise PublishError(f"{copy}: holds a different release of that number; empty the folder or give another path")
    switch(target_dir, number)


def releases(releases_dir: Path) -> tuple[int, ...]:
    """Return the numbers of the releases in `releases_dir`, ascending."""
    if not releases_dir.is_dir():
        return ()
    return tuple(sorted(int(child.name) for child in releases_dir.iterdir() if child.name.isdecimal()))


def current_release(releases_dir: Path) -> int | None:
    """Return the number of the current release, or None where nothing is published."""
    current = releases_dir / CURRENT
    try:
        # Only the last part: a link that was made by other means may be an absolute path.
        name = current.readlink().name if current.is_symlink() else current.read_text().strip()
    except FileNotFoundError:
        return None
    if not name.isdecimal() or not (releases_dir / name).is_dir():
        raise PublishError(f"{current}: points to no release; remove it and run `periop publish` again")
    return int(name)


def has_figures_of(folder: Path, released: Released) -> bool:
    """Return whether the release in `folder` has the figures of `released`, whenever it was made."""
    from analytics.results import dumps

    return _has_figures_of(folder, {IDENTITY: lambda: dumps(released, int(folder.name))})


def _has_figures_of(folder: Path, files: Files) -> bool:
    from analytics.results import same_figures

    existing = folder / IDENTITY
    return existing.is_file() and same_figures(existing.read_bytes(), files[IDENTITY]())


def _is_same(folder: Path, files: Files) -> bool:
    # results.json alone: the report and the CSV are made from the same numbers, and the report may change its layout
    # with a version of periop, which is no reason for a new release.
    existing = folder / IDENTITY
    return existing.is_file() and existing.read_bytes() == files[IDENTITY]()


def _write(releases_dir: Path, number: int, files: Files) -> None:
    draft = releases_dir / f"{DRAFT}{number}"
    draft.mkdir()
    try:
        for name, content in files.items():
            write_atomically(draft / name, content(), private=False)
        draft.rename(releases_dir / str(number))
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    flush_to_disk(releases_dir)  # the rename itself must survive a power cut before `current` names it


def switch(releases_dir: Path, number: int) -> None:
    """Make release `number` current in one step: a symbolic link, or a file with the number without links."""
    draft, current = releases_dir / f"{DRAFT}{CURRENT}", releases_dir / CURRENT
    try:
        # A relative link, so that the folder can be moved. It is made next to its place and renamed over it, since
        # a link cannot be changed in one step.
        draft.symlink_to(str(number), target_is_directory=True)
    except (OSError, NotImplementedError):
        # Windows without the right to make links, and some network shares.
        write_atomically(current, f"{number}\n", private=False)
        return
    draft.replace(current)
    flush_to_disk(releases_dir)


def _remove_drafts(releases_dir: Path) -> None:
    for draft in releases_dir.glob(f"{DRAFT}*"):
        if draft.is_dir() and not draft.is_symlink():  # never follow a link out of the folder
            shutil.rmtree(draft)
        else:
            draft.unlink()
