"""Lake -> views -> cohort tables: everything brought up to date with the lake, on one page.

Cohort rows are derived per patient. Where the tables in place came from the same rules (SQL, study, value sets, key,
sites, views, lake), only the patients of resources that later syncs changed are derived again, and their rows replace
the old ones; otherwise all patients are. Both ways give the same tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from mappers.build.cohort import (
    PATIENT_TABLES,
    CompiledCohort,
    data_cutoffs,
    register_affected_patients,
    register_all_patients,
)
from mappers.build.cohort_folder import CohortFolder, State
from mappers.build.opened import MapConfig, Progress, open_lake
from mappers.engines.base import Engine, Files

BATCH = 100_000  # rows of a cohort table in memory at a time


@dataclass(frozen=True)
class MapReport:
    """Counts of one map.

    Attributes:
        patients: patients with the condition.
        enrolled: those of them who are enrolled.
        views_rebuilt: view tables that were built from the first sync on.
        quality_rows: rows of the quality list.
        derived: patients with the condition whose rows were derived again.
    """

    patients: int
    enrolled: int
    views_rebuilt: int
    quality_rows: int
    derived: int = 0


def map_lake(config: MapConfig, engine: Engine, progress: Progress, *, full: bool = False) -> MapReport:
    """Bring view tables and cohort tables up to date with the lake; `full` builds both from scratch.

    Raises:
        MappingError: a view, a value set or a file cannot be read.
    """
    opened = open_lake(config, engine, progress, full=full)
    lake, cohort, terminology, state = opened.lake, opened.cohort, opened.terminology, opened.state
    folder = CohortFolder(config.cohort_dir)
    known = None if full else folder.state()
    if config.consent:
        _register_day(engine, config, known)
    if known is None or known.rules != state.rules or known.fingerprint != lake.fingerprint(known.sync):
        register_all_patients(engine, cohort, terminology)
        merge = False
    else:  # the lake went on from what the tables in place were derived from
        opened.tables.register_changes(engine, known.sync)
        register_affected_patients(engine, cohort, terminology)
        merge = True
    derived = _write_tables(config, cohort, engine, folder, progress, merge=merge)
    folder.put_in_place(state)

    flags = folder.column("adsl", "ITTFL").to_pylist()
    return MapReport(
        patients=len(flags),
        enrolled=flags.count("Y"),
        views_rebuilt=sum(report.rebuilt for report in opened.tables.reports),
        quality_rows=len(folder.column("quality", "COUNT")),
        derived=derived,
    )


def _register_day(engine: Engine, config: MapConfig, known: State | None) -> None:
    """Name today, and the day of the tables in place: who has come to consent, or no longer does, since then."""
    assert config.day is not None  # noqa: S101
    previous = date.fromisoformat(known.day) if known and known.day else config.day
    engine.register_rows("map_day", pa.table({"day": [config.day], "previous": [previous]}))


def _write_tables(
    config: MapConfig, cohort: CompiledCohort, engine: Engine, folder: CohortFolder, progress: Progress, *, merge: bool
) -> int:
    """Write the tables of all data cutoffs from the registered patients; return how many of these have the condition.

    With `merge` they get the rows of the tables in place of all other patients too.
    """
    folder.begin()
    unowned = engine.arrow(cohort.unowned)
    cohort.prepare(engine, _counted(progress, "preparing the cohort", cohort.statement_count(by_cutoff=False)))
    total = cohort.statement_count(by_cutoff=True) + len(PATIENT_TABLES)
    for cutoff in data_cutoffs(config.study):
        progress(what := f"building the cohort at {cutoff.day.isoformat()}")
        done = _counted(progress, what, total)
        cohort.prepare_cutoff(engine, cutoff.day, done)
        for table in PATIENT_TABLES:
            if merge:
                previous = Files((str(folder.file(cutoff.id, table)),))
                engine.register_parquet(f"previous_{table}", [previous], pa.schema([]))
            sql = cohort.merged[table] if merge else cohort.tables[table]
            folder.write(cutoff.id, table, engine.reader(sql, BATCH))
            done()
        folder.write_quality(cutoff.id, unowned, config.set_aside)
    return int(engine.arrow(cohort.derived)["patients"][0].as_py())


def _counted(progress: Progress, what: str, total: int) -> Callable[[], None]:
    """Return what tells `progress` each time that one more of `total` statements is done."""
    numbers = itertools.count(1)
    return lambda: progress(f"{what}: {next(numbers)} of {total} statements")
