"""Real servers for the tests of this folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

START = Path(__file__).parents[2] / "fixtures" / "hapi" / "start.sh"
OIDC = Path(__file__).parents[2] / "fixtures" / "oidc"
MEDPLUM = Path(__file__).parents[2] / "fixtures" / "medplum"


def missing(reason: str) -> None:
    """Skip with the reason, or fail where every real component is required."""
    if os.environ.get("PERIOP_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and PERIOP_REQUIRE_ALL=1 requires it")
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def one_at_a_time(folder: Path, what: str) -> FileLock:
    """Held while `what` is built; `folder` is one of pytest's. Processes that share the tests share its grandparent."""
    return FileLock(folder.parents[1] / f"{what}.lock")


@contextmanager
def running_hapi(run: Path, **settings: str) -> Iterator[str]:
    """The base URL of a real HAPI FHIR R4 server, empty at first; `settings` are those of start.sh."""
    built = (START.parent / "target" / "lib").is_dir()
    for tool in ("java",) if built else ("java", "mvn"):
        if shutil.which(tool) is None:
            missing(f"the real HAPI FHIR server needs {tool}")
    port = free_port()
    environment = {**os.environ, "RUN": str(run), "PORT": str(port), **settings}
    with one_at_a_time(run, "hapi"), (run / "start.log").open("wb") as log:
        started = subprocess.run([START], env=environment, stdout=log, stderr=log, timeout=900, check=False)
    try:
        assert started.returncode == 0, f"{START} failed:\n{(run / 'start.log').read_text()[-2000:]}"
        yield f"http://127.0.0.1:{port}/fhir"
    finally:
        if (run / "hapi.pid").exists():
            os.kill(int((run / "hapi.pid").read_text()), signal.SIGTERM)


@pytest.fixture(scope="session")
def hapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the real HAPI FHIR R4 server of this session, empty at first."""
    with running_hapi(tmp_path_factory.mktemp("hapi")) as base:
        yield base


@dataclass(frozen=True)
class TokenServer:
    """A real token server that listens at `url`, and what it says, a line an event."""

    url: str
    said: Iterator[str]

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/token"

    def event(self) -> dict[str, Any]:
        """The next token or refusal that it tells of; waits for it."""
        told: dict[str, Any] = json.loads(next(self.said))
        return told


def lines_of(file: Path, process: subprocess.Popen[bytes], patience: float = 60) -> Iterator[str]:
    """The lines that `process` writes into `file`, waited for; a process that ends or says nothing is a failure."""
    with file.open(encoding="utf-8") as log:
        line, end = "", time.monotonic() + patience
        while True:
            line += log.readline()
            if line.endswith("\n"):
                yield line
                line, end = "", time.monotonic() + patience
                continue
            assert process.poll() is None, f"{file.stem} ended with {process.returncode}"
            assert time.monotonic() < end, f"{file.stem} said nothing for {patience:.0f} s"
            time.sleep(0.01)


def stopped(process: subprocess.Popen[bytes]) -> None:
    """End a process that this test started, whatever it does."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def install(folder: Path, library: str, pytests: Path) -> None:
    """Install the libraries of a Node server from its lock file, where they are not there yet.

    pytests: a folder of pytest, beside which processes find the lock that they share.
    """
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            missing(f"the real server of fixtures/{folder.name} needs {tool}")
    with one_at_a_time(pytests, folder.name):
        if not (folder / "node_modules" / library).is_dir():
            npm = subprocess.run(["npm", "ci"], cwd=folder, timeout=300, capture_output=True, text=True, check=False)
            if npm.returncode:
                missing(f"npm could not install fixtures/{folder.name}: {npm.stderr[-500:]}")


@pytest.fixture(scope="session")
def oidc_installed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The libraries of the token server."""
    install(OIDC, "oidc-provider", tmp_path_factory.mktemp("oidc"))


@contextmanager
def node_server(folder: Path, settings: Path, log: Path) -> Iterator[Iterator[str]]:
    """Run `server.mjs` of a folder until the end of the block; give the lines that it says after READY."""
    with log.open("wb") as out, ExitStack() as stack:
        process = subprocess.Popen(["node", "server.mjs", str(settings)], cwd=folder, stdout=out)
        stack.callback(stopped, process)
        said = lines_of(log, process)
        assert next(said) == "READY\n"
        yield said


@pytest.fixture(scope="session")
def medplum(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Starts Medplum's FHIR router once for each settings, and returns its base URL; see its server.mjs."""
    folder = tmp_path_factory.mktemp("medplum")
    install(MEDPLUM, "@medplum/fhir-router", folder)
    with ExitStack() as stack:

        @cache
        def start(*, next: bool = True) -> str:  # noqa: A002 - the name of the setting
            port = free_port()
            file = folder / f"medplum-{port}.json"
            file.write_text(json.dumps({"port": port, "next": next}))
            stack.enter_context(node_server(MEDPLUM, file, folder / f"medplum-{port}.log"))
            return f"http://127.0.0.1:{port}/fhir/R4"

        yield start


@pytest.fixture
def token_server(oidc_installed: None, tmp_path: Path) -> Iterator[Callable[..., TokenServer]]:
    """Starts a real token server for `clients` ({client_id, alg, jwks}); see fixtures/oidc/server.mjs."""
    with ExitStack() as stack:

        def start(clients: Sequence[dict[str, Any]], **settings: Any) -> TokenServer:
            port, file = free_port(), tmp_path / "token-server.json"
            defaults = {"port": port, "fhir": "https://fhir.example.org", "ttl": 300, "scopes": "system/*.rs"}
            file.write_text(json.dumps({**defaults, "clients": clients, **settings}))
            said = stack.enter_context(node_server(OIDC, file, tmp_path / f"token-server-{port}.log"))
            return TokenServer(f"http://127.0.0.1:{port}", said)

        yield start
