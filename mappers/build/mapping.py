"""The stage `map`: views brought up to date with the lake, then the cohort rows of those of whom something changed.

Cohort rows are derived per patient. Where the cohort tables in place came from the same program (SQL, study, value
sets, key, sites, views, lake), only patients whom a later sync touched are derived again, and their rows are replaced;
else everybody is. Both ways give the same tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from connectors.lake.table import Lake
from mappers.build import cohort as cohorts
from mappers.build.cohort import PATIENT_TABLES, CohortProgram, DataCut, Rows
from mappers.build.cohort_folder import CohortFolder, SetAside, State
from mappers.build.sql_cache import CompiledTexts, compiler_digest
from mappers.build.steps import Step, run
from mappers.build.views import CompiledView, ViewStore
from mappers.engines.duckdb import Engine
from mappers.study import Study
from mappers.terminology import Terminology, load_terminology
from mappers.view.runner import ViewDefinition
from mappers.view.shipped import load_views

Progress = Callable[[str], None]
BATCH = 100_000  # rows
BUILDING = "building the cohort at {}"


@dataclass(frozen=True)
class MapConfig:
    """What is mapped, by which rules, and where to.

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
    """Counts of one map: patients with the condition, those enrolled, view tables that were rebuilt from the first
    sync on, rows of the quality list, and patients whose rows were derived again.
    """

    patients: int
    enrolled: int
    views_rebuilt: int
    quality_rows: int
    derived: int = 0


@dataclass(frozen=True)
class MapStage:
    """One run of the stage."""

    config: MapConfig
    engine: Engine
    progress: Progress

    def run(self, *, full: bool) -> MapReport:
        """Bring views and cohort tables up to date; `full` builds both from scratch."""
        if full:
            self.store.forget()
        self.progress("flattening new resources")
        reports = self.store.refresh(self.lake)
        self._tell_of_other_sites()
        self.store.offer(self.lake)
        program = self._program()
        self.texts.forget_others()
        lake = self.store.seen(self.lake)
        state = State(self._digest(program), lake.sync_number, lake.fingerprint(lake.sync_number))
        derived = self._derive(program, state, self.config.set_aside, full=full)
        flags = self.folder.column("adsl", "ITTFL").to_pylist()
        return MapReport(
            patients=len(flags),
            enrolled=flags.count("Y"),
            views_rebuilt=sum(report.rebuilt for report in reports),
            quality_rows=len(self.folder.column("quality", "COUNT")),
            derived=derived,
        )

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.config.lake_dir)

    @cached_property
    def folder(self) -> CohortFolder:
        return CohortFolder(self.config.cohort_dir)

    @cached_property
    def cuts(self) -> tuple[DataCut, ...]:
        return tuple(cohorts.data_cuts(self.config.study))

    @cached_property
    def terminology(self) -> Terminology:
        return load_terminology(*self.config.terminology_dirs)

    @cached_property
    def views(self) -> dict[str, ViewDefinition]:
        return load_views(*self.config.view_dirs)

    @cached_property
    def compiler(self) -> str:
        return compiler_digest()

    @cached_property
    def texts(self) -> CompiledTexts:
        return CompiledTexts(self.config.views_dir / ".compiled", self.engine.name, self.compiler)

    @cached_property
    def store(self) -> ViewStore:
        return ViewStore(
            self.config.views_dir, self.engine, self.views, {n: self._compiled(v) for n, v in self.views.items()}
        )

    def _compiled(self, view: ViewDefinition) -> CompiledView:
        return CompiledView(**self.texts.get(repr(view), lambda: CompiledView.of(self.engine, view).as_json()))

    def _program(self) -> CohortProgram:
        views, sites = self.store.views, sorted(self.config.sites)
        names = [*sites, *sorted(self.terminology.names)]
        made_from = "\n".join([self.config.study.model_dump_json(), *names, cohorts.columns_of(views)])
        compiled = self.texts.get(
            made_from,
            lambda: CohortProgram.compile(self.engine, views, sites, self.terminology, self.config.study).as_json(),
        )
        return CohortProgram.from_json(compiled)

    def _digest(self, program: CohortProgram) -> str:
        """A hash of everything but the lake's rows that cohort tables depend on."""
        depends_on = [
            self.compiler,
            program.as_json(),
            self.config.study.hash,
            self.terminology.rows.to_pylist(),
            self.config.key_fingerprint,
            self.store.identity(self.lake),
        ]
        return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()

    def _tell_of_other_sites(self) -> None:
        for site in sorted({file.site for file in self.store.seen(self.lake).files} - set(self.config.sites)):
            self.progress(f"site {site} is in the lake but not in periop.toml: left out")

    def _derive(self, program: CohortProgram, state: State, set_aside: SetAside, *, full: bool) -> int:
        """Derive what is to be derived again and put the tables in place; returns of how many patients."""
        known = self.folder.state()
        if known is None or full or known.program != state.program or not self._goes_on(known):
            return self._derive_everybody(program, state, set_aside)
        return self._derive_touched(program, known.sync, state, set_aside)

    def _goes_on(self, known: State) -> bool:
        """Whether the lake goes on from what `known` was derived from: no older copy of it was put back."""
        return known.mark == self.store.seen(self.lake).fingerprint(known.sync)

    def _derive_everybody(self, program: CohortProgram, state: State, set_aside: SetAside) -> int:
        cohorts.offer_everybody(self.engine, program, self.terminology)
        self.folder.begin()
        unowned = self.engine.arrow(program.queries["unowned"])
        for cut, day in self.cuts:
            self.progress(BUILDING.format(day.isoformat()))
            if cut is None:  # the first
                program.fill(self.engine)
            program.fill(self.engine, day)
            for table in PATIENT_TABLES:
                self.folder.write(cut, table, self.engine.reader(program.queries[table], BATCH))
            self.folder.sum_quality(cut, unowned, set_aside)
        self.folder.put_in_place(state)
        return len(self.folder.column("adsl", "USUBJID"))

    def _derive_touched(self, program: CohortProgram, since: int, state: State, set_aside: SetAside) -> int:
        self.store.offer_brought(self.lake, since)
        subjects = cohorts.offer_touched(self.engine, program, self.terminology, self.cuts, self.store)
        self.folder.begin()
        unowned = self.engine.arrow(program.queries["unowned"])
        if len(subjects):
            derived = self._replace(program, subjects, unowned, set_aside)
        else:
            derived = self._keep(unowned, set_aside)
        self.folder.put_in_place(state)
        return derived

    def _replace(self, program: CohortProgram, subjects: pa.Array, unowned: pa.Table, set_aside: SetAside) -> int:
        """Replace the rows of some patients: of a few at all data cuts at once."""
        if cohorts.few(subjects):
            return self._replace_few(program, subjects, unowned, set_aside)
        program.fill(self.engine)
        for cut, day in self.cuts:
            self.progress(BUILDING.format(day.isoformat()))
            program.fill(self.engine, day)
            rows = {table: self.engine.arrow(program.queries[table]) for table in PATIENT_TABLES}
            for table in PATIENT_TABLES:
                self.folder.replace(cut, table, rows[table], subjects)
            self.folder.sum_quality(cut, unowned, set_aside)
        return len(rows["adsl"])

    def _replace_few(self, program: CohortProgram, subjects: pa.Array, unowned: pa.Table, set_aside: SetAside) -> int:
        self.progress(BUILDING.format(" and ".join(day.isoformat() for _, day in self.cuts)))
        rows: Rows = {}
        steps = program.steps(rows)

        def replace(_engine: Engine, table: str, cut: str | None, day: date) -> None:
            at_cut = rows[table].filter(pc.equal(rows[table]["DCUTDT"], pa.scalar(day)))
            self.folder.replace(cut, table, at_cut, subjects)

        def sum_quality(_engine: Engine, cut: str | None) -> None:
            self.folder.sum_quality(cut, unowned, set_aside)

        for cut, day in self.cuts:
            for table in PATIENT_TABLES:
                steps[f"{table} at {cut}"] = Step(partial(replace, table=table, cut=cut, day=day), {table.upper()})
            steps[f"list at {cut}"] = Step(partial(sum_quality, cut=cut), {f"quality at {cut}"})
        run(self.engine, steps)
        return len(pc.unique(rows["adsl"]["USUBJID"]))

    def _keep(self, unowned: pa.Table, set_aside: SetAside) -> int:
        for cut, _ in self.cuts:
            for table in PATIENT_TABLES:
                self.folder.keep(cut, table)
            self.folder.sum_quality(cut, unowned, set_aside)
        return 0
