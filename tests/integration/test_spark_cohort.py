"""One lake, two engines: views and cohort tables from DuckDB and from Spark are the same, rows, order and types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.generate import SITE, append_night, fill, patients
from connectors.lake.table import Lake
from mappers.build.cohort import CompiledCohort
from mappers.build.mapping import MapReport, map_lake
from mappers.build.opened import MapConfig
from mappers.engines.base import Engine
from mappers.engines.duckdb import DuckDBEngine
from mappers.study import load_study
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from schedules.run.pipeline import Pipeline
from tests.carriers import write
from tests.cohorts import ALNEO, KEY, TABLES
from tests.compiled import compiled_once
from tests.engines import ENGINES, Engines

# One data cutoff: Spark takes minutes for each, and tests/unit/test_mappers_spark.py has that it moves.
STUDY = load_study("alneo").model_copy(update={"cuts": ()})
RESOURCES = 3_000  # generated


@pytest.fixture(scope="module")
def spark(engines: Engines) -> Iterator[Engine]:
    with engines.started("spark", bytes.fromhex(KEY)) as engine:
        yield engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder whose lake has the fixture, every way to carry a fact, and generated patients."""
    folder = tmp_path_factory.mktemp("hospitals")
    told = folder / "fhir"
    told.mkdir()
    write(told)
    sites = (
        FolderSite(name="milan", kind="folder", path=ALNEO),
        FolderSite(name="carriers", kind="folder", path=told),
    )
    for site in sites:
        settings = Settings(data_dir=folder, sites=sites)
        Pipeline({}).sync_site(settings, site.name, full=False, progress=lambda _: None)
    fill(Lake(folder / "lake"), RESOURCES)
    for engine in ENGINES:  # the lake is one, views and cohort are each engine's own
        (folder / engine).mkdir()
        (folder / engine / "lake").symlink_to(folder / "lake")
    return folder


def config_of(data: Path) -> MapConfig:
    return MapConfig(
        lake_dir=data / "lake",
        views_dir=data / "views",
        cohort_dir=data / "cohort",
        study=STUDY,
        sites=("milan", "carriers", SITE),
        terminology_dirs=(),
        view_dirs=(),
        key_fingerprint="key",
        set_aside={},
    )


def mapped(data: Path, engine: Engine) -> MapReport:
    with compiled_once(data):
        return map_lake(config_of(data), engine, lambda _: None)


def mapped_by_both(folder: Path, spark: Engine) -> MapReport:
    """Map with both engines, and return what both report."""
    with DuckDBEngine(threads=1, hmac_key=bytes.fromhex(KEY)) as duckdb:
        report = mapped(folder / "duckdb", duckdb)
    assert mapped(folder / "spark", spark) == report
    return report


def compare(folder: Path) -> None:
    """Every cohort table is the same: columns, their types, rows, and the order of the rows."""
    for name in TABLES:
        expected, found = (pq.read_table(folder / engine / "cohort" / f"{name}.parquet") for engine in ENGINES)
        assert found.schema.equals(expected.schema), name
        assert found.to_pylist() == expected.to_pylist(), name


@pytest.fixture(scope="module")
def first(spark: Engine, folder: Path) -> MapReport:
    return mapped_by_both(folder, spark)


def test_a_full_map(first: MapReport, folder: Path) -> None:
    """The rows are held to their values by tests/functional: test_alneo_cohort.py and test_carriers.py."""
    assert first.enrolled > 33 + 100
    compare(folder)


class OneNight:
    """The statements of a night: DuckDB runs them, Spark takes their rows.

    `test_a_full_map` has run each statement on Spark, which takes minutes. New in a night are what they read, the
    current rows of the affected patients, and how their rows and those of the others are merged.
    """

    def __init__(self) -> None:
        self.read: dict[str, pa.Table] = {}
        self.rows: dict[str, pa.Table] = {}
        self.compared: list[str] = []

    def run(self, cohort: CompiledCohort, engine: Engine, _: object, *, by_cutoff: bool) -> None:
        """Stand in for `CompiledCohort._run`."""
        read = {name: engine.arrow(f"SELECT * FROM current_{name}") for name in cohort.all_current}
        for statement in cohort.statements:
            if statement.by_cutoff != by_cutoff:
                continue
            if engine.name == "duckdb":
                engine.create_table_as(statement.table, statement.sql)
                self.rows[statement.table] = engine.arrow(f"SELECT * FROM {statement.table}")
            else:
                engine.register_rows(statement.table, self.rows[statement.table])
        if engine.name == "duckdb":
            self.read = read
        else:
            assert {name: unordered(rows) for name, rows in read.items()} == {
                name: unordered(rows) for name, rows in self.read.items()
            }
            self.compared.append("by cutoff" if by_cutoff else "before")


def unordered(rows: pa.Table) -> Counter[str]:
    return Counter(map(repr, rows.to_pylist()))


def test_the_night_after(first: MapReport, spark: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_night(Lake(folder / "lake"), 40, range(patients(RESOURCES)), seed=2)
    night = OneNight()
    monkeypatch.setattr(CompiledCohort, "_run", lambda *given, **named: night.run(*given, **named))
    report = mapped_by_both(folder, spark)
    assert 0 < report.derived < first.patients
    assert night.compared == ["before", "by cutoff"]
    assert night.read["observation"].num_rows > 0
    compare(folder)
