"""One run at a time: a lock on a file in the data directory, which the system releases when its holder dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from schedules.errors import LockBusyError

LOCK = "periop.lock"
HOLDER = "periop.lock.pid"  # not in the lock file itself: Windows lets nobody else read a locked file
WAIT_SECONDS = 1.0  # `is_held` of another process takes the lock for a moment, which must not refuse a run


@contextmanager
def run_lock(data_dir: Path) -> Iterator[None]:
    """Hold the lock of `data_dir` (made if absent). Raises `LockBusyError` when another process has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = _lock(data_dir, wait=WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        pid = holder_pid(data_dir)
        who = f"process {pid}" if pid is not None else "another process"
        raise LockBusyError(
            f"{data_dir}: {who} is running periop here; wait until it ends, or end it, and run again"
        ) from None
    holder = data_dir / HOLDER
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        # Before the release: afterwards the file may already be that of the next holder.
        holder.unlink(missing_ok=True)
        lock.release()


def is_held(data_dir: Path) -> bool:
    """Return True if a run holds the lock of `data_dir` now."""
    if not (data_dir / LOCK).exists():
        return False
    # Taken and released at once: the operating system tells of no holder otherwise.
    try:
        with _lock(data_dir, wait=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that can only be read, in which nobody can be running
        return False


def holder_pid(data_dir: Path) -> int | None:
    """Return the process id of the last holder of the lock, if it left one. It may have died since."""
    try:
        return int((data_dir / HOLDER).read_text())
    except (OSError, ValueError):
        return None


def _lock(data_dir: Path, wait: float) -> FileLock:
    # thread_local=False: the lock belongs to the process, whichever of its threads releases it.
    # fallback_to_soft=False: a soft lock is a mere file, which would outlive a holder that was killed.
    return FileLock(data_dir / LOCK, timeout=wait, thread_local=False, fallback_to_soft=False)
