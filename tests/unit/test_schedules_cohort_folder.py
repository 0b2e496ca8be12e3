"""The cohort folder: rows of patients replaced in their order, the quality list summed, put in place at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mappers.build import cohort_folder
from mappers.build.cohort_folder import CohortFolder, State, differ, quality_list, replaced
from mappers.errors import MappingError

COUNTS = ("SITEID", "DOMAIN", "ISSUE", "COUNT")


TEXT = pa.schema([("USUBJID", pa.string()), ("AVAL", pa.int64())])
NUMBERED = pa.schema([("USUBJID", pa.dictionary(pa.int32(), pa.string())), ("AVAL", pa.int64())])


def table(*rows: tuple[str, int], schema: pa.Schema = NUMBERED) -> pa.Table:
    columns = {"USUBJID": [subject for subject, _ in rows], "AVAL": [value for _, value in rows]}
    return pa.table(columns, schema=TEXT).cast(schema)


def counts(*rows: tuple[str, str, str, int]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    types = (pa.string(), pa.string(), pa.string(), pa.int64())
    return pa.table(
        {name: pa.array(list(column), kind) for name, column, kind in zip(COUNTS, columns, types, strict=True)}
    )


OLD = table(("b", 1), ("b", 2), ("d", 3), ("f", 4))


@pytest.mark.parametrize(
    ("subjects", "new", "expected"),
    [
        (["d"], [("d", 9), ("d", 8)], [("b", 1), ("b", 2), ("d", 9), ("d", 8), ("f", 4)]),
        (["b"], [], [("d", 3), ("f", 4)]),
        (
            ["a", "c", "g"],
            [("a", 5), ("g", 6), ("g", 7)],
            [("a", 5), ("b", 1), ("b", 2), ("d", 3), ("f", 4), ("g", 6), ("g", 7)],
        ),
        (["b", "c", "d", "f"], [("c", 1)], [("c", 1)]),
        (["b", "d", "f"], [], []),
    ],
)
def test_rows_of_some_patients_are_replaced(
    subjects: list[str], new: list[tuple[str, int]], expected: list[tuple[str, int]]
) -> None:
    assert differ(OLD, table(*new), pa.array(subjects))
    found = replaced(OLD, table(*new), pa.array(subjects))
    assert found.to_pylist() == [{"USUBJID": subject, "AVAL": value} for subject, value in expected]


@pytest.mark.parametrize(("subjects", "new"), [(["b"], [("b", 1), ("b", 2)]), (["x"], [])])
def test_the_same_rows_are_no_change(subjects: list[str], new: list[tuple[str, int]]) -> None:
    assert not differ(OLD, table(*new), pa.array(subjects))


def test_a_dictionary_may_have_the_subjects_in_any_order() -> None:
    subjects = pa.DictionaryArray.from_arrays(pa.array([2, 2, 0, 1], pa.int32()), pa.array(["d", "f", "b"]))
    old = OLD.set_column(0, "USUBJID", subjects)
    assert not differ(old, table(("d", 3)), pa.array(["d"]))
    found = replaced(old, table(("c", 5), ("d", 9)), pa.array(["c", "d"]))
    assert [(row["USUBJID"], row["AVAL"]) for row in found.to_pylist()] == [
        ("b", 1), ("b", 2), ("c", 5), ("d", 9), ("f", 4)
    ]  # fmt: skip


def test_rows_into_an_empty_table() -> None:
    found = replaced(OLD.schema.empty_table(), table(("a", 1)), pa.array(["a"]))
    assert found.to_pylist() == [{"USUBJID": "a", "AVAL": 1}]


ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3)), max_size=40).map(
    lambda rows: sorted(rows, key=lambda row: row[0])
)


NIGHTS = st.lists(st.tuples(ROWS, st.sets(st.sampled_from("abcdefgh"))), min_size=1, max_size=3)


@settings(deadline=None)
@given(old=ROWS, nights=NIGHTS, group=st.integers(1, 40), run=st.integers(0, 9))
@example(old=[("a", 0), ("b", 0), ("c", 0)], nights=[([], {"b"}), ([("d", 0)], {"d"})], group=1, run=0)  # b's is empty
def test_rows_are_replaced_night_by_night_whatever_the_row_groups(
    old: list[tuple[str, int]], nights: list[tuple[list[tuple[str, int]], set[str]]], group: int, run: int
) -> None:
    expected = old
    with TemporaryDirectory() as path, pytest.MonkeyPatch.context() as patched:
        patched.setattr(cohort_folder, "RUN", run)  # rows are copied, or kept together
        made = CohortFolder(Path(path) / "cohort")
        made.begin()
        made.write(None, "adsl", as_table(old).to_reader(group))
        made.put_in_place(State("rules", 3, mark=30))
        for told, subjects in nights:
            new = [row for row in told if row[0] in subjects]
            expected = sorted([row for row in expected if row[0] not in subjects] + new, key=lambda row: row[0])
            made.begin()
            made.replace(None, "adsl", as_table(new), pa.array(sorted(subjects), pa.string()))
            made.put_in_place(State("rules", 4, mark=40))
        found = pq.read_table(made.path / "adsl.parquet")
    assert [(row["USUBJID"], row["AVAL"]) for row in found.to_pylist()] == expected
    assert found.schema == TEXT


def as_table(rows: list[tuple[str, int]]) -> pa.Table:
    return table(*rows, schema=TEXT)


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
        made.write(cut, "adsl", pa.RecordBatchReader.from_batches(OLD.schema, OLD.to_batches()))
    made.put_in_place(State("rules", 3, mark=30))
    return made


def test_new_tables_are_in_place_at_once_with_what_they_came_from(tmp_path: Path) -> None:
    made = folder(tmp_path)
    made.begin()
    made.replace(None, "adsl", table(("b", 9)), pa.array(["b"]))
    made.keep("later", "adsl")
    assert (made.state(), made.column("adsl", "AVAL").to_pylist()) == (State("rules", 3, mark=30), [1, 2, 3, 4])
    made.put_in_place(State("rules", 4, mark=40))
    assert (made.state(), made.column("adsl", "AVAL").to_pylist()) == (State("rules", 4, mark=40), [9, 3, 4])
    assert pq.read_table(made.path / "cuts" / "later" / "adsl.parquet").equals(OLD)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"program": "rules"}',
        '{"program": "rules", "sync": 3, "tables": {}}',
        '{"program": "rules", "sync": "x", "mark": 30, "tables": {}}',
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


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made.path / "adsl.parquet").write_bytes(b"PAR1")
    made.begin()
    with pytest.raises(MappingError, match=r"adsl\.parquet: cannot be read .*; run `periop map --full`"):
        made.replace(None, "adsl", OLD, pa.array(["b"]))


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (tmp_path / "cohort.new" / "cuts").mkdir(parents=True)
    (tmp_path / "cohort.new" / "adae.parquet").write_bytes(b"half")
    (tmp_path / "cohort.old").mkdir()
    made.begin()
    made.put_in_place(State("rules", 4, mark=40))
    assert [path.name for path in made.path.iterdir()] == ["map.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
