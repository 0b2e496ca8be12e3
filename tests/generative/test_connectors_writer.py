"""The files of a commit hold its rows, each once."""

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

from connectors.lake import writer
from connectors.lake.table import SCHEMA
from connectors.lake.writer import write_partitions

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
        sizes.setattr(writer, "BYTES", size)
        sizes.setattr(writer, "FILE_ROWS", file_rows)
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
