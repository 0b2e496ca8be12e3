"""The built-in cohort from the real HAPI server gives what it gives from a folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analytics.results import as_json
from schedules.config.site_settings import SearchSite
from tests.cohorts import ALNEO, TABLES, Ran, put_alneo, run, run_folder

pytestmark = pytest.mark.hapi


@pytest.fixture(scope="module")
def site(hapi: str) -> SearchSite:
    put_alneo(hapi)
    return SearchSite(name="milan", kind="search", url=hapi)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_folder(tmp_path_factory.mktemp("folder"), ALNEO)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hapi_cohort")


@pytest.fixture(scope="module")
def server(data: Path, site: SearchSite) -> Ran:
    return run(data, site)


@pytest.mark.parametrize("cut", [None, "later_cut"])
@pytest.mark.parametrize("name", TABLES)
def test_cohort_tables_are_the_same(server: Ran, folder: Ran, name: str, cut: str | None) -> None:
    pd.testing.assert_frame_equal(server.table(name, cut), folder.table(name, cut))


def test_results_are_the_same(server: Ran, folder: Ran) -> None:
    assert as_json(server.released, 1) == as_json(folder.released, 1)


def test_only_the_cohort_left_the_server(server: Ran) -> None:
    """DEC-03 has another cancer, so nothing of it was asked for."""
    kept = sum('"DEC-03' not in line for file in ALNEO.glob("*.ndjson") for line in file.read_text().splitlines())
    assert server.sync.counts.received == server.sync.counts.stored == kept


def test_a_second_run_stores_nothing_and_gives_the_same(server: Ran, data: Path, site: SearchSite) -> None:
    before = {name: server.table(name) for name in TABLES}
    again = run(data, site)
    assert (again.sync.counts.stored, again.sync.counts.identical) == (0, server.sync.counts.stored)
    for name, table in before.items():
        pd.testing.assert_frame_equal(again.table(name), table)
    assert as_json(again.released, 1) == as_json(server.released, 1)
