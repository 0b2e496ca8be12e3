"""The patients behind every release, in `<data_dir>/release-patients/<n>.parquet`: for its owner, and never copied.

    patient                      0 response.mpr  1 response.pcr  …     one row a patient, one column a count
    milan-5f0c…  (pseudonym)     true            false

With them a new release is audited together with all that left before (`analytics.disclosure.past`). The metadata of a
column have its population, its groups of variables, and whether the count was published. A file is written before its
release, and stays as long as the release ledger; `periop forget` takes the rows of a patient out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from connectors.lake.files import AtomicFile, remove_unfinished
from schedules.errors import ReleasePatientsError

if TYPE_CHECKING:
    import pyarrow as pa

    from analytics.disclosure.model import Count
    from analytics.disclosure.past import CountedPatients

PATIENT = "patient"


@dataclass(frozen=True)
class ReleasePatients:
    """The files of the patients behind each release, in `folder`. The caller holds the run lock where it writes."""

    folder: Path

    def write(self, release: int, counted: CountedPatients) -> None:
        """Write the patients behind a release."""
        import pyarrow as pa

        from analytics.disclosure.past import members

        inside = members(counted.counts, len(counted.subjects))
        fields = [pa.field(PATIENT, pa.string()), *(_field(place, count) for place, count in enumerate(counted.counts))]
        columns = [pa.array(counted.subjects, pa.string()), *map(pa.array, inside)]
        self._write(release, pa.table(columns, schema=pa.schema(fields)))

    def read(self, release: int, today: Collection[str]) -> CountedPatients:
        """Return the patients behind a release, some of whom are those of `today`.

        Raises `ReleasePatientsError` where the file is lost or damaged, or names nobody who is known today.
        """
        from analytics.disclosure.past import CountedPatients

        table = self._table(release)
        subjects = tuple(table.column(PATIENT).to_pylist())
        # Under another key all patients would pass for new ones, whom nobody can subtract.
        if subjects and today and set(today).isdisjoint(subjects):
            raise self._error(release, "knows none of the patients of today (was the pseudonym key changed?)")
        counts = [_count(table.schema.field(place), table.column(place)) for place in range(1, table.num_columns)]
        return CountedPatients(subjects, tuple(counts))

    def forget(self, is_erased: Callable[[str], bool]) -> int:
        """Take the rows out whose pseudonym `is_erased`, from all files; return how many."""
        rows = 0
        for file in sorted(self.folder.glob("*.parquet")):
            release = int(file.stem)
            try:
                table = self._table(release)
            except ReleasePatientsError:
                # What nobody can read may still hold the patient. The next release says that the file is lost.
                file.unlink()
                continue
            kept = [not is_erased(subject.rpartition("-")[2]) for subject in table.column(PATIENT).to_pylist()]
            if not all(kept):
                self._write(release, table.filter(kept))
                rows += kept.count(False)
        return rows

    def _file(self, release: int) -> Path:
        return self.folder / f"{release:06}.parquet"

    def _table(self, release: int) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self._file(release)
        try:
            return pq.read_table(file, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            why = "is lost" if isinstance(error, FileNotFoundError) else "cannot be read"
            raise self._error(release, why) from error

    def _error(self, release: int, why: str) -> ReleasePatientsError:
        return ReleasePatientsError(
            f"{self._file(release)}: {why}, so that a new release cannot be audited together with release {release}; "
            "restore it from the backup, or run `periop publish --figures-only`, which compares with its figures only"
        )

    def _write(self, release: int, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._file(release)
        remove_unfinished(file)
        with AtomicFile(file) as stream:
            pq.write_table(table, stream, write_page_checksum=True)


def _field(place: int, count: Count) -> pa.Field:
    import pyarrow as pa

    said = {
        "id": count.id,
        "population": count.population,
        "variable_groups": sorted(count.variable_groups),
        "published": count.published,
    }
    # Numbered: a table has no two columns of one name, and a study may call two counts alike.
    return pa.field(f"{place} {count.id}", pa.bool_(), metadata={"count": orjson.dumps(said)})


def _count(field: pa.Field, column: Any) -> Count:
    from analytics.disclosure.model import Count
    from analytics.disclosure.past import as_bits

    said = orjson.loads(field.metadata[b"count"])
    (patients,) = as_bits(column.to_numpy().astype(bool).reshape(1, -1))
    return Count(said["id"], patients, said["population"], frozenset(said["variable_groups"]), said["published"])
