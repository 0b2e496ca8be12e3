"""The cohort folder: the quality list summed, tables put in place at once with what they were derived from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mappers.build.cohort_folder import CohortFolder, State, quality_list

COUNTS = ("SITEID", "DOMAIN", "ISSUE", "COUNT")
OLD = pa.table({"USUBJID": ["b", "b", "d", "f"], "AVAL": [1, 2, 3, 4]})
NEW = pa.table({"USUBJID": ["b", "d", "f"], "AVAL": [9, 3, 4]})


def counts(*rows: tuple[str, str, str, int]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    types = (pa.string(), pa.string(), pa.string(), pa.int64())
    return pa.table(
        {name: pa.array(list(column), kind) for name, column, kind in zip(COUNTS, columns, types, strict=True)}
    )


def test_the_quality_list_is_the_sum_of_what_was_counted() -> None:
    patients = counts(("rome", "ADSL", "x", 1), ("milan", "ADSL", "x", 1), ("milan", "ADSL", "x", 2))
    unowned = counts(("milan", "Observation", "no usable reference to a patient", 4))
    found = quality_list(patients, unowned, {"milan": {("Bundle", "quarantined: not JSON"): 7}})
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("milan", "ADSL", "x", 3),
        ("milan", "Bundle", "quarantined: not JSON", 7),
        ("milan", "Observation", "no usable reference to a patient", 4),
        ("rome", "ADSL", "x", 1),
    ]
    assert found.schema == patients.schema


def folder(tmp_path: Path) -> CohortFolder:
    """A folder with one table at the main cut and at another."""
    made = CohortFolder(tmp_path / "cohort")
    made.begin()
    for cut in (None, "later"):
        made.write(cut, "adsl", OLD.to_reader())
    made.put_in_place(State("rules", 3, fingerprint=30))
    return made


def test_new_tables_are_in_place_at_once_with_what_they_came_from(tmp_path: Path) -> None:
    made = folder(tmp_path)
    made.begin()
    made.write(None, "adsl", NEW.to_reader())
    made.write("later", "adsl", OLD.to_reader(max_chunksize=1))
    assert (made.state(), made.column("adsl", "AVAL").to_pylist()) == (State("rules", 3, fingerprint=30), [1, 2, 3, 4])
    made.put_in_place(State("rules", 4, fingerprint=40))
    assert (made.state(), made.column("adsl", "AVAL").to_pylist()) == (State("rules", 4, fingerprint=40), [9, 3, 4])
    assert pq.read_table(made.path / "cuts" / "later" / "adsl.parquet").equals(OLD)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"rules": "rules"}',
        '{"rules": "rules", "sync": 3, "tables": {}}',
        '{"rules": "rules", "sync": "x", "fingerprint": 30, "tables": {}}',
    ],
)
def test_a_damaged_state_is_none(tmp_path: Path, content: str) -> None:
    made = folder(tmp_path)
    (made.path / "map.json").write_text(content)
    assert made.state() is None


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"PAR1")], ids=["missing", "cut"])
def test_where_a_table_is_damaged_the_state_is_none(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    made = folder(tmp_path)
    damage(made.path / "cuts" / "later" / "adsl.parquet")
    assert made.state() is None


def test_a_table_of_another_length_is_not_the_one_that_was_derived(tmp_path: Path) -> None:
    made = folder(tmp_path)
    pq.write_table(OLD.slice(1), made.path / "adsl.parquet")
    assert made.state() is None


def test_the_quality_list_of_a_cutoff_is_summed_from_its_patients(tmp_path: Path) -> None:
    made = CohortFolder(tmp_path / "cohort")
    made.begin()
    patients = counts(("milan", "ADSL", "x", 1), ("milan", "ADSL", "x", 2))
    made.write("later", "quality", patients.add_column(0, "USUBJID", pa.array(["a", "b"])).to_reader())
    made.write_quality("later", counts(), {})
    made.put_in_place(State("rules", 4, fingerprint=40))
    found = pq.read_table(made.path / "cuts" / "later" / "quality.parquet")
    assert [tuple(row.values()) for row in found.to_pylist()] == [("milan", "ADSL", "x", 3)]


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (tmp_path / "cohort.new" / "cuts").mkdir(parents=True)
    (tmp_path / "cohort.new" / "adae.parquet").write_bytes(b"half")
    (tmp_path / "cohort.old").mkdir()
    made.begin()
    made.put_in_place(State("rules", 4, fingerprint=40))
    assert [path.name for path in made.path.iterdir()] == ["map.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
