"""Errors of `schedules`, each a sentence for its reader, and the exit code that each ends the program with.

PeriopError                 1    what happened, where, and what to do
├── ConfigError             2    periop.toml, a study file or a secret is wrong or missing
├── AuthenticationFailed    6    every site refused the credentials
├── LockBusyError          75    another run holds the data directory
├── LedgerError             1    runs.sqlite cannot be read; says how to repair it
├── ReleasePatientsError    1    the patients behind a past release are not known any more
├── NoSiteError             1    no site could be synchronised, so there is nothing new to release
├── NothingYetError         1    the input of a command does not exist yet; says which command makes it
├── NoticeError             1    a message about a run cannot be handed over
└── PublishError            1    a release cannot be written or delivered

StopRequested             130    the service was told to stop, and the run stops at its next safe point

`connectors`, `mappers` and `analytics` have error trees of their own. An error outside all of these trees is a
bug: it is shown with its traceback, and its message goes only to a file in the data directory, because it may
quote a patient's record.
"""

from __future__ import annotations

import errno
from enum import IntEnum

# deltalake and DuckDB report a full disk as an OSError without `errno`, so its text is compared too.
DISK_FULL = "No space left on device"
_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
# Faults of the machine that its administrator can fix. Any other OSError is more likely a bug of ours.
_MACHINE_ERRNOS = {*_DISK_FULL_ERRNOS, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE}


class ExitCode(IntEnum):
    """The exit codes of `periop`: a contract with the scripts and monitors that call it."""

    OK = 0
    ERROR = 1
    CONFIG = 2
    PARTIAL = 3
    STALE = 4
    SUPPRESSED = 5
    AUTHENTICATION = 6
    UPDATED = 7  # `serve` only: to be started again as the new version
    LOCKED = 75
    INTERRUPTED = 130


class PeriopError(Exception):
    """Root of the errors of `schedules`. The message tells the user what happened, where, and what to do."""


class ConfigError(PeriopError):
    """A wrong or missing setting. The message has one line per fault: the file, the key and what is allowed."""


class AuthenticationFailed(PeriopError):  # noqa: N818 - reads as the outcome that it is
    """No site accepted the credentials."""


class LockBusyError(PeriopError):
    """Another process holds the lock of the data directory."""


class LedgerError(PeriopError):
    """The run ledger cannot be used."""


class ReleasePatientsError(PeriopError):
    """The file of the patients behind a past release is lost or damaged."""


class NoSiteError(PeriopError):
    """Not one site could be synchronised."""


class NothingYetError(PeriopError):
    """The lake or the cohort tables that a command reads have not been made yet."""


class NoticeError(PeriopError):
    """A mail server or a webhook did not take a message."""


class PublishError(PeriopError):
    """A release cannot be written or delivered."""


# A KeyboardInterrupt, so that no `except Exception` on the way up can swallow the request to stop.
class StopRequested(KeyboardInterrupt):
    """The service was told to stop; raised at a safe point of the run."""


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code that `error` ends the program with."""
    from connectors.errors import AuthenticationError, SourceConfigError
    from mappers.errors import TerminologyError

    match error:
        case ConfigError() | SourceConfigError() | TerminologyError():
            return ExitCode.CONFIG
        case AuthenticationFailed() | AuthenticationError():
            return ExitCode.AUTHENTICATION
        case LockBusyError():
            return ExitCode.LOCKED
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.ERROR


def is_user_facing(error: BaseException) -> bool:
    """Return True if the message of `error` is written for the user, False if `error` is a bug.

    Errors of the lower packages are user-facing too, except the two that signal a bug of periop itself.
    """
    from analytics.errors import NotReleasedError
    from connectors.errors import AccountingError

    if isinstance(error, NotReleasedError | AccountingError):
        return False
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    of_ours = isinstance(error, PeriopError) or not packages.isdisjoint({"connectors", "mappers", "analytics"})
    return of_ours or _is_machine_fault(error)


def user_message(error: BaseException) -> str:
    """Return the message of a user-facing error, with a full disk and a refused file put into words."""
    if not _is_machine_fault(error):
        return str(error)
    if getattr(error, "errno", None) in _DISK_FULL_ERRNOS or DISK_FULL in str(error):
        return "the disk is full: free space in the data directory and run again; completed work is kept"
    reason = getattr(error, "strerror", None) or type(error).__name__
    return f"{getattr(error, 'filename', None) or 'a file'}: {reason}; check its owner and its permissions"


def _is_machine_fault(error: BaseException) -> bool:
    return isinstance(error, OSError) and (error.errno in _MACHINE_ERRNOS or DISK_FULL in str(error))
