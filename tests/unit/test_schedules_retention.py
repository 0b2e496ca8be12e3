"""Patient data that grow are deleted by age, as `[retention]` says, and nothing that is still asked for."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import SpoolError
from connectors.fhir.resource import Reason, Rejected
from connectors.lake.quarantine import Quarantine
from schedules.config.settings import Retention, Settings
from schedules.config.site_settings import FolderSite
from schedules.errors import ExitCode
from schedules.release.publish import switch
from schedules.release.release_ledger import ReleaseLedger
from schedules.run.audit import AUDIT_LOG, record_use
from schedules.run.ledger import open_ledger
from schedules.run.retention import expire

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
BAD = Rejected(Reason.NOT_JSON, "Patient.ndjson:3", b'{"id": "zz-canary"', "Patient")


def days(count: float) -> timedelta:
    return timedelta(days=count)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def expired(data: Path, now: datetime = NOW, *, dry_run: bool = False, **retention: Any) -> dict[str, int]:
    """Return what goes on this day, by its name."""
    site = FolderSite(name="milan", kind="folder", path=data / "fhir")
    settings = Settings(data_dir=data, sites=(site,), retention=Retention(**retention))
    with open_ledger(settings.ledger_file) as ledger:
        return expire(settings, ledger, now, dry_run=dry_run)


def aside(data: Path, *things: Rejected, replace: bool = False) -> None:
    """A sync that sets things aside."""
    opened = Quarantine(data / "quarantine").open("milan")
    for thing in things:
        opened.add(thing)
    opened.commit(replace=replace)


def content_of_quarantine(data: Path) -> str:
    return (data / "quarantine" / "milan.ndjson").read_text()


def test_fault_128_contents_of_the_quarantine_go_and_their_count_stays(data: Path) -> None:
    aside(data, BAD)
    assert expired(data) == {}  # from this day on its age is counted
    assert expired(data, NOW + days(90)) == {}
    assert expired(data, NOW + days(91), dry_run=True) == {"contents of the quarantine": 1}
    assert "zz-canary" in content_of_quarantine(data)
    assert expired(data, NOW + days(91)) == {"contents of the quarantine": 1}
    assert "zz-canary" not in content_of_quarantine(data)
    (line,) = Quarantine(data / "quarantine").entries("milan")
    assert (line["reason"], line["resource_type"], line["bytes"]) == (Reason.NOT_JSON, "Patient", len(BAD.content))
    aside(data)  # a sync of changes alone keeps it, and counts it as not used
    assert len(list(Quarantine(data / "quarantine").entries("milan"))) == 1
    assert expired(data, NOW + days(400)) == {}


def test_fault_128_what_a_sync_brings_again_is_as_old_as_that_sync(data: Path) -> None:
    aside(data, BAD)
    expired(data)
    aside(data, BAD)
    assert expired(data, NOW + days(91)) == {}
    assert expired(data, NOW + days(182)) == {"contents of the quarantine": 1}


def test_fault_128_a_damaged_quarantine_is_one_sentence(data: Path) -> None:
    aside(data, BAD)
    (data / "quarantine" / "milan.ndjson").write_text('{"key": "1", "cont')
    with pytest.raises(SpoolError, match=r"milan\.ndjson is damaged .*: delete it and run `periop sync --full`"):
        expired(data)


def run(data: Path, age: int, kind: str = "run", code: ExitCode = ExitCode.OK, **sites: str) -> int:
    """A run of that many days ago, with how the sync of each site ended."""
    with open_ledger(data / "runs.sqlite") as ledger, ledger.record(kind, lambda: NOW - days(age)) as opened:
        opened.exit_code = code
        for site, status in sites.items():
            opened.add_site_report(site, {"status": status})
        return opened.id


def runs(data: Path) -> set[int]:
    with open_ledger(data / "runs.sqlite") as ledger:
        return {each.id for each in ledger.last(1000)}


def test_fault_128_old_runs_go_but_for_those_that_are_still_asked_for(data: Path) -> None:
    gone = [run(data, 900, milan="ok", rome="ok"), run(data, 800, "sync", ExitCode.ERROR, rome="failed")]
    complete = run(data, 700, milan="ok", rome="partial")
    erasure = run(data, 650, "forget")
    gone += [run(data, 600, code=ExitCode.ERROR, milan="failed", rome="failed")]
    last_ok = run(data, 500, "sync", milan="partial", rome="ok")
    recent = [run(data, age, "map") for age in range(12, 0, -1)]
    everything = runs(data)
    assert expired(data, dry_run=True) == {"runs in the ledger": 3}
    assert runs(data) == everything
    assert expired(data) == {"runs in the ledger": 3}
    assert runs(data) == everything - set(gone)
    with open_ledger(data / "runs.sqlite") as ledger:
        asked = ledger.last_complete(NOW)
        assert asked is not None
        assert asked.id == complete
        assert [ledger.last_sync("milan", NOW, "ok"), ledger.last_sync("rome", NOW, "ok")] != [None, None]
        assert ledger.nights_since(NOW - days(1000), NOW)[0].id == complete
    assert {complete, erasure, last_ok, *recent} == runs(data)


def test_fault_128_what_stood_in_old_runs_is_not_left_in_the_file(data: Path) -> None:
    with open_ledger(data / "runs.sqlite") as ledger, ledger.record("map", lambda: NOW - days(500)) as opened:
        opened.detail["error"] = "zz-canary " * 1000
    for _ in range(10):
        run(data, 1)
    assert expired(data) == {"runs in the ledger": 1}
    assert not [path.name for path in data.glob("runs.sqlite*") if b"zz-canary" in path.read_bytes()]


def test_fault_128_the_ledger_must_outlive_superseded_versions() -> None:
    with pytest.raises(ValueError, match="ledger_days must be at least superseded_days"):
        Retention(superseded_days=365, ledger_days=364)


def test_fault_128_lines_of_the_audit_log_go_by_age_and_others_stay(data: Path) -> None:
    for age in (2193, 2191, 1):
        record_use(data, NOW - days(age), "admin", f"ALNEO-{age}", None)
    with (data / AUDIT_LOG).open("a") as log:
        log.write("not a line of ours\n")
    assert expired(data, dry_run=True) == {"lines of the audit log": 1}
    assert expired(data) == {"lines of the audit log": 1}
    lines = (data / AUDIT_LOG).read_text().splitlines()
    assert [json.loads(line)["patient"] for line in lines[:2]] == ["ALNEO-2191", "ALNEO-1"]
    assert lines[2:] == ["not a line of ours"]


def test_fault_128_crash_files_and_an_internal_report_that_no_run_confirms_go(data: Path) -> None:
    (data / "internal").mkdir()
    ages = {"internal/report.html": 91, "internal/results.json": 89, "crash.txt": 31, "crash-1.txt": 29}
    for name, age in ages.items():
        (data / name).write_text("zz-canary")
        os.utime(data / name, ((NOW - days(age)).timestamp(),) * 2)
    went = {"crash files": 1, "files of the internal report": 1}
    assert expired(data, dry_run=True) == went
    assert expired(data) == went
    assert [name for name in ages if (data / name).exists()] == ["internal/results.json", "crash-1.txt"]


def released(data: Path, number: int, age: int, study: str, cutoff: str) -> None:
    results = json.dumps({"study": study, "data_cut": cutoff, "release": number}).encode()
    ReleaseLedger(data / "release-ledger").record(number, results, {}, NOW - days(age))
    folder = data / "releases" / str(number)
    folder.mkdir(parents=True)
    (folder / "results.json").write_bytes(results)


def test_fault_128_releases_are_kept_unless_their_age_is_limited(data: Path) -> None:
    # By number: age, study and data cutoff. 4 is current; 3 is the newest of its data cutoff; 2 is younger.
    made = {1: (900, "A", "2024-01-01"), 2: (80, "A", "2025-01-01"), 3: (800, "A", "2024-01-01")}
    made |= {4: (700, "A", "2025-01-01"), 5: (600, "A", "2025-01-01"), 6: (500, "A", "2025-01-01")}
    for number, (age, study, cutoff) in made.items():
        released(data, number, age, study, cutoff)
    switch(data / "releases", 4)
    (data / "withdrawn").mkdir()
    (data / "releases" / "1").rename(data / "withdrawn" / "1")
    assert expired(data) == {}
    assert expired(data, release_days=100, dry_run=True) == {"releases": 2}
    assert expired(data, release_days=100) == {"releases": 2}
    assert sorted(path.name for path in (data / "releases").iterdir()) == ["2", "3", "4", "6", "current"]
    assert not list((data / "withdrawn").iterdir())
    # What was published stays known, and is compared with later releases.
    assert len(ReleaseLedger(data / "release-ledger").past()) == 6
