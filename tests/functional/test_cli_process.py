"""`periop` as a process: its start, its streams, its signals. Nothing here needs the mapping or the
analysis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedules.run.ledger import read_ledger
from schedules.run.lock import run_lock

CONFIG = '[[sites]]\nname = "milan"\nkind = "folder"\npath = "fhir"\n'
posix_only = pytest.mark.skipif(os.name != "posix", reason="signals and pipes are those of POSIX")


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "schedules.cli", "--config", str(folder / "periop.toml"), *arguments]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    (tmp_path / "periop.toml").write_text(CONFIG)
    (tmp_path / "fhir").mkdir()
    (tmp_path / "fhir" / "Patient.ndjson").write_text('{"resourceType": "Patient", "id": "a"}\n')
    return tmp_path


def test_help_lists_every_command_and_exit_code() -> None:
    done = subprocess.run([sys.executable, "-m", "schedules.cli", "--help"], capture_output=True, text=True, check=True)
    for word in (
        "demo",
        "init",
        "sync",
        "map",
        "analyze",
        "publish",
        "run",
        "serve",
        "status",
        "75 another run",
    ):
        assert word in done.stdout
    assert done.stderr == ""


def test_help_imports_nothing_heavy() -> None:
    heavy = ["apscheduler", "duckdb", "httpx", "ibis", "matplotlib", "pandas", "pyarrow", "pydantic", "rich", "scipy"]
    program = (
        "import sys; from schedules.cli.main import main; code = main(['--help']); "
        f"sys.exit(','.join(sorted({set(heavy)} & set(sys.modules))) or code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_view_imports_no_statistics(tmp_path: Path) -> None:
    (tmp_path / "p.ndjson").write_text('{"resourceType": "Patient", "id": "a"}\n')
    view = Path(__file__).parents[2] / "mappers" / "views" / "patient.json"
    program = (
        "import sys; from schedules.cli.main import main; "
        f"code = main(['view', 'run', {str(view)!r}, {str(tmp_path / 'p.ndjson')!r}]); "
        "sys.exit(','.join(sorted({'apscheduler', 'lifelines', 'matplotlib', 'scipy'} & set(sys.modules))) or code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_installed_command_is_the_same_program() -> None:
    script = Path(sys.executable).with_name("periop")
    if not script.exists():
        pytest.skip("periop is not installed beside this Python")
    installed = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    module = subprocess.run(
        [sys.executable, "-m", "schedules.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert installed.stdout == module.stdout


def test_no_command_is_usage() -> None:
    done = subprocess.run([sys.executable, "-m", "schedules.cli"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_no_configuration_is_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("periop: ")
    assert "run `periop init`" in done.stderr
    assert "Traceback" not in done.stderr


def test_sync_and_status_of_a_folder(hospital: Path) -> None:
    done = run(hospital, "sync")
    assert done.returncode == 0, done.stderr
    assert "milan" in done.stdout
    again = run(hospital, "sync", "--json")
    assert '"identical": 1' in again.stdout
    status = run(hospital, "status")
    assert status.returncode == 4
    assert "Patient 1" in status.stdout


def test_no_canary_of_a_resource_reaches_a_stream_at_any_verbosity(hospital: Path) -> None:
    canary = "Canary4711"
    lines = [
        f'{{"resourceType": "Patient", "id": "{canary}", "name": [{{"family": "{canary}"}}]}}',
        f'{{"resourceType": "Patient", "id": "{canary}", "name": "{canary}',
        f'{{"resourceType": "{canary}", "id": "a"}}',
        f"{canary}",
    ]
    (hospital / "fhir" / "Observation.ndjson").write_text("\n".join(lines))
    streams = ""
    for arguments in (
        ["--verbose", "sync"],
        ["--verbose", "sync", "--json"],
        ["-v", "status"],
        ["status", "--json"],
    ):
        done = run(hospital, *arguments)
        assert done.returncode in {0, 3, 4}, done.stderr
        streams += done.stdout + done.stderr
    assert "quarantined" in streams
    assert canary not in streams
    assert canary.encode() not in (hospital / "periop-data" / "runs.sqlite").read_bytes()


def test_a_second_process_is_refused(hospital: Path) -> None:
    with run_lock(hospital / "periop-data"):
        done = run(hospital, "sync")
    assert done.returncode == 75
    assert f"process {os.getpid()} is running periop here" in done.stderr


def test_a_folder_that_is_not_there(hospital: Path) -> None:
    (hospital / "fhir" / "Patient.ndjson").unlink()
    (hospital / "fhir").rmdir()
    done = run(hospital, "sync")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "milan" in done.stderr


@posix_only
def test_a_closed_pipe_is_no_error(hospital: Path) -> None:
    run(hospital, "sync")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command(hospital, "sync", "--json"), stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@posix_only
def test_an_ascii_terminal_gets_readable_text(hospital: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        command(hospital, "sync"), capture_output=True, env=environment, encoding="ascii", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "milan" in done.stdout


@pytest.fixture
def service(hospital: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command(hospital, "serve"), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "serving" in process.stderr.readline()
    yield process
    process.kill()
    process.communicate()


@posix_only
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_service_stops_when_it_is_told_to(
    service: subprocess.Popen[str], hospital: Path, number: int, code: int
) -> None:
    service.send_signal(number)
    out, _ = service.communicate(timeout=10)
    assert (service.returncode, out) == (code, "")
    with read_ledger(hospital / "periop-data" / "runs.sqlite") as ledger:
        assert ledger is not None
        assert [(run.kind, run.status) for run in ledger.last()] == [("serve", "ok")]


@posix_only
def test_the_service_does_not_hold_the_lock_between_runs(service: subprocess.Popen[str], hospital: Path) -> None:
    assert run(hospital, "sync").returncode == 0
