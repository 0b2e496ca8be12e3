"""The folder of cohort tables: written beside the old one, put in place at once, with what it was derived from.

``map.json`` says by which program, and up to which sync, the tables were derived, and how long they are. Where that
is known, the rows of some patients can be replaced: tables are in the order of USUBJID, and the rows of one patient
are in their order.
``quality_patients.parquet`` is the quality list before it is summed by site. The main data cut lies in the folder
itself, the others in ``cuts/<id>``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mappers.cohort.quality import COLUMNS
from mappers.errors import MappingError

STATE = "map.json"
SUBJECT = "USUBJID"
RUN = 64  # rows that stay together, on average: where they are fewer, to copy rows is faster than to keep track of runs
PATIENTS = {"quality": "quality_patients"}  # the file of a table of patients, where it is not the table's name
SetAside = Mapping[str, Mapping[tuple[str, str], int]]


@dataclass(frozen=True)
class State:
    """What cohort tables were derived from: `program` is a hash of all rules, `sync` the newest sync in them, `mark`
    the lake's mark of that sync (`Snapshot.mark`).
    """

    program: str
    sync: int
    mark: int


class CohortFolder:
    """The cohort tables at `path` and the new ones beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(path.name + ".new")
        self._old = path.with_name(path.name + ".old")

    def state(self) -> State | None:
        """What the tables in place were derived from; None where that is not known, or a table is damaged."""
        try:
            found: dict[str, Any] = json.loads((self.path / STATE).read_bytes())
            for path, rows in found["tables"].items():
                if pq.read_metadata(self.path / path).num_rows != rows:
                    return None
            return State(str(found["program"]), int(found["sync"]), int(found["mark"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            return None

    def begin(self) -> None:
        """Begin a new folder. What a killed run left is removed."""
        for leftover in (self._new, self._old):
            shutil.rmtree(leftover, ignore_errors=True)
        self._new.mkdir(parents=True)

    def write(self, cut: str | None, table: str, batches: pa.RecordBatchReader) -> None:
        """All rows of a table of patients."""
        with _writer(self._file(self._new, cut, table), batches.schema) as writer:
            for batch in batches:
                writer.write_batch(batch)

    def replace(self, cut: str | None, table: str, rows: pa.Table, subjects: pa.Array) -> None:
        """The table in place with `rows` instead of those of `subjects` (USUBJID), on the disk.

        `rows` and `subjects` are in the order of USUBJID. Several threads may do this at once, for different tables.

        Raises:
            MappingError: the table in place cannot be read.
        """
        place, file = (self._file(folder, cut, table) for folder in (self.path, self._new))
        parts = _parts(place, rows)
        first = next(parts)
        if not differ(*first, subjects):  # hardly ever, where anything differs
            if not any(differ(old, new, subjects) for old, new in parts):
                self.keep(cut, table)
                return
            parts = _parts(place, rows)
            first = next(parts)
        with _writer(file, first[0].schema, store_schema=False) as writer:
            for old, new in chain([first], parts):
                merged = replaced(old, new, subjects)
                if len(merged):
                    writer.write_table(merged)
        _to_disk(file)

    def keep(self, cut: str | None, table: str) -> None:
        """The table in place as it is."""
        shutil.copyfile(self._file(self.path, cut, table), self._file(self._new, cut, table))

    def sum_quality(self, cut: str | None, unowned: pa.Table, set_aside: SetAside) -> None:
        """The quality list by site: the sum over patients, what belongs to nobody, and what is in quarantine."""
        texts = list(COLUMNS[:-1])  # as numbers of a dictionary: there are few of them
        file = self._file(self._new, cut, "quality")
        found = pq.read_table(file, columns=list(COLUMNS), read_dictionary=texts).unify_dictionaries()
        patients = _summed(found).cast(pa.schema([pq.read_schema(file).field(name) for name in COLUMNS]))
        pq.write_table(quality_list(patients, unowned, set_aside), self._folder(self._new, cut) / "quality.parquet")

    def put_in_place(self, state: State) -> None:
        """The new folder instead of the old one. A kill leaves the one or the other, or none: then all is derived."""
        rows = {
            str(path.relative_to(self._new)): pq.read_metadata(path).num_rows for path in self._new.rglob("*.parquet")
        }
        (self._new / STATE).write_text(json.dumps({**asdict(state), "tables": rows}), encoding="utf-8")
        for path in [*self._new.rglob("*.*"), self._new]:
            _to_disk(path)
        if self.path.exists():
            self.path.replace(self._old)
        self._new.replace(self.path)
        shutil.rmtree(self._old, ignore_errors=True)

    def column(self, table: str, name: str) -> pa.ChunkedArray:
        """A column of a table in place, at the main data cut."""
        return pq.read_table(self.path / f"{table}.parquet", columns=[name])[name]

    def _file(self, folder: Path, cut: str | None, table: str) -> Path:
        return self._folder(folder, cut) / f"{PATIENTS.get(table, table)}.parquet"

    def _folder(self, folder: Path, cut: str | None) -> Path:
        found = folder if cut is None else folder / "cuts" / cut
        if folder == self._new:
            found.mkdir(parents=True, exist_ok=True)
        return found


def _writer(file: Path, schema: pa.Schema, *, store_schema: bool = True) -> pq.ParquetWriter:
    """Without compression: what repeats is in dictionaries, and the rest is ids, which it makes little shorter."""
    repeated = [field.name for field in schema if not pa.types.is_list(field.type)]
    return pq.ParquetWriter(
        file,
        schema,
        compression="none",
        use_dictionary=repeated,
        store_schema=store_schema,
        write_statistics=[SUBJECT],
    )


def _parts(file: Path, rows: pa.Table) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The row groups of a table of patients, each with those of `rows` that belong there; at least one, perhaps empty.

    Texts are numbers of a dictionary, which is read and written faster.
    """
    try:
        texts = [field.name for field in pq.read_schema(file) if field.type == pa.string()]
        with pq.ParquetFile(file, read_dictionary=texts) as stored:
            found = stored.metadata
            groups = [number for number in range(found.num_row_groups) if found.row_group(number).num_rows]
            begin = 0
            for number in groups[:-1]:
                old = stored.read_row_group(number, use_threads=False)
                last = pa.scalar(old[SUBJECT][-1].as_py(), pa.string())
                end = pc.search_sorted(rows[SUBJECT], last, side="right").as_py()
                yield old, rows.slice(begin, end - begin).cast(old.schema)
                begin = end
            old = stored.read_row_groups(groups[-1:], use_threads=False)
            yield old, rows.slice(begin).cast(old.schema)
    except (OSError, pa.ArrowException) as error:
        raise MappingError(f"{file}: cannot be read ({type(error).__name__}); run `periop map --full`") from error


def differ(old: pa.Table, new: pa.Table, subjects: pa.Array) -> bool:
    """Whether the rows of `subjects` in `old` are others than `new`, of the same columns."""
    stale = [old.slice(begin, end - begin) for begin, end in _places(old, subjects)]
    return not _plain(pa.concat_tables([old.slice(0, 0), *stale])).equals(_plain(new))


def replaced(old: pa.Table, new: pa.Table, subjects: pa.Array) -> pa.Table:
    """`old` with the rows `new`, of the same columns, instead of those of `subjects`.

    Rows and subjects are in the order of USUBJID; all rows of `new` are of `subjects`.
    """
    both = pa.concat_tables([old, new]).unify_dictionaries()
    runs, kept = [], 0
    for (begin, end), (first, last) in zip(_places(old, subjects), _places(new, subjects), strict=True):
        runs += [(kept, begin), (len(old) + first, len(old) + last)]
        kept = end
    runs = [run for run in (*runs, (kept, len(old))) if run[0] < run[1]]
    if len(runs) * RUN > len(both):
        return both.take(pa.array(np.concatenate([np.arange(0), *(np.arange(*run) for run in runs)])))
    return pa.concat_tables([both.slice(0, 0), *(both.slice(begin, end - begin) for begin, end in runs)])


def _plain(rows: pa.Table) -> pa.Table:
    """Rows with texts instead of numbers of a dictionary: two dictionaries may have the same in another order."""
    return rows.cast(pa.schema([(field.name, _value_type(field.type)) for field in rows.schema]))


def _value_type(dtype: pa.DataType) -> pa.DataType:
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _places(rows: pa.Table, subjects: pa.Array) -> Iterator[tuple[int, int]]:
    """Where the rows of each subject begin and end: USUBJID is in its order, the dictionary in any."""
    numbered = rows[SUBJECT].unify_dictionaries().combine_chunks()
    changes = np.flatnonzero(np.diff(numbered.indices, prepend=-1))
    names, begins = numbered.dictionary.take(numbered.indices.take(changes)), np.append(changes, len(rows))
    found = (begins[pc.search_sorted(names, subjects, side=side)] for side in ("left", "right"))
    return zip(*(side.tolist() for side in found), strict=True)


def quality_list(patients: pa.Table, unowned: pa.Table, set_aside: SetAside) -> pa.Table:
    """SITEID, DOMAIN, ISSUE, COUNT in their order, from counts of patients, of sites, and of what is set aside."""
    rows = _summed(pa.concat_tables([patients, unowned.cast(patients.schema)])).to_pylist()
    for site, reasons in set_aside.items():
        for (domain, issue), count in reasons.items():
            rows.append({"SITEID": site, "DOMAIN": domain, "ISSUE": issue, "COUNT": count})
    rows.sort(key=lambda row: (row["SITEID"], row["DOMAIN"], row["ISSUE"]))
    return pa.Table.from_pylist(rows, schema=patients.schema)


def _summed(counts: pa.Table) -> pa.Table:
    return counts.group_by(list(COLUMNS[:-1])).aggregate([("COUNT", "sum")]).rename_columns(list(COLUMNS))


def _to_disk(path: Path) -> None:
    """Files must be on disk before their folder gets its name, or a power cut leaves a name with no content."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
