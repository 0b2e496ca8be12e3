"""Engines for the tests that hold for each of them: all share one Spark, for it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mappers.engines.duckdb import AT, DuckDBEngine, Engine, Files
from mappers.engines.spark import SparkEngine
from mappers.errors import MappingError

ENGINES = ("duckdb", "spark")
# For few rows: Java code that is compiled well takes longer to compile than to run, and a table fits into one task.
FEW_ROWS = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
}


class Engines:
    """Starts engines; each has its own tables, functions and settings, also in the Spark that they share."""

    def __init__(self) -> None:
        self._spark: SparkEngine | None = None

    @contextmanager
    def started(self, name: str, key: bytes | None = None) -> Iterator[Engine]:
        """An engine with one worker; the test is skipped where Spark or Java is missing."""
        if name == "duckdb":
            with DuckDBEngine(threads=1, hmac_key=key) as engine:
                yield engine
            return
        try:
            self._spark = self._spark or SparkEngine(threads=1, settings=FEW_ROWS)
        except MappingError as error:
            pytest.skip(str(error))
        with SparkEngine(hmac_key=key, session=self._spark.con._session) as spark:
            yield spark

    def stop(self) -> None:
        """End Spark: a process holds one, and what is tested now starts its own. The next engine starts it again."""
        if self._spark is not None:
            self._spark.close()
            self._spark = None


def assert_scans_files_of_any_name(engine: Engine, folder: Path) -> None:
    """`Engine.scan` gives the rows of all parts with their constants, and none of a schema without files."""
    paths = [folder / name for name in ("a b.parquet", "[c]{d}*é.parquet", "it's.parquet")]
    for number, path in enumerate(paths):
        pq.write_table(pa.table({"id": [number]}), path)
    first, second, third = map(str, paths)
    schema = pa.schema({"id": pa.int64(), "site": pa.string()})
    engine.scan("found", [Files((first, second), {"site": "both"}), Files((third,), {"site": "o'clock"})], schema)
    found = engine.arrow("SELECT id, site FROM found ORDER BY id")
    assert found.to_pydict() == {"id": [0, 1, 2], "site": ["both", "both", "o'clock"]}
    engine.scan("found", [], schema)
    assert engine.arrow("SELECT id, site FROM found").num_rows == 0


def assert_the_cut_is_what_was_said(engine: Engine) -> None:
    """`Engine.define_cut`: the day that was said last for all sites, or that of each site; also where others work."""
    asked = (
        "SELECT periop_cut(site) AS cut, periop_site(site) AS site "
        "FROM (SELECT 'milan' AS site UNION ALL SELECT 'rome') AS sites ORDER BY 2"
    )
    for day in (date(2024, 12, 1), date(2025, 5, 5)):
        engine.define_cut(day)
        found = engine.arrow(asked).to_pylist()
        assert found == [{"cut": day, "site": "milan"}, {"cut": day, "site": "rome"}]
    engine.define_cut(None)
    asked = asked.replace("'milan'", f"'milan{AT}2024-12-01'").replace("'rome'", f"'rome{AT}2025-05-05'")
    (found,) = engine.each(lambda beside, _: beside.arrow(asked).to_pylist(), [0], ())
    assert found == [{"cut": date(2024, 12, 1), "site": "milan"}, {"cut": date(2025, 5, 5), "site": "rome"}]


def assert_each_has_its_own(engine: Engine) -> None:
    """`Engine.each`: what is kept apart is kept apart, the rest is for all, and results are in order."""
    engine.fill("for_all", "SELECT 1 AS one")

    def work(beside: Engine, number: int) -> int:
        for _ in range(3):
            beside.fill("own", f"SELECT {number} AS n")
            beside.scan("own_view", [], pa.schema({"n": pa.int64()}))
            beside.fill(f"sum_{number}", "SELECT n + one AS n FROM own, for_all UNION ALL SELECT n FROM own_view")
        (found,) = beside.arrow(f"SELECT n FROM sum_{number}")["n"].to_pylist()
        return int(found)

    numbers = [3, 1, 8, 5, 2]
    found = engine.each(work, numbers, {"own", "own_view"})
    assert found == [number + 1 for number in numbers]
    assert [engine.arrow(f"SELECT n FROM sum_{number}")["n"].to_pylist() for number in numbers] == [
        [number + 1] for number in numbers
    ]

    def fail(beside: Engine, number: int) -> None:
        if number == 2:
            raise ValueError("the second")
        beside.fill("own", "SELECT 1 AS n")

    with pytest.raises(ValueError, match="the second"):
        engine.each(fail, [1, 2, 3], {"own"})
