"""The audit log: who looked up which variables of which patient, and when. It holds no values and no ids."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from schedules.config.credentials import private_folder

AUDIT_LOG = "explain.log"


def record_use(data_dir: Path, when: datetime, user: str, patient: str, variable: str | None) -> None:
    """Append one use of `periop explain` to the audit log, which only its owner can read.

    `patient` is USUBJID; no `variable` means all. Raises OSError where it cannot be written: then nothing is shown.
    """
    private_folder(data_dir)
    entry = {"when": when.isoformat(timespec="seconds"), "user": user, "patient": patient, "variable": variable}
    # One write of one line: of two processes that append at once, neither cuts through the line of the other.
    line = (json.dumps(entry) + "\n").encode()
    descriptor = os.open(data_dir / AUDIT_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
