"""Filing a release: whole or not at all, the number, what a kill leaves, and what stays as it is."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from schedules.config.credentials import private_folder
from schedules.errors import ExitCode, PublishError, exit_code, is_user_facing, user_message
from schedules.release.publish import (
    Artefacts,
    PublishReport,
    current_release,
    deliver,
    plan_release,
    releases,
    store_release,
    write_release,
)


def saying(text: str) -> Artefacts:
    """Artefacts whose results.json holds the number and `text`."""

    def results(number: int) -> Callable[[], bytes]:
        return lambda: f"{number} {text}".encode()

    return lambda number: {"results.json": results(number), "report.html": lambda: text.encode()}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_first_release_is_1_and_current(tmp_path: Path) -> None:
    report = store_release(saying("a"), tmp_path / "releases")
    assert report == PublishReport(1, tmp_path / "releases" / "1", unchanged=False)
    assert contents(report.path) == {"results.json": b"1 a", "report.html": b"a"}
    assert current_release(tmp_path / "releases") == 1
    assert contents(tmp_path / "releases" / "current") == contents(report.path)


def test_the_same_results_write_nothing_new(tmp_path: Path) -> None:
    store_release(saying("a"), tmp_path)
    assert store_release(saying("a"), tmp_path) == PublishReport(1, tmp_path / "1", unchanged=True)
    assert releases(tmp_path) == (1,)


def test_other_results_are_the_next_release_and_older_ones_stay(tmp_path: Path) -> None:
    for text in ("a", "b", "a"):
        store_release(saying(text), tmp_path)
    assert releases(tmp_path) == (1, 2, 3)
    assert current_release(tmp_path) == 3
    assert contents(tmp_path / "1")["results.json"] == b"1 a"


def test_the_next_number_follows_the_highest(tmp_path: Path) -> None:
    (tmp_path / "9").mkdir()
    assert store_release(saying("a"), tmp_path).release == 10


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert plan_release(saying("a"), tmp_path / "releases") == PublishReport(
        1, tmp_path / "releases" / "1", unchanged=False
    )
    assert not (tmp_path / "releases").exists()


def test_a_kill_before_the_rename_leaves_no_half_release(tmp_path: Path) -> None:
    store_release(saying("a"), tmp_path)
    half = tmp_path / ".new-2"
    half.mkdir()
    (half / "results.json").write_bytes(b"2 b")
    assert current_release(tmp_path) == 1
    assert store_release(saying("b"), tmp_path).release == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1", "2", "current"]


def test_a_kill_before_the_switch_ends_as_an_undisturbed_run(tmp_path: Path) -> None:
    store_release(saying("a"), tmp_path)
    store_release(saying("b"), tmp_path)
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("1")
    assert store_release(saying("b"), tmp_path) == PublishReport(2, tmp_path / "2", unchanged=True)
    assert current_release(tmp_path) == 2
    assert releases(tmp_path) == (1, 2)


def test_a_kill_of_the_very_first_before_the_switch(tmp_path: Path) -> None:
    store_release(saying("a"), tmp_path)
    (tmp_path / "current").unlink()
    store_release(saying("a"), tmp_path)
    assert (releases(tmp_path), current_release(tmp_path)) == ((1,), 1)


def test_current_may_be_a_file(tmp_path: Path) -> None:
    store_release(saying("a"), tmp_path)
    (tmp_path / "current").unlink()
    (tmp_path / "current").write_text("1\n")
    assert store_release(saying("a"), tmp_path).unchanged
    assert store_release(saying("b"), tmp_path).release == 2
    assert current_release(tmp_path) == 2


def test_a_current_that_points_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("../../etc")
    with pytest.raises(PublishError, match="points to no release; remove it"):
        store_release(saying("a"), tmp_path)


def test_a_full_disk_leaves_the_last_release_and_no_draft(tmp_path: Path) -> None:
    store_release(saying("a"), tmp_path)

    def no_space() -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        store_release(lambda number: {"results.json": lambda: b"b", "report.html": no_space}, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["1", "current"]
    assert is_user_facing(caught.value)
    assert exit_code(caught.value) == ExitCode.ERROR
    assert user_message(caught.value).startswith("the disk is full: free space")


def test_only_released_results_are_published(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="disclosure"):
        write_release("numbers", None, tmp_path, None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_target_receives_the_release(tmp_path: Path) -> None:
    report = store_release(saying("a"), tmp_path / "releases")
    for _ in range(2):
        copy = deliver(report.path, tmp_path / "share")
        assert contents(copy) == contents(report.path)
    assert current_release(tmp_path / "share") == 1


@pytest.mark.skipif(os.name != "posix", reason="file permissions are those of POSIX")
def test_a_target_has_the_usual_modes_though_the_data_folder_is_private(tmp_path: Path) -> None:
    private_folder(tmp_path / "data")
    report = store_release(saying("a"), tmp_path / "data" / "releases")
    copy = deliver(report.path, tmp_path / "share")
    (usual := tmp_path / "usual").mkdir()
    (usual / "file").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "share", copy)}
    assert modes == {stat.S_IMODE(usual.stat().st_mode)}
    assert {file.stat().st_mode for file in copy.iterdir()} == {(usual / "file").stat().st_mode}


def test_the_releases_folder_itself_as_a_target_changes_nothing(tmp_path: Path) -> None:
    report = store_release(saying("a"), tmp_path)
    assert deliver(report.path, tmp_path) == report.path
    assert (releases(tmp_path), current_release(tmp_path)) == ((1,), 1)


def test_a_target_in_use_for_another_hospital_is_refused(tmp_path: Path) -> None:
    ours = store_release(saying("a"), tmp_path / "ours")
    store_release(saying("b"), tmp_path / "share")
    with pytest.raises(PublishError, match="a different release of that number"):
        deliver(ours.path, tmp_path / "share")
    assert contents(tmp_path / "share" / "1")["results.json"] == b"1 b"


def test_fault_90_a_share_that_is_not_mounted_is_named_and_not_made(tmp_path: Path) -> None:
    ours = store_release(saying("a"), tmp_path / "releases")
    with pytest.raises(PublishError, match=r"no/such/share: .*/no/such is not there; make it, or mount the share"):
        deliver(ours.path, tmp_path / "no" / "such" / "share")
    assert not (tmp_path / "no").exists()


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are of POSIX")
def test_fault_90_a_share_that_takes_no_more_is_named(tmp_path: Path) -> None:
    import resource

    ours = store_release(saying("a"), tmp_path / "releases")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # the file can be made, and not written to, as on a full disk
    try:
        with pytest.raises(PublishError) as caught:
            deliver(ours.path, tmp_path / "share")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    share = tmp_path / "share"
    assert str(caught.value).startswith(f"{share}: release 1 cannot be copied there (File too large); free space")
    assert [each for each in share.iterdir() if not each.name.startswith(".")] == []
