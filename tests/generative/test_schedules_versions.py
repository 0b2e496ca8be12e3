"""The versions of some resources, picked out of files of the lake by the ranges of their row groups."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.lake.table import SCHEMA, LakeFile
from mappers.build.versions import VERSIONS_SCHEMA, versions_of
from mappers.errors import MappingError

IDS = st.text(alphabet="ab1.-", min_size=1, max_size=3)
ROWS = st.lists(st.tuples(IDS, st.integers(1, 3), st.booleans()), max_size=30)
FILES = st.lists(st.tuples(st.sampled_from(["milan", "rome"]), ROWS, st.integers(1, 8), st.booleans()), max_size=3)


def stored(path: Path, site: str, rows: list[tuple[str, int, bool]], group: int, ranges: bool) -> LakeFile:
    """A file of the lake with so many rows in a row group, which says the range of its ids, or does not."""
    columns = {
        "id": [id_ for id_, _, _ in rows],
        "version_id": [str(sync) for _, sync, _ in rows],
        "last_updated": [None] * len(rows),
        "sync": [sync for _, sync, _ in rows],
        "deleted": [deleted for _, _, deleted in rows],
        "resource": ["{}"] * len(rows),
    }
    table = pa.table(columns, schema=pa.schema([SCHEMA.field(name) for name in columns]))
    pq.write_table(table, path, row_group_size=group, write_statistics=ranges)
    return LakeFile(site, "Patient", str(path), len(rows), 3)


@settings(deadline=None)
@given(files=FILES, ids=st.lists(IDS, max_size=12))
@example(files=[("rome", [("a", 1, False), ("b", 1, False), ("a", 2, True)], 1, True)], ids=["a", "a"])
@example(files=[("rome", [("a", 1, False)], 1, False)], ids=["a"])
@example(files=[("rome", [("a", 1, False)], 1, True)], ids=[])
def test_the_versions_are_those_that_a_look_at_every_row_finds(
    files: list[tuple[str, list[tuple[str, int, bool]], int, bool]], ids: list[str]
) -> None:
    expected = sorted((site, *row) for site, rows, _, _ in files for row in rows if row[0] in ids)
    with TemporaryDirectory() as folder:
        lake = [stored(Path(folder) / f"{number}.parquet", *file) for number, file in enumerate(files)]
        found = versions_of(pa.array(ids, pa.string()), lake)
    assert found.schema == VERSIONS_SCHEMA
    assert sorted((row["site"], row["id"], row["sync"], row["deleted"]) for row in found.to_pylist()) == expected


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = stored(tmp_path / "part.parquet", "rome", [("a", 1, False)], 1, ranges=True)
    Path(file.path).write_bytes(b"PAR1")
    with pytest.raises(MappingError, match=r"part\.parquet: cannot be read .*copy"):
        versions_of(pa.array(["a"]), [file])
