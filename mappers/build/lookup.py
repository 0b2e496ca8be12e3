"""Rows of a Parquet file by the ids of their resources.

Row groups between whose first and last id none of them lies are passed over. DuckDB would too, but compares each id
with each row group, thousands with hundreds: in their order one search will do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mappers.errors import unreadable

ID = "id"


def rows_by_id(file: str, ids: pa.Array, columns: Sequence[str], repeated: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of `file` that have one of `ids` (sorted, each once), with `repeated` texts as numbers of a dictionary.

    Raises:
        MappingError: the file cannot be read.
    """
    try:
        with pq.ParquetFile(file, read_dictionary=list(repeated), pre_buffer=False) as stored:
            for groups, begin, end in _together(_that_may_hold(ids, stored.metadata), stored.metadata):
                rows = stored.read_row_groups(groups, columns=list(columns), use_threads=False)
                yield rows.filter(pc.is_in(rows[ID], ids.slice(begin, end - begin)))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from error


def _that_may_hold(ids: pa.Array, file: pq.FileMetaData) -> Iterator[tuple[int, int, int]]:
    """The numbers of the row groups whose range of ids has some of `ids`, and where these begin and end.

    In a row group without a range any may be.
    """
    column = file.schema.names.index(ID)
    ranges = [file.row_group(number).column(column).statistics for number in range(file.num_row_groups)]
    known = np.array([found is not None and found.has_min_max for found in ranges], bool)
    first = pa.array([found.min if there else "" for found, there in zip(ranges, known, strict=True)], pa.string())
    last = pa.array([found.max if there else "" for found, there in zip(ranges, known, strict=True)], pa.string())
    begins = np.where(known, pc.search_sorted(ids, first, side="left").to_numpy(), 0)
    ends = np.where(known, pc.search_sorted(ids, last, side="right").to_numpy(), len(ids))
    return ((number, int(begins[number]), int(ends[number])) for number in np.flatnonzero(begins < ends).tolist())


def _together(found: Iterable[tuple[int, int, int]], file: pq.FileMetaData) -> Iterator[tuple[list[int], int, int]]:
    """Row groups that have at least as many rows together as there are ids to look up in them; the last ones may not.

    These ids are made a set each time, which takes as long as to look as many up.
    """
    some: list[int] = []
    rows, begin, end = 0, 0, 0
    for number, first, last in found:
        begin, end = (min(begin, first), max(end, last)) if some else (first, last)
        some.append(number)
        rows += file.row_group(number).num_rows
        if rows >= end - begin:
            yield some, begin, end
            some, rows = [], 0
    if some:
        yield some, begin, end
