"""Finds the versions that are no longer current, so that they can be deleted after a while.

A resource that is current keeps its current version, and one that was deleted its deletion, which has no content: so
it is still known that it is gone, and whose it was.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import duckdb
import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from connectors.errors import LakeError
from connectors.lake.current import newest
from connectors.lake.snapshot import LakeFile
from connectors.lake.table import SCHEMA, Lake

NAMES = ("id", "version_id", "last_updated", "sync")
PLACE = pa.schema([("file", pa.int64()), ("number", pa.int64())])
VERSIONS = pa.schema([*PLACE, *(SCHEMA.field(name) for name in NAMES)])
MEMORY = "128MB"  # beyond it DuckDB goes to the disk


@cache
def _superseded_sql() -> str:
    versions = ibis.table(ibis.Schema.from_pyarrow(VERSIONS), name="versions")
    place = [field.name for field in PLACE]
    found = versions.anti_join(newest(versions, ["id"]), place).select(*place).order_by([_[name] for name in place])
    return str(ibis.to_sql(found, "duckdb"))


def superseded_rows(lake: Lake, until: int, spill: Path) -> dict[LakeFile, list[int]]:
    """Return the numbers of the rows that were not current any more after the sync `until`, by file.

    `spill` is a folder for what does not fit into the memory; it is deleted.

    Raises:
        LakeError: a file cannot be read, or the disk is full.
    """
    partitions: defaultdict[tuple[str, str], list[LakeFile]] = defaultdict(list)
    for file in lake.files():
        # All versions of a resource are in one partition, so that each can be decided on its own.
        partitions[file.site, file.resource_type].append(file)
    found: dict[LakeFile, list[int]] = {}
    try:
        for files in partitions.values():
            found |= _of_partition(lake, files, until, spill)
    except duckdb.Error as error:
        raise LakeError(f"the versions in {lake.path} could not be compared ({error}): free disk space") from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)
    return found


def _of_partition(lake: Lake, files: Sequence[LakeFile], until: int, spill: Path) -> dict[LakeFile, list[int]]:
    found: defaultdict[LakeFile, list[int]] = defaultdict(list)
    with duckdb.connect(config={"memory_limit": MEMORY, "threads": 1, "temp_directory": str(spill)}) as connection:
        connection.from_arrow(VERSIONS.empty_table()).create("versions")
        for place, file in enumerate(files):
            start = 0
            for batch in lake.read(file, list(NAMES)):
                columns = [pa.repeat(place, batch.num_rows), pa.array(range(start, start + batch.num_rows), pa.int64())]
                columns += [batch.column(name).cast(SCHEMA.field(name).type) for name in NAMES]
                start += batch.num_rows
                rows = pa.table(columns, schema=VERSIONS)
                # As the lake was after that sync: what came later superseded its versions too late.
                connection.register("rows", rows.filter(pc.less_equal(rows["sync"], until)))
                connection.execute("INSERT INTO versions SELECT * FROM rows")
        for place, number in connection.execute(_superseded_sql()).fetchall():
            found[files[place]].append(number)
    return dict(found)
