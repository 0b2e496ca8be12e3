"""Releases that follow each other: when one leaves the house, and what is said while it waits."""

from __future__ import annotations

import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from mappers.study import study_path
from tests.functional.test_cli_commands import CONFIG, Terminal, periop, proportion

__all__ = ["periop"]

ALNEO = study_path("alneo")
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


def test_a_kill_before_a_release_is_made_current_is_made_up_for(periop: Terminal) -> None:
    protected(periop, "release_on = [2026-05-02]")
    periop("run")
    respond(periop, 20)
    periop.now += timedelta(days=1)
    periop("run")
    link = periop.data / "releases" / "current"
    link.unlink()
    link.symlink_to("1")
    assert periop("run") == 0
    assert link.readlink() == Path("2")
    assert released(periop) == ["1", "2"]


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


def test_fault_132_a_fall_is_no_alarm_while_no_release_is_due(periop: Terminal) -> None:
    protected(periop, "release_on = [2026-06-01]")
    respond(periop, 15, 33)
    periop("run")
    respond(periop, 10, 20)
    assert periop("run") == 0
    assert "No release is due" in periop.out
    periop.now += timedelta(days=31)
    assert periop("run") == 1  # now it would be published
    assert "more than 20 % of the enrolled patients are gone" in periop.err


def test_fault_132_a_withdrawn_release_is_no_measure_of_a_fall(periop: Terminal) -> None:
    for n in (33, 66):  # twice as many by a mistake
        respond(periop, 15, n)
        periop("run")
    periop("withdraw", "2")
    respond(periop, 15, 34)
    assert periop("run") == 0
    assert released(periop) == ["1", "3"]


def test_no_release_before_the_data_cutoff_has_come(periop: Terminal) -> None:
    study = Path(ALNEO).read_text().replace("data_cut = 2024-12-01", "data_cut = 2026-06-01")
    (periop.folder / "late.toml").write_text(study.replace('published = "alneo_published.csv"\n', ""))
    protected(periop)
    periop.config.write_text('study = "late.toml"\n' + periop.config.read_text())
    periop.pipeline.data_cutoff = "2026-06-01"
    assert periop("run") == 0
    assert "No release is due: the next declared date is 2026-06-01.\nNo release is current." in periop.out
    assert periop("publish", "--now") == 0  # an early one, by a person
    periop.now += timedelta(days=31)
    respond(periop, 21)
    assert periop("run") == 0
    assert released(periop) == ["1", "2"]


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


def test_fault_133_a_dry_run_lists_what_is_withheld_and_why_and_publishes_nothing(periop: Terminal) -> None:
    protected(periop, 'mode = "every"')
    respond(periop, 15)
    periop("run")
    before = sorted(file.name for file in periop.data.rglob("*"))
    periop.pipeline.proportions = [proportion("response.mpr", 16, 33), proportion("response.pcr", 3, 33)]
    assert periop("publish", "--dry-run") == 5
    assert "Internal: not for release" in periop.out
    assert ["3/33", "withheld", "x:", "1", "to", "4", "patients"] in [
        line.split()[-7:] for line in periop.out.splitlines()
    ]
    assert "since release 1 figures have moved" in periop.out
    found = periop.json("publish", "--dry-run")
    assert found["notice"] == "Internal: not for release"
    assert found["withheld_cells"] == [
        {
            "section": "proportions",
            "id": "response.pcr",
            "label": "Label of response.pcr",
            "internal": "3/33",
            "effect": "withheld",
            "why": "x: 1 to 4 patients",
        }
    ]
    assert [(move["id"], move["statistic"], move["before"], move["after"]) for move in found["moved"]] == [
        ("response.mpr", "x", 15, 16),
        ("response.mpr", "rest", 18, 17),
    ]
    assert sorted(file.name for file in periop.data.rglob("*")) == before
    periop.config.write_text(CONFIG)
    assert periop("publish", "--dry-run") == 0
    assert "This would be release 2" in periop.out
    assert "Nothing is withheld or coarsened." in periop.out


def test_diff_of_two_releases_and_of_a_file(periop: Terminal) -> None:
    for x in (15, 17):
        respond(periop, x)
        periop("run")
    assert periop("diff", "1", "2") == 0
    (row,) = [line.split() for line in periop.out.splitlines() if " x " in line]
    assert row[-4:] == ["x", "15", "17", "+2"]
    found = periop.json("diff", "1", str(periop.data / "releases" / "2" / "results.json"))
    assert found["context"] == {}
    assert found["figures"] == [
        {
            "section": "proportions",
            "id": "response.mpr",
            "label": "Label of response.mpr",
            "statistic": statistic,
            "a": a,
            "b": b,
            "change": change,
        }
        for statistic, a, b, change in (("x", 15, 17, 2), ("percent", 45.4545, 51.5152, 6.0607))
    ]
    assert periop("diff", "2", str(periop.data / "releases" / "2")) == 0
    assert periop.out == "No figure differs.\n"
    assert periop("diff", "2", "9") == 1
    assert "holds no release 9" in periop.err
    assert periop("diff", str(periop.config), "2") == 1
    assert "is no JSON" in periop.err


def test_fault_134_a_withdrawn_release_is_gone_remembered_and_not_made_again(periop: Terminal) -> None:
    share = periop.folder / "share"
    periop.config.write_text(f'{CONFIG}[[publish]]\nkind = "folder"\npath = "share"\n')
    for x in (15, 17):
        respond(periop, x)
        periop("run")
    for number in (1, 2):  # the stand-in delivers nothing
        (share / str(number)).mkdir(parents=True)
        content = (periop.data / "releases" / str(number) / "results.json").read_bytes()
        (share / str(number) / "results.json").write_bytes(content)
    (share / "current").symlink_to("2")
    assert periop("withdraw", "2") == 0
    assert "Release 2 is withdrawn, and release 1 is current." in periop.out
    for folder in (periop.data / "releases", share):
        assert sorted(file.name for file in folder.iterdir()) == ["1", "current"]
        assert (folder / "current").readlink() == Path("1")
    assert (periop.data / "withdrawn" / "2" / "results.json").exists()
    assert periop("run") == 0
    assert "The figures are those of release 2, which was withdrawn" in periop.out
    assert released(periop) == ["1"]
    assert periop.json("diff", "1", "2")["figures"][0]["change"] == 2  # by the ledger
    respond(periop, 18)
    assert periop("run") == 0
    assert released(periop) == ["1", "3"]


def test_fault_134_a_withdrawn_release_still_counts_for_those_that_follow(periop: Terminal) -> None:
    protected(periop, 'mode = "every"')
    respond(periop, 15)
    periop("run")
    assert periop.json("withdraw", "1") == {"withdrawn": 1, "current": None, "left": [], "exit_code": 0}
    respond(periop, 16)
    assert periop("run") == 5
    assert "No release is current." in periop.out
    assert periop("withdraw", "1") == 0  # once more changes nothing
    assert periop("withdraw", "2") == 1


def test_another_release_in_a_target_is_left_and_named(periop: Terminal) -> None:
    periop.config.write_text(f'{CONFIG}[[publish]]\nkind = "folder"\npath = "share"\n')
    periop("run")
    (periop.folder / "share" / "1").mkdir(parents=True)
    (periop.folder / "share" / "1" / "results.json").write_text("{}")
    assert periop("withdraw", "1") == 1
    assert "release 1 could not be deleted there, or it is another one" in periop.err
    assert (periop.folder / "share" / "1").exists()
    assert released(periop) == []
