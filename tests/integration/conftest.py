"""Real servers for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

START = Path(__file__).parents[2] / "fixtures" / "hapi" / "start.sh"


def missing(reason: str) -> None:
    """Skip with the reason, or fail where every real component is required."""
    if os.environ.get("PERIOP_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and PERIOP_REQUIRE_ALL=1 requires it")
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def hapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the real HAPI FHIR R4 server of this session, empty at first."""
    built = (START.parent / "target" / "lib").is_dir()
    for tool in ("java",) if built else ("java", "mvn"):
        if shutil.which(tool) is None:
            missing(f"the real HAPI FHIR server needs {tool}")
    run, port = tmp_path_factory.mktemp("hapi"), free_port()
    environment = {**os.environ, "RUN": str(run), "PORT": str(port)}
    with (run / "start.log").open("wb") as log:
        started = subprocess.run([START], env=environment, stdout=log, stderr=log, timeout=900, check=False)
    try:
        assert started.returncode == 0, f"{START} failed:\n{(run / 'start.log').read_text()[-2000:]}"
        yield f"http://127.0.0.1:{port}/fhir"
    finally:
        if (run / "hapi.pid").exists():
            os.kill(int((run / "hapi.pid").read_text()), signal.SIGTERM)
