"""Faults 64 to 66: a token that is renewed during a sync, secrets that others can read, a data folder that others can
enter."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.lake.table import Lake
from schedules.cli.main import main
from schedules.cli.session import Session
from tests.smart_servers import FhirServer, cohort, served

posix_only = pytest.mark.skipif(os.name != "posix", reason="file permissions are those of POSIX")
PATIENTS = 4


class Hospital:
    """A folder with `periop.toml`, and what the last command said."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.out = self.err = ""

    def configure(self, site: str) -> None:
        self.folder.joinpath("periop.toml").write_text(f'data_dir = "data"\n[[sites]]\nname = "milan"\n{site}\n')

    def __call__(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        code = main(["--config", str(self.folder / "periop.toml"), *arguments], Session(out, err, {}))
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    def secret(self, content: str, mode: int = 0o600) -> Path:
        file = self.folder / "secret"
        file.write_text(content)
        file.chmod(mode)
        return file


@pytest.fixture
def periop(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


@pytest.fixture
def folder_site(periop: Hospital) -> Hospital:
    (periop.folder / "fhir").mkdir()
    (periop.folder / "fhir" / "a.ndjson").write_text('{"resourceType": "Patient", "id": "a"}\n')
    periop.configure('kind = "folder"\npath = "fhir"')
    return periop


# --- 64: a token file that another program renews ---


def test_fault_64_a_token_file_is_read_again_after_a_401(periop: Hospital) -> None:
    """After three requests the server takes only the token that is then in the file."""
    accepted = ["first"]

    def accepts(token: str) -> bool:
        if len(server.requests) == 4:
            accepted[0] = "second"
            periop.secret("second\n")
        return token == accepted[0]

    with served(FhirServer(cohort(PATIENTS), accepts)) as server:
        periop.secret("first\n")
        periop.configure(f'kind = "search"\nurl = "{server.url}"\nauth = {{ kind = "bearer", token_file = "secret" }}')
        assert periop("sync") == 0, periop.err
    assert set(Lake(periop.data / "lake").patients("milan")) == {f"p{n}" for n in range(PATIENTS)}
    bearers = [each.bearer for each in server.requests if each.path != "/metadata"]
    assert (set(bearers), bearers[-1]) == ({"first", "second"}, "second")


def test_fault_64_the_same_token_is_not_tried_again(periop: Hospital) -> None:
    with served(FhirServer(cohort(1), lambda _: False)) as server:
        periop.secret("first\n")
        periop.configure(f'kind = "search"\nurl = "{server.url}"\nauth = {{ kind = "bearer", token_file = "secret" }}')
        assert periop("sync") == 6
    assert len([each for each in server.requests if each.bearer == "first" and each.path == "/Condition"]) == 1


def test_fault_64_a_token_file_that_went_away_is_named(periop: Hospital) -> None:
    with served(FhirServer(cohort(1), lambda _: bool(file.unlink(missing_ok=True)))) as server:
        file = periop.secret("first\n")
        periop.configure(f'kind = "search"\nurl = "{server.url}"\nauth = {{ kind = "bearer", token_file = "secret" }}')
        assert periop("sync") == 6
    assert f"{file}: the secret cannot be read (No such file or directory); check path and permissions" in periop.err


# --- 65: secrets that others can read ---


@posix_only
@pytest.mark.parametrize(("mode", "who"), [(0o604, "every user of this machine"), (0o640, "other users of its group")])
@pytest.mark.parametrize(
    "auth", ['kind = "bearer", token_file = "secret"', 'kind = "basic", username = "u", password_file = "secret"']
)
def test_fault_65_a_secret_that_others_can_read_is_refused(periop: Hospital, auth: str, mode: int, who: str) -> None:
    with served(FhirServer(cohort(1), lambda _: True)) as server:
        file = periop.secret("s3cret\n", mode)
        periop.configure(f'kind = "search"\nurl = "{server.url}"\nauth = {{ {auth} }}')
        assert periop("sync") == 2
    assert f"{file}: {who} can read the secret; run `chmod 600` on it" in periop.err
    assert server.requests == []
    assert "s3cret" not in periop.err


# --- 66: a data folder that others can enter ---


@posix_only
@pytest.mark.parametrize("command", ["sync", "status"])
def test_fault_66_a_data_folder_of_ours_is_closed_to_others(folder_site: Hospital, command: str) -> None:
    folder_site.data.mkdir()
    folder_site.data.chmod(0o755)
    folder_site(command)
    assert stat.S_IMODE(folder_site.data.stat().st_mode) == 0o700


@posix_only
def test_fault_66_a_data_folder_of_somebody_else_is_refused(folder_site: Hospital) -> None:
    """`/` belongs to root, and others can enter it. Where the tests run as root, a folder of nobody is taken."""
    foreign = Path("/")
    if os.getuid() == 0:
        foreign = folder_site.data
        foreign.mkdir()
        foreign.chmod(0o755)
        os.chown(foreign, 65534, 65534)
    text = (folder_site.folder / "periop.toml").read_text()
    (folder_site.folder / "periop.toml").write_text(text.replace('"data"', f'"{foreign}"'))
    assert folder_site("sync") == 2
    assert f"{foreign}: other users of this machine can enter this folder" in folder_site.err
    assert "run `chmod 700` on it as its owner" in folder_site.err
    assert stat.S_IMODE(foreign.stat().st_mode) == 0o755


@posix_only
def test_fault_66_what_is_written_is_for_its_owner_alone_and_a_copy_of_a_release_for_others(
    folder_site: Hospital,
) -> None:
    with (folder_site.folder / "periop.toml").open("a") as file:
        file.write('[[publish]]\nkind = "folder"\npath = "share"\n[disclosure]\nmin_cell = 0\n')
    done = subprocess.run(
        [sys.executable, "-m", "schedules.cli", "run"],
        cwd=folder_site.folder,
        capture_output=True,
        text=True,
        umask=0o022,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modes = {stat.S_IMODE(each.lstat().st_mode) for each in folder_site.data.rglob("*") if not each.is_symlink()}
    assert modes == {0o600, 0o700}
    copies = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (folder_site.folder / "share" / "1").iterdir()}
    assert set(copies.values()) == {0o644}
    assert stat.S_IMODE((folder_site.folder / "share").stat().st_mode) == 0o755
