"""Sync of several sites: order, failures, one commit at a time, the time limit of a run, an end that stops all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from connectors.errors import LakeError, UnavailableError
from connectors.lake.table import Lake
from connectors.report import Counts, Progress, SyncReport
from schedules.config.settings import Settings
from schedules.errors import StopRequested
from schedules.run.pipeline import Pipeline
from schedules.run.sync import attempt_sites

NAMES = ("milan", "rome", "turin")


def settings(folder: Path, **limits: Any) -> Settings:
    sites = [{"name": name, "kind": "folder", "path": folder / name} for name in NAMES]
    return Settings.model_validate({"data_dir": folder / "data", "sites": sites, "limits": limits})


class StandIn(Pipeline):
    """A pipeline whose sync does what the test says."""

    def __init__(self, act: Callable[[str, Settings, Callable[[Progress], None]], None]) -> None:
        super().__init__({})
        self.act = act

    def sync_site(
        self,
        settings: Settings,
        site: str,
        *,
        full: bool,
        progress: Callable[[Progress], None],
        accept_loss: bool = False,
    ) -> SyncReport:
        self.act(site, settings, progress)
        return SyncReport(site, "ok", Counts(received=full))


def ignore(_: Progress) -> None:
    pass


def test_sites_run_at_the_same_time_and_are_reported_in_order(tmp_path: Path) -> None:
    together = Barrier(3, timeout=10)  # broken unless all three are there at once
    pipeline = StandIn(lambda *_: (together.wait(), None)[1])
    found = attempt_sites(settings(tmp_path), NAMES, pipeline, ignore, full=True)
    received = [(report.site, report.counts.received, error) for report, error in found]
    assert received == [(name, 1, None) for name in NAMES]


def test_no_more_sites_at_a_time_than_configured(tmp_path: Path) -> None:
    running: list[str] = []
    most: list[int] = []

    def act(site: str, _: Settings, __: Callable[[Progress], None]) -> None:
        running.append(site)
        most.append(len(running))
        running.remove(site)

    attempt_sites(settings(tmp_path, sites_at_a_time=1), NAMES, StandIn(act), ignore)
    assert most == [1, 1, 1]


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    def act(site: str, _: Settings, __: Callable[[Progress], None]) -> None:
        if site == "rome":
            raise UnavailableError("gone")

    found = attempt_sites(settings(tmp_path), NAMES, StandIn(act), ignore)
    assert [report.status for report, _ in found] == ["ok", "failed", "ok"]
    assert str(found[1][1]) == "gone"


def test_a_fault_of_this_machine_stops_all_at_their_next_page(tmp_path: Path) -> None:
    stopped = Event()

    def act(site: str, _: Settings, progress: Callable[[Progress], None]) -> None:
        if site == "rome":
            raise LakeError("disk full")
        if site == "turin":
            try:
                while True:
                    progress(Progress(site, "Patient", 1, None))
            except StopRequested:
                stopped.set()
                raise

    with pytest.raises(LakeError, match="disk full"):
        attempt_sites(settings(tmp_path), NAMES, StandIn(act), ignore)
    assert stopped.is_set()


def test_a_request_to_stop_ends_the_run(tmp_path: Path) -> None:
    def stop(_: Progress) -> None:
        raise StopRequested("told to stop")

    def act(site: str, _: Settings, progress: Callable[[Progress], None]) -> None:
        progress(Progress(site, "Patient", 1, None))

    with pytest.raises(StopRequested):
        attempt_sites(settings(tmp_path), NAMES, StandIn(act), stop)


def test_the_time_of_the_run_is_shared(tmp_path: Path) -> None:
    clock, given = [0.0], []

    def act(_: str, settings: Settings, __: Callable[[Progress], None]) -> None:
        given.append(settings.limits.site_seconds)
        clock[0] += 60.0

    limits = settings(tmp_path, sites_at_a_time=1, run_seconds=100, site_seconds=80)
    found = attempt_sites(limits, NAMES, StandIn(act), ignore, elapsed=lambda: clock[0])
    assert given == [80.0, 40.0]
    assert [report.status for report, _ in found] == ["ok", "ok", "failed"]
    assert "run_seconds" in found[2][0].messages[0]


def test_all_sites_commit_to_one_lake(tmp_path: Path) -> None:
    """The real pipeline: three folders at once, each its rows and its cursor, one commit after the other."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        lines = (json.dumps({"resourceType": "Patient", "id": f"{name}-{n}"}) for n in range(700))
        (tmp_path / name / "Patient.ndjson").write_text("\n".join(lines) + "\n")
    told: list[Progress] = []
    found = attempt_sites(settings(tmp_path), NAMES, Pipeline({}), told.append)
    assert [report.counts.stored for report, _ in found] == [700, 700, 700]
    lake = Lake(tmp_path / "data" / "lake")
    assert sorted(report.sync_number for report, _ in found) == [1, 2, 3]
    assert [(file.site, file.rows) for file in lake.files()] == [(name, 700) for name in NAMES]
    for name in NAMES:
        assert [each.received for each in told if each.site == name] == [500, 700]
