"""One invocation of `periop`: its streams, clock and environment, what it prints, and how its errors end.

Everything that belongs to the process and that a test replaces is here; nothing else in `schedules` reads the
environment, and only `schedules.clock` the clock.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from schedules.clock import utc_now

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mappers.study import Study
    from schedules.config.settings import Settings
    from schedules.run.nightly import ProgressReporter
    from schedules.run.pipeline import Pipeline


def system_user() -> str:
    """Return the name of the user of this process, as the system knows it: no environment variable can change it."""
    try:
        import pwd
    except ImportError:  # Windows has no such database
        import getpass

        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without a name, as in containers
        return f"uid {os.getuid()}"


@dataclass
class Session:
    """The invocation. `given_pipeline` is what tests run instead of the real stages.

    `data_dir` is where records of patients may be written, once the settings are known. `usual_umask` is that of the
    process before periop made its own files private, None where it did not: copies of releases are for others.
    """

    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    now: Callable[[], datetime] = utc_now
    elapsed: Callable[[], float] = time.monotonic  # for intervals, which a jump of the wall clock must not change
    given_pipeline: Pipeline | None = None
    user: Callable[[], str] = system_user
    sleep: Callable[[float], None] = time.sleep
    config: Path = field(default=Path("periop.toml"), init=False)
    verbose: int = field(default=0, init=False)  # how often -v was given
    data_dir: Path | None = field(default=None, init=False)
    usual_umask: int | None = field(default=None, init=False)

    @classmethod
    def of_process(cls) -> Session:
        """Return the session of this process."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a console of another encoding shows ? instead of failing
        return cls(sys.stdout, sys.stderr, os.environ)

    def log(self, level: int = logging.WARNING) -> None:
        """Send log records from `level` on to stderr, all of them with -v, those of headers with -vv only."""
        from schedules.cli.logs import configure

        configure(self.stderr, logging.DEBUG if self.verbose else level, headers=self.verbose > 1)

    def settings(self, level: int = logging.WARNING) -> Settings:
        """Begin to log, and return the settings of --config."""
        from schedules.config.credentials import close_to_others
        from schedules.config.settings import load_settings

        self.log(level)
        settings = load_settings(self.config)
        close_to_others(settings.data_dir)  # it may have been made, or opened, by somebody else
        self.data_dir = settings.data_dir  # from here on an unexpected error may leave its traceback there
        return settings

    def study(self, name_or_path: str) -> Study:
        """Return a study by its name or path."""
        from schedules.config.settings import load_study

        return load_study(name_or_path)

    def pipeline(self, statement: str | None = None) -> Pipeline:
        """Return the stages of a run; `statement` replaces the report's sentence about disclosure control."""
        if self.given_pipeline is not None:
            return self.given_pipeline
        from schedules.run.pipeline import Pipeline

        return Pipeline(self.environ, statement, self.usual_umask, self.now)

    def progress(self) -> AbstractContextManager[ProgressReporter]:
        """Show progress on stderr."""
        from schedules.cli.progress import progress_on, timed

        if self.verbose:
            return timed(progress_on(self.stderr, self.elapsed), self.elapsed)
        return progress_on(self.stderr, self.elapsed)

    def print_out(self, *parts: RenderableType) -> None:
        """Print texts as they are, and tables, on stdout."""
        for part in parts:
            # A text is not folded as the cells of a table are: a path or an address must be there in one piece.
            if isinstance(part, str):
                self.write_out(f"{part}\n")
            else:
                from schedules.cli.tables.base import print_table

                self._to_stdout(partial(print_table, part, self.stdout))

    def print_json(self, content: object) -> None:
        """Print `content` as one JSON document on stdout."""
        # No `default=`: what is not plain data is a mistake, and not to be printed as its repr.
        self.write_out(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_out(self, text: str) -> None:
        """Write `text` to stdout without a line end."""
        self._to_stdout(lambda: self.stdout.write(text))

    def print_err(self, text: str) -> None:
        """Print a sentence on stderr."""
        self.stderr.write(f"{text}\n")

    def report_error(self, error: BaseException) -> int:
        """Print the error that ended the command on stderr, and return the exit code.

        A user-facing error is printed as its message, a bug as a traceback without messages.
        """
        from schedules.errors import exit_code, is_user_facing, user_message

        # A StopRequested is one too, but the service handles it before it gets here.
        if isinstance(error, KeyboardInterrupt):
            self.print_err("periop: interrupted; completed work is kept, run again to continue")
        elif is_user_facing(error):
            for line in user_message(error).splitlines():
                self.print_err(f"periop: {line}")
        else:
            from schedules.cli.logs import traceback_without_messages, write_crash_file

            self.print_err(traceback_without_messages(error))
            crash_file = write_crash_file(error, self.data_dir) if self.data_dir is not None else None
            self.print_err("periop: this is a bug in periop, please report it with the lines above")
            if crash_file:
                message = f"the messages are in {crash_file}, which may hold patient data: do not send it"
                self.print_err(f"periop: {message}")
            elif self.data_dir is None:  # nothing of a patient has been read yet
                self.print_err(f"periop: {error}")
        return int(exit_code(error))

    def flush(self) -> None:
        """Flush stdout."""
        self._to_stdout(self.stdout.flush)

    def _to_stdout(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except BrokenPipeError:
            # The reader has gone away (`| head`), which is no error. As the documentation of `signal` advises: the
            # file descriptor becomes that of the null device, or Python would complain while it flushes at exit.
            with suppress(OSError), Path(os.devnull).open("wb") as null:
                os.dup2(null.fileno(), self.stdout.fileno())
            self.stdout = io.StringIO()


pass_session = click.make_pass_decorator(Session)
as_json = click.option("--json", "json_wanted", is_flag=True, help="Print the result as JSON.")
resource_file = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)
