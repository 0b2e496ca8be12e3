"""One lake, two engines: views and cohort tables from DuckDB and from Spark are the same, rows, order and types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.generate import SITE, append_night, fill, patients
from connectors.lake.table import Lake
from mappers.build.mapping import MapConfig, MapReport, map_lake
from mappers.engines.base import Engine
from mappers.engines.duckdb import DuckDBEngine
from mappers.study import load_study
from schedules.config.settings import Settings
from schedules.config.site_settings import FolderSite
from schedules.run.pipeline import Pipeline
from tests.cohorts import ALNEO, KEY, TABLES
from tests.compiled import compiled_once
from tests.engines import ENGINES, Engines

STUDY = load_study("alneo")
CUTS = (None, *(cut.id for cut in STUDY.cuts))
RESOURCES = 3_000  # generated


@pytest.fixture(scope="module")
def spark(engines: Engines) -> Iterator[Engine]:
    with engines.started("spark", bytes.fromhex(KEY)) as engine:
        yield engine


def settings_of(folder: Path, engine: str, site: str = SITE) -> Settings:
    """The lake is that of `folder`; views and cohort are the engine's own."""
    own = folder / engine
    own.mkdir()
    (own / "lake").symlink_to(folder / "lake")
    return Settings(data_dir=own, sites=(FolderSite(name=site, kind="folder", path=ALNEO),))


def config_of(settings: Settings) -> MapConfig:
    return MapConfig(
        lake_dir=settings.lake_dir,
        views_dir=settings.data_dir / "views",
        cohort_dir=settings.cohort_dir,
        study=STUDY,
        sites=settings.site_names,
        terminology_dirs=(),
        view_dirs=(),
        key_fingerprint="key",
        set_aside={},
    )


def mapped(settings: Settings, engine: Engine) -> MapReport:
    with compiled_once(settings.data_dir):
        return map_lake(config_of(settings), engine, lambda _: None)


def mapped_by_both(first: Settings, second: Settings, spark: Engine) -> tuple[MapReport, MapReport]:
    with DuckDBEngine(threads=1, hmac_key=bytes.fromhex(KEY)) as duckdb:
        return mapped(first, duckdb), mapped(second, spark)


def tables(settings: Settings) -> dict[tuple[str | None, str], pa.Table]:
    """The cohort tables of every cut."""
    folders = {cut: settings.cohort_dir if cut is None else settings.cohort_dir / "cuts" / cut for cut in CUTS}
    return {(cut, name): pq.read_table(folders[cut] / f"{name}.parquet") for cut in CUTS for name in TABLES}


def compare(one: Settings, other: Settings) -> None:
    """Every cohort table of every cut is the same: columns, their types, rows, and the order of the rows."""
    expected, found = tables(one), tables(other)
    for key, table in expected.items():
        assert found[key].schema.equals(table.schema), key
        assert found[key].to_pylist() == table.to_pylist(), key


def test_the_fixture(spark: Engine, tmp_path: Path) -> None:
    site = FolderSite(name="milan", kind="folder", path=ALNEO)
    Pipeline({}).sync_site(Settings(data_dir=tmp_path, sites=(site,)), "milan", full=False, progress=lambda _: None)
    first, second = (settings_of(tmp_path, name, "milan") for name in ENGINES)
    report, other = mapped_by_both(first, second, spark)
    assert report == other
    assert report.enrolled == 33
    compare(first, second)


def test_generated_data_in_two_nights(spark: Engine, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    fill(lake, RESOURCES)
    first, second = (settings_of(tmp_path, name) for name in ENGINES)
    mapped_by_both(first, second, spark)
    compare(first, second)
    append_night(lake, 40, range(patients(RESOURCES)), seed=2)
    report, other = mapped_by_both(first, second, spark)
    assert report == other
    assert report.derived > 0
    compare(first, second)
