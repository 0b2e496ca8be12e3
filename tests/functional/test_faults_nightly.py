"""Faults of the nightly run: what a person is told, and what the next night makes of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from connectors.errors import UnavailableError
from schedules.cli.tables.status import status_tables
from tests.functional.test_cli_commands import CONFIG, NOON, Terminal, periop

__all__ = ["periop"]  # the fixture

DAY = timedelta(days=1)


def released(terminal: Terminal) -> dict[str, Any]:
    """The results.json of the current release."""
    content: dict[str, Any] = json.loads((terminal.data / "releases" / "current" / "results.json").read_bytes())
    return content


def test_fault_75_a_site_that_is_down_is_said_with_the_day_of_its_data(periop: Terminal) -> None:
    periop("run")
    periop.now = NOON + DAY
    periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
    assert periop("run") == 3
    sentence = "rome is not up to date: the figures include its data of 1 May 2026."
    assert sentence in periop.out
    assert released(periop)["sites_missing_note"] == sentence
    assert released(periop)["provenance"]["sites"] == [
        {"site": "milan", "complete": "2026-05-02", "latest": "2026-05-02", "up_to_date": True},
        {"site": "rome", "complete": "2026-05-01", "latest": "2026-05-01", "up_to_date": False},
    ]
    assert periop.json("publish")["sites_missing_note"] == sentence


def test_fault_75_a_site_that_was_never_read_is_said_to_be_in_no_figure(periop: Terminal) -> None:
    periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
    assert periop("run") == 3
    assert released(periop)["sites_missing_note"] == "rome has never been read: no figure includes its patients."


def test_fault_75_a_site_that_is_read_in_part_is_said_with_both_days(periop: Terminal) -> None:
    periop("run")
    periop.now = NOON + DAY
    periop.pipeline.partial.add("rome")
    periop("run")
    said = "the figures include its data of 1 May 2026, and a part of those of 2 May 2026."
    assert said in str(released(periop)["sites_missing_note"])


def test_fault_75_the_days_are_those_of_the_hospital(periop: Terminal) -> None:
    periop.config.write_text(periop.config.read_text() + '[schedule]\ntimezone = "Pacific/Auckland"\n')
    periop.now = NOON + timedelta(hours=1)
    periop("run")
    assert released(periop)["provenance"]["released"] == "2026-05-02"


def test_fault_76_a_night_without_a_change_is_no_new_release(periop: Terminal) -> None:
    periop("run")
    periop.now = NOON + DAY
    periop("run")
    assert "Nothing changed: release 1 is still current." in periop.out
    assert released(periop)["provenance"]["released"] == "2026-05-01"


def test_fault_76_a_release_says_what_it_was_made_from(periop: Terminal) -> None:
    periop("run")
    found = released(periop)
    made_from = found["provenance"]
    assert (made_from["lake_sync"], made_from["released"]) == (2, "2026-05-01")
    said = " ".join(periop.out.split())  # the terminal folds the line
    assert f"Study rules {found['study_hash'][:12]} · periop version {made_from['periop']}" in said
    assert "Made on 1 May 2026 · Lake up to sync 2 · Data of milan 1 May 2026" in said


def test_fault_80_a_run_of_the_future_is_no_good_run(periop: Terminal) -> None:
    periop.now = NOON + 3650 * DAY
    periop("run")
    periop.now = NOON
    assert periop("status") == 4
    assert "The clock was wrong once: 1 runs of the future are not counted." in periop.out
    assert periop.json("status")["last_good_run"] is None
    periop("run")
    assert periop("status") == 0
    assert periop.json("status")["last_good_run"] == "2026-05-01T12:00:00+00:00"
    assert released(periop)["provenance"]["sites"][0]["complete"] == "2026-05-01"


def test_fault_83_a_site_that_never_answered_is_told_by_the_status(periop: Terminal) -> None:
    periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
    periop("run")
    assert periop("status") == 3
    assert "Not up to date: rome (last success: never)." in periop.out
    for days in range(1, 9):
        periop.now = NOON + days * DAY
        periop("run")
    assert periop("status") == 4
    assert "no sync of rome for too long" in periop.out


def test_fault_83_the_last_success_of_a_site_is_no_failed_try(periop: Terminal) -> None:
    periop("run")
    periop.now = NOON + DAY
    periop.pipeline.errors["rome"] = UnavailableError("rome gave no answer")
    periop("run")
    found = periop.json("status")
    assert (found["exit_code"], found["sites_missing"], found["stale"]) == (3, ["rome"], False)
    assert found["sites"][1]["last_success"] == "2026-05-01T12:00:00+00:00"
    periop("status")
    assert "Not up to date: rome (last success: 2026-05-01T12:00:00Z)." in periop.out


def test_fault_84_the_status_is_stale_by_the_schedule(periop: Terminal) -> None:
    periop.config.write_text(periop.config.read_text() + '[schedule]\nnightly = "30 1 * * 1"\n')  # Mondays
    periop("run")  # on a Friday
    assert periop.json("status")["stale_after"] == "2026-05-08T14:00:00+00:00"
    periop.now = NOON + 7 * DAY
    assert periop("status") == 0
    periop.now = NOON + 8 * DAY
    assert periop("status") == 4
    assert "a good run was due by 2026-05-08T14:00:00Z" in periop.out


@contextmanager
def as_reader(folder: Path) -> Iterator[None]:
    """Within it, this process may read `folder` and not write to it, also where the tests run as root."""
    root = os.geteuid() == 0
    for each in (folder, *folder.rglob("*")):
        if root:
            os.chown(each, 65534, 65534)
        each.chmod(0o500 if each.is_dir() else 0o400)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for each in (folder, *folder.rglob("*")):
            each.chmod(0o700 if each.is_dir() else 0o600)


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
def test_fault_91_the_status_is_read_where_nothing_may_be_written() -> None:
    # Not in pytest's own folder: every pytest that starts beside this one closes that to other users again.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        periop = Terminal(folder)
        periop.config.write_text(CONFIG)
        periop.config.chmod(0o644)  # whatever the umask is
        periop("run")
        assert periop("status") == 0
        before = periop.out
        with as_reader(periop.data):
            assert periop("status") == 0, periop.err
        assert periop.out == before


HOMELESS = """
import sys
import tempfile
from schedules.cli.session import Session
session = Session(sys.stdout, sys.stderr, {})
session.log()
import matplotlib.font_manager
"""


def test_fault_92_a_user_without_a_home_directory_is_not_warned() -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "XDG_CACHE_HOME")}
    environ |= {"HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS], env=environ, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr == ""


@pytest.mark.parametrize("width", [80, 200])
def test_fault_94_the_status_is_whole_on_a_terminal_of_any_width(periop: Terminal, width: int) -> None:
    periop("run")
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(status_tables(periop.json("status")))
    shown = out.getvalue()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    for text in ("2026-05-01", "quarantined"):
        assert text in "".join(shown.split()), text
