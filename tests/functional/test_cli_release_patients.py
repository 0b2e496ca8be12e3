"""The patients behind past releases: what the command line says where they are kept, lost, or of an old version."""

from __future__ import annotations

import json
from pathlib import Path

from tests.functional.test_cli_commands import Terminal, periop
from tests.functional.test_cli_releases import protected, released, respond

__all__ = ["periop"]


def kept(periop: Terminal) -> list[Path]:
    return sorted((periop.data / "release-patients").glob("*.parquet"))


def test_each_protected_release_keeps_its_patients_inside(periop: Terminal) -> None:
    protected(periop, 'mode = "every"')
    for x in (15, 20):
        respond(periop, x)
        assert periop("run") == 0
    assert [(file.name, oct(file.stat().st_mode & 0o777)) for file in kept(periop)] == [
        ("000001.parquet", "0o600"),
        ("000002.parquet", "0o600"),
    ]
    # What leaves has no patient, and the run after it finds nothing changed.
    assert all("milan-0" not in file.read_text() for file in (periop.data / "releases").rglob("*.json"))
    assert periop("run") == 0
    assert "Nothing changed: release 2 is still current." in periop.out


def test_without_protection_no_patients_are_kept(periop: Terminal) -> None:
    assert periop("run") == 0
    assert kept(periop) == []


def test_fault_148_a_release_waits_where_the_patients_of_a_past_one_are_lost(periop: Terminal) -> None:
    protected(periop, 'mode = "every"')
    respond(periop, 15)
    periop("run")
    (file,) = kept(periop)
    content = file.read_bytes()
    respond(periop, 20)
    for damaged, said in ((None, "is lost"), (content[:-9], "cannot be read")):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        assert periop("run") == 5
        assert f"{file}: {said}" in periop.out
        assert "periop publish --figures-only" in periop.out
        assert released(periop) == ["1"]
    assert periop("status") == 0
    # The figures alone are compared: 20 is as far from 15 as it must be, and 16 is not.
    respond(periop, 16)
    assert periop("publish", "--figures-only") == 5
    respond(periop, 20)
    assert periop("publish", "--figures-only") == 0
    assert released(periop) == ["1", "2"]


def test_releases_of_an_earlier_version_are_compared_by_their_figures(periop: Terminal) -> None:
    protected(periop, 'mode = "every"')
    respond(periop, 15)
    periop("run")
    entry = periop.data / "release-ledger" / "000001.json"
    content = json.loads(entry.read_text())
    for key in ("figures", "has_patients"):
        del content[key]
    entry.write_text(json.dumps(content))
    kept(periop)[0].unlink()
    respond(periop, 17)
    assert periop("run") == 5
    respond(periop, 20)
    assert periop("run") == 0
    assert [file.name for file in kept(periop)] == ["000002.parquet"]
