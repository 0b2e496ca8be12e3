"""Releases that follow each other: when one leaves the house, and what is said while it waits."""

from __future__ import annotations

import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from tests.functional.test_cli_commands import CONFIG, Terminal, periop, proportion

__all__ = ["periop"]

PROTECTED = CONFIG.replace("min_cell = 0", "min_cell = 5")


def protected(periop: Terminal, release: str = "") -> Terminal:
    """Set k = 5 and `[release]`."""
    periop.config.write_text(f"{PROTECTED}[release]\n{release}\n")
    return periop


def respond(periop: Terminal, x: int, n: int = 33) -> None:
    """Let x of n respond from now on."""
    periop.pipeline.proportions = [proportion("response.mpr", x, n)]


def released(periop: Terminal) -> list[str]:
    return sorted(file.name for file in (periop.data / "releases").iterdir() if file.name.isdecimal())


def test_fault_130_one_patient_between_two_nights_is_not_released(periop: Terminal) -> None:
    protected(periop, 'mode = "every"')
    respond(periop, 15)
    assert periop("run") == 0
    respond(periop, 16)
    assert periop("run") == 5
    assert "since release 1 figures have moved by fewer than 5 patients" in periop.out
    assert "Release 1 is still current." in periop.out
    assert released(periop) == ["1"]
    assert periop.json("status")["release_waits"].startswith("Disclosure control: since release 1")
    assert periop("status") == 0  # a monitor is not alarmed by a release that waits
    assert "figures have moved by fewer than 5" in periop.out
    respond(periop, 20)
    assert periop("run") == 0
    assert released(periop) == ["1", "2"]
    assert periop.json("status")["release_waits"] is None


def test_fault_130_all_past_releases_count_and_not_only_the_last(periop: Terminal) -> None:
    protected(periop, 'mode = "every"')
    for x, code in ((10, 0), (15, 0), (11, 5), (20, 0), (14, 5)):
        respond(periop, x)
        assert periop("run") == code, x
    # 14 is 6 from 20, 1 from 15 and 4 from 10.
    assert "since releases 1, 2 figures have moved" in periop.out
    assert released(periop) == ["1", "2", "3"]


def test_without_protection_every_night_publishes(periop: Terminal) -> None:
    for number, x in enumerate((15, 16, 17), 1):
        respond(periop, x)
        assert periop("run") == 0
        assert released(periop)[-1] == str(number)
    assert len(list((periop.data / "release-ledger").iterdir())) == 3


def test_by_default_a_release_leaves_at_the_data_cutoff_and_then_at_declared_dates(periop: Terminal) -> None:
    protected(periop, "release_on = [2026-05-20]")
    assert periop("run") == 0  # the cutoff, 2024-12-01, has passed, and nothing was released for it
    respond(periop, 20)
    periop.now += timedelta(days=1)
    assert periop("run") == 0
    assert (
        "No release is due: release 1 is that of the data cutoff 2024-12-01 and the next declared date is 2026-05-20."
    ) in periop.out
    assert released(periop) == ["1"]
    found = periop.json("publish")
    assert (found["release"], found["unchanged"], found["waiting"][:22]) == (1, True, "No release is due: rel")
    periop.now += timedelta(days=20)  # the day itself had no run
    assert periop("run") == 0
    assert released(periop) == ["1", "2"]
    respond(periop, 28)
    assert periop("run") == 0
    assert "release.release_on declares no further date" in periop.out
    assert periop("publish", "--now") == 0
    assert released(periop) == ["1", "2", "3"]


def test_fault_130_a_declared_date_protects_as_every_night_does(periop: Terminal) -> None:
    protected(periop, "release_on = [2026-05-02]")
    periop("run")
    respond(periop, 16)
    periop.now += timedelta(days=1)
    assert periop("run") == 5
    assert periop("publish", "--now") == 5
    assert released(periop) == ["1"]


def test_a_kill_between_ledger_and_folder_is_made_up_for(periop: Terminal) -> None:
    protected(periop)
    periop("run")
    for file in sorted((periop.data / "releases").rglob("*"), reverse=True):
        file.unlink() if file.is_file() or file.is_symlink() else file.rmdir()
    assert periop("run") == 0
    assert released(periop) == ["2"]  # the number 1 may have been seen


def test_releases_of_an_earlier_version_count(periop: Terminal) -> None:
    protected(periop, 'mode = "every"')
    respond(periop, 15)
    periop("run")
    for file in (periop.data / "release-ledger").iterdir():
        file.unlink()
    respond(periop, 16)
    assert periop("run") == 5


def test_fault_132_a_fall_of_the_enrolled_stops_publication_until_it_is_accepted(periop: Terminal) -> None:
    respond(periop, 15, 33)
    periop("run")
    respond(periop, 14, 27)
    assert periop("run") == 0  # 6 of 33 are 18 %
    respond(periop, 12, 21)
    assert periop("run") == 1  # 6 of 27 are 22 %
    assert "since release 2 more than 20 % of the enrolled patients are gone" in periop.err
    assert "periop publish --accept-fall" in periop.err
    assert (periop.data / "internal" / "report.html").exists()
    assert released(periop) == ["1", "2"]
    assert periop("publish", "--accept-fall") == 0
    assert released(periop) == ["1", "2", "3"]


def test_fault_132_the_share_is_set_in_the_configuration(periop: Terminal) -> None:
    respond(periop, 15, 33)
    periop.config.write_text(f"{CONFIG}[release]\nmax_fall = 0.5\n")
    periop("run")
    respond(periop, 12, 21)
    assert periop("run") == 0


@pytest.mark.skipif(os.name != "posix", reason="file permissions are those of POSIX")
def test_the_internal_report_has_everything_and_is_for_the_owner_only(periop: Terminal) -> None:
    protected(periop)
    respond(periop, 3)
    assert periop("run") == 0
    folder = periop.data / "internal"
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {
        "report.html": 0o600,
        "results.json": 0o600,
    }
    internal, public = (json.loads((each / "results.json").read_bytes()) for each in (folder, current(periop)))
    assert internal["notice"] == "Internal: not for release"
    assert (internal["proportions"][0]["x"], public["proportions"][0]["x"]) == (3, None)
    page = (folder / "report.html").read_text()
    # The head and each section, the title and each printed page.
    assert page.count("Internal: not for release") == page.count("<section") + 3
    respond(periop, 4)
    periop("publish")
    assert json.loads((folder / "results.json").read_bytes())["proportions"][0]["x"] == 4


def current(periop: Terminal) -> Path:
    return periop.data / "releases" / "current"
