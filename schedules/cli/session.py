"""One invocation of `periop`: its streams, its clock, its environment, and how its errors end.

All that the process has and a test replaces is here: nothing else in `schedules` reads a clock or the
environment.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mappers.study import Study
    from schedules.config.settings import Settings
    from schedules.run.nightly import Watch
    from schedules.run.stages import Stages


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass
class Session:
    """`stages`: what to run instead of `schedules.run.pipeline`. `data_dir`: where records may be, once it
    is known."""

    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    now: Callable[[], datetime] = utc_now
    elapsed: Callable[[], float] = time.monotonic
    given_stages: Stages | None = None
    config: Path = field(default=Path("periop.toml"), init=False)
    verbose: bool = field(default=False, init=False)
    data_dir: Path | None = field(default=None, init=False)

    @classmethod
    def of_the_process(cls) -> Session:
        """Streams and environment of this process; a character that a stream cannot show is replaced."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        return cls(sys.stdout, sys.stderr, os.environ)

    def begin(self, config: Path, verbose: bool) -> None:
        """Take the global options."""
        self.config, self.verbose = config, verbose

    def log(self, level: int) -> None:
        """Send logs from `level` on (everything with --verbose) to stderr."""
        import logging

        from schedules.cli.logs import configure

        configure(self.stderr, logging.DEBUG if self.verbose else level)

    def stages(self, statement: str | None = None) -> Stages:
        """The stages of a night; `statement` is what the report says of disclosure in place of the usual
        words."""
        if self.given_stages is not None:
            return self.given_stages
        from schedules.run.pipeline import Pipeline

        return Pipeline(self.environ, statement)

    def settings(self) -> Settings:
        """The settings of --config."""
        from schedules.config.settings import load_settings

        settings = load_settings(self.config)
        self.data_dir = settings.data_dir
        return settings

    def study(self, name_or_path: str) -> Study:
        """A study by its name or path."""
        from schedules.config.settings import load_study

        return load_study(name_or_path)

    def watch(self) -> AbstractContextManager[Watch]:
        """Progress on stderr."""
        from schedules.cli.progress import watching

        return watching(self.stderr, self.elapsed)

    def show(self, renderable: RenderableType) -> None:
        """Print a table or a text on stdout."""
        from schedules.cli.terminal import console

        self.printed(lambda: console(self.stdout).print(renderable))

    def show_json(self, content: object) -> None:
        """Print `content` as one JSON document on stdout."""
        text = json.dumps(content, indent=2, ensure_ascii=False, default=_plain)
        self.printed(lambda: self.stdout.write(f"{text}\n"))

    def say(self, text: str) -> None:
        """Print a sentence on stderr."""
        self.stderr.write(f"{text}\n")

    def report(self, error: BaseException) -> int:
        """Say what ended the run on stderr, and return its exit code: a sentence, or for a bug a
        traceback."""
        from schedules.errors import exit_code, is_for_people, sentence

        if isinstance(error, KeyboardInterrupt):
            self.say("periop: interrupted; what was complete is kept, run again to go on")
        elif is_for_people(error):
            for line in sentence(error).splitlines():
                self.say(f"periop: {line}")
        else:
            self._report_bug(error)
        return int(exit_code(error))

    def end(self, code: int) -> int:
        """Flush what was printed; a reader that went away changes nothing of the exit code."""
        self.printed(self.stdout.flush)
        return code

    def _report_bug(self, error: BaseException) -> None:
        from schedules.cli.logs import keep_whole_traceback, where_it_failed

        self.say(where_it_failed(error))
        kept = keep_whole_traceback(error, self.data_dir) if self.data_dir is not None else None
        self.say("periop: this is a fault of periop, please report it with the lines above")
        if kept:
            self.say(f"periop: with messages it is in {kept}, which may hold patient data: do not send it")
        elif self.data_dir is None:
            self.say(f"periop: {error}")

    def printed(self, write: Callable[[], Any]) -> None:
        """Write to stdout; a reader that has gone away (`| head`) is no error."""
        try:
            write()
        except BrokenPipeError:
            # As the documentation of `signal` has it: what is still in buffers at the end goes nowhere.
            with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stdout.fileno())
            self.stdout = io.StringIO()


def _plain(value: object) -> Any:
    from collections.abc import Mapping as AnyMapping
    from dataclasses import asdict, is_dataclass

    if isinstance(value, Path):
        return str(value)
    if isinstance(value, AnyMapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
