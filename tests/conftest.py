"""How the tests run: their order, which of them share a process, where they are skipped, when a failure is printed, and
what no test leaves to the next. Held by tests/architecture/test_runs.py.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings

# Here and not in the fixture: to import it takes a second of the first test's time, and a test may have little.
from schedules.run import pipeline

if TYPE_CHECKING:
    from tests.engines import Engines

# The files that run first, because they take longest. Those of one line stay together in one process: the first line
# shares one Spark, the second one HAPI server. The name of a file may be cut where several share its beginning.
FIRST = (
    ("spec/", "integration/test_spark", "functional/test_cli_view_spark", "generative/test_mappers_engines",
     "unit/test_mappers_fhirpath_functions", "unit/test_mappers_spark", "unit/test_mappers_wrong_types",
     "functional/test_faults_views"),
    ("integration/test_hapi_sandbox", "integration/test_hapi"),
    ("generative/test_mappers_build_mapping",),
    ("functional/test_kill",),
)  # fmt: skip

# `make test` draws the same examples every time: from the name of the test, and from no database of earlier failures.
# `make fuzz` draws at random (profile "fuzz"); what it finds becomes an `@example` beside the test.
# No deadline: how long an example takes depends on what else the machine does. No explain phase: to explain a failure
# takes hundreds of further examples, which is hours where one runs the whole pipeline.
settings.register_profile(
    "periop",
    settings(),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.register_profile("fuzz", settings.get_profile("periop"), derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("PERIOP_HYPOTHESIS", "periop"))


COMPILED = "PERIOP_TESTS_COMPILED"  # names the folder of compiled SQL that all processes share (tests/compiled.py)
HL7_SUITE = "PERIOP_SQL_ON_FHIR_TESTS"  # names the folder of HL7's test cases, which are not ours to commit


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave HL7's test cases out where they are not; they are no skip, since nothing of this repository is missing."""
    return True if collection_path.name == "test_hl7_suite.py" and not os.environ.get(HL7_SUITE) else None


def pytest_report_header() -> str:
    folder = os.environ.get(HL7_SUITE)
    missing = f"not run; docs/developer.md says where to get them, and {HL7_SUITE} names their folder"
    return f"HL7's cases of SQL on FHIR: {folder or missing}"


def place(nodeid: str) -> tuple[int, int, str]:
    """Return the place of a test in the order: its line of FIRST, its place there, and its file."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    for line, names in enumerate(FIRST):
        for nth, name in enumerate(names):
            if file.startswith(name):
                return line, nth, file
    return len(FIRST), 0, file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, so that several processes end at about the same time."""
    items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out files, or the files of a line of FIRST, in the order of the tests."""
    from xdist.scheduler import LoadFileScheduling

    class LoadTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            line, _, file = place(nodeid)
            return file if line == len(FIRST) else str(line)

    config.option.loadscopereorder = False
    return LoadTogether(config, log)


class AtOnce:
    """Prints a failure when it happens, not at the end alone: a run may be stopped before."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.terminal.ensure_newline()
            self.terminal.write_line(f"{report.nodeid} failed in its {report.when}:\n{report.longreprtext}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist: its controller has done what follows
        return
    if terminal:
        config.pluginmanager.register(AtOnce(terminal))
    os.environ[COMPILED] = tempfile.mkdtemp(prefix="periop-tests-")
    config.add_cleanup(lambda: shutil.rmtree(os.environ[COMPILED]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped something where every real component is required (CI, PERIOP_REQUIRE_ALL=1)."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", ())) if reporter else 0
    if os.environ.get("PERIOP_REQUIRE_ALL") == "1" and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command sets up for its process (handlers, levels) after the test that ran it."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {logger: logger.level for logger in loggers()}
    yield
    root.handlers[:] = handlers
    for logger in loggers():
        logger.setLevel(levels.get(logger, logging.NOTSET))


@pytest.fixture(autouse=True)
def umask_as_before() -> Iterator[None]:
    """Undo the umask that a command sets for its process: files of later tests would be closed to other users."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(autouse=True, scope="session")
def one_thread_a_map() -> Iterator[None]:
    """Map with one thread of DuckDB in the process of the tests, which share the cores: more only wait for each other.

    Commands that a test starts as a process, and engines that it opens itself, have as many threads as they like.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "MAX_THREADS", 1)
        yield


def loggers() -> list[logging.Logger]:
    """Return every logger of this process."""
    root = logging.getLogger()
    return [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """Return engines that share one Spark."""
    from tests.engines import Engines

    engines = Engines()
    yield engines
    engines.stop()
