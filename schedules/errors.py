"""What a person can put right, told in one sentence, and the exit code of each kind.

PeriopError                 1    what happened, where, and what to do
├── ConfigError             2    periop.toml, a study file or a secret is wrong or missing
├── AuthenticationFailed    6    every site that was asked refused the credentials
├── LockBusyError          75    another run holds the data directory
├── LedgerError             1    runs.sqlite cannot be read; says how to repair it
├── NoSiteError             1    no site could be synchronised, so nothing newer can be released
├── NothingYetError         1    what a command reads has not been made yet; says which command makes it
└── PublishError            1    a release cannot be written or delivered

StopRequested             130    a KeyboardInterrupt: the service was told to stop and stops at the next
safe point

Errors of `connectors`, `mappers` and `analytics` keep their own trees. Whatever is in none of them is a
bug: it is shown with its traceback, and its message goes to a file in the data directory only, since it
may quote a record.
"""

from __future__ import annotations

import errno
from enum import IntEnum

DISK_FULL = "No space left on device"
_ENVIRONMENT_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.EMFILE,
}


class Exit(IntEnum):
    """The exit codes of `periop`, a contract with those who call it from scripts and monitors."""

    OK = 0
    ERROR = 1
    CONFIG = 2
    PARTIAL = 3
    STALE = 4
    WITHHELD = 5
    AUTHENTICATION = 6
    LOCKED = 75
    INTERRUPTED = 130


class PeriopError(Exception):
    """Root of the errors of `schedules`: a sentence that says what, where and what to do."""


class ConfigError(PeriopError):
    """One or more sentences, a line each, every one naming the file, the key and what is allowed."""


class AuthenticationFailed(PeriopError):  # noqa: N818 - reads as the outcome that it is
    """No site accepted the credentials."""


class LockBusyError(PeriopError):
    """Another process holds the lock of the data directory."""


class LedgerError(PeriopError):
    """The run ledger cannot be used."""


class NoSiteError(PeriopError):
    """Not one site could be synchronised."""


class NothingYetError(PeriopError):
    """The lake or the cohort tables that a command reads have not been made yet."""


class PublishError(PeriopError):
    """A release cannot be written or delivered."""


class StopRequested(KeyboardInterrupt):
    """Raised at a safe point of a run after the service was told to stop; no `except Exception` holds it
    up."""


def exit_code(error: BaseException) -> Exit:
    """The exit code that `error` ends the program with."""
    from connectors.errors import AuthenticationError, SourceConfigError

    match error:
        case ConfigError() | SourceConfigError():
            return Exit.CONFIG
        case AuthenticationFailed() | AuthenticationError():
            return Exit.AUTHENTICATION
        case LockBusyError():
            return Exit.LOCKED
        case KeyboardInterrupt():
            return Exit.INTERRUPTED
        case _:
            return Exit.ERROR


def is_for_people(error: BaseException) -> bool:
    """Whether the message of `error` was written to be read by its user (else it is a bug)."""
    return isinstance(error, PeriopError) or _is_of_a_lower_room(error) or _is_of_the_machine(error)


def sentence(error: BaseException) -> str:
    """The message of an error for people; a full disk and a refused file in words."""
    if not _is_of_the_machine(error):
        return str(error)
    if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT} or DISK_FULL in str(error):
        return "the disk is full: free space in the data directory and run again; what was complete is kept"
    reason = getattr(error, "strerror", None) or type(error).__name__
    return f"{getattr(error, 'filename', None) or 'a file'}: {reason}; check its owner and its permissions"


def _is_of_a_lower_room(error: BaseException) -> bool:
    """Each lower room writes its errors for people; two of them tell of a fault of the program instead."""
    from analytics.errors import NotReleasedError
    from connectors.errors import AccountingError

    rooms = {"connectors", "mappers", "analytics"}
    ours = any(kind.__module__.partition(".")[0] in rooms for kind in type(error).__mro__)
    return ours and not isinstance(error, NotReleasedError | AccountingError)


def _is_of_the_machine(error: BaseException) -> bool:
    if not isinstance(error, OSError):
        return False
    return error.errno in _ENVIRONMENT_ERRNOS or DISK_FULL in str(error)
