"""The store of versions is a dict, however much of it is on disk; a commit's files hold its rows, each once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import SpoolError
from connectors.lake import writer as partitions
from connectors.lake.table import SCHEMA
from connectors.lake.versions import Filter, Keys, Rows, Seen, Versions
from connectors.lake.writer import write_partitions

TWELVE = [f"Patient/{number}" for number in range(12)]
keys = st.sampled_from(TWELVE)
seen = st.builds(Seen, st.sampled_from(["", "one", "two"]), st.integers(-(1 << 62), 1 << 62), st.integers(0, 9))
steps = st.one_of(
    st.tuples(st.just("put"), keys, seen),
    st.tuples(st.just("remove"), keys, seen),
    st.tuples(st.just("get"), keys, seen),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(keys, seen), max_size=30), st.lists(steps, max_size=60), st.sampled_from([1, 3, 1000]))
def test_a_store_is_a_dict(loaded: list[tuple[str, Seen]], done: list[tuple[str, str, Seen]], held: int) -> None:
    known: dict[str, Seen] = {}
    for key, version in loaded:  # the reference: the newest by (updated, order), the first of equals
        if key not in known or (version.updated, version.order) > (known[key].updated, known[key].order):
            known[key] = version
    with TemporaryDirectory() as folder, Versions(Path(folder), held) as store:
        store.load(loaded)
        for what, key, version in done:
            if what == "put":
                store.put(key, version)
                known[key] = version
            elif what == "remove":
                store.remove(key)
                known.pop(key, None)
            assert store.get(key) == known.get(key)
        assert list(store.items()) == sorted(known.items())
        assert {key: store.get(key) for key in known} == known
        assert list(Path(folder).iterdir()) == []  # the file has no name


@given(st.lists(st.text(max_size=16), max_size=30))
def test_what_was_added_passes_the_filter(added: list[str]) -> None:
    passing = Filter()
    for key in added:
        passing.add(key)
    assert all(key in passing for key in added)


def test_few_others_pass_the_filter() -> None:
    """20,000 keys set at most 40,000 of 16.8 million bits: another one passes with (40,000 / 16.8 million)^2."""
    passing = Filter()
    several = [f"Observation/{number}" for number in range(40_000)]
    for key in several[:20_000]:
        passing.add(key)
    assert sum(key in passing for key in several[20_000:]) <= 5  # 0.11 are to be expected


@given(st.lists(keys), st.sampled_from([1, 1000]))
def test_a_set_of_keys_is_a_set(added: list[str], held: int) -> None:
    known: set[str] = set()
    with TemporaryDirectory() as folder, Keys(Path(folder), held) as store:
        for key in added:
            assert store.add(key) == (key not in known)
            known.add(key)
        assert all((key in store) == (key in known) for key in TWELVE)


@given(st.lists(st.integers(0, 500)))
def test_rows_are_a_set_of_numbers(numbers: list[int]) -> None:
    rows = Rows()
    for number in numbers:
        rows.add(number)
    assert {number for number in range(600) if number in rows} == set(numbers)


def test_a_folder_that_takes_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with Versions(tmp_path / "file", held=1) as store, pytest.raises(SpoolError, match="free disk space"):
        store.put("k", Seen("v", 0, 0))


kinds = st.lists(st.lists(st.sampled_from(["Patient", "Condition", "Observation"]), max_size=6), max_size=8)


def batch_of(types: list[str], start: int) -> pa.RecordBatch:
    rows = [
        ("site", kind, f"{kind}-{start + nth}", "1", None, None, 7, False, "d", "x" * 100)
        for nth, kind in enumerate(types)
    ]
    columns = zip(*rows, strict=True) if rows else ([] for _ in SCHEMA)
    return pa.record_batch(
        [pa.array(list(each), field.type) for each, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


@settings(max_examples=40, deadline=None)
@given(kinds, st.sampled_from([1, 300, 1 << 20]), st.sampled_from([2, 1 << 20]))
def test_every_row_is_in_one_file_of_its_type(nights: list[list[str]], size: int, file_rows: int) -> None:
    wanted = [f"{kind}-{10 * number + nth}" for number, types in enumerate(nights) for nth, kind in enumerate(types)]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(partitions, "BYTES", size)
        sizes.setattr(partitions, "FILE_ROWS", file_rows)
        batches = (batch_of(types, 10 * number) for number, types in enumerate(nights))
        added = write_partitions(Path(folder), SCHEMA, batches)
        found: list[str] = []
        for action in added:
            rows = pq.ParquetFile(Path(folder) / action.path).read().column("id").to_pylist()
            kind = action.partition_values["resource_type"]
            assert {row.split("-")[0] for row in rows} == {kind}
            assert json.loads(action.stats)["numRecords"] == len(rows)
            assert rows == [row for row in wanted if row in set(rows)], "in the order of arrival"
            found += rows
    assert Counter(found) == Counter(wanted)


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield batch_of(["Patient", "Condition"], 0)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_partitions(tmp_path, SCHEMA, batches())
    assert list(tmp_path.rglob("*.parquet")) == []
