"""Errors and logs: which exit code, what is shown, and that no message that may quote a record is."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
from pathlib import Path

import pytest

from analytics.errors import AnalysisError, NotReleasedError
from connectors.errors import AccountingError, AuthenticationError, LakeError, SourceConfigError
from mappers.errors import ViewError
from schedules.cli.logs import configure, traceback_without_messages, write_crash_file
from schedules.errors import (
    AuthenticationFailed,
    ConfigError,
    ExitCode,
    LedgerError,
    LockBusyError,
    NoSiteError,
    PublishError,
    StopRequested,
    exit_code,
    is_user_facing,
    user_message,
)

CANARY = "Canary-Patient-4711"


@pytest.mark.parametrize(
    ("error", "code", "for_people"),
    [
        (ConfigError("x"), 2, True),
        (SourceConfigError("x"), 2, True),
        (AuthenticationFailed("x"), 6, True),
        (AuthenticationError("x"), 6, True),
        (LockBusyError("x"), 75, True),
        (LedgerError("x"), 1, True),
        (NoSiteError("x"), 1, True),
        (PublishError("x"), 1, True),
        (LakeError("x"), 1, True),
        (ViewError("select[0]", "x"), 1, True),
        (AnalysisError("adsl", None, "x", "y"), 1, True),
        (OSError(errno.ENOSPC, "No space left on device"), 1, True),
        (OSError("Generic error: No space left on device (os error 28)"), 1, True),
        (PermissionError(errno.EACCES, "Permission denied", "lake"), 1, True),
        (KeyboardInterrupt(), 130, False),
        (StopRequested(), 130, False),
        (AccountingError("x"), 1, False),
        (NotReleasedError("x"), 1, False),
        (ValueError("x"), 1, False),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 1, False),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int, for_people: bool) -> None:
    assert exit_code(error) == code
    assert is_user_facing(error) is for_people


def test_the_exit_codes_are_the_contract() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "ERROR": 1,
        "CONFIG": 2,
        "PARTIAL": 3,
        "STALE": 4,
        "SUPPRESSED": 5,
        "AUTHENTICATION": 6,
        "UPDATED": 7,
        "LOCKED": 75,
        "INTERRUPTED": 130,
    }


def test_a_refused_file_is_named() -> None:
    told = user_message(PermissionError(errno.EACCES, "Permission denied", "data/lake"))
    assert told == "data/lake: Permission denied; check its owner and its permissions"


@pytest.fixture
def stream() -> io.StringIO:
    """Where the logs go."""
    return io.StringIO()


def failing() -> BaseException:
    try:
        try:
            int(CANARY)
        except ValueError as error:
            raise RuntimeError(f"while reading {CANARY}") from error
    except RuntimeError as error:
        return error
    raise AssertionError


def test_a_traceback_shows_where_and_what_kind_but_no_message() -> None:
    text = traceback_without_messages(failing())
    assert "test_schedules_logs.py" in text
    assert text.index("builtins.ValueError") < text.index("builtins.RuntimeError")
    assert CANARY not in text


def test_no_log_at_any_verbosity_holds_a_message_of_a_bug_or_an_address(stream: io.StringIO) -> None:
    configure(stream, logging.DEBUG)
    try:
        raise failing()
    except RuntimeError:
        logging.getLogger("schedules.service").exception("the night failed")
    logging.getLogger("httpx").info("HTTP Request: GET http://h/Condition?subject=Patient/%s", CANARY)
    logging.getLogger("httpcore").warning("%s", CANARY)
    logging.getLogger("schedules.service").debug("a line\nand a forged one\x1b[31m")
    text = stream.getvalue()
    assert "the night failed" in text
    assert "RuntimeError" in text
    assert CANARY not in text
    assert "\x1b" not in text
    assert "\nand a forged one" not in text


def test_lines_are_in_utc(stream: io.StringIO) -> None:
    configure(stream, logging.INFO)
    record = logging.LogRecord("schedules", logging.INFO, "", 0, "hello", (), None)
    record.created = 0
    logging.getLogger().handlers[0].handle(record)
    assert stream.getvalue() == "1970-01-01T00:00:00Z INFO schedules: hello\n"


def test_the_whole_traceback_is_kept_beside_the_records(tmp_path: Path) -> None:
    file = write_crash_file(failing(), tmp_path)
    assert file is not None
    assert CANARY in file.read_text(encoding="utf-8")
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert write_crash_file(failing(), tmp_path / "nowhere") is None
