"""One run at a time: a lock on a file in the data directory that the system frees when its holder dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from schedules.errors import LockBusyError

LOCK = "periop.lock"
HOLDER = "periop.lock.pid"
WAIT_SECONDS = 1.0  # outlasts the moment in which `is_held` of another process tries the lock


@contextmanager
def run_lock(data_dir: Path) -> Iterator[None]:
    """Hold the lock of `data_dir` (made if absent). Raises `LockBusyError` when another process has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = _lock(data_dir, wait=WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise LockBusyError(_busy(data_dir)) from None
    holder = data_dir / HOLDER
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def is_held(data_dir: Path) -> bool:
    """Whether a run holds the lock of `data_dir` now."""
    if not (data_dir / LOCK).exists():
        return False
    try:
        with _lock(data_dir, wait=0):
            return False
    except Timeout:
        return True


def holder_pid(data_dir: Path) -> int | None:
    """Process id of the run that took the lock last, if it left one; says nothing about whether it still
    runs."""
    try:
        return int((data_dir / HOLDER).read_text())
    except (OSError, ValueError):
        return None


def _lock(data_dir: Path, wait: float) -> FileLock:
    return FileLock(data_dir / LOCK, timeout=wait, thread_local=False, fallback_to_soft=False)


def _busy(data_dir: Path) -> str:
    pid = holder_pid(data_dir)
    who = f"process {pid}" if pid is not None else "another process"
    return f"{data_dir}: {who} is running periop here; wait until it ends, or end it, and run again"
