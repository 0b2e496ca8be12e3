"""The cache of compiled SQL: a value is used where everything that it depends on is the same, else made again."""

from __future__ import annotations

from pathlib import Path

from mappers.build.sql_cache import SqlCache


class Maker:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, int]:
        self.times += 1
        return {"made": self.times}


def test_a_value_is_made_once(tmp_path: Path) -> None:
    maker = Maker()
    assert SqlCache(tmp_path, "duckdb", "1").get("view", maker) == {"made": 1}
    assert SqlCache(tmp_path, "duckdb", "1").get("view", maker) == {"made": 1}


def test_it_is_made_again_for_another_source_compiler_or_engine(tmp_path: Path) -> None:
    maker = Maker()
    for dependencies, source in (
        (("duckdb", "1"), "a"),
        (("duckdb", "1"), "b"),
        (("duckdb", "2"), "a"),
        (("spark", "1"), "a"),
    ):
        SqlCache(tmp_path, *dependencies).get(source, maker)
    assert maker.times == 4


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    maker = Maker()
    SqlCache(tmp_path).get("view", maker)
    (file,) = tmp_path.iterdir()
    file.write_text('{"made": ')
    assert SqlCache(tmp_path).get("view", maker) == {"made": 2}


def test_what_nobody_asked_for_is_deleted(tmp_path: Path) -> None:
    maker = Maker()
    SqlCache(tmp_path).get("old", maker)
    cache = SqlCache(tmp_path)
    cache.get("new", maker)
    cache.delete_unused()
    assert len(list(tmp_path.iterdir())) == 1
    assert SqlCache(tmp_path).get("new", maker) == {"made": 2}
