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


@contextmanager
def run_lock(data_dir: Path) -> Iterator[None]:
    """Hold the lock of `data_dir` (made if absent). Raises `LockBusyError` at once when another process has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(data_dir / LOCK, timeout=0, thread_local=False, fallback_to_soft=False)
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


def holder_pid(data_dir: Path) -> int | None:
    """Process id of the run that holds the lock of `data_dir` now; none if the lock is free or nobody says."""
    if not (data_dir / LOCK).exists():
        return None
    lock = FileLock(data_dir / LOCK, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        with lock:
            return None
    except Timeout:
        return _named_pid(data_dir)


def _named_pid(data_dir: Path) -> int | None:
    try:
        return int((data_dir / HOLDER).read_text())
    except (OSError, ValueError):
        return None


def _busy(data_dir: Path) -> str:
    pid = _named_pid(data_dir)
    who = f"process {pid}" if pid is not None else "another process"
    return f"{data_dir}: {who} is running periop here; wait until it ends, or end it, and run again"
