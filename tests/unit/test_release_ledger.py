"""The release ledger: entries in their order, for the owner only, and never changed."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schedules.errors import LedgerError
from schedules.release.release_ledger import ReleaseLedger

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
RESULTS = {"study_hash": "cafe", "data_cut": "2024-12-01", "disclosure": {"min_cell": 11}, "release": 1}


@pytest.fixture
def ledger(tmp_path: Path) -> ReleaseLedger:
    ledger = ReleaseLedger(tmp_path / "release-ledger")
    ledger.record(1, json.dumps(RESULTS).encode(), {"enrolled": 33}, NOON)
    ledger.withdraw(1, NOON)
    ledger.record(2, json.dumps(RESULTS | {"release": 2}).encode(), {}, NOON)
    return ledger


def test_releases_are_remembered_also_after_they_were_withdrawn(ledger: ReleaseLedger) -> None:
    assert [(entry.kind, entry.release) for entry in ledger.entries()] == [
        ("released", 1),
        ("withdrawn", 1),
        ("released", 2),
    ]
    first = ledger.past()[0]
    assert first.results == RESULTS | {"populations": {"enrolled": 33}}
    assert (first.when, first.data_cut) == (NOON, "2024-12-01")
    assert ledger.withdrawn() == {1}
    said = json.loads((ledger.folder / "000001.json").read_bytes())
    assert (said["study_hash"], said["min_cell"], said["previous"]) == ("cafe", 11, None)


@pytest.mark.skipif(os.name != "posix", reason="file permissions are those of POSIX")
def test_only_the_owner_reads_it(ledger: ReleaseLedger) -> None:
    assert {stat.S_IMODE(file.stat().st_mode) for file in ledger.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(ledger.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("lost", ["000001.json", "000002.json"])
def test_fault_131_a_lost_entry_stops_publishing(ledger: ReleaseLedger, lost: str) -> None:
    (ledger.folder / lost).unlink()
    with pytest.raises(LedgerError, match="damaged or incomplete here, and nothing is published without it"):
        ledger.entries()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"entry": 1, "previous": null}'])
def test_fault_131_an_altered_entry_stops_publishing(ledger: ReleaseLedger, content: str) -> None:
    (ledger.folder / "000001.json").write_text(content)
    with pytest.raises(LedgerError, match=r"000001\.json: the release ledger is damaged"):
        ledger.entries()


def test_fault_131_a_changed_number_is_noticed_by_the_entry_after_it(ledger: ReleaseLedger) -> None:
    file = ledger.folder / "000001.json"
    file.write_bytes(file.read_bytes().replace(b"33", b"34"))
    with pytest.raises(LedgerError, match=r"000002\.json"):
        ledger.entries()


def test_what_a_kill_left_is_no_entry(ledger: ReleaseLedger) -> None:
    (ledger.folder / ".000004.json.0123456789abcdef.part").write_text("{")
    ledger.withdraw(2, NOON)
    assert ledger.withdrawn() == {1, 2}
    assert len(list(ledger.folder.iterdir())) == 4


def test_releases_of_an_earlier_version_are_adopted_once(tmp_path: Path) -> None:
    for number, made in ((1, "2026-04-30"), (2, None)):
        (tmp_path / str(number)).mkdir()
        results = RESULTS | {"release": number, "provenance": {"released": made}}
        (tmp_path / str(number) / "results.json").write_text(json.dumps(results))
    ledger = ReleaseLedger(tmp_path / "release-ledger")
    for _ in range(2):
        ledger.adopt(tmp_path, (1, 2, 3))
    assert [entry.release for entry in ledger.past()] == [1, 2]
    assert ledger.past()[0].when == datetime(2026, 4, 30, tzinfo=UTC)
