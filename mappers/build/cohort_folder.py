"""The folder of cohort tables: written beside the old one and put in place at once, with what it was derived from.

The main data cutoff lies in the folder itself, the others in ``cuts/<id>``. ``quality_patients.parquet`` is the quality
list before it is summed by site. ``map.json`` says by which rules, and up to which sync, the tables were derived, and
how many rows they have.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.lake.files import flush_to_disk
from mappers.cohort.quality import COLUMNS

STATE = "map.json"
PATIENTS = {"quality": "quality_patients"}  # the file of a table of patients, where it is not the table's name
SetAside = Mapping[str, Mapping[tuple[str, str], int]]  # counts by site, and by (domain, issue)


@dataclass(frozen=True)
class State:
    """The inputs from which cohort tables were derived.

    `rules` is a hash of all rules, `sync` the newest sync in them, `fingerprint` the lake's of that sync; `linked`: a
    patient of several sites is counted once. `day`: of the map, where consent is asked for, which ends with time. The
    names are those of ``map.json``.
    """

    rules: str
    sync: int
    fingerprint: int
    linked: bool = False
    day: str | None = field(default=None, compare=False)


class CohortFolder:
    """The cohort tables at `path` and the new ones beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._new = path.with_name(path.name + ".new")
        self._old = path.with_name(path.name + ".old")

    def state(self) -> State | None:
        """Return what the tables in place were derived from; None where that is not known, or a table is damaged."""
        try:
            found: dict[str, Any] = json.loads((self.path / STATE).read_bytes())
            for path, rows in found["tables"].items():
                # Reads the end of each file only: a table that was cut off, replaced or edited is noticed.
                if pq.read_metadata(self.path / path).num_rows != rows:
                    return None
            linked = bool(found.get("linked", False))  # tables of an earlier version do not say
            return State(str(found["rules"]), int(found["sync"]), int(found["fingerprint"]), linked, found.get("day"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            return None

    def begin(self) -> None:
        """Begin a new folder. What a killed run left is removed."""
        # A kill may leave both: the new one half written, the old one not yet deleted.
        for leftover in (self._new, self._old):
            shutil.rmtree(leftover, ignore_errors=True)
        self._new.mkdir(parents=True)

    def file(self, cutoff: str | None, table: str) -> Path:
        """Return the file in place of a table of patients, at the cutoff of this id (None: the main one)."""
        return _folder(self.path, cutoff) / f"{PATIENTS.get(table, table)}.parquet"

    def write(self, cutoff: str | None, table: str, batches: pa.RecordBatchReader) -> None:
        """Write all rows of a table of patients into the new folder."""
        with pq.ParquetWriter(self._made(cutoff) / self.file(cutoff, table).name, batches.schema) as writer:
            for batch in batches:
                writer.write_batch(batch)

    def write_quality(self, cutoff: str | None, unowned: pa.Table, set_aside: SetAside) -> None:
        """Write the quality list by site into the new folder, from the table of patients that is there already."""
        folder = self._made(cutoff)
        patients = pq.read_table(folder / "quality_patients.parquet", columns=list(COLUMNS))
        pq.write_table(quality_list(patients, unowned, set_aside), folder / "quality.parquet")

    def put_in_place(self, state: State) -> None:
        """Replace the old folder by the new one. A kill leaves either, or none: then all patients are derived."""
        rows = {
            str(path.relative_to(self._new)): pq.read_metadata(path).num_rows for path in self._new.rglob("*.parquet")
        }
        (self._new / STATE).write_text(json.dumps({**asdict(state), "tables": rows}), encoding="utf-8")
        # Files must be on disk before their folder gets its name, or a power cut leaves a name without content.
        for path in [*self._new.rglob("*.*"), self._new]:
            flush_to_disk(path)
        if self.path.exists():
            self.path.replace(self._old)
        self._new.replace(self.path)
        shutil.rmtree(self._old, ignore_errors=True)

    def column(self, table: str, name: str) -> pa.ChunkedArray:
        """Return a column of a table in place, at the main data cutoff."""
        return pq.read_table(self.path / f"{table}.parquet", columns=[name])[name]

    def _made(self, cutoff: str | None) -> Path:
        folder = _folder(self._new, cutoff)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _folder(folder: Path, cutoff: str | None) -> Path:
    return folder if cutoff is None else folder / "cuts" / cutoff


def quality_list(patients: pa.Table, unowned: pa.Table, set_aside: SetAside) -> pa.Table:
    """Return SITEID, DOMAIN, ISSUE, COUNT in their order: sums over patients, sites and what is set aside."""
    counts = pa.concat_tables([patients, unowned.cast(patients.schema)])
    keys = list(COLUMNS[:-1])
    rows = counts.group_by(keys).aggregate([("COUNT", "sum")]).rename_columns(list(COLUMNS)).to_pylist()
    for site, reasons in set_aside.items():
        for (domain, issue), count in reasons.items():
            rows.append({"SITEID": site, "DOMAIN": domain, "ISSUE": issue, "COUNT": count})
    rows.sort(key=lambda row: [row[name] for name in keys])
    return pa.Table.from_pylist(rows, schema=patients.schema)
