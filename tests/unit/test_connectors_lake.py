"""The lake: one commit a sync, a cursor that lasts, and damage that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from connectors.errors import LakeError
from connectors.fhir.resource import Resource
from connectors.lake.rewrite import delete_unused_files, unused_files
from connectors.lake.spool import SPOOL_SCHEMA, as_batch
from connectors.lake.table import SCHEMA, Cursor, Lake


def batch(*ids: str) -> pa.RecordBatch:
    return as_batch([Resource("Patient", id_, "1", None, id_, "d" * 64, "{}") for id_ in ids])


def cursor(text: str) -> Cursor:
    return Cursor(fingerprint=text, complete=True, server_time="2024-01-01T00:00:00+00:00")


def rows(lake: Lake, site: str) -> list[tuple[str, int]]:
    found = [row for each in lake.rows(site, ["id", "sync"]) for row in each.to_pylist()]
    return sorted((row["id"], row["sync"]) for row in found)


def test_an_empty_lake(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert (lake.exists(), lake.version(), lake.sync_number(), lake.cursor("a"), lake.files()) == (
        False,
        -1,
        0,
        None,
        (),
    )


def test_a_sync_is_one_commit_with_its_rows_and_cursor(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert lake.append("a", [batch("1"), batch("2", "3")], cursor("x")) == 1
    assert lake.append("b", [batch("1")], cursor("y")) == 2
    assert lake.version() == 2  # 0 is the empty table
    assert lake.sync_number() == 2
    assert (rows(lake, "a"), rows(lake, "b")) == ([("1", 1), ("2", 1), ("3", 1)], [("1", 2)])
    assert lake.cursor("a") == Cursor("x", True, "2024-01-01T00:00:00+00:00", 1)
    assert lake.cursor("b") == Cursor("y", True, "2024-01-01T00:00:00+00:00", 2)
    assert [(file.site, file.resource_type, file.rows) for file in lake.files("Patient")] == [
        ("a", "Patient", 3),
        ("b", "Patient", 1),
    ]
    assert all(Path(file.path).is_file() for file in lake.files())
    assert lake.files("Observation") == ()


def test_the_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("a", [batch("1")], cursor("x"))
    table = DeltaTable(tmp_path / "lake")
    assert {field.name for field in table.schema().fields} == set(SCHEMA.names)
    assert table.metadata().partition_columns == ["site", "resource_type"]


def test_without_rows_the_cursor_moves_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert lake.append("a", [], cursor("x")) == 0
    assert not lake.exists()  # nothing was ever stored, so there is nothing to remember
    lake.append("a", [batch("1")], cursor("x"))
    lake.append("b", [batch("1")], cursor("x"))
    nothing = pa.RecordBatch.from_pylist([], schema=SPOOL_SCHEMA)
    assert lake.append("a", [nothing], cursor("x")) == 2  # it says nothing new
    assert lake.version() == 2
    assert lake.append("a", [nothing], cursor("y")) == 2  # the views have nothing to read
    assert (lake.version(), lake.sync_number(), len(lake.files())) == (3, 2, 2)
    assert lake.cursor("a") == Cursor("y", True, "2024-01-01T00:00:00+00:00", 1)
    assert lake.cursor("b") == Cursor("x", True, "2024-01-01T00:00:00+00:00", 2)
    assert lake.append("a", [batch("2")], cursor("z")) == 3


def test_a_cursor_of_an_earlier_version_has_no_state(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("a", [batch("1")], cursor("x"))
    log = tmp_path / "lake" / "_delta_log" / f"{1:020d}.json"
    assert '"state":{}' in log.read_text()
    log.write_text(log.read_text().replace(',"state":{}', "").replace('"state":{},', ""))
    assert lake.cursor("a") == Cursor("x", True, "2024-01-01T00:00:00+00:00", 1, {})


def test_writers_of_two_sites_wait_for_each_other(tmp_path: Path) -> None:
    lake, sites = Lake(tmp_path / "lake"), [f"site{n}" for n in range(6)]
    threads = [Thread(target=lake.append, args=(site, [batch("1")], cursor(site))) for site in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lake.sync_number() == 6
    assert [lake.cursor(site) is not None for site in sites] == [True] * 6
    assert sorted(rows(lake, site)[0][1] for site in sites) == [1, 2, 3, 4, 5, 6]


def test_the_patients_of_a_site(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert lake.patients("a") == frozenset()
    lake.append("a", [batch("1"), batch("2", "1")], cursor("x"))
    lake.append("b", [batch("3")], cursor("x"))
    assert lake.patients("a") == {"1", "2"}


def test_cursors_survive_many_commits_a_checkpoint_and_a_cleanup(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("rare", [batch("0")], cursor("first"))
    for number in range(25):
        lake.append("daily", [batch(str(number))], cursor(str(number)))
    table = DeltaTable(tmp_path / "lake")
    table.create_checkpoint()
    table.cleanup_metadata()
    again = Lake(tmp_path / "lake")
    assert again.sync_number() == 26
    assert again.cursor("rare") == Cursor("first", True, "2024-01-01T00:00:00+00:00", 1)
    assert again.cursor("daily") == Cursor("24", True, "2024-01-01T00:00:00+00:00", 26)
    assert again.append("rare", [batch("1")], cursor("second")) == 27
    assert again.cursor("rare") == Cursor("second", True, "2024-01-01T00:00:00+00:00", 27)


def test_cursors_survive_a_compaction(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for number in range(3):
        lake.append("a", [batch(str(number))], cursor(str(number)))
    DeltaTable(tmp_path / "lake").optimize.compact()
    assert len(lake.files()) == 1
    assert (lake.sync_number(), rows(lake, "a")) == (3, [("0", 1), ("1", 2), ("2", 3)])
    assert lake.cursor("a") == Cursor("2", True, "2024-01-01T00:00:00+00:00", 3)
    assert lake.append("a", [batch("3")], cursor("3")) == 4
    assert lake.cursor("a") == Cursor("3", True, "2024-01-01T00:00:00+00:00", 4)


def test_rows_that_break_off_leave_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield batch("1")
        raise OSError("No space left on device")

    lake = Lake(tmp_path / "lake")
    with pytest.raises(LakeError, match="nothing was stored"):
        lake.append("a", broken(), cursor("x"))
    assert (lake.sync_number(), lake.files(), lake.cursor("a")) == (0, (), None)
    assert lake.append("a", [batch("1")], cursor("x")) == 1


def test_another_writer_is_noticed(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("a", [batch("1")], cursor("x"))

    def meanwhile() -> Iterator[pa.RecordBatch]:
        yield batch("2")
        other = Thread(target=Lake(tmp_path / "lake").append, args=("b", [batch("3")], cursor("y")))
        other.start()
        other.join()

    with pytest.raises(LakeError, match="another process"):
        lake.append("a", meanwhile(), cursor("z"))
    assert (rows(lake, "a"), rows(lake, "b")) == ([("1", 1)], [("3", 2)])


def test_a_lost_log_is_damage_and_not_an_empty_lake(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("a", [batch("1")], cursor("x"))
    for file in (tmp_path / "lake" / "_delta_log").iterdir():
        file.unlink()
    for ask in (lake.exists, lake.version, lake.files, lambda: lake.append("a", [batch("2")], cursor("y"))):
        with pytest.raises(LakeError, match="no log"):
            ask()


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("a", [batch("1")], cursor("x"))
    (tmp_path / "lake" / "_delta_log" / f"{0:020d}.json").write_text("garbage")
    with pytest.raises(LakeError, match=r"cannot be read .*restore it"):
        lake.sync_number()


def test_a_data_file_that_is_gone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.append("a", [batch("1")], cursor("x"))
    Path(lake.files()[0].path).unlink()
    with pytest.raises(LakeError, match="restore it"):
        rows(lake, "a")


def test_a_lost_cursor(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for number in range(12):
        lake.append("a" if number == 0 else "b", [batch(str(number))], cursor("x"))
    DeltaTable(tmp_path / "lake").create_checkpoint()
    (tmp_path / "lake" / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(LakeError, match="lost commit 1 "):
        lake.cursor("a")


def test_where_a_named_file_is_lost_no_other_file_is_taken_for_unused(tmp_path: Path) -> None:
    """It may be there under a name that is not understood, and then it would be deleted."""
    lake = Lake(tmp_path / "a lake")
    lake.append("a", [batch("1")], cursor("x"))
    lake.append("a", [batch("2")], cursor("y"))
    orphan = tmp_path / "a lake" / "orphan.parquet"
    orphan.write_bytes(b"of a killed run")
    assert unused_files(lake) == [orphan]
    path = Path(lake.files()[0].path)
    path.rename(path.with_name("moved.parquet"))
    with pytest.raises(LakeError, match=rf"{path.name}: is not there, and nothing was deleted; put it back"):
        delete_unused_files(lake)
    assert orphan.exists()
    assert path.with_name("moved.parquet").exists()
