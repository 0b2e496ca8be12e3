"""Lake -> views -> cohort tables: everything brought up to date with the lake, on one page.

Cohort rows are derived per patient. Where the tables in place came from the same rules (SQL, study, value sets, key,
sites, views, lake), only the patients of resources that later syncs changed are derived again, and their rows replace
the old ones; otherwise all patients are. Both ways give the same tables.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from connectors.lake.table import Lake
from mappers.build.cohort import (
    PATIENT_TABLES,
    CompiledCohort,
    columns_of,
    compile_cohort,
    data_cutoffs,
    register_affected_patients,
    register_all_patients,
)
from mappers.build.cohort_folder import CohortFolder, SetAside, State
from mappers.build.sql_cache import SqlCache, compiler_digest
from mappers.build.views import SUPERSEDED, CompiledView, Views, ViewTables, refresh_views
from mappers.engines.base import Engine, Files
from mappers.study import Study
from mappers.terminology import Terminology, load_terminology
from mappers.view.definition import ViewDefinition
from mappers.view.shipped import load_views

Progress = Callable[[str], None]
BATCH = 100_000  # rows of a cohort table in memory at a time


@dataclass(frozen=True)
class MapConfig:
    """The input, the rules and the output of a map.

    Args:
        lake_dir: the Delta table of raw resources.
        views_dir: the view tables, and below it the cache of compiled SQL.
        cohort_dir: the cohort tables.
        study: the rules of the endpoints, and the data cutoffs.
        sites: the sites that the cohort is made of; others in the lake are left out.
        terminology_dirs, view_dirs: folders of the hospital's own value sets and views, which replace shipped ones.
        key_fingerprint: stands for the key of the pseudonyms, which only the engine holds.
        set_aside: counts of quarantined resources by site, and by (resource type, reason).
    """

    lake_dir: Path
    views_dir: Path
    cohort_dir: Path
    study: Study
    sites: tuple[str, ...]
    terminology_dirs: tuple[Path, ...]
    view_dirs: tuple[Path, ...]
    key_fingerprint: str
    set_aside: SetAside


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
    lake = Lake(config.lake_dir).snapshot()  # one for all: what a sync stores meanwhile is for the next map
    definitions = load_views(*config.view_dirs)
    terminology = load_terminology(*config.terminology_dirs)
    if full:
        for name in (*definitions, SUPERSEDED):
            shutil.rmtree(config.views_dir / name, ignore_errors=True)

    progress("flattening new resources")
    compiler = compiler_digest()
    cache = SqlCache(config.views_dir / ".compiled", engine.name, compiler)
    views = _compiled_views(definitions, engine, cache)
    view_tables = refresh_views(config.views_dir, lake, views, engine)
    for site in sorted({file.site for file in lake.files} - set(config.sites)):
        progress(f"site {site} is in the lake but not in periop.toml: left out")
    cohort = _compiled_cohort(config, views, terminology, engine, cache)
    cache.delete_unused()

    rules = _rules_digest(config, compiler, cohort, terminology, view_tables)
    state = State(rules, lake.sync_number, lake.fingerprint(lake.sync_number))
    folder = CohortFolder(config.cohort_dir)
    known = None if full else folder.state()
    view_tables.register(engine)
    if known is None or known.program != rules or known.mark != lake.fingerprint(known.sync):
        register_all_patients(engine, cohort, terminology)
        merge = False
    else:  # the lake went on from what the tables in place were derived from
        view_tables.register_changes(engine, known.sync)
        register_affected_patients(engine, cohort, terminology)
        merge = True
    derived = _write_tables(config, cohort, engine, folder, progress, merge=merge)
    folder.put_in_place(state)

    flags = folder.column("adsl", "ITTFL").to_pylist()
    return MapReport(
        patients=len(flags),
        enrolled=flags.count("Y"),
        views_rebuilt=sum(report.rebuilt for report in view_tables.reports),
        quality_rows=len(folder.column("quality", "COUNT")),
        derived=derived,
    )


def _compiled_views(definitions: Mapping[str, ViewDefinition], engine: Engine, cache: SqlCache) -> Views:
    def compiled(name: str, view: ViewDefinition) -> CompiledView:
        return CompiledView(**cache.get(f"{name} {view!r}", lambda: asdict(CompiledView.of(engine, name, view))))

    return {name: compiled(name, view) for name, view in definitions.items()}


def _compiled_cohort(
    config: MapConfig, views: Views, terminology: Terminology, engine: Engine, cache: SqlCache
) -> CompiledCohort:
    sites = sorted(config.sites)
    names = [*sites, *sorted(terminology.names)]
    compiled_from = "\n".join([config.study.model_dump_json(), *names, columns_of(views)])
    compiled = cache.get(
        compiled_from, lambda: compile_cohort(engine, views, sites, terminology, config.study).as_json()
    )
    return CompiledCohort.from_json(compiled)


def _rules_digest(
    config: MapConfig, compiler: str, cohort: CompiledCohort, terminology: Terminology, view_tables: ViewTables
) -> str:
    """Return a hash of everything but the lake's rows that cohort tables depend on."""
    depends_on = [
        compiler,
        cohort.as_json(),
        config.study.hash,
        terminology.rows.to_pylist(),
        config.key_fingerprint,
        view_tables.identity,
    ]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()


def _write_tables(
    config: MapConfig, cohort: CompiledCohort, engine: Engine, folder: CohortFolder, progress: Progress, *, merge: bool
) -> int:
    """Write the tables of all data cutoffs from the registered patients; return how many of these have the condition.

    With `merge` they get the rows of the tables in place of all other patients too.
    """
    folder.begin()
    unowned = engine.arrow(cohort.unowned)
    cohort.prepare(engine)
    for cutoff in data_cutoffs(config.study):
        progress(f"building the cohort at {cutoff.day.isoformat()}")
        cohort.prepare_cutoff(engine, cutoff.day)
        for table in PATIENT_TABLES:
            if merge:
                previous = Files((str(folder.file(cutoff.id, table)),))
                engine.register_parquet(f"previous_{table}", [previous], pa.schema([]))
            sql = cohort.merged[table] if merge else cohort.tables[table]
            folder.write(cutoff.id, table, engine.reader(sql, BATCH))
        folder.write_quality(cutoff.id, unowned, config.set_aside)
    return int(engine.arrow(cohort.derived)["patients"][0].as_py())
