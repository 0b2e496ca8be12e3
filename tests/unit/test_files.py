"""Atomic file writes: the old content or the new one, private where asked for, never over another's file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from connectors.lake.files import AtomicFile, flush_to_disk, remove_unfinished, write_atomically

KILLED = """
import os, signal, sys
from pathlib import Path
from connectors.lake.files import AtomicFile
file = AtomicFile(Path(sys.argv[1]))
file.stream.write(b"new, in part")
file.stream.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("content", [b"n\xc3\xa9w", "n\u00e9w"])
def test_new_content_replaces_old_content(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(path, content)
    assert path.read_bytes() == b"n\xc3\xa9w"
    assert names(tmp_path) == ["file"]


def test_a_private_file_is_readable_by_its_owner_only_from_the_first_byte_on(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    with AtomicFile(path) as stream:
        assert [mode(each) for each in tmp_path.iterdir() if each != path] == [0o600]
        stream.write(b"new")
    assert mode(path) == 0o600


def test_the_umask_decides_about_other_files(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "file", b"", private=False)
    assert mode(tmp_path / "file") == mode(tmp_path / "usual")


def test_an_exception_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with AtomicFile(path) as stream:
            stream.write(b"new, in part")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_discard_leaves_the_old_content_and_does_nothing_after_commit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    file = AtomicFile(path)
    file.stream.write(b"new")
    file.discard()
    assert (names(tmp_path), path.read_bytes()) == (["file"], b"old")
    file = AtomicFile(path)
    file.stream.write(b"new")
    file.commit()
    file.discard()
    assert (names(tmp_path), path.read_bytes()) == (["file"], b"new")


def test_a_kill_leaves_the_old_content_and_the_next_writer_tidies_up(tmp_path: Path) -> None:
    path = tmp_path / "file[1].json"
    path.write_bytes(b"old")
    (tmp_path / ".file[1].json.swp").touch()  # of somebody else
    ran = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert ran.returncode == -9
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 3
    write_atomically(path, b"new")
    remove_unfinished(path)
    assert names(tmp_path) == [".file[1].json.swp", "file[1].json"]
    assert path.read_bytes() == b"new"


def test_an_exclusive_file_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        write_atomically(path, b"second", exclusive=True)
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_of_several_exclusive_writers_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(content: int) -> bool:
        try:
            write_atomically(path, str(content), exclusive=True)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(32)))
    assert won.count(True) == 1
    assert path.read_text() == str(won.index(True))
    assert names(tmp_path) == ["file"]


def test_content_is_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    seen: list[tuple[bool, str]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        seen.append((path.exists(), "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(path, b"new")
    assert seen == [(False, "file"), (True, "directory")]


def test_a_missing_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"")
    with pytest.raises(FileNotFoundError):
        flush_to_disk(tmp_path / "missing")
