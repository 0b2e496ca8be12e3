"""One lake, two engines: views and cohort tables from DuckDB and from Spark are the same, rows, order and types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.generate import SITE, append_night, fill, patients
from connectors.lake.table import Lake
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


def test_the_night_after(first: MapReport, spark: Engine, folder: Path) -> None:
    append_night(Lake(folder / "lake"), 40, range(patients(RESOURCES)), seed=2)
    report = mapped_by_both(folder, spark)
    assert 0 < report.derived < first.patients
    compare(folder)
