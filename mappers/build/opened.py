"""The views of a lake, brought up to date and opened: to derive the cohort, or to be asked other questions.

A map derives the tables of all or of affected patients; `periop codes` asks for all patients, `periop explain` for one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from connectors.lake.snapshot import Snapshot
from connectors.lake.table import Lake
from mappers.build.cohort import (
    CompiledCohort,
    columns_of,
    compile_cohort,
    current_sources,
    register_all_patients,
    register_everybody,
    register_one_patient,
)
from mappers.build.cohort_folder import SetAside, State
from mappers.build.linkage import register_linked
from mappers.build.persons import register_persons
from mappers.build.sql_cache import SqlCache, compiler_digest
from mappers.build.views import SUPERSEDED, CompiledView, Views, ViewTables, refresh_views
from mappers.cohort import Sources
from mappers.cohort.consent_rule import ConsentRule
from mappers.engines.base import Engine
from mappers.study import Study
from mappers.terminology import Terminology, load_terminology
from mappers.view.definition import ViewDefinition
from mappers.view.shipped import load_views

Progress = Callable[[str], None]


@dataclass(frozen=True)
class MapConfig:
    """The input, the rules and the output of a map.

    Args:
        lake_dir: the Delta table of raw resources.
        views_dir: the view tables, and below it the cache of compiled SQL.
        cohort_dir: the cohort tables.
        study: the rules of the endpoints, and the data cutoffs.
        sites: the sites that the cohort is made of; others in the lake are left out.
        terminology_dirs: folders of the hospital's own value sets and concept maps, which add to the shipped ones.
        view_dirs: folders of its own views, which replace shipped ones.
        key_fingerprint: stands for the key of the pseudonyms, which only the engine holds.
        set_aside: counts of quarantined resources by site, and by (resource type, reason).
        identifier_systems: by their identifiers a patient of several sites is found, and counted at one; `sites` is
            then the order in which they come first.
        consent: the consent that sites ask for, at most one rule a site.
        day: today, on which a consent must hold; needed where one is asked for.
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
    identifier_systems: tuple[str, ...] = ()
    consent: tuple[ConsentRule, ...] = ()
    day: date | None = None


@dataclass(frozen=True)
class OpenedLake:
    """The views of a lake, up to date and registered with `engine`, and the compiled rules.

    Attributes:
        lake: the snapshot that they are of.
        state: what cohort tables that were derived now would be derived from.
    """

    config: MapConfig
    engine: Engine
    lake: Snapshot
    terminology: Terminology
    views: Views
    tables: ViewTables
    cohort: CompiledCohort
    state: State

    def all_patients(self) -> Sources:
        """Return the current rows of all patients as the rules read them."""
        register_all_patients(self.engine, self.cohort, self.terminology)
        return self._sources()

    def everybody(self) -> Mapping[str, ir.Table]:
        """Return the rows of the views with one row a resource, of all patients and of none."""
        register_everybody(self.engine, self.cohort, self.terminology)
        return self._sources().everybody

    def one_patient(self, site: str, patient: str) -> Sources:
        """Return the current rows of one person, of whom `patient` is the canonical record."""
        register_one_patient(self.engine, self.cohort, self.terminology, site, patient)
        return self._sources()

    def _sources(self) -> Sources:
        sites = sorted(self.config.sites)
        return current_sources(self.views, sites, self.terminology, self.config.study, self._keep)

    def _keep(self, name: str, table: ir.Table) -> ir.Table:
        # Kept as a table: several questions read it.
        self.engine.create_table_as(name, self.engine.compile(table))
        return ibis.table(table.schema(), name=name)


def open_lake(config: MapConfig, engine: Engine, progress: Progress, *, full: bool = False) -> OpenedLake:
    """Bring the view tables up to date with the lake and open them; `full` builds them from scratch.

    Raises:
        MappingError: a view, a value set or a file cannot be read.
    """
    lake = Lake(config.lake_dir).snapshot()  # one for all: what a sync stores meanwhile is for the next map
    definitions = load_views(*config.view_dirs)
    terminology = load_terminology(*config.terminology_dirs, asked={config.study.treatment.drug})
    for note in terminology.notes:
        progress(note)
    if full:
        for name in (*definitions, SUPERSEDED):
            shutil.rmtree(config.views_dir / name, ignore_errors=True)

    progress("flattening new resources")
    compiler = compiler_digest()
    cache = SqlCache(config.views_dir / ".compiled", engine.name, compiler)
    views = _compiled_views(definitions, engine, cache)
    tables = refresh_views(config.views_dir, lake, views, engine, progress)
    for site in sorted({file.site for file in lake.files} - set(config.sites)):
        progress(f"site {site} is in the lake but not in periop.toml: left out")
    cohort = _compiled_cohort(config, views, terminology, engine, cache)
    cache.delete_unused()

    tables.register(engine)
    persons = register_persons(engine, cohort.persons)
    if cohort.linkage is not None:
        persons += register_linked(engine, cohort.linkage, config.sites)
    # A record that joins or leaves a person moves resources of others: then all patients are derived again.
    rules = _rules_digest(config, compiler, cohort, terminology, tables, persons)
    day = config.day.isoformat() if config.consent and config.day else None
    linked = cohort.linkage is not None
    state = State(rules, lake.sync_number, lake.fingerprint(lake.sync_number), linked, day)
    return OpenedLake(config, engine, lake, terminology, views, tables, cohort, state)


def _compiled_views(definitions: Mapping[str, ViewDefinition], engine: Engine, cache: SqlCache) -> Views:
    def compiled(name: str, view: ViewDefinition) -> CompiledView:
        return CompiledView(**cache.get(f"{name} {view!r}", lambda: asdict(CompiledView.of(engine, name, view))))

    return {name: compiled(name, view) for name, view in definitions.items()}


def _compiled_cohort(
    config: MapConfig, views: Views, terminology: Terminology, engine: Engine, cache: SqlCache
) -> CompiledCohort:
    sites = sorted(config.sites)
    names = [*sites, *sorted(terminology.names)]
    systems = sorted(config.identifier_systems)
    consent = sorted(config.consent, key=lambda rule: rule.site)
    rules = [config.study.model_dump_json(), *names, columns_of(views), *systems, *map(repr, consent)]

    def compiled() -> dict[str, Any]:
        return compile_cohort(engine, views, sites, terminology, config.study, systems, consent).as_json()

    return CompiledCohort.from_json(cache.get("\n".join(rules), compiled))


def _rules_digest(
    config: MapConfig,
    compiler: str,
    cohort: CompiledCohort,
    terminology: Terminology,
    view_tables: ViewTables,
    persons: str,
) -> str:
    """Return a hash of everything but the lake's rows that cohort tables depend on. persons: the digest of them."""
    depends_on = [
        compiler,
        cohort.as_json(),
        config.study.hash,
        {name: rows.to_pylist() for name, rows in terminology.tables.items()},
        config.key_fingerprint,
        view_tables.identity,
        persons,
    ]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
